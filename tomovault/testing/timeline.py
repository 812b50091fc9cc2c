"""Several writers on one line of time: deterministic, at real pace, scaled, or as fast as the disk.

A writer is a generator that yields how many seconds of acquisition time pass before its next step. Writers
on one timeline overlap as they would at a beamline, and always in the same order.
"""

from __future__ import annotations

import heapq
import math
import threading
from collections.abc import Callable, Generator

from tomovault.testing.clock import Clock, SystemClock

#: What a writer is: it yields waits in seconds of acquisition time.
Steps = Generator[float, None, None]


class Stopped(Exception):
    """The stop event was set; the writers were closed where they stood."""


class Timeline:
    """Runs writers in the order of their next steps.

    One second of acquisition time takes `1 / speed` seconds of the clock; `math.inf` waits for nothing.
    `sleep` is called with seconds of the clock and must let the clock advance by that much.
    """

    def __init__(
        self,
        *,
        speed: float = math.inf,
        clock: Clock | None = None,
        sleep: Callable[[float], None] | None = None,
        stop: threading.Event | None = None,
    ) -> None:
        if not speed > 0:
            raise ValueError(f"the speed must be above 0, not {speed}")
        self.speed = speed
        self.clock: Clock = clock if clock is not None else SystemClock()
        self.now_s = 0.0
        self._sleep = sleep
        self._stop = stop
        self._queue: list[tuple[float, int, Steps]] = []
        self._started = 0
        self._origin: float | None = None

    def start(self, steps: Steps, *, after_s: float = 0.0) -> None:
        """The writer takes its first step `after_s` from now; may be called by a running writer."""
        heapq.heappush(self._queue, (self.now_s + after_s, self._started, steps))
        self._started += 1

    def run(self) -> None:
        """Return when every writer has ended. An error of one writer closes all and is raised.

        Raises Stopped if the stop event was set.
        """
        if self._origin is None:
            self._origin = self.clock.monotonic()
        try:
            while self._queue:
                due_s, order, steps = heapq.heappop(self._queue)
                try:
                    self._wait_until(due_s)
                    wait_s = next(steps, None)
                except BaseException:
                    steps.close()
                    raise
                if wait_s is not None:
                    heapq.heappush(self._queue, (self.now_s + max(0.0, wait_s), order, steps))
        finally:
            for _, _, steps in self._queue:
                steps.close()
            self._queue.clear()

    def _wait_until(self, due_s: float) -> None:
        self.now_s = max(self.now_s, due_s)
        if self._stop is not None and self._stop.is_set():
            raise Stopped
        if math.isinf(self.speed) or self._origin is None:
            return
        left_s = self._origin + self.now_s / self.speed - self.clock.monotonic()
        if left_s <= 0:
            return
        if self._sleep is not None:
            self._sleep(left_s)
        elif self._stop is not None and isinstance(self.clock, SystemClock):
            self._stop.wait(left_s)
        else:
            self.clock.sleep(left_s)
        if self._stop is not None and self._stop.is_set():
            raise Stopped
