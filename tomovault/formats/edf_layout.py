"""Where the frames of an EDF series lie, in the order in which they were taken."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from tomovault.core.layout import FileLayout, FrameKind, FrameSegment
from tomovault.formats.edf_certificate import flat_groups
from tomovault.formats.edf_conditions import read_conditions
from tomovault.formats.edf_darks import darks_in
from tomovault.formats.edf_flats import FlatOrder
from tomovault.formats.edf_series import FrameFile, Series

#: Positions before the first projection and after everything.
_BEFORE, _AFTER = -1, 1 << 40


@dataclass(frozen=True)
class _Place:
    """A frame's place in the acquisition: `key` sorts, `index` is the projection index it belongs to."""

    name: str
    key: tuple[int, int, int, str]
    kind: FrameKind
    index: int | None
    summed: int = 1


def lay_out_frames(series: Series) -> tuple[FileLayout, ...]:
    """One segment a file, for every file whose first data block is one plain array; by path."""
    places = sorted((*_projections(series), *_flats(series), *_darks(series)), key=lambda p: p.key)
    angles = _angles(series)
    layouts = []
    order = 0
    for place in places:
        frame = series.frames.get(place.name)
        segment = None if frame is None else _segment(frame, place, order, angles)
        if frame is None or segment is None or series.states[place.name].link_target is not None:
            continue
        layouts.append(FileLayout(place.name, frame.size, (segment,)))
        order += 1
    return tuple(sorted(layouts, key=lambda layout: layout.path))


def _segment(frame: FrameFile, place: _Place, order: int, angles: Mapping[int, float]) -> FrameSegment | None:
    if frame.dtype is None or frame.shape is None or frame.header_length <= 0:
        return None
    length = math.prod(frame.shape) * int(frame.dtype[2:])
    if length <= 0 or frame.header_length + length > frame.size:
        return None
    return FrameSegment(
        offset=frame.header_length,
        length=length,
        dtype=frame.dtype,
        shape=frame.shape,
        kind=place.kind,
        order=order,
        angle_deg=None if place.index is None else angles.get(place.index),
        summed=place.summed,
    )


def _projections(series: Series) -> list[_Place]:
    tomo_n = series.announced.tomo_n
    return [
        _Place(
            name,
            (index, 2, 0, name),
            FrameKind.ALIGNMENT if tomo_n is not None and index >= tomo_n else FrameKind.PROJECTION,
            index,
        )
        for index, name in series.names.projections.items()
    ]


def _flats(series: Series) -> list[_Place]:
    """Flats come right before the projection whose index they carry, the last ones before the return images."""
    last = series.announced.tomo_n if series.announced.tomo_n is not None else _AFTER
    groups = flat_groups(series)
    places = [
        _Place(name, (min(angle, last), 0, frame, name), FrameKind.FLAT, min(angle, last))
        for angle, frames in groups.by_angle.items()
        for frame, name in frames.items()
    ]
    if groups.order is FlatOrder.UNKNOWN:
        places = [_Place(f.name, (0, 0, at, f.name), FrameKind.FLAT, None) for at, f in enumerate(series.names.flats)]
    places += [
        _Place(name, (min(angle, last), 1, 0, name), FrameKind.FLAT, min(angle, last))
        for angle, name in series.names.reduced_flats.items()
    ]
    return places


def _darks(series: Series) -> list[_Place]:
    """`darkend` is the last image of a scan, single darks come first; what follows a scan is a mean."""
    names = series.names
    places = [_Place(n, (_AFTER, 0, 0, n), FrameKind.DARK, None, _summed(series, n)) for n in names.dark_sums]
    places += [
        _Place(n, (_BEFORE, 0, i, n), FrameKind.DARK, None, _summed(series, n)) for i, n in names.dark_frames.items()
    ]
    return places + [_Place(n, (_AFTER, 1, 0, n), FrameKind.DARK, None) for n in names.reduced_darks]


def _summed(series: Series, name: str) -> int:
    """What may be the sum of all or the first of them is taken for the sum, which a whole scan would need."""
    count = darks_in(series, name)
    return (series.announced.dark_n or 1) if count is None else count


def _angles(series: Series) -> dict[int, float]:
    """Angle by projection index: of the rotation motor where it moves from frame to frame, else evenly spaced."""
    measured = {
        i: frame.rotation_deg
        for i, name in series.names.projections.items()
        if (frame := series.frames.get(name)) is not None and frame.rotation_deg is not None
    }
    tomo_n, scan_range = series.announced.tomo_n, _scan_range(series)
    planned = [i for i in measured if tomo_n is None or i < tomo_n]
    if len(planned) > 1 and len({measured[i] for i in planned}) > len(planned) // 2:
        return {i: angle for i, angle in measured.items() if angle is not None}
    if tomo_n is None or scan_range is None:
        return {}
    flats = set(flat_groups(series).by_angle) | set(series.names.reduced_flats)
    indices = {i for i in series.names.projections if i < tomo_n} | {a for a in flats if a <= tomo_n} | {tomo_n}
    return {i: scan_range * i / tomo_n for i in indices}


def _scan_range(series: Series) -> float | None:
    condition = read_conditions(series).get("scan_range")
    return float(condition.value) if condition and isinstance(condition.value, (int, float)) else None
