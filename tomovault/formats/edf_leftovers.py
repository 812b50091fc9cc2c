"""Files of an earlier scan of the same name, set aside where it is certain that they are."""

from __future__ import annotations

from dataclasses import replace

from tomovault.formats.edf_names import FlatName, SeriesNames
from tomovault.formats.edf_rescan import find_split
from tomovault.formats.edf_series import Series

#: Return and alignment images after the last projection: 3 to 5 in real layouts.
MOST_RETURN_IMAGES = 32


def set_aside_leftovers(series: Series) -> Series:
    """A series without what a longer, earlier scan of the same name left in the folder.

    Only where a later scan has certainly ended: every projection it announces (and a few return images) is
    newer than every index after them, and the end mark (.xml, else .info) is no older than its last
    projection. Flats and darks must be newer than its first projection, but for the flats at 0, which come
    right before it; all others are set aside with the rest, as side files.
    """
    tomo_n = series.announced.tomo_n
    times = {i: series.frames[n].mtime_ns for i, n in series.names.projections.items() if n in series.frames}
    split = find_split(times)
    if tomo_n is None or split is None or not tomo_n <= split <= tomo_n + MOST_RETURN_IMAGES:
        return series
    newest_old = max(t for i, t in times.items() if i >= split)
    newest_new = max(t for i, t in times.items() if i < split)
    mark = series.names.xml or series.names.info
    if mark is None or series.states[mark].mtime_ns < newest_new:
        return series
    old = {n for i, n in series.names.projections.items() if i >= split}
    oldest_new = min(t for i, t in times.items() if i < split)
    first = {f.name for f in series.names.flats if is_at_zero(f, series.announced.ref_n or 1)}
    calibration = (*(f.name for f in series.names.flats), *series.names.reduced_flats.values(), *series.names.darks)
    for name in calibration:
        if series.states[name].mtime_ns <= (newest_old if name in first else oldest_new):
            old.add(name)
    return replace(series, names=_without(series.names, old), leftovers=tuple(sorted(old)))


def is_at_zero(flat: FlatName, count: int) -> bool:
    """True for a flat at projection 0, whichever way round its two numbers are. An earlier scan's are its oldest."""
    if flat.old:
        return flat.second == 0
    return min(flat.first, flat.second) == 0 and max(flat.first, flat.second) < count


def _without(names: SeriesNames, old: set[str]) -> SeriesNames:
    return replace(
        names,
        projections={i: n for i, n in names.projections.items() if n not in old},
        flats=[f for f in names.flats if f.name not in old],
        reduced_flats={i: n for i, n in names.reduced_flats.items() if n not in old},
        dark_sums=[n for n in names.dark_sums if n not in old],
        dark_frames={i: n for i, n in names.dark_frames.items() if n not in old},
        reduced_darks=[n for n in names.reduced_darks if n not in old],
        side=sorted({*names.side, *old}),
    )
