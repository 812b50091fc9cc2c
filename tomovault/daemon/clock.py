"""Whether the wall clock can be believed: holds end and copies age by it, so a jump must remove nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta

#: A clock that is set right by less than this does no harm: holds and re-reads are counted in days.
_LEAST_JUMP = timedelta(hours=1)


def _running() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class WallClock:
    """Compares the wall clock with the time that the machine has run, and with the newest thing on record."""

    def __init__(
        self, now: datetime, *, newest: datetime | None = None, running: Callable[[], float] = _running
    ) -> None:
        self._running = running
        self._began = now
        self._began_running = running()
        self.problem = ""
        if newest is not None and newest - now > _LEAST_JUMP:
            self.problem = f"the clock says {now:%Y-%m-%d %H:%M}, but there are records of {newest:%Y-%m-%d %H:%M}"

    def look(self, now: datetime) -> str:
        """'' while the clock goes as time does; after a jump what happened, for as long as this daemon runs."""
        ran = timedelta(seconds=self._running() - self._began_running)
        jump = (now - self._began) - ran
        if not self.problem and abs(jump) > _LEAST_JUMP:
            hours = jump / timedelta(hours=1)
            self.problem = f"the clock jumped by {hours:+.0f} h to {now:%Y-%m-%d %H:%M}"
        return self.problem
