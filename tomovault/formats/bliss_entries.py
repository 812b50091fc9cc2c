"""The entries of a BLISS master, and which of them make one scan."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import h5py

from tomovault.core.layout import FrameKind
from tomovault.formats.hdf5_values import (
    DAMAGE,
    MOST_VALUES,
    count_of,
    item_of,
    plain,
    text_of,
    texts_of,
    time_of,
    unit_of,
    value_of,
)

#: Entries `N.1`; `N.2` and on hold the slower counters of the same scan, never images.
_ENTRY = re.compile(r"^(?P<number>\d{1,6})\.1$")
#: Titles of tomography sequences.
_SEQUENCE_TITLE = re.compile(r"^(tomo:(?!dark|flat|step|return)\w+|holotomo|multitomo|pcotomo|back_and_forth)", re.I)
#: Sequences that hold other sequences.
_SET_TITLE = re.compile(r"^(tomo:)?(zseries|holotomo|multitomo)$", re.I)
_TITLE_KINDS: Sequence[tuple[str, FrameKind]] = (
    ("dark", FrameKind.DARK),
    ("flat", FrameKind.FLAT),
    ("ref", FrameKind.FLAT),
    ("proj", FrameKind.PROJECTION),
    ("static", FrameKind.ALIGNMENT),
    ("return", FrameKind.ALIGNMENT),
)
_TYPE_KINDS: Mapping[str, FrameKind] = {
    "tomo:dark": FrameKind.DARK,
    "tomo:flat": FrameKind.FLAT,
    "tomo:ref": FrameKind.FLAT,
    "tomo:return_ref": FrameKind.ALIGNMENT,
    "tomo:static": FrameKind.ALIGNMENT,
}
#: Rotation axes where the sequence does not name its own.
_ROTATIONS = ("srot", "rot", "diffrz", "hrsrot", "mrsrot", "somega")
#: Starts and ends of entries overlap by tens of milliseconds.
_OVERLAP = timedelta(seconds=2)


@dataclass(frozen=True)
class Mapped:
    """A run of frames of an image stack that lie in another file: frames [at, at + count) of the stack
    are frames [first, first + count) of `dataset` in `file`. `plain` is False where only parts of frames are mapped.
    """

    file: str
    dataset: str
    at: int
    first: int
    count: int
    plain: bool = True


@dataclass(frozen=True)
class ImageStack:
    """The images of one camera in one entry. `external` is a link's file and path, instead of `sources`."""

    camera: str
    path: str
    frames: int = 0
    shape: tuple[int, int] = (0, 0)
    dtype: str = ""
    sources: tuple[Mapped, ...] = ()
    external: tuple[str, str] | None = None
    problem: str = ""


@dataclass(frozen=True)
class Entry:
    """One entry `N.1` as far as a certificate needs it."""

    name: str
    number: int
    title: str
    start_time: str | None = None
    end_time: str | None = None
    end_reason: str | None = None
    writer_status: str | None = None
    image_key: int | None = None
    sequence: bool = False
    subscans: tuple[str, ...] = ()
    announced: Mapping[str, int] = field(default_factory=dict)
    stacks: tuple[ImageStack, ...] = ()

    @property
    def ended(self) -> bool:
        """The writer has closed it."""
        return self.end_time is not None


@dataclass(frozen=True)
class ScanEntries:
    """A scan: the sequence entry and its subscans in order, each with the kind of its images."""

    head: Entry
    parts: tuple[Entry, ...]
    kinds: tuple[FrameKind, ...]
    set_name: str | None = None
    planned: bool = True


def read_entries(master: h5py.File) -> list[Entry]:
    """Every entry `N.1` of the master itself, by number; entries of linked masters are not its own."""
    found = []
    for name in master:
        match = _ENTRY.match(name)
        if match and isinstance(master.get(name, getlink=True), h5py.HardLink):
            group = item_of(master, name)
            if isinstance(group, h5py.Group):
                found.append(_read_entry(group, name, int(match["number"])))
    return sorted(found, key=lambda entry: entry.number)


def is_bliss(master: h5py.File, entries: Sequence[Entry]) -> bool:
    """Whether the content is what a BLISS writer leaves, or at least has its shape."""
    writers = " ".join(str(plain(master.attrs.get(key, "")) or "") for key in ("creator", "publisher")).lower()
    if "bliss" in writers:
        return True
    return any((e.start_time and e.title) or e.sequence or e.image_key is not None or e.stacks for e in entries)


def _read_entry(group: h5py.Group, name: str, number: int) -> Entry:
    title = text_of(group, "title") or ""
    key = value_of(group, "technique/image_key")
    image_key = key if isinstance(key, int) and not isinstance(key, bool) else None
    planned = item_of(group, "technique/scan") is not None or item_of(group, "technique/subscans") is not None
    return Entry(
        name=name,
        number=number,
        title=title,
        start_time=text_of(group, "start_time"),
        end_time=text_of(group, "end_time"),
        end_reason=text_of(group, "end_reason"),
        writer_status=text_of(group, "writer/status"),
        image_key=image_key,
        sequence=image_key is None and (planned or _SEQUENCE_TITLE.match(title) is not None),
        subscans=_subscan_types(group),
        announced=_announced(group),
        stacks=tuple(_stacks(group)),
    )


def _subscan_types(group: h5py.Group) -> tuple[str, ...]:
    subscans = item_of(group, "technique/subscans")
    if not isinstance(subscans, h5py.Group):
        return ()
    numbered = [(int(m.group(1)), n) for n in subscans if (m := re.match(r"^scan(\d{1,6})$", n))]
    return tuple(text_of(subscans, f"{name}/type") or "" for _, name in sorted(numbered))


def _announced(group: h5py.Group) -> dict[str, int]:
    """Announced numbers of frames: of the sequence (tomo_n, dark_n, flat_n) or of a subscan."""
    places = {
        "tomo_n": ("technique/scan/tomo_n",),
        "dark_n": ("technique/dark/dark_n", "technique/scan/dark_n"),
        "flat_n": ("technique/flat/flat_n", "technique/scan/flat_n"),
        "proj_n": ("technique/proj/proj_n", "technique/scan/proj_n"),
    }
    found = {
        key: next((c for p in paths if (c := count_of(group, p)) is not None), None) for key, paths in places.items()
    }
    return {key: value for key, value in found.items() if value is not None}


def _stacks(group: h5py.Group) -> Iterator[ImageStack]:
    instrument = item_of(group, "instrument")
    if not isinstance(instrument, h5py.Group):
        return
    for camera in instrument:
        detector = item_of(instrument, camera)
        if not isinstance(detector, h5py.Group):
            continue
        for key in ("image", "data"):
            stack = _stack(detector, camera, key)
            if stack is not None:
                yield stack
                break


def _stack(detector: h5py.Group, camera: str, key: str) -> ImageStack | None:
    path = f"{detector.name}/{key}"
    try:
        link = detector.get(key, getlink=True)
        if isinstance(link, h5py.ExternalLink):
            return ImageStack(camera, path, external=(link.filename, link.path))
        if not isinstance(link, h5py.HardLink):
            return None
        dataset = detector.get(key)
        if not isinstance(dataset, h5py.Dataset) or dataset.ndim != 3:
            return None
        frames, rows, columns = (int(n) for n in dataset.shape)
        stack = ImageStack(camera, path, frames, (rows, columns), dataset.dtype.str)
        if not dataset.is_virtual:
            return ImageStack(**{**stack.__dict__, "sources": (Mapped(".", path, 0, 0, frames),)})
        return ImageStack(**{**stack.__dict__, "sources": virtual_runs(dataset)})
    except DAMAGE as error:
        return ImageStack(camera, path, problem=f"its images cannot be read: {error}")


def virtual_runs(dataset: h5py.Dataset) -> tuple[Mapped, ...]:
    """The sources of a virtual dataset in the order of its frames. Raises what h5py raises, ValueError for patterns."""
    runs = []
    rows, columns = int(dataset.shape[1]), int(dataset.shape[2])
    for source in dataset.virtual_sources():
        if "%b" in source.file_name or "%b" in source.dset_name:
            raise ValueError("its sources are a pattern of names without an end")
        start, end = source.vspace.get_select_bounds()
        at, count = int(start[0]), int(end[0]) - int(start[0]) + 1
        low, high = source.src_space.get_select_bounds()
        first, needed = int(low[0]), int(high[0]) - int(low[0]) + 1
        whole = source.vspace.get_select_npoints() == count * rows * columns and needed == count
        runs.append(Mapped(source.file_name, source.dset_name, at, first, max(count, needed), plain=whole))
    return tuple(sorted(runs, key=lambda run: run.at))


def group_scans(entries: Sequence[Entry]) -> list[ScanEntries]:
    """The scans of a master. Without any sequence every entry with images stands for itself, with no plan."""
    heads = [at for at, entry in enumerate(entries) if entry.sequence]
    if not heads:
        return [ScanEntries(e, (e,), (_kind(e, ""),), planned=False) for e in entries if e.stacks]
    scans: list[ScanEntries] = []
    outer: Entry | None = None
    for at, end in zip(heads, [*heads[1:], len(entries)], strict=True):
        head = entries[at]
        if _is_set(head, entries[at + 1 : end]) and end < len(entries):
            outer = head
            continue
        parts, kinds = _parts(head, entries[at + 1 : end])
        within = outer is not None and _within(outer, head)
        scans.append(ScanEntries(head, parts, kinds, set_name=outer.name if within and outer is not None else None))
    return scans


def _is_set(head: Entry, following: Sequence[Entry]) -> bool:
    """A sequence of sequences has no images of its own."""
    return _SET_TITLE.match(head.title) is not None and not head.stacks and not any(e.stacks for e in following)


def _within(outer: Entry, head: Entry) -> bool:
    end, start = time_of(outer.end_time), time_of(head.start_time)
    return end is None or start is None or start <= end + _OVERLAP


def _parts(head: Entry, following: Sequence[Entry]) -> tuple[tuple[Entry, ...], tuple[FrameKind, ...]]:
    """The subscans: entries after the sequence that hold tomography images and lie within its time."""
    announced = len(head.subscans)
    parts: list[Entry] = []
    kinds: list[FrameKind] = []
    if head.stacks:
        parts.append(head)
        kinds.append(FrameKind.PROJECTION)
    for entry in following:
        if announced and len(kinds) >= announced:
            break
        if entry.image_key is None and not _titled(entry.title):
            continue
        if not _starts_within(head, entry):
            continue
        said = head.subscans[len(kinds)] if len(kinds) < announced else ""
        parts.append(entry)
        kinds.append(_kind(entry, said))
    return tuple(parts), tuple(kinds)


def _starts_within(head: Entry, entry: Entry) -> bool:
    start, first, last = time_of(entry.start_time), time_of(head.start_time), time_of(head.end_time)
    if start is None:
        return True
    return (first is None or start >= first - _OVERLAP) and (last is None or start <= last + _OVERLAP)


def _titled(title: str) -> bool:
    return any(title.lower().startswith(word) for word, _ in _TITLE_KINDS)


def _kind(entry: Entry, said: str) -> FrameKind:
    """Of the images: their image_key, else what the sequence calls the subscan, else its title."""
    if entry.image_key is not None and entry.image_key in iter(FrameKind):
        return FrameKind(entry.image_key)
    if said in _TYPE_KINDS:
        return _TYPE_KINDS[said]
    return next((k for word, k in _TITLE_KINDS if entry.title.lower().startswith(word)), FrameKind.PROJECTION)


def rotation_angles(master: h5py.File, scan: ScanEntries, part: Entry, frames: int) -> tuple[float, ...] | None:
    """Angles in degrees, one a frame, of the rotation axis recorded with a subscan; None where none was."""
    named: list[str] = []
    for entry, path in (
        (scan.head, "technique/scan/motor"),
        (part, "technique/proj/motor"),
        (scan.head, "technique/tomoconfig/rotation"),
    ):
        named += texts_of(item_of(master, entry.name), path)
    for name in dict.fromkeys([*named, *_ROTATIONS]):
        for key in ("value", "data"):
            dataset = item_of(master, f"{part.name}/instrument/{name}/{key}") if "/" not in name else None
            angles = _stream(dataset, frames)
            if angles is not None:
                return angles
    return None


def _stream(dataset: Any, frames: int) -> tuple[float, ...] | None:
    if not isinstance(dataset, h5py.Dataset):
        return None
    try:
        if dataset.ndim != 1 or dataset.is_virtual or not frames <= dataset.shape[0] <= MOST_VALUES:
            return None
        values = plain(dataset[:frames])
    except DAMAGE:
        return None
    if not isinstance(values, list) or not all(isinstance(v, (int, float)) for v in values):
        return None
    factor = 180.0 / 3.141592653589793 if (unit_of(dataset) or "deg").lower().startswith("rad") else 1.0
    return tuple(float(v) * factor for v in values)


def start_of(entry: Entry) -> datetime | None:
    """When an entry was started, aware UTC."""
    return time_of(entry.start_time)
