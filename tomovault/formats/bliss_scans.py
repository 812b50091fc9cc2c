"""Which entries of a BLISS master make one scan: a sequence and the subscans that belong to it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import h5py

from tomovault.core.layout import FrameKind
from tomovault.formats.bliss_entries import Entry
from tomovault.formats.hdf5_values import DAMAGE, MOST_VALUES, item_of, plain, texts_of, time_of, unit_of

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
class ScanEntries:
    """A scan: the sequence entry and its subscans in order, each with the kind of its images."""

    head: Entry
    parts: tuple[Entry, ...]
    kinds: tuple[FrameKind, ...]
    set_name: str | None = None
    planned: bool = True


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
    if entry.image_key is not None:
        known = [kind for kind in FrameKind if kind.value == entry.image_key]
        return known[0] if known else FrameKind.INVALID
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
    factor = math.degrees(1.0) if (unit_of(dataset) or "deg").lower().startswith("rad") else 1.0
    return tuple(float(v) * factor for v in values)


def start_of(entry: Entry) -> datetime | None:
    """When an entry was started, aware UTC."""
    return time_of(entry.start_time)
