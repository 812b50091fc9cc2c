"""The clerk: the one thread of the daemon that asks the catalogue, queues what is due and records what was done."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from apscheduler.schedulers.background import BackgroundScheduler

from tomovault.catalog.work import has_work_before
from tomovault.core.errors import Transient
from tomovault.core.life import REMOVALS
from tomovault.core.record import Result
from tomovault.daemon.areas import AreaWatch, Look
from tomovault.daemon.clock import WallClock, find_silence
from tomovault.daemon.courier import Courier
from tomovault.daemon.departures import Departures
from tomovault.daemon.gauges import SILENT_S, SLOW_S, Gauges
from tomovault.daemon.lead import Lead
from tomovault.daemon.lookout import Lookout
from tomovault.daemon.planner import Alarm, Planner
from tomovault.daemon.policies import PolicyWatch
from tomovault.daemon.presence import Presence
from tomovault.daemon.pulse import Pulse, brakes_of
from tomovault.daemon.room_maker import RoomMaker
from tomovault.daemon.teller import Raised, Teller, list_raised
from tomovault.daemon.upkeep import Upkeep
from tomovault.daemon.workers import Workers
from tomovault.vault.asking import holder_name
from tomovault.vault.fellows import read_fellows, rest_lease, watch_lease
from tomovault.vault.foreman import Foreman, Running
from tomovault.vault.telling import tell
from tomovault.vault.tier_facts import measured_tiers
from tomovault.vault.vault import Vault

log = structlog.get_logger(__name__)

_TICK_S = 0.1
#: A job that waits longer than this before its next try does not keep `--until-idle` (contract).
_IDLE_PATIENCE_S = 60.0


class Clerk:
    """Lives from `run` to its return, all in one thread; other threads may read `watches`, `unsettled` and `jobs`.

    Jobs die with the thread that started them, so the thread that runs the clerk must outlive its jobs.
    """

    def __init__(
        self,
        vault: Vault,
        *,
        stop: threading.Event,
        tell: Callable[[str, dict[str, Any]], None],
        busy: Callable[[], bool],
    ) -> None:
        """`busy` says whether somebody else still writes into the areas: then nothing is ever idle."""
        self.vault = vault
        self.holder = holder_name(vault)
        self._busy = busy
        self._tell = tell
        self._stop = stop
        self._unfinished: Look | None = None
        self.foreman = Foreman(vault, self.holder)
        self.workers = Workers(self.foreman, vault.site)
        self.planner = Planner(vault)
        self._gauges = Gauges()
        self.room_maker = RoomMaker(vault, self._gauges.is_fresh)
        self.lookout = Lookout(vault)
        self.upkeep = Upkeep(vault, self.room_maker.is_draining)
        self._policies = PolicyWatch(vault)
        self._teller = Teller(vault)
        self._courier = Courier(vault)
        #: The last turn, for other threads.
        self.pulse = Pulse()
        self._lead = Lead(vault, self.holder)
        self.presence = Presence(vault, self._lead, self.lookout, tell=tell)
        self._room_due = True
        self._departures = Departures(vault)
        self._jumped = ""
        self._still = False
        self._timers: BackgroundScheduler | None = None
        self._at_rest_since: dict[str, int] = {}
        self._clock = WallClock(datetime.now(UTC))
        self._steps: deque[Callable[[datetime], int]] = deque(
            (
                self._take_timers,
                self._take_looks,
                lambda _now: self.workers.reap(tell=self._job_ended),
                self._if_leading(self._policies.look_on),
                self._if_leading(self.plan_scans),
                self._if_leading(self.make_room),
                self.launch,
            )
        )

    # --- life ----------------------------------------------------------------------------------------

    def run(self, *, until_idle: bool) -> int:
        """Work until told to stop, or until nothing is left to do; returns how many jobs failed.

        Raises Transient, naming the holder, where another daemon has the place of this one (see `Lead.join`).
        """
        newest, now = self._lead.join(), datetime.now(UTC)
        self._clock = WallClock(now, newest=newest, silence=find_silence(self.vault, now))
        self.foreman.leads = False
        with contextlib.ExitStack() as ending:
            ending.callback(self._status, "stopped")
            ending.callback(self._lead.drop)
            ending.callback(self._export_head)
            ending.callback(self.workers.stop)
            ending.callback(self.presence.stop)
            ending.callback(self._stop_timers)
            ending.callback(self._courier.stop)
            ending.enter_context(self._measured())
            self._take_place()
            self._status("running")
            self._work(until_idle)
        if self._lead.lost:
            raise Transient(self._lead.lost, hint="`tomovault status` names it")
        return self.foreman.failed

    def _take_place(self) -> None:
        """The work of a leader, or that of a follower, has begun."""
        leads = self._lead.leads
        log.info("this daemon leads" if leads else "this daemon follows", holder=self.holder)
        self._stop_timers()
        self._timers = self.upkeep.start(leads=leads)
        if leads:
            self._courier.start()
            self.foreman.take_up_orphans()
            self._room_due = True
        self.presence.start(lambda area: area.host is not None or leads or self.foreman.leads)
        self._departures.ask()
        self.foreman.leads = leads

    @contextlib.contextmanager
    def _measured(self) -> Iterator[None]:
        """Meanwhile nothing here waits for a file server to say how full it is."""
        measure = self.vault.space_of
        self._gauges.start((*self.vault.site.areas.values(), *measured_tiers(self.vault.site)))
        self.vault.space_of = self._gauges.space_of
        try:
            yield
        finally:
            self.vault.space_of, self.vault.silent = measure, frozenset()
            self._gauges.stop()

    def _stop_timers(self) -> None:
        if self._timers is not None:
            self._timers.shutdown(wait=False)
            self._timers = None

    def _believe_no_date(self) -> None:
        """What was to come by a clock that was ahead comes by what it says now: timers, and what waits for a date."""
        self.planner.due.believe_no_date()
        if self._timers is not None:
            self._stop_timers()
            self._timers = self.upkeep.start(leads=self._lead.leads)

    def _export_head(self) -> None:
        if self._lead.leads:
            self.upkeep.export_head()

    def _if_leading(self, step: Callable[[datetime], int]) -> Callable[[datetime], int]:
        return lambda now: step(now) if self._lead.leads else 0

    def _work(self, until_idle: bool) -> None:
        while not self._stop.is_set():
            try:
                acted = self._turn()
                if until_idle and not acted and self.is_idle():
                    return
            except (Transient, OSError) as problem:
                log.warning("the catalogue or the site's folder cannot be used now", reason=str(problem))
                acted = False
                self._stop.wait(1.0)
            if not acted:
                self._stop.wait(_TICK_S)

    def _turn(self) -> bool:
        """One turn; whether something was done in it.

        At most one step does something, so that the lead and a stop never wait for long.
        The next turn begins with the step after it, so that none waits for ever.
        """
        now = datetime.now(UTC)
        if not self._lead.renew():
            self._stop.set()
            return False
        if self._lead.lapsed:
            self._departures.ask()
            ended = self.workers.stop_lost()
            log.warning("the lease ran out before it was renewed", jobs_taken_over=ended)
        if self.vault.shared:
            self._look_round()
        self._listen()
        self._take_policies(now)
        self._departures.look(self.watches)
        self._jumped = self._clock.look(now)
        if self._clock.was_ahead:
            self._clock.was_ahead = False
            self._believe_no_date()
        self.brake()
        self.pulse = self._pulse()
        if self._lead.leads:
            self._teller.look(self._raised, now)
        for _ in range(len(self._steps)):
            step = self._steps[0]
            self._steps.rotate(-1)
            if step(now):
                self._still = False
                self._status("running")
                return True
        self._still = self._is_still()
        return False

    def _take_policies(self, now: datetime) -> None:
        """Every step of this turn decides by the same rules: those of the policies as their files are now."""
        if self._policies.take_up(now, leads=self._lead.leads):
            self.room_maker.begin_anew()
            self._room_due = True
            if self._lead.leads:
                self.upkeep.ask("overdue")

    def _listen(self) -> None:
        if self.presence.listen(self._gauges.silent(SILENT_S)):
            self._room_due = True
            self._status("running")

    def _look_round(self) -> None:
        """The other daemons know how this one is, and this one how they are; a leader that is gone is replaced, and
        what others left undone is taken up.
        """
        before = self._lead.fellows.watched.keys()
        well = (watch_lease(area) for area in self.presence.well())
        rest = [rest_lease(self.vault.host)] if self._still else []
        if not self._lead.look_round(frozenset((*well, *rest))):
            return
        self._room_due = self._room_due or self._lead.fellows.watched.keys() != before
        if not self._lead.leads and self._lead.fellows.leader is None:
            self._lead.try_lead()
        if self._lead.leads and not self.foreman.leads:
            self._take_place()
            self._status("running")
        elif self._lead.leads and self.foreman.list_orphans():
            self.foreman.take_up_orphans()

    def is_idle(self) -> bool:
        """Nothing is due, running or settling, here and with the other daemons. What only waits does not count."""
        self._still = self._is_still()
        if not self._still:
            return False
        now = datetime.now(UTC)
        if self._lead.leads:
            self._teller.look(self._raised, now, at_once=True)
        if self._courier.has_untried():
            return False
        with self.vault.catalogue.reading() as tx:
            fellows = read_fellows(self.vault, tx)
            if self.vault.shared and not fellows.all_rest_but(self.holder):
                return False
            return not has_work_before(
                tx,
                now + timedelta(seconds=_IDLE_PATIENCE_S),
                now,
                hosts={self.vault.host, *fellows.daemons},
                skip_places=self.presence.resting(),
                skip_actions=self._braked_actions(),
            )

    def _is_still(self) -> bool:
        """Whether nothing runs or settles here, and nothing is about to be done that the catalogue does not show."""
        if self._busy():
            self._at_rest_since = dict(self.lookout.swept)
            return False
        looks = self._unfinished is not None or not self.presence.looks.empty()
        if self.workers.running or looks or not all(map(self._is_at_rest, self.presence.watches)):
            return False
        return not self._lead.leads or (self._policies.over and self.room_maker.over and not self._room_due)

    def _is_at_rest(self, area: str) -> bool:
        """Whether an area was swept since others stopped writing, and all in it is settled; an absent one rests."""
        if self.presence.is_missing(area):
            return True
        if self.lookout.swept.get(area, 0) > self._at_rest_since.get(area, 0):
            return self.lookout.unsettled.get(area, 0) == 0
        return False

    # --- what other threads may read -----------------------------------------------------------------

    @property
    def watches(self) -> dict[str, AreaWatch]:
        """The watches of the areas that are swept from here."""
        return self.presence.watches

    @property
    def unsettled(self) -> dict[str, int]:
        """Candidates that are being written or settling, by area."""
        return dict(self.lookout.unsettled)

    @property
    def jobs(self) -> tuple[Running, ...]:
        """The jobs that run now."""
        return tuple(self.workers.running)

    # --- steps ---------------------------------------------------------------------------------------

    def _take_timers(self, _now: datetime) -> int:
        queued, room = self.upkeep.take()
        self._room_due = self._room_due or room
        return queued

    def plan_scans(self, now: datetime) -> int:
        """See `Planner.plan_scans`; where something was planned, room is looked at again."""
        planned = self.planner.plan_scans(now)
        self._room_due = self._room_due or planned > 0
        return planned

    def make_room(self, now: datetime) -> int:
        """One short turn was taken at removals where an area is too full, if something changed since the last look."""
        if self._room_due:
            self._room_due = False
            if self.room_maker.over:
                self._gauges.ask()
            self.room_maker.ask()
        self.brake()
        return self.room_maker.turn(now)

    def launch(self, now: datetime) -> int:
        """One more job runs, if one may."""
        absent = self.presence.gone() | self._gauges.silent(SLOW_S)
        stopped = frozenset(self.lookout.stopped)
        before = len(self.workers.running)
        claimed = self.workers.launch(now, absent=absent, stopped=stopped, without=self._braked_actions())
        if claimed:
            self._departures.ask()
        if claimed and len(self.workers.running) == before:
            self._room_due = True  # it ended before it began, which may leave room to be made elsewhere
        return claimed

    def _take_looks(self, now: datetime) -> int:
        """Looks were noted, up to the first that queued something or was long; returns how much was done."""
        while True:
            try:
                look = self._unfinished or self.presence.looks.get_nowait()
            except queue.Empty:
                return 0
            self._unfinished = None
            if look.sweep is None:
                if self.presence.miss(look.area, look.absent):
                    self._status("running")
                continue
            told = (self.presence.find(look.area), self.lookout.trouble.get(look.area, ""))
            first = not self.lookout.swept.get(look.area)
            acted = self.lookout.take(look.area, look.sweep, now)
            trouble = self.lookout.trouble.get(look.area, "")
            if told != ("", trouble):
                self._status("running")
                self._tell("area", {"area": look.area, "text": trouble or "is there again, and can be read"})
            self._room_due = self._room_due or first
            while self.lookout.to_forget:
                area, candidate = self.lookout.to_forget.pop()
                self.presence.watches[area].forget([candidate])
            if self.lookout.more:
                self._unfinished = look
                return max(1, acted)
            if acted:
                return acted

    def _job_ended(self, running: Running, result: Result) -> None:
        self._room_due = True
        if running.claimed.action in REMOVALS:
            self._gauges.ask()  # what is gone is no longer to be counted
            self._departures.ask()
        self._tell("job", {"running": running, "result": result})

    # --- brakes --------------------------------------------------------------------------------------

    def brake(self) -> None:
        """Nothing is permitted to go after a jump of the clock, nor from an area that rests or was not seen."""
        resting = self.presence.resting() | self.presence.unseen()
        self.planner.brake(self._jumped, resting)
        self.room_maker.brake(self._jumped, resting)

    def _pulse(self) -> Pulse:
        return Pulse(
            leads=self._lead.leads,
            brakes=brakes_of(self._clock.problem, self.presence.reasons()),
            alarms={**dict.fromkeys(self.vault.site.areas, 0), **Counter(a.area for a in self._alarms().values())},
            swept_at=dict(self.lookout.swept_at),
            unsettled=dict(self.lookout.unsettled),
            running=Counter(r.claimed.action for r in self.workers.running),
        )

    def _alarms(self) -> dict[str, Alarm]:
        """Those of all who raise any, each by its kind and what it is about."""
        rooms = {f"room {area}": a for area, a in self.room_maker.alarms.items()}
        return {**self.planner.alarms, **self._policies.alarms, **self.upkeep.nightly.alarms, **rooms}

    def _raised(self) -> Iterable[Raised]:
        return list_raised(
            clock=self._clock.problem,
            absent=self.presence.absences(),
            trouble=self.lookout.trouble,
            unwatched=self.presence.unwatched(),
            alarms={name: (alarm.area, alarm.text) for name, alarm in self._alarms().items()},
        )

    def _braked_actions(self) -> frozenset[str]:
        return REMOVALS if self._clock.problem else frozenset()

    # --- what others see -----------------------------------------------------------------------------

    def _status(self, state: str) -> None:
        """Other commands are told what cannot be read from the catalogue."""
        tell(
            self.vault,
            {
                "state": state,
                "holder": self.holder,
                "leads": self._lead.leads,
                "pid": os.getpid(),
                "at": datetime.now(UTC).isoformat(),
                "absent": self.presence.absences(),
                "trouble": self.lookout.trouble,
                "unsettled": self.lookout.unsettled,
                "alarms": [asdict(alarm) for alarm in self._alarms().values()],
                "running": [
                    {"job": r.claimed.id, "action": r.claimed.action, "scan": r.scan_name, "place": r.claimed.place}
                    for r in self.workers.running
                ],
            },
        )
