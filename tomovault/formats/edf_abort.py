"""The `.abo` that SPEC leaves beside a scan that was stopped: this scan's, or an earlier one's of the same name.

Times of files are compared with each other only, never with a clock of ours.
"""

from __future__ import annotations

from dataclasses import dataclass

from tomovault.formats.edf_leftovers import is_at_zero
from tomovault.formats.edf_series import Series

#: The last frames may come over the network when the mark is already there; a scan is not begun again so fast.
_LATE_NS = 5_000_000_000


@dataclass(frozen=True)
class AbortMark:
    """An `.abo` by its name; `newer` is the newest frame of a scan that came after it, '' where it is this scan's."""

    name: str
    newer: str = ""


def find_abort(series: Series) -> AbortMark | None:
    """The `.abo` of a series, None where there is none.

    A stopped scan gets no further projection, and no flat at 0: those are what the next one of the name begins with.
    """
    name, states = series.names.abort, series.states
    if name is None:
        states = series.metadata_states
        name = next((n for n in states if n.endswith(".abo")), None)
    if name is None:
        return None
    begins = [f.name for f in series.names.flats if is_at_zero(f, series.announced.ref_n or 1)]
    frames = [n for n in (*series.names.projections.values(), *begins) if n in series.frames]
    newest = max(frames, key=lambda n: series.frames[n].mtime_ns, default=None)
    if newest is not None and series.frames[newest].mtime_ns > states[name].mtime_ns + _LATE_NS:
        return AbortMark(name, newest)
    return AbortMark(name)
