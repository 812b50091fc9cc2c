"""Where a stack of frames lies inside an HDF5 file, and how much of it was really written."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Any

import h5py


@dataclass(frozen=True)
class Storage:
    """Frames of one dataset (frames, rows, columns), or the one of (rows, columns), in its own file.

    `frames` is how many from the first on are allocated within the file; `problem` says why that is fewer
    than the shape promises. `offsets` are the frames' places in the file, None where a frame is no plain
    run of bytes (compressed, split over chunks). Such a frame takes about `coded_bytes` of the file, 0 where it is
    not in the file.
    """

    shape: tuple[int, int]
    dtype: str
    frames: int
    problem: str = ""
    offsets: tuple[int, ...] | None = None
    coded_bytes: int = 0

    @property
    def frame_bytes(self) -> int:
        """Bytes of one frame."""
        return self.shape[0] * self.shape[1] * int(self.dtype[2:])


def look_at_storage(dataset: h5py.Dataset, file_size: int) -> Storage:
    """Judge a dataset of three dimensions, or of the two of one image, without reading a frame. Raises ValueError
    where it holds no frames.
    """
    if dataset.ndim not in (2, 3) or dataset.dtype.kind not in "uif" or min(dataset.shape[-2:]) < 1:
        raise ValueError(f"{dataset.name} is no stack of images")
    count, rows, columns = _with_frames(dataset.shape)
    blank = Storage((rows, columns), dataset.dtype.str, 0)
    plist = dataset.id.get_create_plist()
    kind = plist.get_layout()
    if count == 0:
        return blank
    if plist.get_external_count() > 0:
        return _with(blank, 0, _outside(plist))
    if kind == h5py.h5d.CONTIGUOUS:
        return _contiguous(blank, dataset, count, file_size)
    if kind == h5py.h5d.CHUNKED:
        return _chunked(blank, dataset, count, file_size, plain=plist.get_nfilters() == 0)
    if kind == h5py.h5d.COMPACT:
        return _with(blank, count, coded_bytes=blank.frame_bytes)
    return _with(blank, 0, "it is stored in a way that is not known")


def _with_frames(lengths: tuple[int, ...]) -> tuple[int, int, int]:
    """(frames, rows, columns) of a shape or of a chunk; one of two dimensions is of one frame."""
    frames, rows, columns = (1, *lengths) if len(lengths) == 2 else lengths
    return int(frames), int(rows), int(columns)


def _with(
    blank: Storage, frames: int, problem: str = "", offsets: tuple[int, ...] | None = None, *, coded_bytes: int = 0
) -> Storage:
    return Storage(blank.shape, blank.dtype, frames, problem, offsets, coded_bytes)


def _outside(plist: h5py.h5p.PropDCID) -> str:
    """Raw files are looked for from wherever a reader happens to run, so none is taken for the right one."""
    count, first = plist.get_external_count(), os.fsdecode(plist.get_external(0)[0])
    more = f" and {count - 1} more" if count > 1 else ""
    return f"its bytes are in {first}{more}, outside HDF5, which is not followed"


def _has_user_block(dataset: h5py.Dataset) -> bool:
    return int(dataset.file.userblock_size) != 0


def _contiguous(blank: Storage, dataset: h5py.Dataset, count: int, file_size: int) -> Storage:
    offset = dataset.id.get_offset()
    if offset is None:
        return _with(blank, 0, "no image was ever written to it")
    whole = max(0, min(count, (file_size - offset) // blank.frame_bytes))
    problem = "" if whole == count else f"the file ends after {whole} of {count} images"
    if _has_user_block(dataset):
        return _with(blank, whole, problem, coded_bytes=blank.frame_bytes)
    return _with(blank, whole, problem, tuple(offset + i * blank.frame_bytes for i in range(whole)))


def _chunked(blank: Storage, dataset: h5py.Dataset, count: int, file_size: int, *, plain: bool) -> Storage:
    chunk = _with_frames(dataset.chunks)
    per_slab = math.prod(-(-s // c) for s, c in zip(blank.shape, chunk[1:], strict=True))
    found: dict[int, int] = {}
    places: dict[int, int] = {}
    sizes: list[int] = []

    def see(info: Any) -> None:
        slab = int(info.chunk_offset[0]) // chunk[0] if dataset.ndim == 3 else 0
        if info.byte_offset + info.size <= file_size and info.size > 0:
            found[slab] = found.get(slab, 0) + 1
            places[slab] = int(info.byte_offset)
            sizes.append(int(info.size))

    dataset.id.chunk_iter(see)
    whole = next((s for s in range(-(-count // chunk[0])) if found.get(s, 0) < per_slab), -(-count // chunk[0]))
    frames = min(count, whole * chunk[0])
    problem = "" if frames == count else f"only {frames} of {count} images are written"
    spliceable = plain and chunk[1:] == blank.shape and not _has_user_block(dataset)
    if not spliceable:
        return _with(blank, frames, problem, coded_bytes=max(1, sum(sizes) // count))
    offsets = tuple(places[i // chunk[0]] + i % chunk[0] * blank.frame_bytes for i in range(frames))
    return _with(blank, frames, problem, offsets)
