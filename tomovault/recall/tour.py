"""In which order the tape files of one cartridge are read, so that the drive moves least.

On a serpentine medium the block order is a bad tour while requests are few: two neighbours along the tape may be a
hundred wraps apart, and two neighbours by number a whole length. Going to the nearest next is better there (Cano,
CERN-IT-Note-2020-001: access times halved), while dense requests are best read in block order. The cost formula says
which it is this time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from tomovault.recall.timing import Timing

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class Rule(StrEnum):
    """How a tour was made; the first of equally good ones is taken."""

    ARRIVAL = "arrival order"
    BLOCKS = "block order"
    NEAREST = "nearest next"


@dataclass(frozen=True)
class Span:
    """Where a tape file lies: shares (0 to 1) of the medium's capacity at which it begins and ends."""

    start: float
    end: float


#: So many spans are planned without numpy in milliseconds: the daemon, which plans as well, stays small.
_FEW = 64


@dataclass(frozen=True)
class Tour:
    """`order` holds the indices of the spans as they are best read; `locate_s` what moving between them costs."""

    order: tuple[int, ...]
    locate_s: float
    rule: Rule


def plan_tour(timing: Timing, head: float, spans: Sequence[Span]) -> Tour:
    """The cheapest of arrival order, block order and nearest next, from where the head stands (a share of the
    capacity). 4,000 spans take well below a second.
    """
    arrival = tuple(range(len(spans)))
    blocks = tuple(sorted(arrival, key=lambda index: (spans[index].start, index)))
    orders = {Rule.ARRIVAL: arrival, Rule.BLOCKS: blocks, Rule.NEAREST: _nearest_next(timing, head, spans)}
    tours = [Tour(order, tour_s(timing, head, [spans[i] for i in order]), rule) for rule, order in orders.items()]
    return min(tours, key=lambda tour: tour.locate_s)


def tour_s(timing: Timing, head: float, spans: Sequence[Span]) -> float:
    """Seconds of locating when the spans are read in this order; reading itself is not among them."""
    total = 0.0
    for span in spans:
        total += timing.locate_s(head, span.start)
        head = span.end
    return total


def _nearest_next(timing: Timing, head: float, spans: Sequence[Span]) -> tuple[int, ...]:
    """Always on to what is cheapest to reach from where the last one ended."""
    return _nearest_of_few(timing, head, spans) if len(spans) <= _FEW else _nearest_of_many(timing, head, spans)


def _nearest_of_few(timing: Timing, head: float, spans: Sequence[Span]) -> tuple[int, ...]:
    order = []
    left = list(range(len(spans)))
    while left:
        at = head
        order.append(min(left, key=lambda index: timing.locate_s(at, spans[index].start)))
        left.remove(order[-1])
        head = spans[order[-1]].end
    return tuple(order)


def _nearest_of_many(timing: Timing, head: float, spans: Sequence[Span]) -> tuple[int, ...]:
    import numpy as np

    indices = np.arange(len(spans))
    starts = np.array([span.start for span in spans])
    wraps, places = _places(timing, starts)
    order = []
    for left in range(len(spans), 0, -1):
        nearest = int(np.argmin(_costs_from(timing, head, starts[:left], wraps[:left], places[:left])))
        order.append(int(indices[nearest]))
        head = spans[order[-1]].end
        for column in (indices, starts, wraps, places):
            column[nearest] = column[left - 1]
    return tuple(order)


def _places(timing: Timing, shares: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """`Timing.place` of many shares."""
    import numpy as np

    within, wraps = np.modf(np.clip(shares, 0.0, 0.999999999) * timing.wraps)
    length = timing.last_position - timing.first_position
    return wraps, timing.first_position + length * np.where(wraps % 2 == 1, 1 - within, within)


def _costs_from(
    timing: Timing,
    head: float,
    starts: npt.NDArray[np.float64],
    wraps: npt.NDArray[np.float64],
    places: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """`Timing.locate_s` from one place to many."""
    import numpy as np

    wrap, at = timing.place(head)
    middle = (timing.first_position + timing.last_position) / 2
    per_band = timing.wraps / timing.bands
    costs = timing.locate_base_s + np.abs(places - at) * timing.per_position_s
    costs += timing.wrap_change_s * (wraps != wrap)
    costs += timing.band_change_s * (wraps // per_band != wrap // per_band)
    costs += timing.landing_zone_change_s * ((places < middle) != (at < middle))
    costs += timing.direction_change_s * (wraps % 2 != wrap % 2)
    costs += timing.step_back_s * ((wraps == wrap) & (starts < head))
    costs = np.maximum(costs, timing.least_locate_s)
    costs[starts == head] = 0.0
    chosen: npt.NDArray[np.float64] = costs
    return chosen
