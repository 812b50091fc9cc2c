"""When something is full: the day by which so many bytes have come, drawn from what came each day until now. Pure.

Beam times come in bursts, so nothing is fitted. Blocks of consecutive days are drawn from the history, with
replacement, and put one after the other (a moving-block bootstrap: Künsch, Annals of Statistics 17, 1989). A history
is itself only one of those that could have been, so each draw of a future first draws the blocks that its history
would have had, and takes its own from those. The largest beam times are often missing in a short history, so the level
of each draw is off by a factor, too: the inverse of a gamma variate, whose spread is that of the mean of the blocks.
Without both the interval would be far too narrow: a test holds it to what it says, on histories with bursts.
"""

from __future__ import annotations

import hashlib
import random
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from itertools import accumulate, chain
from math import ceil
from statistics import fmean, pvariance

#: Fewer whole days than this say nothing of what is usual.
LEAST_DAYS = 28
#: What is further away is not told.
HORIZON_DAYS = 730
#: The history that is drawn from is no longer than this.
HISTORY_DAYS = 365
QUANTILES = (0.1, 0.5, 0.9)

_DRAWS = 400
_BLOCK_DAYS = 14


@dataclass(frozen=True)
class BeamTime:
    """So many bytes are expected from the start to the end of it, both days included; spread evenly."""

    start: date
    end: date
    proposal: str | None
    area: str | None
    bytes: int


@dataclass(frozen=True)
class Growth:
    """What is known of how something grows.

    `by_day` is what came on each whole day until yesterday; `planned` what is expected besides in so many days from
    today. Before `usual_from` days have passed nothing comes but what is planned.
    """

    by_day: tuple[int, ...]
    planned: Mapping[int, int] = field(default_factory=dict)
    usual_from: int = 0

    @property
    def unknown(self) -> str:
        """Why nothing can be told; '' if it can."""
        if len(self.by_day) >= LEAST_DAYS:
            return ""
        return f"{len(self.by_day)} whole days of history, and {LEAST_DAYS} are needed"

    @property
    def mean(self) -> float:
        """Bytes a day until now."""
        return sum(self.by_day) / len(self.by_day) if self.by_day else 0.0


@dataclass(frozen=True)
class Forecast:
    """In how many days something is full, by the quantiles of `QUANTILES`; None beyond the horizon, or not known.

    `why` says why nothing is known, or why it is not full within the horizon; '' where there is a median.
    """

    early: int | None
    median: int | None
    late: int | None
    known: bool
    why: str


@dataclass(frozen=True)
class Fit:
    """Whether so many bytes would fit on a day. `come` are the bytes that came by then, by the quantiles.

    `chance` is the share of the draws in which they fit; None where the growth is not known and none was counted.
    """

    come: tuple[int, int, int]
    chance: float | None


def forecast_full(growth: Growth, room: int, horizon: int = HORIZON_DAYS) -> Forecast:
    """In how many days so many bytes will have come."""
    if room <= 0:
        return Forecast(0, 0, 0, known=True, why="it is full now")
    if growth.unknown and not growth.planned:
        return Forecast(None, None, None, known=False, why=f"not known: {growth.unknown}")
    days = sorted(bisect_left(path, room) + 1 for path in _paths(growth, horizon))
    early, median, late = (day if day <= horizon else None for day in (_at(days, q) for q in QUANTILES))
    if median is not None:
        return Forecast(early, median, late, known=True, why="")
    why = f"not within {horizon} days"
    if growth.unknown:
        return Forecast(early, median, late, known=False, why=f"not known beyond what is planned: {growth.unknown}")
    return Forecast(early, median, late, known=True, why=why if sum(growth.by_day) else f"{why}: nothing comes")


def weigh_addition(growth: Growth, room: int, size: int, day: int) -> Fit:
    """Whether `size` bytes would fit in so many days, after what will have come by then."""
    come = sorted(path[day - 1] if day > 0 else 0 for path in _paths(growth, max(1, day)))
    quantiles = tuple(_at(come, q) for q in QUANTILES)
    fits = sum(size + already <= room for already in come) / len(come)
    return Fit((quantiles[0], quantiles[1], quantiles[2]), None if growth.unknown else fits)


def plan(
    times: Sequence[BeamTime], today: date, *, area: str | None = None, proposal: str | None = None
) -> dict[int, int]:
    """The bytes expected in so many days from today, of an area's beam times or of a proposal's.

    What was expected of days that are over is left out. One day from now is the next to be counted, so what is
    expected today counts there.
    """
    expected: dict[int, int] = {}
    for time in times:
        if (area is not None and time.area != area) or (proposal is not None and time.proposal != proposal):
            continue
        days = (time.end - time.start).days + 1
        for number in range(days):
            ahead = (time.start + timedelta(days=number) - today).days
            share = time.bytes * (number + 1) // days - time.bytes * number // days
            if ahead >= 0:
                expected[max(1, ahead)] = expected.get(max(1, ahead), 0) + share
    return expected


def _paths(growth: Growth, horizon: int) -> Iterator[list[int]]:
    """What will have come after each day until the horizon, in one drawn future after the other; always the same for
    the same history.
    """
    planned = list(accumulate(growth.planned.get(day, 0) for day in range(1, horizon + 1)))
    if growth.unknown or not any(growth.by_day):
        yield planned
        return
    length = min(_BLOCK_DAYS, len(growth.by_day) // 4)
    ring = growth.by_day + growth.by_day[:length]
    quiet = [0] * min(horizon, growth.usual_from)
    generator = random.Random(_seed(growth.by_day))
    starts = range(len(growth.by_day))
    shape = _certainty([sum(ring[start : start + length]) for start in starts], length)
    for _ in range(_DRAWS):
        pool = generator.choices(starts, k=ceil(len(growth.by_day) / length))
        drawn = generator.choices(pool, k=ceil((horizon - len(quiet)) / length))
        days = chain(quiet, chain.from_iterable(ring[start : start + length] for start in drawn))
        factor = shape / generator.gammavariate(shape, 1.0) if shape else 1.0
        yield [round(factor * usual) + besides for usual, besides in zip(accumulate(days), planned, strict=False)]


def _certainty(blocks: Sequence[int], length: int) -> float:
    """The shape of the gamma variate: half of how many blocks without overlap there are, over their squared relative
    spread; 0 where all blocks are the same. The half makes up for what few blocks do not show of their spread.
    """
    spread = pvariance(blocks) / fmean(blocks) ** 2
    return len(blocks) / length / (2 * spread) if spread > 1e-9 else 0.0


def _seed(by_day: Sequence[int]) -> int:
    return int.from_bytes(hashlib.sha256(repr(tuple(by_day)).encode()).digest()[:8], "big")


def _at(ordered: Sequence[int], quantile: float) -> int:
    return ordered[max(0, ceil(quantile * len(ordered)) - 1)]
