"""The run of a simulation: what arrives, what people ask for, and what the daemon would do about it, event by event."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from random import Random

from tomovault.core.known import KnownScan, Pin, RemovalPhase
from tomovault.core.life import Stage
from tomovault.core.replica import Form, ProductKind, Replica, ReplicaState, TierClass
from tomovault.policy.area_facts import AreaFacts
from tomovault.policy.due import next_look, overdue
from tomovault.policy.removing import went_for_room
from tomovault.simulation.agenda import Agenda
from tomovault.simulation.arrivals import BeamTime, Written, beam_times, known_scan, scans_before, scans_written
from tomovault.simulation.judging import Judge, Stood, files_are_home
from tomovault.simulation.ledger import AreaBook, Ledger
from tomovault.simulation.removing import RoomMaker
from tomovault.simulation.scenario import DAY_S, Loss, Scenario
from tomovault.simulation.works import Works
from tomovault.simulation.world import World, open_permit

_DISKS = (TierClass.FAST, TierClass.SERVER)


@dataclass(frozen=True)
class Run:
    """A simulation that is over; `given_up` before its last day."""

    scenario: Scenario
    ledger: Ledger
    world: World
    works: Works
    asked: int
    given_up: bool = False


def simulate(
    scenario: Scenario,
    progress: Callable[[int, int], None] = lambda _day, _days: None,
    *,
    give_up: Callable[[Ledger], bool] = lambda _ledger: False,
) -> Run:
    """The scenario's days have passed, or it was given up: that is asked once a day.

    Raises IntegrityError should anything be removed against law 4.
    """
    simulation = _Simulation(scenario, progress, give_up)
    simulation.run()
    judge, given_up = simulation.judge, simulation.given_up
    return Run(scenario, simulation.ledger, simulation.world, simulation.works, judge.asked, given_up)


class _Simulation:
    def __init__(
        self, scenario: Scenario, progress: Callable[[int, int], None], give_up: Callable[[Ledger], bool]
    ) -> None:
        self._scenario = scenario
        self._progress = progress
        self._give_up = give_up
        self.given_up = False
        self.agenda = Agenda(scenario.start)
        self.world = World(scenario.areas)
        self.ledger = Ledger({name: AreaBook(area) for name, area in scenario.areas.items()})
        self.judge = Judge(scenario, self.world)
        self.works = Works(scenario, self.world, self.judge, self.agenda, self.ledger, self._is_written)
        self.rooms = RoomMaker(
            scenario, self.world, self.judge, self.agenda, self.ledger, self.works.packing.is_blocked
        )
        self._beam_times = list(beam_times(scenario))
        self._begins = [beam_time.begin_s for beam_time in self._beam_times]
        self._looks: dict[str, datetime] = {}
        self._by_age: list[tuple[datetime, str]] = []
        self._people = Random(f"{scenario.seed} people")

    def run(self) -> None:
        """From the first moment to the last."""
        self._settle_in()
        for name, book in self.ledger.areas.items():
            book.start = self.world.used[name] / max(1, self._scenario.areas[name].quota)
        self._turn()
        while not self.given_up and (do := self.agenda.next_before(self._scenario.end_s)) is not None:
            do()
            self.ledger.events += 1
            self._turn()
        for book in self.ledger.areas.values():
            book.close(self.agenda.now_s if self.given_up else self._scenario.end_s)

    # --- what comes from outside ---------------------------------------------------------------------

    def _settle_in(self) -> None:
        """What is there at the start is known, and everything that comes from outside is on the agenda."""
        for scan in self._scenario.scans:
            self._take_in(replace(scan, jobs=()))
            if not scan.settled:
                self.agenda.after(self._scenario.quiet.total_seconds(), partial(self.world.settle, scan.id))
        for area in self._scenario.areas.values():
            if self._scenario.make_up_scans:
                for written in scans_before(self._scenario, area, area.start_bytes):
                    self._take_in(replace(known_scan(written, self._scenario.start, area.beamline), settled=True))
            self.world.others(area.name, max(0, area.start_bytes - self.world.used[area.name]))
            self.ledger.bytes_in[area.name] = self.world.used[area.name]
        self._by_age.sort()
        self._expect(scans_written(self._scenario))
        for loss in self._scenario.losses:
            self.agenda.at(loss.day * DAY_S, partial(self._lose, loss))
        self._next_wish()
        self.agenda.at(0.0, partial(self._tell_day, 0))

    def _take_in(self, scan: KnownScan) -> None:
        self.world.add(scan)
        self._by_age.append((scan.acquired_at or scan.first_seen_at, scan.id))
        for replica in scan.replicas:
            permit = open_permit(scan, replica.id)
            if permit is not None and replica.state is ReplicaState.LEAVING:
                self.rooms.look_after_hold(scan.id, permit, for_room=went_for_room(scan, permit))

    def _expect(self, scans: Iterator[Written]) -> None:
        """The next scan is on the agenda, and after it the one that follows."""
        written = next(scans, None)
        if written is not None:
            self.agenda.at(written.at_s, partial(self._arrive, written, scans))

    def _arrive(self, written: Written, scans: Iterator[Written]) -> None:
        self._expect(scans)
        area, size = self._scenario.areas[written.area], written.kind.size
        book = self.ledger.areas[area.name]
        if self.world.used[area.name] + size > area.quota:
            book.refuse(self.agenda.now_s, size)
            return
        book.written += size
        self.ledger.bytes_in[area.name] += size
        scan = known_scan(written, self._scenario.start, area.beamline)
        self._take_in(scan)
        self.agenda.after(self._scenario.quiet.total_seconds(), partial(self.world.settle, scan.id))

    def _lose(self, loss: Loss) -> None:
        for scan in list(self.world.scans.values()):
            for replica in scan.replicas:
                if replica.domain == loss.domain and replica.live:
                    self.works.lose(scan.id, replica.id, ReplicaState.SUSPECT)

    def _tell_day(self, day: int) -> None:
        self._progress(day, self._scenario.days)
        self.given_up = self._give_up(self.ledger)
        self.agenda.at((day + 1) * DAY_S, partial(self._tell_day, day + 1))

    def _is_written(self, area: str) -> bool:
        """Whether a beam time writes to the area now."""
        at = bisect_left(self._begins, self.agenda.now_s + 1e-9) - 1
        beam_time: BeamTime | None = self._beam_times[at] if at >= 0 else None
        return beam_time is not None and beam_time.area == area and self.agenda.now_s < beam_time.end_s

    # --- people --------------------------------------------------------------------------------------

    def _next_wish(self) -> None:
        rate = self._scenario.people.recalls_per_day / DAY_S
        if rate > 0:
            self.agenda.after(self._people.expovariate(rate), self._wish)

    def _wish(self) -> None:
        """Somebody asks for the data of a scan."""
        self._next_wish()
        age = timedelta(seconds=self._people.expovariate(1 / self._scenario.people.recall_age_s))
        if not self._by_age:
            return
        at = min(bisect_left(self._by_age, (self.agenda.now - age, "")), len(self._by_age) - 1)
        self._give_back(self._by_age[at][1])

    def _give_back(self, scan_id: str) -> None:
        scan = self.world.scans[scan_id]
        copies = scan.replicas_of(ProductKind.ORIGINAL)
        good = [r for r in copies if r.state is ReplicaState.VERIFIED]
        if not copies or any(r.tier_class in _DISKS for r in good):
            self.ledger.served_from_disk += 1
        elif not good:
            self.ledger.not_served += 1
        elif not any(job.action == "restore" for job in scan.jobs):
            self.works.recall(scan, good[0], partial(self._given_back, scan_id, good[0]))

    def _given_back(self, scan_id: str, replica: Replica) -> None:
        """What was recalled stays for some days (else the next look at the area would remove it)."""
        self.ledger.recalls += 1
        self.ledger.recalled += replica.bytes
        until = self.agenda.now + self._scenario.pin
        self.world.add_pin(scan_id, Pin(f"pin {self.ledger.recalls}", "model", "recalled", until))

    # --- what the daemon does ------------------------------------------------------------------------

    def _turn(self) -> None:
        """Every scan of which something new is known was planned, the machines have work, full areas were looked at."""
        world = self.world
        while world.changed or world.touched:
            while world.changed:
                scan_id = next(iter(world.changed))
                del world.changed[scan_id]
                self._plan(scan_id)
            self.works.start()
            if world.touched:
                area = next(iter(world.touched))
                del world.touched[area]
                cause = self.rooms.make_room(area)
                used, quarantined = world.used[area], world.quarantined[area]
                self.ledger.areas[area].note(self.agenda.now_s, used, quarantined, cause)

    def _plan(self, scan_id: str) -> None:
        """What is due for a scan is queued, and the day is known on which time alone makes it worth another look."""
        scan, now = self.world.scans[scan_id], self.agenda.now
        if scan.area not in self._scenario.areas:
            return
        facts = self.judge.facts(scan.area)
        stood = self.judge.stand(scan, facts, now)
        if self._follow(scan, stood):
            return
        at_work = {job.action for job in scan.jobs}
        if stood.due(Stage.PREVIEWED):
            self.works.preview(scan)
        if stood.due(Stage.PACKED) and "pack" not in at_work and scan.files_on_disk:
            self.works.pack(scan)
        if stood.due(Stage.ARCHIVED) and "archive" not in at_work:
            self.works.archive(scan, self.judge.archives(stood.asks.archive_tiers), stood.asks.copies)
        if stood.due(Stage.RECONSTRUCTED) and "reconstruct" not in at_work:
            self.works.reconstruct(scan)
        if stood.due(Stage.REPLICATED) and "replicate" not in at_work:
            self._replicate(scan, stood)
        if "verify" not in at_work:
            for replica in overdue(scan, self.judge.policy(scan.area), facts, now, stood.matches)[:1]:
                self.works.verify(scan, replica)
        self._look_again(scan, facts)
        self.rooms.let_go(scan_id)

    def _replicate(self, scan: KnownScan, stood: Stood) -> None:
        good = {(r.tier, r.form) for r in scan.replicas_of(ProductKind.ORIGINAL) if r.state is ReplicaState.VERIFIED}
        places = [(tier, False) for tier in stood.asks.tiers if not any(at == tier for at, _ in good)]
        places += [(move.to, True) for move in stood.asks.moves if (move.to, Form.FILES) not in good]
        for area, as_files in places[:1]:
            if area in self._scenario.areas:
                self.works.replicate(scan, area, as_files=as_files)

    def _follow(self, scan: KnownScan, stood: Stood) -> bool:
        """A scan that a rule moved belongs to the other area once nothing is left where it was written."""
        wanted = {move.to for move in stood.asks.moves}
        gone = any(p.phase is RemovalPhase.GONE for p in scan.permits)
        if not wanted or not gone or files_are_home(scan):
            return False
        for copy in scan.replicas_of(ProductKind.ORIGINAL, Form.FILES):
            if copy.good and copy.tier in wanted and scan.is_elsewhere(copy):
                self.world.follow(scan.id, copy)
                return True
        return False

    def _look_again(self, scan: KnownScan, facts: AreaFacts) -> None:
        """On the agenda stands the next moment at which the answers may be others."""
        moment = next_look(scan, self.judge.policy(scan.area), facts, self.agenda.now)
        if moment is None or self._looks.get(scan.id) == moment:
            return
        self._looks[scan.id] = moment
        self.agenda.at_time(moment, partial(self._look, scan.id, moment))

    def _look(self, scan_id: str, moment: datetime) -> None:
        if self._looks.get(scan_id) == moment:
            del self._looks[scan_id]
            self.world.changed[scan_id] = None
            self.world.touched[self.world.scans[scan_id].area] = None
