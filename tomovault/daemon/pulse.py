"""What a daemon knows of itself and no catalogue does, as other threads may read it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Brake:
    """A reason for which nothing is removed, in one area or, where that is '', in all."""

    area: str
    reason: str


def brakes_of(clock: str, areas: Mapping[str, Iterable[str]]) -> frozenset[Brake]:
    """One for each area that each reason is true of, and one for all where the clock is not believed."""
    everywhere = {Brake("", "clock")} if clock else set()
    return frozenset(everywhere | {Brake(area, reason) for reason, names in areas.items() for area in names})


@dataclass(frozen=True)
class Pulse:
    """One moment of the loop, made anew in every turn. Times are of `time.monotonic`."""

    at: float = field(default_factory=time.monotonic)
    leads: bool = False
    brakes: frozenset[Brake] = frozenset()
    alarms: Mapping[str, int] = field(default_factory=dict)
    swept_at: Mapping[str, float] = field(default_factory=dict)
    unsettled: Mapping[str, int] = field(default_factory=dict)
    running: Mapping[str, int] = field(default_factory=dict)
