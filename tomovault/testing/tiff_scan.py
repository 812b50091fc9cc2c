"""Stacks of TIFF projections as scanners write them, with everything that can be wrong with one."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from tomovault.core.scan import Verdict

_Frame = npt.NDArray[np.generic]
_KINDS: Mapping[str, int] = {"u": 1, "i": 2, "f": 3}
#: Deflate as Adobe registered it.
_DEFLATE = 8


def tiff_bytes(
    frames: Sequence[_Frame],
    *,
    big: bool = False,
    order: str = "<",
    strips: int = 1,
    gap: int = 0,
    compressed: bool = False,
    description: str = "",
) -> bytes:
    """A TIFF file of one page a frame: `strips` strips each, `gap` bytes apart, in one byte order, BigTIFF if `big`."""
    out = bytearray(_header(big, order))
    link = 8 if big else 4
    for at, frame in enumerate(frames):
        data = np.ascontiguousarray(frame, f"{order}{frame.dtype.kind}{frame.dtype.itemsize}")
        rows = -(-len(data) // strips)
        pieces = [data[k : k + rows].tobytes() for k in range(0, len(data), rows)]
        places = []
        for piece in [zlib.compress(p) for p in pieces] if compressed else pieces:
            places.append((len(out), len(piece)))
            out += piece + bytes(gap)
        out += bytes(-len(out) % 8)
        struct.pack_into(f"{order}{'Q' if big else 'I'}", out, link, len(out))
        tags = _tags(frame, places, rows, compressed=compressed, description=description if at == 0 else "")
        link = _add_directory(out, tags, big, order)
    return bytes(out)


def _header(big: bool, order: str) -> bytes:
    mark = b"II" if order == "<" else b"MM"
    return mark + (struct.pack(f"{order}HHHQ", 43, 8, 0, 0) if big else struct.pack(f"{order}HI", 42, 0))


def _tags(
    frame: _Frame, places: Sequence[tuple[int, int]], rows: int, *, compressed: bool, description: str
) -> list[tuple[int, int, Sequence[int] | bytes]]:
    """(tag, type, values): 2 is text, 3 a short, 4 a long."""
    height, width = frame.shape
    tags: list[tuple[int, int, Sequence[int] | bytes]] = [
        (256, 4, [width]),
        (257, 4, [height]),
        (258, 3, [frame.dtype.itemsize * 8]),
        (259, 3, [_DEFLATE if compressed else 1]),
        (262, 3, [1]),
        (273, 4, [offset for offset, _ in places]),
        (277, 3, [1]),
        (278, 4, [rows]),
        (279, 4, [count for _, count in places]),
        (306, 2, b"2026:05:04 03:02:01\0"),
        (339, 3, [_KINDS[frame.dtype.kind]]),
    ]
    if description:
        tags.append((270, 2, description.encode("utf-8") + b"\0"))
    return sorted(tags, key=lambda tag: tag[0])


def _add_directory(
    out: bytearray, tags: Sequence[tuple[int, int, Sequence[int] | bytes]], big: bool, order: str
) -> int:
    """Append a directory and the values that do not fit in it; returns where the offset of the next one goes."""
    start = len(out)
    entry, room, word = (20, 8, "Q") if big else (12, 4, "I")
    head = 8 if big else 2
    link = start + head + entry * len(tags)
    out += bytes(head + entry * len(tags) + room)
    struct.pack_into(f"{order}{'Q' if big else 'H'}", out, start, len(tags))
    for at, (tag, kind, values) in enumerate(tags):
        raw = values if isinstance(values, bytes) else struct.pack(f"{order}{len(values)}{'HI'[kind - 3]}", *values)
        place = start + head + at * entry
        struct.pack_into(f"{order}HH{word}", out, place, tag, kind, len(values))
        where = place + 4 + room
        if len(raw) <= room:
            out[where : where + len(raw)] = raw
        else:
            struct.pack_into(f"{order}{word}", out, where, len(out))
            out += raw + bytes(-len(raw) % 8)
    return link


@dataclass(frozen=True)
class TiffSwitches:
    """What is particular about a stack. `log`: 'sls', 'skyscan', 'nikon', 'sct' or ''."""

    log: str = ""
    projections: int = 12
    flats: int = 3
    darks: int = 2
    shared_numbers: bool = False
    missing: tuple[int, ...] = ()
    truncated: int | None = None
    compressed: bool = False
    big: bool = False
    order: str = "<"
    strips: int = 1
    gap: int = 0
    pages: bool = False
    zero: int | None = None
    float_frames: bool = False
    inner: str = ""


#: The stacks that tests go through, with the verdict that each deserves once it is settled.
VARIANTS: Mapping[str, tuple[TiffSwitches, Verdict]] = {
    "bare": (TiffSwitches(), Verdict.UNDECIDED),
    "sls": (TiffSwitches(log="sls", shared_numbers=True), Verdict.COMPLETE),
    "sls_missing": (TiffSwitches(log="sls", shared_numbers=True, missing=(7,)), Verdict.INCOMPLETE),
    "skyscan": (TiffSwitches(log="skyscan", flats=0, darks=0), Verdict.COMPLETE),
    "skyscan_cut": (TiffSwitches(log="skyscan", flats=0, darks=0, truncated=4), Verdict.INCOMPLETE),
    "nikon": (TiffSwitches(log="nikon", flats=0, darks=0, big=True), Verdict.COMPLETE),
    "als": (TiffSwitches(log="sct", order=">", strips=4), Verdict.COMPLETE),
    "als_last_missing": (TiffSwitches(log="sct", missing=(11,)), Verdict.INCOMPLETE),
    "bare_missing": (TiffSwitches(missing=(5,)), Verdict.INCOMPLETE),
    "bare_cut": (TiffSwitches(truncated=0), Verdict.INCOMPLETE),
    "compressed": (TiffSwitches(log="skyscan", flats=0, darks=0, compressed=True), Verdict.COMPLETE),
    "scattered": (TiffSwitches(log="sct", strips=4, gap=8), Verdict.COMPLETE),
    "zero_frame": (TiffSwitches(log="skyscan", flats=0, darks=0, zero=3), Verdict.UNDECIDED),
    "pages": (TiffSwitches(pages=True, flats=0, darks=0), Verdict.COMPLETE),
    "pages_cut": (TiffSwitches(pages=True, flats=0, darks=0, truncated=0), Verdict.INCOMPLETE),
    "inner": (TiffSwitches(inner="tiffs", float_frames=True), Verdict.UNDECIDED),
}


@dataclass
class TiffScan:
    """A stack called `name` in `folder`; `frames` holds what was written, by the path below the folder."""

    folder: str
    switches: TiffSwitches
    name: str = "bone_"
    shape: tuple[int, int] = (8, 12)
    frames: dict[str, _Frame] = field(default_factory=dict)

    def write(self) -> TiffScan:
        """Write every file of the variant."""
        switches = self.switches
        place = os.path.join(self.folder, switches.inner)
        os.makedirs(place, exist_ok=True)
        if switches.pages:
            self._write_pages(place)
        else:
            self._write_files(place)
        if switches.log:
            with open(os.path.join(place, _LOG_NAMES[switches.log].format(self.name.rstrip("_"))), "w") as out:
                out.write(_LOGS[switches.log](switches))
        return self

    def _frame(self, seed: int) -> _Frame:
        counts = np.random.default_rng(seed).poisson(900, self.shape)
        return counts.astype("f4" if self.switches.float_frames else "u2")

    def _write_pages(self, place: str) -> None:
        frames = [self._frame(k) for k in range(self.switches.projections)]
        text = f"ImageJ=1.53t\nimages={len(frames)}\nslices={len(frames)}\n"
        data = tiff_bytes(frames, big=self.switches.big, order=self.switches.order, description=text)
        self._put(place, f"{self.name.rstrip('_')}.tif", data if self.switches.truncated is None else data[:-600])

    def _write_files(self, place: str) -> None:
        switches = self.switches
        rows: list[tuple[str, str, int]] = []
        if switches.shared_numbers:
            total = switches.darks + 2 * switches.flats + switches.projections
            rows = [(place, f"{self.name}{k:04d}.tif", k) for k in range(1, total + 1)]
        else:
            outer = self.folder
            rows += [(outer, f"dark_{k:04d}.tif", 900 + k) for k in range(switches.darks)]
            rows += [(outer, f"flat_{k:04d}.tif", 800 + k) for k in range(switches.flats)]
            rows += [(place, f"{self.name}{k:04d}.tif", k) for k in range(switches.projections)]
        for where, name, seed in rows:
            if seed in switches.missing:
                continue
            frame = self._frame(seed) if seed != switches.zero else np.zeros(self.shape, "u2")
            data = tiff_bytes(
                [frame],
                big=switches.big,
                order=switches.order,
                strips=switches.strips,
                gap=switches.gap,
                compressed=switches.compressed,
            )
            self._put(where, name, data[: len(data) // 2] if seed == switches.truncated else data)
            self.frames[os.path.relpath(os.path.join(where, name), self.folder)] = frame

    @staticmethod
    def _put(place: str, name: str, data: bytes) -> None:
        with open(os.path.join(place, name), "wb") as out:
            out.write(data)


def _sls(switches: TiffSwitches) -> str:
    return (
        "Beam energy  [keV]          : 20.000\nExposure time [ms]          : 100\n"
        f"Actual pixel size [um]      : 0.65\nNumber of projections       : {switches.projections}\n"
        f"Number of darks             : {switches.darks}\nNumber of flats             : {switches.flats}\n"
        "Number of inter-flats       : 0\nRot Y min position  [deg]   :  0.000\n"
        "Rot Y max position  [deg]   :  180.000\nAngular step [deg]          : 15.000\n"
    )


def _skyscan(switches: TiffSwitches) -> str:
    return (
        "[System]\r\nScanner=SkyScan1172\r\n[Acquisition]\r\nSource Voltage (kV)= 70\r\n"
        f"Number of Files= {switches.projections}\r\nImage Pixel Size (um)=   7.50\r\nObject to Source (mm)=100.0\r\n"
        "Camera to Source (mm)=250.5\r\nExposure (ms)=   111\r\nRotation Step (deg)=0.600\r\nUse 360 Rotation=NO\r\n"
    )


def _nikon(switches: TiffSwitches) -> str:
    return (
        f"[XTekCT]\r\nName=bone\r\nProjections={switches.projections}\r\nSrcToObject=50.5\r\nSrcToDetector=981.2\r\n"
        "DetectorPixelSizeX=0.2\r\nVoxelSizeX=0.0103\r\nXraykV=120\r\nXrayuA=80\r\nInitialAngle=0\r\nAngularStep=30\r\n"
    )


def _sct(switches: TiffSwitches) -> str:
    return f"-scanner ALS832\n-senergy 20000\n-nangles {switches.projections}\n-arange 180\n-i0cycle 0\n"


_LOGS = {"sls": _sls, "skyscan": _skyscan, "nikon": _nikon, "sct": _sct}
_LOG_NAMES = {"sls": "{}_.log", "skyscan": "{}_.log", "nikon": "{}.xtekct", "sct": "{}.sct"}
