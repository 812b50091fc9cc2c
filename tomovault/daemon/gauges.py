"""How full each area is, measured in a thread of its own: a file server that hangs keeps nobody else waiting."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterable

from tomovault.vault.site import Area
from tomovault.vault.site_settings import TierSettings
from tomovault.watch.area import Space, disk_space

#: Each area is measured this often, and whenever it is asked for.
_PERIOD_S = 5.0

#: A file server that has not answered for so long is not waited for: nothing new is begun there.
SLOW_S = 1.0

#: One that has not answered for so long is called silent.
SILENT_S = 30.0

#: At the start the first figures are waited for so long, all together.
_FIRST_S = 5.0


class _Gauge:
    """Measures one area again and again. A thread that hangs in the kernel is left behind."""

    def __init__(self, area: Area | TierSettings) -> None:
        self.space: Space | None = None
        self.measured = threading.Event()
        self._path = str(area.path)
        self._vault = str(area.path if isinstance(area, TierSettings) else area.vault)
        self._asked = self._answered = 0
        self._began: float | None = None
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"gauge-{area.name}", daemon=True)
        self._thread.start()

    @property
    def fresh(self) -> bool:
        """Whether the figures were measured since they were last asked for."""
        return self._answered == self._asked

    @property
    def silent_s(self) -> float:
        """For how long the file server has not answered; 0 where nothing was asked of it."""
        began = self._began
        return 0.0 if began is None else time.monotonic() - began

    def ask(self) -> None:
        """The figures are measured anew, as soon as the file server answers."""
        self._asked += 1
        self._wake.set()

    def stop(self) -> None:
        self._stop.set()
        self._wake.set()
        self._thread.join(timeout=1.0)

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wake.clear()
            asked = self._asked
            self._began = time.monotonic()
            self.space = disk_space(self._path)
            with contextlib.suppress(OSError):
                os.stat(self._vault)
            self._began = None
            self._answered = asked
            self.measured.set()
            self._wake.wait(_PERIOD_S)


class Gauges:
    """The figures of all areas. Before `start`, and after `stop`, there are none, and nothing is silent."""

    def __init__(self) -> None:
        self._gauges: dict[str, _Gauge] = {}

    def start(self, areas: Iterable[Area | TierSettings]) -> None:
        """Areas, and tiers on disks, are measured from now on; the first figures are there, but for slow servers."""
        for area in areas:
            if area.name not in self._gauges:
                self._gauges[area.name] = _Gauge(area)
        until = time.monotonic() + _FIRST_S
        for gauge in self._gauges.values():
            gauge.measured.wait(max(0.0, until - time.monotonic()))

    def stop(self) -> None:
        """Nothing is measured any more."""
        for gauge in self._gauges.values():
            gauge.stop()
        self._gauges.clear()

    def ask(self) -> None:
        """Every area is measured anew."""
        for gauge in self._gauges.values():
            gauge.ask()

    def is_fresh(self, area: str) -> bool:
        """Whether the figures of an area are not older than the last `ask`."""
        gauge = self._gauges.get(area)
        return gauge is None or gauge.fresh

    def space_of(self, area: Area | TierSettings) -> Space | None:
        """The room on an area's file system as last measured; None where it could not be."""
        gauge = self._gauges.get(area.name)
        return None if gauge is None else gauge.space

    def silent(self, for_s: float) -> frozenset[str]:
        """Areas whose file servers have not answered for so long."""
        return frozenset(name for name, gauge in self._gauges.items() if gauge.silent_s > for_s)
