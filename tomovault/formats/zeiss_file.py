"""The OLE compound files of Zeiss X-ray microscopes: images and what is said of them, as `olefile` finds streams.

Stream names and their meaning are those of files written by XMController (versions 2 to 12): numbers are little
endian, one value or one an image; `ImageData1/Image1` to `Image100`, `ImageData2/Image101` and on.
"""

from __future__ import annotations

import io
import math
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from tomovault.core.errors import UserError

#: numpy types of the DataType stream; others are not known to us.
_DTYPES: Mapping[int, str] = {3: "|u1", 5: "<u2", 10: "<f4"}
_IMAGES_A_FOLDER = 100
#: A text or a table of numbers is read up to here.
_LONGEST = 8 << 20
_MAGIC = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
#: What olefile raises of numbers in a file that cannot be.
_DAMAGE = (
    OSError,
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    OverflowError,
    MemoryError,
    struct.error,
)
_FREE = 0xFFFFFFFF


@dataclass(frozen=True)
class StoredImage:
    """One image stream: its bytes, `offset` in the file where they lie in one piece, and whether all are there."""

    number: int
    length: int
    offset: int | None
    whole: bool


@dataclass(frozen=True)
class ZeissFile:
    """A `.txrm`, `.xrm` or `.txm` file. Counts are None where no stream says them; `needed` are the bytes that its
    allocation table says are in use, which are more than `size` where it was cut.
    """

    size: int
    needed: int
    expected: int | None
    taken: int | None
    width: int
    height: int
    dtype: str | None
    images: tuple[StoredImage, ...]
    reference: StoredImage | None = None
    angles_deg: tuple[float, ...] = ()
    numbers: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)

    @property
    def frame_bytes(self) -> int:
        """Bytes of one image, 0 where its type is not known."""
        return 0 if self.dtype is None else self.width * self.height * int(self.dtype[2:])

    def number(self, name: str) -> float | None:
        """The first value of a table, None where it is not there."""
        found = self.numbers.get(name)
        return found[0] if found else None


#: Tables of floats, one value an image.
_FLOATS = (
    *("Energy", "Voltage", "Current", "ExpTimes", "PixelSize", "DtoRADistance", "StoRADistance"),
    *("XrayMagnification", "OpticalMagnification", "CamPixelSize"),
)
_TEXTS = ("Date", "CameraName", "ObjectiveName", "ReferenceFile")


def read_zeiss(descriptor: int, name: str) -> ZeissFile:
    """Read what describes the images of an open file. Raises UserError where it is no such file, or is damaged."""
    size = os.fstat(descriptor).st_size
    if os.pread(descriptor, 8, 0) != _MAGIC:
        raise UserError(f"{name} is no OLE compound file")
    # Not at the top: a watcher that asks for names needs no reader.
    import olefile

    with io.FileIO(os.dup(descriptor)) as stream:
        try:
            with olefile.OleFileIO(io.BufferedReader(stream)) as ole:
                return _Reader(ole, size).read(name)
        except UserError:
            raise
        except _DAMAGE as problem:
            told = " ".join(str(problem).split())[:200]
            raise UserError(f"{name}: a damaged OLE compound file: {told}") from problem
        except RecursionError as problem:
            raise UserError(f"{name}: a damaged OLE compound file: its folders go round in a circle") from problem


class _Reader:
    def __init__(self, ole: Any, size: int) -> None:
        self._ole = ole
        self._size = size
        self._names = {"/".join(parts): parts for parts in ole.listdir(streams=True, storages=False)}

    def read(self, name: str) -> ZeissFile:
        width, height = (self._whole(f"ImageInfo/{key}") for key in ("ImageWidth", "ImageHeight"))
        if not width or not height:
            raise UserError(f"{name}: it holds no images of an X-ray microscope (no ImageInfo)")
        dtype = _DTYPES.get(self._whole("ImageInfo/DataType") or 0)
        blank = ZeissFile(self._size, 0, None, None, width, height, dtype, ())
        texts = {key: text for key in _TEXTS if (text := self._text(f"ImageInfo/{key}"))}
        return ZeissFile(
            size=self._size,
            needed=self._needed(),
            expected=self._whole("ImageInfo/NoOfImages"),
            taken=self._whole("ImageInfo/ImagesTaken"),
            width=width,
            height=height,
            dtype=dtype,
            images=self._images(blank.frame_bytes),
            reference=self._reference(blank.frame_bytes),
            angles_deg=self._floats("ImageInfo/Angles"),
            numbers={key: found for key in _FLOATS if (found := self._floats(f"ImageInfo/{key}"))},
            texts=texts,
        )

    def _images(self, length: int) -> tuple[StoredImage, ...]:
        numbers = {}
        for path in self._names:
            folder, _, last = path.partition("/")
            digits = last.removeprefix("Image")
            if folder.startswith("ImageData") and digits.isascii() and digits.isdigit() and len(digits) < 8:
                number = int(digits)
                if folder == f"ImageData{(number - 1) // _IMAGES_A_FOLDER + 1}":
                    numbers[number] = path
        return tuple(self._image(number, numbers[number], length) for number in sorted(numbers))

    def _reference(self, length: int) -> StoredImage | None:
        path = "ReferenceData/Image"
        same = self._whole("ReferenceData/DataType") == self._whole("ImageInfo/DataType")
        return self._image(0, path, length) if path in self._names and same else None

    def _image(self, number: int, path: str, length: int) -> StoredImage:
        stored = int(self._ole.get_size(self._names[path]))
        runs = self._runs(path, stored)
        whole = runs is not None and path not in self._shared and (stored == length or length == 0)
        offset = (runs[0][0] + 1) * int(self._ole.sector_size) if runs and len(runs) == 1 and whole else None
        return StoredImage(number, stored, offset, whole)

    @cached_property
    def _shared(self) -> frozenset[str]:
        """Streams that have a sector which another stream has, too: one of the two has not its own bytes."""
        runs = sorted(
            (first, first + count, path)
            for path, parts in self._names.items()
            for first, count in self._runs(path, int(self._ole.get_size(parts))) or ()
        )
        shared: set[str] = set()
        end, owner = 0, ""
        for first, after, path in runs:
            if first < end:
                shared |= {owner, path}
            if after > end:
                end, owner = after, path
        return frozenset(shared)

    def _runs(self, path: str, length: int) -> list[tuple[int, int]] | None:
        """The sectors of a stream as (first, count) of those that follow each other; none for one in the small store.

        None where they are not all within the file, or their chain ends early.
        """
        if length < self._ole.mini_stream_cutoff_size or length <= 0:
            return []
        if length > self._size:
            return None
        entry = self._ole.direntries[self._ole._find(self._names[path])]  # noqa: SLF001 - no public way to the sector
        fat, step = self._ole.fat, int(self._ole.sector_size)
        left, count = length, math.ceil(length / step)
        runs = [(int(entry.isectStart), 1)]
        for _ in range(count - 1):
            first, together = runs[-1]
            following = int(fat[first + together - 1])
            if following >= len(fat):
                return None
            if following == first + together:
                runs[-1] = (first, together + 1)
            else:
                runs.append((following, 1))
        last, together = runs[-1]
        left -= (count - 1) * step
        ends = [(first + 1 + n) * step for first, n in runs[:-1]] + [(last + together) * step + left]
        return runs if max(ends) <= self._size and int(fat[last + together - 1]) != _FREE else None

    def _needed(self) -> int:
        fat = self._ole.fat
        last = next((at for at in range(len(fat) - 1, -1, -1) if int(fat[at]) != _FREE), 0)
        return int((last + 2) * self._ole.sector_size)

    def _raw(self, path: str) -> bytes:
        parts = self._names.get(path)
        return b"" if parts is None else bytes(self._ole.openstream(parts).read(_LONGEST))

    def _whole(self, path: str) -> int | None:
        raw = self._raw(path)
        value = struct.unpack_from("<i", raw)[0] if len(raw) >= 4 else -1
        return int(value) if value >= 0 else None

    def _floats(self, path: str) -> tuple[float, ...]:
        raw = self._raw(path)
        found = struct.unpack_from(f"<{len(raw) // 4}f", raw)
        return tuple(v if math.isfinite(v) else 0.0 for v in found)

    def _text(self, path: str) -> str:
        return self._raw(path).partition(b"\0")[0].decode("latin-1").strip()
