"""EDF bytes as SPEC with FReLoN writes them, and as Octave does for reduced frames.

A SPEC header is `{`, one `Key = value ;` a line with the key padded to 15 columns, spaces, then `}` and a
newline that end at byte 3072 (at a later multiple of 512 only if the text needs it). Order of keys, list
pairs of equal length and `-nan` among the counters are as in a real file of 2017.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt

HEADER_BYTES = 3072
_BLOCK = 512

#: Names of the rotation and translations first: readers look for them. 60 motors, as a large beamline has.
MOTORS: tuple[str, ...] = (
    *("srot", "sx", "sy", "sz", "yrot", "zrot", "mono", "s1hg", "s1ho", "s1vg", "s1vo", "s2hg", "s2ho"),
    *("s2vg", "s2vo", "s3hg", "s3ho", "s3vg", "s3vo", "cdx", "cdy", "cdz", "cdpitch", "cdyaw", "icx", "obx"),
    *("oby", "obz", "obpitch", "obyaw", "difftz", "diffty", "corz", "corx", "chi", "phi", "detx", "dety"),
    *("detz", "hfoc", "hrotc", "vfoc", "vrotc", "att1", "att2", "att3", "bstop", "mainx", "smx", "smy", "smz"),
    *("furnx", "furny", "furnz", "lenssel", "smfoc", "zoom", "fshut", "u32a", "u18b"),
)

COUNTERS: tuple[str, ...] = (
    *("sec", "srcur", "pico1", "pico2", "pico3", "pico4", "nfavg", "nfstd", "ffavg", "ffstd", "oxtemp", "mc5"),
    *("mc6", "delV", "delI", "samV", "samI", "basavg", "basstd", "diffavg", "diffstd", "horavg", "horstd", "p201"),
    *("europv", "foc1", "foc2", "foc3", "foc4"),
)

_TYPES = {"uint16": "UnsignedShort", "uint32": "UnsignedLong", "float32": "FloatValue", "float64": "DoubleValue"}


@dataclass(frozen=True)
class SpecImage:
    """What the header of one image says beside its shape and type."""

    prefix: str
    folder: str
    scan: str
    point: int
    scan_number: int
    epoch: float
    date: datetime
    exposure_s: float
    angle_deg: float
    current_ma: float
    image: int = 1
    summed: int | None = None


def spec_header(image: SpecImage, shape: tuple[int, int], dtype: str, *, seed: int = 0) -> bytes:
    """The header block of an image of `shape` (rows, columns); a multiple of 512 bytes, 3072 as a rule.

    Names in it are the bytes that the file system has. The same arguments give the same bytes.
    """
    rows, columns = shape
    rng = np.random.default_rng([seed, 0xED])
    motors = [image.angle_deg, *np.round(rng.uniform(-50.0, 50.0, len(MOTORS) - 1), 4).tolist()]
    counters = [image.exposure_s, image.current_ma, *np.round(rng.uniform(0.0, 200.0, len(COUNTERS) - 6), 4).tolist()]
    values: list[tuple[str, str]] = [
        ("HeaderID", f"EH:{image.image:06d}:000000:000000"),
        ("Image", str(image.image)),
        ("ByteOrder", "LowByteFirst"),
        ("DataType", _TYPES[dtype]),
        ("Dim_1", str(columns)),
        ("Dim_2", str(rows)),
        ("Size", str(rows * columns * np.dtype(dtype).itemsize)),
        ("scan", image.scan),
        ("date", image.date.strftime("%a %b %d %H:%M:%S %Y")),
        ("epoch", f"{image.epoch:.4f}"),
        ("offset", "0"),
        ("count_time", _number(image.exposure_s)),
        ("point_no", str(image.point)),
        ("scan_no", str(image.scan_number)),
        ("preset", "0.1"),
        ("col_end", str(columns - 1)),
        ("col_beg", "0"),
        ("row_end", str(rows - 1)),
        ("row_beg", "0"),
        ("counter_pos", " ".join([*map(_number, counters), *["-nan"] * 4])),
        ("counter_mne", " ".join(COUNTERS)),
        ("motor_pos", " ".join(map(_number, motors))),
        ("motor_mne", " ".join(MOTORS)),
        ("suffix", ".edf"),
        ("prefix", image.prefix),
        ("dir", image.folder),
        ("run", "0"),
        ("title", "CCD Image"),
    ]
    if image.summed is not None:
        values.append(("no_summed", str(image.summed)))
    return _block(values, HEADER_BYTES, key_width=15)


def octave_image(frame: npt.NDArray[np.generic]) -> bytes:
    """A whole file as the reduction tool writes it: 1024 header bytes, then the frame high byte first."""
    rows, columns = frame.shape
    values = [
        ("HeaderID", "EH:000001:000000:000000"),
        ("Image", "1"),
        ("ByteOrder", "HighByteFirst"),
        ("DataType", _TYPES[frame.dtype.name]),
        ("Dim_1", str(columns)),
        ("Dim_2", str(rows)),
        ("Size", str(frame.nbytes)),
    ]
    return _block(values, 1024, key_width=12) + frame.astype(frame.dtype.newbyteorder(">")).tobytes()


def frame_bytes(frame: npt.NDArray[np.generic]) -> memoryview:
    """The frame's bytes, low byte first and C ordered, without a copy where it is so already."""
    little = np.ascontiguousarray(frame, dtype=frame.dtype.newbyteorder("<"))
    return little.data.cast("B")


def _block(values: Sequence[tuple[str, str]], least: int, *, key_width: int) -> bytes:
    text = b"{\n" + b"".join(
        key.ljust(key_width).encode("ascii") + b"= " + os.fsencode(value) + b" ;\n" for key, value in values
    )
    size = max(least, -(-(len(text) + 2) // _BLOCK) * _BLOCK)
    return text.ljust(size - 2) + b"}\n"


def _number(value: float) -> str:
    return f"{value:.6g}"
