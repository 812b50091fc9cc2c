"""The daemon: for each scan with changed facts or a passed date, read the facts, decide, queue, run, record."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from apscheduler.schedulers.background import BackgroundScheduler

from tomovault.catalog.work import asked_since, has_work_before, list_inspected, list_overdue
from tomovault.core.errors import TomovaultError, Transient
from tomovault.core.record import Result
from tomovault.daemon.areas import AreaWatch, Look
from tomovault.daemon.clock import WallClock
from tomovault.daemon.lookout import Lookout
from tomovault.daemon.planner import Planner
from tomovault.daemon.workers import REMOVALS, Workers
from tomovault.formats.family import kinds, load
from tomovault.vault.asking import LEADER, holder_name, take_lead
from tomovault.vault.foreman import Foreman, Running
from tomovault.vault.telling import tell
from tomovault.vault.vault import Vault
from tomovault.vault.workbench import guard_folder
from tomovault.watch.area import AreaIdentity
from tomovault.watch.guard import GuardLimits, shares, write_share

log = structlog.get_logger(__name__)

_TICK_S = 0.1
_LEASE_S = 60.0
#: A job that waits longer than this before its next try does not keep `--until-idle` (contract).
_IDLE_PATIENCE_S = 60.0
#: Old copies of an area that one turn of the timer queues for a re-read.
_OVERDUE_AT_ONCE = 20


class Daemon:
    """One running daemon of a site. `tell` is called with what a person at a terminal may want to see."""

    def __init__(
        self,
        vault: Vault,
        *,
        tell: Callable[[str, dict[str, Any]], None] | None = None,
        busy: Callable[[], bool] | None = None,
    ) -> None:
        """`busy` says whether somebody else still writes into the areas: then the daemon is never idle."""
        self.vault = vault
        self.holder = holder_name(vault)
        self._busy = busy or (lambda: False)
        self._tell = tell or (lambda _what, _facts: None)
        self._looks: queue.Queue[Look] = queue.Queue()
        self._timers: queue.Queue[str] = queue.Queue()
        self._stop = threading.Event()
        self.foreman = Foreman(vault, self.holder)
        self.workers = Workers(self.foreman, vault.site)
        self.planner = Planner(vault)
        self.lookout = Lookout(vault)
        self._watches: dict[str, AreaWatch] = {}
        self._absent: dict[str, str] = {}
        self._left: frozenset[str] = frozenset()
        self._shares: dict[str, float] = {}
        self._room_due = True
        self._jumped = ""
        self._at_rest_since: dict[str, int] = {}
        self._renewed_at = 0.0
        self._lead_lost = False
        self._clock = WallClock(datetime.now(UTC))
        self._steps: deque[Callable[[datetime], int]] = deque(
            (
                self._take_timers,
                self._take_looks,
                lambda _now: self.workers.reap(tell=self._job_ended),
                self._plan_scans,
                self._make_room,
                self._launch,
            )
        )

    # --- life of the daemon ------------------------------------------------------------------------

    def run(self, *, until_idle: bool = False) -> int:
        """Watch and work until stopped, or until nothing is left to do; returns how many jobs failed.

        Raises Transient, naming the holder, if another daemon leads this catalogue.
        """
        self._take_lead()
        with contextlib.ExitStack() as ending:
            ending.callback(self._status, "stopped")
            ending.callback(self._drop_lead)
            ending.callback(self._export_head)
            ending.callback(self.workers.stop)
            ending.callback(self._stop_watches)
            timers = self._start_timers()
            ending.callback(timers.shutdown, wait=False)
            self.foreman.take_up_orphans()
            self._start_watches()
            self._status("running")
            self._loop(until_idle)
        if self._lead_lost:
            raise Transient("another daemon took the lead", hint="`tomovault status` names it")
        return self.foreman.failed

    def _stop_watches(self) -> None:
        for watch in self._watches.values():
            watch.stop()

    def stop(self, *_signal: object) -> None:
        """The loop ends after the step it is in; running jobs are ended and queued again."""
        self._stop.set()

    def _loop(self, until_idle: bool) -> None:
        while not self._stop.is_set():
            try:
                busy = self._cycle()
                if until_idle and not busy and self.is_idle():
                    return
            except (Transient, OSError) as problem:
                log.warning("the catalogue or the site's folder cannot be used now", reason=str(problem))
                busy = False
                self._stop.wait(1.0)
            if not busy:
                self._stop.wait(_TICK_S)

    def _cycle(self) -> bool:
        """One turn; whether something was done in it.

        At most one step does something, so that the lead, the bandwidth shares and a stop never wait for long.
        The next turn begins with the step after it, so that none waits for ever.
        """
        self._tell("tick", {"running": self.workers.running, "unsettled": dict(self.lookout.unsettled)})
        now = datetime.now(UTC)
        if not self._renew_lead():
            return False
        self._jumped = self._clock.look(now)
        self._brake()
        acted = False
        for _ in range(len(self._steps)):
            step = self._steps[0]
            self._steps.rotate(-1)
            if step(now):
                acted = True
                break
        self._share_bandwidth()
        if acted:
            self._status("running")
        return acted

    def _plan_scans(self, now: datetime) -> int:
        planned = self.planner.plan_scans(now)
        self._room_due = self._room_due or planned > 0
        return planned

    def _make_room(self, now: datetime) -> int:
        if not self._room_due:
            return 0
        self._room_due = False
        self._brake()
        return self.planner.plan_room(now)

    def _brake(self) -> None:
        """The planner permits nothing to go after a jump of the clock, nor from an area that rests or was not seen."""
        unseen = frozenset(area for area in self._watches if not self.lookout.swept.get(area))
        self.planner.brake(self._jumped, self._resting_areas() | unseen)

    def is_idle(self) -> bool:
        """Nothing is due, running or settling. What only waits does not count."""
        if self._busy():
            self._at_rest_since = dict(self.lookout.swept)
            return False
        if self.workers.running or not self._looks.empty() or not all(map(self._is_at_rest, self._watches)):
            return False
        if self._room_due:
            return False
        now = datetime.now(UTC)
        with self.vault.catalogue.reading() as tx:
            return not has_work_before(
                tx,
                now + timedelta(seconds=_IDLE_PATIENCE_S),
                now,
                host=self.vault.host,
                skip_places=self._resting_areas(),
                skip_actions=self._braked_actions(),
            )

    def _resting_areas(self) -> frozenset[str]:
        """Areas where nothing is done now: absent, not in the site's file any more, or with too much missing."""
        return frozenset(self._absent) | self._left | frozenset(self.lookout.stopped)

    def _braked_actions(self) -> frozenset[str]:
        return REMOVALS if self._clock.problem else frozenset()

    def _launch(self, now: datetime) -> int:
        absent, stopped = frozenset(self._absent) | self._left, frozenset(self.lookout.stopped)
        return self.workers.launch(now, absent=absent, stopped=stopped, without=self._braked_actions())

    def _is_at_rest(self, area: str) -> bool:
        """Whether an area was swept since others stopped writing, and all in it is settled; an absent one rests."""
        if area in self._absent or area in self.lookout.stopped:
            return True
        if self.lookout.swept.get(area, 0) > self._at_rest_since.get(area, 0):
            return self.lookout.unsettled.get(area, 0) == 0
        return False

    # --- parts of a cycle ----------------------------------------------------------------------------

    def _take_looks(self, now: datetime) -> int:
        """Looks were noted, up to the first that queued something; returns how many inspections that was."""
        while True:
            try:
                look = self._looks.get_nowait()
            except queue.Empty:
                return 0
            if look.sweep is None:
                if self._absent.get(look.area) != look.absent:
                    log.error("area is absent", area=look.area, reason=look.absent)
                    self._absent[look.area] = look.absent
                    self._status("running")
                continue
            told = (self._absent.pop(look.area, ""), self.lookout.trouble.get(look.area, ""))
            first = not self.lookout.swept.get(look.area)
            acted = self.lookout.take(look.area, look.sweep, now)
            if told != ("", self.lookout.trouble.get(look.area, "")):
                self._status("running")
            self._room_due = self._room_due or first
            while self.lookout.to_forget:
                area, candidate = self.lookout.to_forget.pop()
                self._watches[area].forget([candidate])
            if acted:
                return acted

    def _job_ended(self, running: Running, result: Result) -> None:
        self._room_due = True
        for record in result.records:
            if type(record).__name__ == "Quarantined" and running.claimed.scan is not None:
                self._forget(running.claimed.scan)
        self._tell("job", {"running": running, "result": result})

    def _forget(self, scan_id: str) -> None:
        with self.vault.catalogue.reading() as tx:
            scan = self.vault.catalogue.known(tx, scan_id)
        if scan.candidate is not None and scan.area in self._watches:
            self._watches[scan.area].forget([scan.candidate])

    def _share_bandwidth(self) -> None:
        guard = self.vault.site.guard
        limits = GuardLimits(guard.full_bps, guard.shrunk_bps, guard.max_pause_s)
        writing = {area: self.lookout.unsettled.get(area, 0) > 0 for area in self._watches}
        wanted = dict(shares(writing, self.workers.jobs_by_area(), limits))
        folder = guard_folder(self.vault.site)
        for area, share in wanted.items():
            if self._shares.get(area) != share:
                folder.mkdir(parents=True, exist_ok=True)
                write_share(str(folder), area, share)
        self._shares = wanted

    # --- timers --------------------------------------------------------------------------------------

    def _start_timers(self) -> BackgroundScheduler:
        timers = BackgroundScheduler(
            timezone="UTC", job_defaults={"coalesce": True, "misfire_grace_time": None, "max_instances": 1}
        )
        timers.add_job(self._timers.put, "interval", args=["overdue"], hours=1, id="overdue")
        timers.add_job(self._timers.put, "interval", args=["room"], minutes=1, id="room")
        timers.add_job(self._timers.put, "cron", args=["nightly"], hour=3, id="nightly")
        timers.start()
        self._timers.put("overdue")  # so that a daemon that never lives for an hour re-reads old copies, too
        return timers

    def _take_timers(self, _now: datetime) -> int:
        acted = 0
        while True:
            try:
                name = self._timers.get_nowait()
            except queue.Empty:
                return acted
            if name == "room":
                self._room_due = True
            elif name == "overdue":
                acted += self._queue_overdue()
            elif name == "nightly":
                self._recount()
                self._export_head()

    def _queue_overdue(self) -> int:
        """Copies whose last re-read is getting too old are queued for one."""
        now = datetime.now(UTC)
        queued = 0
        catalogue = self.vault.catalogue
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
        with catalogue.writing() as tx:
            asked = asked_since(tx, "verify", "scrub", midnight)
            for area in self.vault.site.areas:
                within = self.vault.verified_within(area)
                for scan_id, replica_id in list_overdue(tx, area, within, now, limit=_OVERDUE_AT_ONCE, skip=asked):
                    job = catalogue.queue_job(
                        tx,
                        "verify",
                        scan_id,
                        {"replicas": [replica_id]},
                        dedup_key=f"verify:{replica_id}:{now.date().isoformat()}",
                        rule="scrub",
                        now=now,
                        place=area,
                        host=self.vault.site.areas[area].host,
                    )
                    queued += job is not None
        return queued

    def _recount(self) -> None:
        with self.vault.catalogue.reading() as tx:
            differences = self.vault.catalogue.recount(tx)
        for difference in differences:
            log.error("usage differs from a recount", difference=difference)

    def _export_head(self) -> None:
        """The head of the audit log stands outside the catalogue, too (law 9)."""
        try:
            self.vault.export_head()
        except (TomovaultError, OSError) as problem:
            log.warning("the head of the audit log cannot be exported", reason=str(problem))

    # --- lead ----------------------------------------------------------------------------------------

    def _take_lead(self) -> None:
        catalogue = self.vault.catalogue
        self._life = catalogue.hold_life(self.holder)
        if take_lead(self.vault, self.holder):
            self._renewed_at = time.monotonic()
            with catalogue.writing() as tx:
                self.vault.record_tiers(tx)
                newest = [entry.at for entry in catalogue.list_audit(tx, limit=1)]
            self._clock = WallClock(datetime.now(UTC), newest=max(newest, default=None))
            return
        with catalogue.reading() as tx:
            holder = catalogue.lease_holder(tx, LEADER)
        self._drop_life()
        raise Transient(
            f"another daemon leads this site: {holder}",
            hint="stop it first, or look at it with `tomovault status`",
        )

    def _renew_lead(self) -> bool:
        """Whether this daemon leads still; if not, it stops."""
        if time.monotonic() - self._renewed_at < _LEASE_S / 3:
            return True
        with self.vault.catalogue.writing() as tx:
            if not self.vault.catalogue.renew_lease(tx, LEADER, self.holder, _LEASE_S):
                log.error("the lead was lost; stopping")
                self._lead_lost = True
                self._stop.set()
                return False
        self._renewed_at = time.monotonic()
        return True

    def _drop_lead(self) -> None:
        with contextlib.suppress(TomovaultError), self.vault.catalogue.writing() as tx:
            self.vault.catalogue.drop_lease(tx, LEADER, self.holder)
        self._drop_life()

    def _drop_life(self) -> None:
        if self._life is not None:
            self._life.close()

    # --- areas ---------------------------------------------------------------------------------------

    def _start_watches(self) -> None:
        catalogue = self.vault.catalogue
        formats = [load(kind) for kind in kinds()]
        with catalogue.reading() as tx:
            recorded = {a.name: a for a in catalogue.list_areas(tx)}
            known = {name: list_inspected(tx, name) for name in recorded}
            self._left = self.vault.left_areas(tx)
        for name in sorted(self._left):
            log.warning("area is in the catalogue but not in tomovault.yaml; its jobs wait", area=name)
        for name, area in self.vault.site.areas.items():
            if why := self.vault.unwatched(name):
                log.warning("area is not watched", area=name, reason=why)
                continue
            if name not in recorded:
                self._absent[name] = f"it was never marked: run `tomovault area add {name}={area.path}`"
                log.error("area is not marked", area=name)
                continue
            row = recorded[name]
            identity = AreaIdentity(row.uuid or None, row.simulated, row.fsid, row.mount_source, name)
            watch = AreaWatch(
                area,
                identity,
                formats,
                known[name],
                poll_s=self.vault.site.watch.poll_s,
                quiet_s=self.vault.site.watch.quiet_s,
                looks=self._looks,
            )
            self._watches[name] = watch
            watch.start()

    # --- what others see -----------------------------------------------------------------------------

    def _status(self, state: str) -> None:
        """Other commands are told what cannot be read from the catalogue."""
        tell(
            self.vault,
            {
                "state": state,
                "holder": self.holder,
                "pid": os.getpid(),
                "at": datetime.now(UTC).isoformat(),
                "absent": self._absent,
                "trouble": self.lookout.trouble,
                "unsettled": self.lookout.unsettled,
                "alarms": [asdict(a) for a in self.planner.alarms.values()],
                "running": [
                    {"job": r.claimed.id, "action": r.claimed.action, "scan": r.scan_name, "place": r.claimed.place}
                    for r in self.workers.running
                ],
            },
        )


def run_daemon(vault: Vault, *, until_idle: bool, tell: Callable[[str, dict[str, Any]], None] | None) -> int:
    """Run a daemon in the foreground; SIGTERM and SIGINT stop it gracefully. Returns how many jobs failed."""
    daemon = Daemon(vault, tell=tell)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, daemon.stop)
    return daemon.run(until_idle=until_idle)
