"""What happens when: the only clock of a simulation."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from datetime import datetime, timedelta

Doing = Callable[[], None]


class Agenda:
    """Entries in the order of time; of one moment, in the order in which they were made."""

    def __init__(self, start: datetime) -> None:
        self._start = start
        self._heap: list[tuple[float, int, Doing]] = []
        self._count = 0
        self.now_s = 0.0
        self.now = start

    def at(self, at_s: float, do: Doing) -> None:
        """`do` is called at that moment, or now where it has passed."""
        self._count += 1
        heapq.heappush(self._heap, (max(at_s, self.now_s), self._count, do))

    def after(self, seconds: float, do: Doing) -> None:
        """`do` is called so many seconds from now."""
        self.at(self.now_s + seconds, do)

    def at_time(self, moment: datetime, do: Doing) -> None:
        """`do` is called at that date."""
        self.at((moment - self._start).total_seconds(), do)

    def next_before(self, end_s: float) -> Doing | None:
        """The next entry, and the clock shows its moment; None where there is none before `end_s`."""
        if not self._heap or self._heap[0][0] >= end_s:
            return None
        at_s, _, do = heapq.heappop(self._heap)
        if at_s != self.now_s:
            self.now_s = at_s
            self.now = self._start + timedelta(seconds=at_s)
        return do
