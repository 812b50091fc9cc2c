"""The books of a simulation: how full each area was, what was done, and what kept an area above its high mark."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from dataclasses import dataclass, field

from tomovault.simulation.scenario import DAY_S, AreaPlan

#: What keeps an area above its mark, in the order in which it is told.
CAUSES = ("prune", "packing", "room", "drives", "quarantine", "warnings", "copies", "pins", "policy", "nothing")


@dataclass
class AreaBook:
    """One area. Fills are shares of its quota; `disk` includes the quarantine, `kept` does not.

    By day: the highest `disk` and `kept` of the day. `above_s` is the last moment above the high mark, in seconds from
    the start, None for never; `above_causes` the byte-seconds above it by what held them there.
    """

    plan: AreaPlan
    start: float = 0.0
    disk: float = 0.0
    kept: float = 0.0
    highest_disk: list[float] = field(default_factory=list)
    highest_kept: list[float] = field(default_factory=list)
    above_s: float | None = None
    full_s: float | None = None
    cause: str = ""
    above_causes: Counter[str] = field(default_factory=Counter)
    written: int = 0
    unmet: int = 0
    unmet_scans: int = 0
    last_unmet_s: float | None = None
    _noted_s: float = 0.0

    def note(self, now_s: float, used: int, quarantined: int, cause: str) -> None:
        """The area stands so from now on, and what keeps it there if that is above its high mark."""
        self.close(now_s)
        quota = max(1, self.plan.quota)
        self.disk, self.kept, self.cause = used / quota, (used - quarantined) / quota, cause

    def refuse(self, now_s: float, size: int) -> None:
        """A scan of that size found no room."""
        self.unmet += size
        self.unmet_scans += 1
        self.last_unmet_s = now_s
        if self.full_s is None:
            self.full_s = now_s

    def close(self, now_s: float) -> None:
        """The area has stood as it was noted until now. What did not last for any time never was."""
        if now_s <= self._noted_s:
            return
        above = self.kept - self.plan.high
        if above > 0:
            self.above_s = now_s
            self.above_causes[self.cause] += int(above * self.plan.quota * (now_s - self._noted_s))
        first, last = int(self._noted_s // DAY_S), math.ceil(now_s / DAY_S) - 1
        for series, value in ((self.highest_disk, self.disk), (self.highest_kept, self.kept)):
            if first < len(series):
                series[first] = max(series[first], value)
            series.extend([value] * (last + 1 - len(series)))
        self._noted_s = now_s


@dataclass
class Ledger:
    """All areas, and what was done in all of them together. Sizes are bytes."""

    areas: dict[str, AreaBook]
    packed: int = 0
    packages: int = 0
    archived: int = 0
    pruned: Counter[str] = field(default_factory=Counter)
    removals_checked: int = 0
    taped: Counter[str] = field(default_factory=Counter)
    recalls: int = 0
    recalled: int = 0
    served_from_disk: int = 0
    not_served: int = 0
    rereads: int = 0
    moved: int = 0
    reconstructed: int = 0
    lost: dict[str, int] = field(default_factory=dict)
    least_copies: int | None = None
    removals_refused: int = 0
    events: int = 0
    bytes_in: Counter[str] = field(default_factory=Counter)
    bytes_made: Counter[str] = field(default_factory=Counter)
    bytes_out: Counter[str] = field(default_factory=Counter)
    by_kind: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))

    def note_removal(self, copies: int) -> None:
        """A copy of an original goes, into quarantine or out of it for good, while so many stay."""
        self.removals_checked += 1
        self.least_copies = copies if self.least_copies is None else min(self.least_copies, copies)
