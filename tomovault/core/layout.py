"""Where the frames lie inside a scan's files: what a package is made from, and what an engine reads.

Every original file is a run of segments without gaps or overlap: literal bytes, or one raw,
uncompressed frame. Restoring a file is writing its segments one after the other.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


class FrameKind(enum.IntEnum):
    """NXtomo's image_key_control values."""

    ALIGNMENT = -1
    PROJECTION = 0
    FLAT = 1
    DARK = 2
    INVALID = 3


@dataclass(frozen=True)
class FrameSegment:
    """`length` bytes at `offset` of a file are one C-ordered frame of `shape` (rows, columns).

    `dtype` is a numpy type string with byte order, such as '<u2'. `order` is the position of the frame
    in the acquisition, counted over all kinds; `angle_deg` is None where it is not known. `summed` is the
    number of exposures added up in it: a reader divides by it.
    """

    offset: int
    length: int
    dtype: str
    shape: tuple[int, int]
    kind: FrameKind
    order: int
    angle_deg: float | None = None
    summed: int = 1


@dataclass(frozen=True)
class CodedFrame:
    """Frame `index` of the HDF5 dataset `dataset` is no plain run of bytes (compressed, or cut into tiles): the HDF5
    library reads it. It takes about `stored_bytes` of the file; the rest is as in a `FrameSegment`.
    """

    dataset: str
    index: int
    stored_bytes: int
    dtype: str
    shape: tuple[int, int]
    kind: FrameKind
    order: int
    angle_deg: float | None = None
    summed: int = 1


@dataclass(frozen=True)
class FileLayout:
    """The frames of one file in ascending, disjoint offsets; every byte outside them is literal, those of `coded`
    frames too.
    """

    path: str
    size: int
    frames: tuple[FrameSegment, ...] = ()
    coded: tuple[CodedFrame, ...] = ()


@dataclass(frozen=True)
class Layout:
    """The frames of a whole scan. Files absent from `files` are kept whole.

    `nx` holds what the NXtomo view needs beside frames: energy_kev, distance_m, x_pixel_m, y_pixel_m,
    exposure_s, field_of_view, title, start_time, end_time, sample, instrument; absent where unknown.
    """

    files: tuple[FileLayout, ...] = ()
    nx: Mapping[str, Any] = field(default_factory=dict)
