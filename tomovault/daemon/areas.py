"""Watching areas: one thread an area sweeps it, so that a server that hangs stops nobody else."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import structlog

from tomovault.catalog.areas import Area as RecordedArea
from tomovault.catalog.work import list_inspected, list_inspected_in_vain
from tomovault.core.errors import AreaAbsent
from tomovault.core.ports import Format
from tomovault.core.scan import Candidate
from tomovault.vault.area_formats import formats_of
from tomovault.vault.site import Area
from tomovault.vault.vault import Vault
from tomovault.watch.area import AreaIdentity, check_area
from tomovault.watch.sweep import Sweep
from tomovault.watch.walker import Walker

log = structlog.get_logger(__name__)

#: No two sweeps of an area are closer than this, however soon something may have settled.
_LEAST_PAUSE_S = 0.05

#: Every so many seconds a sweep looks at everything, also into folders that seem untouched.
FULL_SWEEP_S = 6 * 3600.0


@dataclass(frozen=True)
class Look:
    """What one sweep of one area brought; `absent` says why it could not be made."""

    area: str
    sweep: Sweep | None
    absent: str = ""


class AreaWatch:
    """Sweeps one area in a thread of its own and hands each look over through a queue."""

    def __init__(
        self,
        area: Area,
        identity: AreaIdentity,
        formats: Sequence[Format],
        known: Iterable[tuple[Candidate, str]],
        *,
        poll_s: float,
        quiet_s: float,
        looks: queue.Queue[Look],
        no_scans: Iterable[tuple[Candidate, str]] = (),
    ) -> None:
        self.name = area.name
        #: Whether the last look saw something unsettled; before the first there may be.
        self.writing = True
        self.mount_source = identity.mount_source
        self._path = str(area.path)
        self._identity = identity
        self._poll_s = poll_s
        self._quiet_s = quiet_s
        self._looks = looks
        self._stop = threading.Event()
        self._due = threading.Event()
        self._told: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._walker = Walker(self._path, formats, quiet_s=quiet_s)
        self._walker.prime(known)
        self._walker.prime(no_scans, no_scans=True)
        self._thread = threading.Thread(target=self._run, name=f"watch-{area.name}", daemon=True)

    def start(self) -> None:
        """Sweeping begins."""
        self._thread.start()

    def stop(self) -> None:
        """Sweeping ends after the folder that is being read; a thread that hangs in the kernel is left behind."""
        self._stop.set()
        self._due.set()
        self._thread.join(timeout=2.0)

    def forget(self, candidates: Iterable[Candidate]) -> None:
        """These were taken away by us: their absence means nothing, also to the sweep that is under way."""
        self._told.put(partial(self._walker.forget, tuple(candidates)))

    def let_leave(self, candidates: Iterable[Candidate]) -> None:
        """These are being taken away by us, until they are forgotten or kept."""
        self._told.put(partial(self._walker.let_leave, tuple(candidates)))

    def keep(self, candidates: Iterable[Candidate]) -> None:
        """These were not taken away after all."""
        self._told.put(partial(self._walker.keep, tuple(candidates)))

    def _listen(self) -> None:
        while not self._told.empty():
            self._told.get()()

    def _run(self) -> None:
        full_at = time.monotonic()
        while not self._stop.is_set():
            began = time.monotonic()
            full = began >= full_at
            look = self._look(full)
            self.writing = look.sweep is not None and bool(look.sweep.unsettled)
            if full and look.sweep is not None and not look.sweep.stopped:
                full_at = began + FULL_SWEEP_S
            if self._stop.is_set():
                return
            self._looks.put(look)
            self._due.wait(self._pause_after(look, time.monotonic() - began))
            self._due.clear()

    def _look(self, full: bool) -> Look:
        try:
            check_area(self._path, self._identity)
            self._listen()
            return Look(self.name, self._walker.sweep(full=full, stop=self._stop.is_set, listen=self._listen))
        except AreaAbsent as absent:
            return Look(self.name, None, absent.message)
        except Exception as problem:
            log.exception("an area cannot be swept", area=self.name)
            return Look(self.name, None, f"it cannot be swept: {problem}")

    def _pause_after(self, look: Look, took_s: float) -> float:
        """Until the next poll, or until the first candidate can have settled, whichever comes first.

        A sweep never takes more than half of the time, so that a slow server is not kept busy by us.
        """
        pause = self._poll_s
        if look.sweep is not None:
            waits = [self._quiet_s - s.quiet_for_s for s in look.sweep.unsettled]
            if waits:
                pause = min(pause, max(min(waits) + 0.01, _LEAST_PAUSE_S))
        return max(pause, took_s)


def open_watch(vault: Vault, area: Area, recorded: RecordedArea, looks: queue.Queue[Look]) -> AreaWatch:
    """A watch of an area by what the catalogue recorded of it, which knows what was inspected there; not started."""
    identity = AreaIdentity(recorded.uuid or None, recorded.simulated, recorded.fsid, recorded.mount_source, area.name)
    with (
        vault.catalogue.reading() as tx,
        contextlib.closing(list_inspected(tx, area.name)) as known,
        contextlib.closing(list_inspected_in_vain(tx, area.name)) as no_scans,
    ):
        return AreaWatch(
            area,
            identity,
            formats_of(area),
            known,
            poll_s=vault.site.watch.poll_s,
            quiet_s=vault.site.watch.quiet_s,
            looks=looks,
            no_scans=no_scans,
        )
