"""Clocks that a test or a simulated beamline can move: monotonic and wall time, apart from each other."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

#: The wall time at which a FakeClock starts, and the date of scans that are given none.
EPOCH = datetime(2026, 3, 2, 9, 0, 0, tzinfo=UTC)


class Clock(Protocol):
    """The two times that anything here asks for."""

    def monotonic(self) -> float:
        """Seconds that never go back; only differences mean something."""

    def now(self) -> datetime:
        """Wall time, aware UTC; may jump."""

    def sleep(self, seconds: float) -> None:
        """Return when the monotonic time has grown by `seconds`."""


class SystemClock:
    """The machine's own clocks."""

    def monotonic(self) -> float:
        """See `Clock`."""
        return time.monotonic()

    def now(self) -> datetime:
        """See `Clock`."""
        return datetime.now(UTC)

    def sleep(self, seconds: float) -> None:
        """See `Clock`."""
        time.sleep(seconds)


class FakeClock:
    """Times that stand still until they are moved. Safe to use from several threads."""

    def __init__(self, now: datetime = EPOCH, monotonic: float = 1000.0) -> None:
        if now.tzinfo is None:
            raise ValueError("a FakeClock needs an aware time")
        self._now = now
        self._monotonic = monotonic
        self._lock = threading.Lock()

    def monotonic(self) -> float:
        """See `Clock`."""
        with self._lock:
            return self._monotonic

    def now(self) -> datetime:
        """See `Clock`."""
        with self._lock:
            return self._now

    def advance(self, seconds: float) -> None:
        """Both times grow by `seconds`. Raises ValueError if it is negative."""
        if seconds < 0:
            raise ValueError("monotonic time does not go back; use jump() to set the wall time")
        with self._lock:
            self._monotonic += seconds
            self._now += timedelta(seconds=seconds)

    def sleep(self, seconds: float) -> None:
        """As `advance`: the time of a sleeper passes at once."""
        self.advance(max(0.0, seconds))

    def jump(self, seconds: float) -> None:
        """The wall time alone moves by `seconds`, back if negative, as after a wrong NTP answer."""
        with self._lock:
            self._now += timedelta(seconds=seconds)
