"""Files as Zeiss X-ray microscopes write them: OLE compound files of version 3, with sectors of 512 bytes."""

from __future__ import annotations

import struct
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

_SECTOR, _MINI, _CUTOFF = 512, 64, 4096
_END, _FREE, _FAT, _NONE = 0xFFFFFFFE, 0xFFFFFFFF, 0xFFFFFFFD, 0xFFFFFFFF
_STORAGE, _STREAM, _ROOT = 1, 2, 5


def zeiss_bytes(frames: npt.NDArray[np.uint16], *, planned: int | None = None) -> bytes:
    """A tomography of 16-bit images, one a projection; `planned` are the images that it says it has."""
    count, height, width = frames.shape
    numbers = {"ImageWidth": width, "ImageHeight": height, "DataType": 5, "ImagesTaken": count}
    numbers["NoOfImages"] = count if planned is None else planned
    streams = {f"ImageInfo/{key}": struct.pack("<i", value) for key, value in numbers.items()}
    tables = {"Energy": 9200.0, "ExpTimes": 5.0, "PixelSize": 0.15, "DtoRADistance": 80.0, "StoRADistance": -40.0}
    streams |= {f"ImageInfo/{key}": np.full(count, value, "<f4").tobytes() for key, value in tables.items()}
    streams["ImageInfo/Angles"] = np.linspace(0, 180, count, dtype="<f4").tobytes()
    streams["ImageInfo/Date"] = b"05/04/2026 03:02:01\0"
    streams |= {f"ImageData1/Image{at + 1}": frame.astype("<u2").tobytes() for at, frame in enumerate(frames)}
    return ole_bytes(streams)


def ole_bytes(streams: Mapping[str, bytes]) -> bytes:
    """A compound file of these streams, by `storage/name`."""
    fat: list[int] = []
    body = bytearray()

    def put(data: bytes) -> int:
        start = len(fat)
        count = -(-len(data) // _SECTOR)
        fat.extend([*range(start + 1, start + count), _END] if count else [])
        body.extend(data.ljust(count * _SECTOR, b"\0"))
        return start if count else _END

    mini, mini_fat = bytearray(), list[int]()
    places: dict[str, tuple[int, int]] = {}
    for name, data in streams.items():
        if len(data) >= _CUTOFF:
            places[name] = (put(data), len(data))
            continue
        start, count = len(mini_fat), -(-len(data) // _MINI)
        mini_fat.extend([*range(start + 1, start + count), _END])
        mini.extend(data.ljust(count * _MINI, b"\0"))
        places[name] = (start, len(data))
    table = struct.pack(f"<{len(mini_fat)}I", *mini_fat)
    first_table = put(table.ljust(-(-len(table) // _SECTOR) * _SECTOR, b"\xff"))
    small = (put(bytes(mini)), len(mini))
    first_folder = put(_directory(places, small))
    sectors = -(-(len(fat) + 1) // (_SECTOR // 4 - 1))
    own = range(len(fat), len(fat) + sectors)
    whole = [*fat, *[_FAT] * sectors]
    whole += [_FREE] * (sectors * _SECTOR // 4 - len(whole))
    head = struct.pack(
        "<8s16sHHHHH6xIIIIIIIII",
        *(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", bytes(16), 0x3E, 3, 0xFFFE, 9, 6, 0, sectors, first_folder, 0),
        *(_CUTOFF, first_table, len(table) // _SECTOR + 1, _END, 0),
    )
    head += struct.pack("<109I", *own, *[_FREE] * (109 - sectors))
    return head + bytes(body) + struct.pack(f"<{len(whole)}I", *whole)


def _directory(places: Mapping[str, tuple[int, int]], small: tuple[int, int]) -> bytes:
    """The folders of the file and their streams, each folder's as a chain of right neighbours."""
    storages = sorted({name.partition("/")[0] for name in places}, key=_order)
    rows: list[tuple[str, int, int, int, tuple[int, int]]] = []
    at = 1 + len(storages)
    leaves: list[tuple[str, int, int, int, tuple[int, int]]] = []
    for number, storage in enumerate(storages):
        inner = sorted((n.partition("/")[2] for n in places if n.startswith(f"{storage}/")), key=_order)
        following = number + 2 if number + 1 < len(storages) else _NONE
        rows.append((storage, _STORAGE, following, at, (0, 0)))
        for index, name in enumerate(inner):
            right = at + index + 1 if index + 1 < len(inner) else _NONE
            leaves.append((name, _STREAM, right, _NONE, places[f"{storage}/{name}"]))
        at += len(inner)
    entries = [("Root Entry", _ROOT, _NONE, 1, small), *rows, *leaves]
    return b"".join(_entry(*entry) for entry in entries)


def _order(name: str) -> tuple[int, str]:
    return len(name), name.upper()


def _entry(name: str, kind: int, right: int, child: int, place: tuple[int, int]) -> bytes:
    text = (name + "\0").encode("utf-16-le")
    start, size = place
    return struct.pack(
        "<64sHBBIII16xI16xIQ", text.ljust(64, b"\0"), len(text), kind, 1, _NONE, right, child, 0, start, size
    )
