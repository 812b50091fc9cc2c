"""Keeping job processes going within what the machine and the file servers can give."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import datetime

from tomovault.core.record import Result
from tomovault.vault.foreman import Foreman, Running
from tomovault.vault.site import Site

#: Small work: never waits behind packing or reconstruction.
LIGHT = frozenset({"inspect"})

#: Reconstruction uses a whole core and much memory for long; it has a limit of its own.
RECONSTRUCTION = frozenset({"preview", "reconstruct"})

HEAVY = frozenset({"pack", "archive", "replicate", "verify", "prune", "empty_quarantine", "undo_prune", "restore"})


class Workers:
    """Running jobs of this daemon."""

    def __init__(self, foreman: Foreman, site: Site) -> None:
        self._foreman = foreman
        self._jobs = site.jobs
        self.running: list[Running] = []

    def reap(self, *, tell: Callable[[Running, Result], None]) -> int:
        """Every job whose process is over was recorded; returns how many."""
        over = [r for r in self.running if not r.process.running()]
        for running in over:
            self.running.remove(running)
            tell(running, self._foreman.reap(running))
        return len(over)

    def launch(self, now: datetime) -> int:
        """Jobs are running as many as may; returns how many were claimed now."""
        claimed = 0
        while (actions := self._free_actions()) and (job := self._foreman.claim(now, actions=actions)) is not None:
            claimed += 1
            running = self._foreman.start(job)
            if running is not None:
                self.running.append(running)
        return claimed

    def _free_actions(self) -> frozenset[str]:
        counts = Counter(_kind(r.claimed.action) for r in self.running)
        free: frozenset[str] = frozenset()
        if counts["light"] < max(1, self._jobs.cpus // 2):
            free |= LIGHT
        if counts["heavy"] < max(1, self._jobs.cpus):
            free |= HEAVY
        if counts["reconstruction"] < self._jobs.reconstructions:
            free |= RECONSTRUCTION
        return free

    def jobs_by_area(self) -> dict[str, int]:
        """Running jobs that move bytes, by the area they work in."""
        return dict(Counter(r.claimed.place for r in self.running if r.claimed.action not in LIGHT))

    def stop(self) -> None:
        """No job runs; what was not finished is queued again."""
        for running in self.running:
            self._foreman.abandon(running)
        self.running.clear()


def _kind(action: str) -> str:
    if action in LIGHT:
        return "light"
    return "reconstruction" if action in RECONSTRUCTION else "heavy"
