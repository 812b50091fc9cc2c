"""Running a scan's writer to its end, in real or in virtual time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from tomovault.testing.clock import Clock
from tomovault.testing.timeline import Steps, Timeline
from tomovault.testing.truth import ScanTruth, TruthLog, Written, opened_log, with_digests


class Writer(Protocol):
    """One variant at work; `truths` is filled as its scans end."""

    truths: list[ScanTruth]

    def steps(self) -> Steps:
        """Everything that is written, step by step."""


def write_to_the_end(
    make: Callable[[Timeline, TruthLog], Writer],
    *,
    speed: float,
    clock: Clock | None,
    sleep: Callable[[float], None] | None,
    stop: threading.Event | None,
    log: TruthLog | str | None,
    digests: bool,
) -> Written:
    """What is true of everything that the writer wrote, and how often its own opens met errno 11 meanwhile.

    Arguments as `write_edf_scan`. Raises timeline.Stopped if `stop` was set.
    """
    timeline = Timeline(speed=speed, clock=clock, sleep=sleep, stop=stop)
    with opened_log(log, clock) as used:
        before = used.errno11
        writer = make(timeline, used)
        timeline.start(writer.steps())
        timeline.run()
        errno11 = used.errno11 - before
    truths = tuple(with_digests(t) for t in writer.truths) if digests else tuple(writer.truths)
    return Written(truths, errno11)
