"""A volume made by others as its files are: where its slices lie, and whether all of them are there."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from tomovault.core.errors import NoScan, UserError
from tomovault.core.layout import FrameKind, FrameSegment
from tomovault.core.scan import FileState
from tomovault.formats.edf_names import is_noise
from tomovault.formats.edf_series import look_at_frame
from tomovault.formats.index_ranges import in_words, missing_ranges
from tomovault.formats.scan_folder import ScanFolder
from tomovault.formats.spec_text import LONGEST_TEXT, number
from tomovault.formats.tiff_header import TiffError, read_tiff
from tomovault.formats.volume_names import Shape, VolumeNames, stem_of_volume
from tomovault.formats.volume_texts import (
    VolumeInfo,
    parse_par,
    parse_sections,
    parse_volume_info,
    scan_of,
    slices_of,
)
from tomovault.formats.zeiss_file import read_zeiss

#: A header that some programs write before the voxels of a `.vol` (volread.m of the ESRF reads both).
_PREFIX_BYTES = 210
#: A bare `.info` or `.xml` is a scan's; a volume's has the volume's whole name before it.
_TEXT_NAME = re.compile(r"\.(vol|raw|rec)\.(info|xml)$|\.(par|log|txt|rec|json|cfg|conf|csv)$", re.I)
#: So many parameter files are opened to find the one that speaks of the volume.
_MOST_TEXTS = 50
_LARGEST_TEXT_FILE = 256 * 1024 * 1024
_INDEX = re.compile(r"(\d+)\.(?:tiff?|edf)$", re.I)


@dataclass(frozen=True)
class Slices:
    """What was found. `expected` slices are announced by `source`; `there` of them are whole, None where that cannot be
    known. `voxel_um` is what `voxel_source` says. `segments` are by file.

    `missing` are reasons why it is not complete, `doubts` why that cannot be said.
    """

    rows: int = 0
    columns: int = 0
    dtype: str | None = None
    there: int | None = None
    expected: int | None = None
    source: str = ""
    missing: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    voxel_um: float | None = None
    voxel_source: str = ""
    segments: Mapping[str, tuple[FrameSegment, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Volume:
    """One volume of a folder with its texts. `of` is the name of the scan that it was made from, by `of_source`."""

    names: VolumeNames
    slices: Slices
    data: tuple[FileState, ...]
    texts: tuple[FileState, ...]
    of: str | None = None
    of_source: str = ""
    said: Mapping[str, str] = field(default_factory=dict)


def read_volume(folder: ScanFolder, names: VolumeNames, others: Sequence[VolumeNames]) -> Volume:
    """Look at every file of a volume. Raises NoScan where it is not there, UserError where it cannot be read."""
    data = tuple(folder.states[n] for n in names.names if n in folder.states and folder.states[n].link_target is None)
    if not data:
        raise NoScan(f"{names.key}.info describes a volume that is not here")
    texts, said = _texts(folder, names, others)
    if names.shape is Shape.RAW:
        slices = _raw(folder, names.names[0])
    elif names.shape is Shape.ZEISS:
        slices = _zeiss(folder, names.names[0])
    else:
        slices = _images(folder, names, data, said)
    if len(data) < len(names.names):
        slices = replace(slices, doubts=(*slices.doubts, f"{len(names.names) - len(data)} links are left out"))
    of, source = _tie(folder, names, said)
    return Volume(names, slices, data, texts, of, source, said)


# --- one file of voxels --------------------------------------------------------------------------


def _raw(folder: ScanFolder, name: str) -> Slices:
    state = folder.states[name]
    info = _info_of(folder, name)
    if info is None:
        return Slices(doubts=(f"no {name}.info says how large the volume is",))
    blank = Slices(voxel_um=info.voxel_um, voxel_source=f"{name}.info")
    if info.voxels is None:
        return replace(blank, doubts=(f"{name}.info does not give NUM_X, NUM_Y and NUM_Z",))
    columns, rows, count = info.columns or 0, info.rows or 0, info.slices or 0
    known = replace(blank, rows=rows, columns=columns, expected=count, source=f"{name}.info")
    if info.packed or info.item is None:
        what = "its voxels are packed bits" if info.packed else "nothing says of what type its voxels are"
        return replace(known, doubts=(f"{what}, so its size proves nothing",))
    item = int(info.item[1:])
    plane, wanted = rows * columns * item, info.voxels * item
    start = _PREFIX_BYTES if state.size == wanted + _PREFIX_BYTES else 0
    there = max(0, min(count, (state.size - start) // plane))
    known = replace(known, there=there, dtype=f"{'|' if item == 1 else info.order}{info.item}")
    if state.size < wanted:
        return replace(known, missing=(f"{name}: {state.size} bytes of {wanted}",))
    if state.size > wanted + start:
        return replace(known, doubts=(f"{name}: {state.size} bytes, {wanted} are announced",))
    segments = tuple(
        FrameSegment(start + z * plane, plane, known.dtype or "", (rows, columns), FrameKind.INVALID, z)
        for z in range(min(count, 1_000_000))
    )
    return replace(known, segments={name: segments})


def _info_of(folder: ScanFolder, name: str) -> VolumeInfo | None:
    state = folder.states.get(f"{name}.info")
    if state is None or state.link_target is not None:
        return None
    try:
        return parse_volume_info(folder.read_text(f"{name}.info", LONGEST_TEXT), name)
    except OSError:
        return None


def _zeiss(folder: ScanFolder, name: str) -> Slices:
    try:
        with folder.open_file(name) as descriptor:
            found = read_zeiss(descriptor, name)
    except OSError as problem:
        raise UserError(f"{name} cannot be read: {problem.strerror or problem}") from problem
    whole = [image for image in found.images if image.whole]
    missing: list[str] = []
    if found.expected is not None and len(whole) < found.expected:
        missing.append(f"{found.expected - len(whole)} of {found.expected} slices are missing or cut")
    if found.needed > found.size:
        missing.append(f"{found.size} bytes of {found.needed}: the file is cut")
    ordered = sorted((i for i in whole if i.offset is not None), key=lambda i: i.offset or 0)
    segments: list[FrameSegment] = []
    for image in ordered:
        end = segments[-1].offset + segments[-1].length if segments else 0
        if found.dtype is None or image.offset is None or image.offset < end or image.length != found.frame_bytes:
            continue
        shape = (found.height, found.width)
        segments.append(FrameSegment(image.offset, image.length, found.dtype, shape, FrameKind.INVALID, image.number))
    return Slices(
        rows=found.height,
        columns=found.width,
        dtype=found.dtype,
        there=len(whole),
        expected=found.expected,
        source=f"{name}:ImageInfo/NoOfImages",
        missing=tuple(missing),
        doubts=() if found.expected is not None else ("the file does not say how many slices it has",),
        voxel_um=found.number("PixelSize"),
        voxel_source=f"{name}:ImageInfo/PixelSize",
        segments={name: tuple(segments)} if segments else {},
    )


# --- a file a slice ------------------------------------------------------------------------------


def _images(folder: ScanFolder, names: VolumeNames, data: Sequence[FileState], said: Mapping[str, str]) -> Slices:
    segments: dict[str, tuple[FrameSegment, ...]] = {}
    missing: list[str] = []
    shapes: set[tuple[int, int, str | None]] = set()
    order = 0
    for state in data:
        pages, problem = (_edf if names.shape is Shape.EDF else _tiff)(folder, state, order)
        if problem:
            missing.append(f"{state.path}: {problem}")
        shapes |= {shape for shape, _ in pages}
        plain = tuple(sorted((s for _, s in pages if s is not None), key=lambda s: s.offset))
        if plain and _disjoint(plain, state.size):
            segments[state.path] = plain
        order += max(1, len(pages))
    there = order - len(missing)
    expected = slices_of(said)
    doubts: list[str] = []
    if len(shapes) > 1:
        doubts.append("the slices are not alike")
    missing += _holes([s.path for s in data]) if names.shape is not Shape.TIFF_FILE else []
    if expected is None:
        doubts.append("nothing says how many slices are expected")
    elif there < expected:
        missing.append(f"{expected - there} of {expected} slices are missing")
    rows, columns, dtype = next(iter(sorted(shapes, key=str)), (0, 0, None))
    if not shapes:
        raise UserError(f"none of {len(data)} files can be read; {missing[0]}")
    voxel_cm = said.get("processing_options.reconstruction/voxel_size_cm", "").split(",")[0]
    return Slices(
        rows=rows,
        columns=columns,
        dtype=dtype,
        there=there,
        expected=expected,
        source="the text beside it" if expected is not None else "",
        missing=tuple(missing[:20]),
        doubts=tuple(doubts),
        voxel_um=_scaled(voxel_cm, 1e4),
        voxel_source="the text beside it",
        segments=segments,
    )


_Found = tuple[list[tuple[tuple[int, int, str | None], FrameSegment | None]], str]


def _tiff(folder: ScanFolder, state: FileState, order: int) -> _Found:
    try:
        with folder.open_file(state.path) as descriptor:
            tiff = read_tiff(descriptor)
    except TiffError as error:
        return [], str(error)
    except OSError as error:
        return [], f"cannot be read: {error.strerror or error}"
    found: list[tuple[tuple[int, int, str | None], FrameSegment | None]] = []
    for at, page in enumerate(tiff.pages):
        segment = None
        shape = (page.height, page.width)
        if page.offset is not None and page.dtype is not None and page.end <= state.size:
            segment = FrameSegment(page.offset, page.length, page.dtype, shape, FrameKind.INVALID, order + at)
        found.append(((*shape, page.dtype), segment))
    return found, tiff.problem


def _edf(folder: ScanFolder, state: FileState, order: int) -> _Found:
    frame, _ = look_at_frame(folder, state.path, zero=False)
    if frame.shape is None:
        return [], frame.problem or "its header gives no shape"
    segment = None
    if not frame.problem and frame.dtype is not None:
        length = frame.shape[0] * frame.shape[1] * int(frame.dtype[2:])
        segment = FrameSegment(frame.header_length, length, frame.dtype, frame.shape, FrameKind.INVALID, order)
    return [((*frame.shape, frame.dtype), segment)], frame.problem


def _disjoint(frames: Sequence[FrameSegment], size: int) -> bool:
    end = 0
    for frame in frames:
        if frame.offset < end or frame.length <= 0:
            return False
        end = frame.offset + frame.length
    return end <= size


def _holes(names: Sequence[str]) -> list[str]:
    indices = sorted({int(m[1][-9:]) for name in names if (m := _INDEX.search(name))})
    if len(indices) < 2:
        return []
    gaps = missing_ranges((i - indices[0] for i in indices), indices[-1] - indices[0] + 1)
    words = in_words([(low + indices[0], high + indices[0]) for low, high in gaps])
    return [f"slices are missing between the first and the last: {words}"] if gaps else []


def _scaled(text: str, factor: float) -> float | None:
    value = (number(text) or 0.0) * factor
    return value if 0 < value < math.inf else None


# --- texts, and the scan that it was made from ---------------------------------------------------


def _texts(
    folder: ScanFolder, names: VolumeNames, others: Sequence[VolumeNames]
) -> tuple[tuple[FileState, ...], dict[str, str]]:
    """Texts that are named like the volume or speak of it, and what they say: the volume's own run first."""
    data = {name for volume in others for name in volume.names}
    chosen: list[FileState] = []
    said: dict[str, str] = {}
    opened = 0
    for name, state in sorted(folder.states.items()):
        if name in data or state.link_target is not None or is_noise(name) or state.size > _LARGEST_TEXT_FILE:
            continue
        if _TEXT_NAME.search(name) is None:
            continue
        keys: dict[str, str] = {}
        if opened < _MOST_TEXTS and state.size <= LONGEST_TEXT:
            opened += 1
            keys = _keys_of(folder, name)
        if _is_named_like(name, names, others) or _speaks_of(keys, names):
            chosen.append(state)
            said = {**keys, **said}
    return tuple(chosen), said


def _keys_of(folder: ScanFolder, name: str) -> dict[str, str]:
    try:
        raw = folder.read_text(name, LONGEST_TEXT)
    except OSError:
        return {}
    if name.lower().endswith(".par"):
        return parse_par(raw)
    return parse_sections(raw) if name.lower().endswith((".txt", ".log")) else {}


def _is_named_like(name: str, names: VolumeNames, others: Sequence[VolumeNames]) -> bool:
    """The longest stem of the folder's volumes that the name begins with is this one's."""
    stems = {_stem(volume): volume.key for volume in others}
    fitting = [stem for stem in stems if stem and name.removeprefix("histogram_").startswith(stem)]
    return bool(fitting) and stems[max(fitting, key=len)] == names.key


def _speaks_of(keys: Mapping[str, str], names: VolumeNames) -> bool:
    last = keys.get("output_file", "").replace("\\", "/").rpartition("/")[2]
    return bool(last) and last in (names.key, _stem(names))


def _stem(names: VolumeNames) -> str:
    if names.prefix:
        return re.sub(r"[_-]*(slice|slices|recon|rec|reco)?[_-]*$", "", names.prefix)
    return stem_of_volume(names.key)


def _tie(folder: ScanFolder, names: VolumeNames, said: Mapping[str, str]) -> tuple[str | None, str]:
    """The scan's name, by what the run's text says, else by frames of the same name, else by the folder's name."""
    told = scan_of(said)
    if told:
        return told, "the text beside it"
    stem = _stem(names)
    for prefix in (stem, f"{stem}_", re.sub(r"(_rec|_vol|_pag|_abs|_recon)$", "", stem)):
        if prefix and any(f"{prefix}{first}" in folder.states for first in ("0000.edf", "0000.tif", ".info", ".nx")):
            return prefix, "the names beside it"
    last = os.path.basename(folder.path.rstrip("/"))
    bare = re.sub(r"_(rec|recon|slices|volume|vol)$", "", last)
    return (bare, "the name of its folder") if bare != last else (None, "")
