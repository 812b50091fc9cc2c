"""Keeping job processes going within what the machine and the file servers can give."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import datetime

from tomovault.core.life import REMOVALS
from tomovault.core.record import Result
from tomovault.vault.foreman import Foreman, Running
from tomovault.vault.site import Site

#: Small work: never waits behind packing or reconstruction.
LIGHT = frozenset({"inspect"})

#: Reconstruction uses a whole core and much memory for long; it has a limit of its own.
RECONSTRUCTION = frozenset({"preview", "reconstruct"})

#: What gives data back or looks at it, and takes nothing away.
ASKED = frozenset({"restore", "undo_prune", "verify", "export"})

#: Others move the bytes; a job only asks how far they are. It must not wait behind heavy work, nor that behind it.
TRANSFERS = frozenset({"export"})
_TRANSFERS_AT_ONCE = 2

HEAVY = frozenset({"pack", "archive", "replicate"}) | REMOVALS | (ASKED - TRANSFERS)


class Workers:
    """Running jobs of this daemon."""

    def __init__(self, foreman: Foreman, site: Site) -> None:
        self._foreman = foreman
        self._jobs = site.jobs
        self.running: list[Running] = []

    def reap(self, *, tell: Callable[[Running, Result], None]) -> int:
        """One job whose process is over was recorded, if there is one; returns how many."""
        for running in self.running:
            if not running.process.running():
                result = self._foreman.reap(running)
                self.running.remove(running)
                tell(running, result)
                return 1
        return 0

    def launch(
        self,
        now: datetime,
        *,
        absent: frozenset[str] = frozenset(),
        stopped: frozenset[str] = frozenset(),
        without: frozenset[str] = frozenset(),
    ) -> int:
        """One more job is running, if one may and one waits; returns how many were claimed now.

        Nothing is done in absent areas, and only what people ask for in those where work is stopped.
        """
        actions = self._free_actions(absent) - without
        job = None
        # Small work is asked for by itself: a heavy job at the head of the line may be waiting for memory.
        for kind in (actions & (LIGHT | TRANSFERS), actions - LIGHT - TRANSFERS):
            if kind and job is None:
                job = self._foreman.claim(now, actions=kind, skip_places=absent | stopped)
        if job is None and stopped and (asked := actions & ASKED):
            job = self._foreman.claim(now, actions=asked, skip_places=absent)
        if job is None:
            return 0
        running = self._foreman.start(job)
        if running is not None:
            self.running.append(running)
        return 1

    def _free_actions(self, absent: frozenset[str]) -> frozenset[str]:
        """What may be begun. Jobs in absent areas hang in the kernel, as a rule: they take no other's turn."""
        counts = Counter(_kind(r.claimed.action) for r in self.running if r.claimed.place not in absent)
        free: frozenset[str] = frozenset()
        if counts["light"] < max(1, self._jobs.cpus // 2):
            free |= LIGHT
        if counts["transfer"] < _TRANSFERS_AT_ONCE:
            free |= TRANSFERS
        if counts["heavy"] < max(1, self._jobs.cpus):
            free |= HEAVY
        if counts["reconstruction"] < self._jobs.reconstructions:
            free |= RECONSTRUCTION
        return free

    def stop_lost(self) -> int:
        """No job runs here that was taken over by others or cancelled; returns how many were ended."""
        lost = [running for running in self.running if not self._foreman.has(running)]
        for running in lost:
            self._foreman.abandon(running)
            self.running.remove(running)
        return len(lost)

    def stop(self) -> None:
        """No job runs; what was not finished is queued again."""
        for running in self.running:
            self._foreman.abandon(running)
        self.running.clear()


def _kind(action: str) -> str:
    if action in LIGHT:
        return "light"
    if action in TRANSFERS:
        return "transfer"
    return "reconstruction" if action in RECONSTRUCTION else "heavy"
