"""Histories: whatever happens to a site, in whatever order, the laws of the design hold after each step of its daemon.

The laws are written down here a second time, over the bare rows of the catalogue and what `conftest` knows of the
bytes; nothing of the code that decides is asked. Some histories run in every `make test`; `make soak` runs as many as
`TOMOVAULT_HISTORIES` says.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from datetime import timedelta

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tomovault.catalog import tables
from tomovault.core.replica import ReplicaState

HOUR = timedelta(hours=1)
HOLD = timedelta(days=3)
OPEN = ("granted", "quarantined", "leaving")

#: Actions that a rule asks for, each worth doing once on what is known.
BY_RULE = ("pack", "archive", "replicate", "prune")


class Broken(AssertionError):
    """A law does not hold."""


class Laws:
    """Looks on while a history is lived. Raises Broken, naming the law."""

    def __init__(self, history):
        self.history = history
        self.ground = history.ground
        self.phases, self.states, self.begun = {}, {}, {}
        self.seq = 0
        self.chain = []
        self.jobs = {}
        self.tried = defaultdict(set)
        self.count = Counter()

    # --- what the rows say -----------------------------------------------------------------------

    def _read(self):
        catalogue = self.history.catalogue
        with catalogue.reading() as tx:
            rows = {t: tx.rows(sa.select(getattr(tables, t))) for t in ("permit", "replica", "product", "scan", "pin")}
            rows["job"] = tx.rows(sa.select(tables.job))
            rows["tombstone"] = tx.rows(sa.select(tables.tombstone))
            rows["candidate"] = tx.rows(sa.select(tables.candidate))
        self.rows = rows
        self.permits = {r.id: r for r in rows["permit"]}
        self.replicas = {r.id: r for r in rows["replica"]}
        self.products = {r.id: r for r in rows["product"]}
        self.scans = {r.id: r for r in rows["scan"]}

    def _head(self):
        with self.history.catalogue.reading() as tx:
            return tx.value(sa.select(sa.func.max(tables.audit.c.seq))) or 0

    def demand(self, law, holds, *told):
        self.count[law] += 1
        if not holds:
            raise Broken(f"{law}: {' '.join(map(str, told))}")

    # --- after each step of the daemon -----------------------------------------------------------

    def after_turn(self):
        self._read()
        now = self.history.clock.wall
        granted = [p for p in self.permits.values() if p.id not in self.phases]
        for permit in self.permits.values():
            before = self.phases.get(permit.id)
            if before != permit.phase:
                self._phase(permit, before, now)
        self._room(granted)
        for replica in self.replicas.values():
            if self.states.get(replica.id) != replica.state:
                self._state(replica)
        self._quarantine()
        self._no_repetition()
        self.phases = {p.id: p.phase for p in self.permits.values()}
        self.states = {r.id: r.state for r in self.replicas.values()}

    def _phase(self, permit, before, now):
        if before is None:
            self.begun[permit.id] = (self.history.clock.running_s, self.history.clock.jumps)
            self._may_go(permit, now, "granted")
        if permit.phase == "leaving":
            self.demand("law 5: two phases", before in ("quarantined",), permit.id, "was", before)
            self.demand("law 5: the hold", permit.hold_until <= now, permit.hold_until, now)
            began, jumps = self.begun[permit.id]
            passed = timedelta(seconds=self.history.clock.running_s - began)
            hold = HOLD
            least = {0: hold, 1: hold / 2}.get(self.history.clock.jumps - jumps, timedelta(0))
            self.demand("law 5: the hold really passed", passed >= least, passed, "of", least)
            self._may_go(permit, now, "looked at again")
        if permit.phase == "gone":
            self.demand("law 5: two phases", before == "leaving", permit.id, "was", before)
            buried = [t for t in self.rows["tombstone"] if t.permit_id == permit.id]
            self.demand("law 4: a tombstone", len(buried) == 1, permit.id)

    def _may_go(self, permit, now, when):
        """Law 4, pins and switches, counted from the rows."""
        victim, scan = self.replicas[permit.replica_id], self.scans[permit.scan_id]
        self.demand("pins", not self._pinned(scan, now), scan.name, when)
        person = permit.ordered_by and when == "granted"
        self.demand("laws 3 and 5: brakes", person or not self._jumped(), when, "after the clock jumped")
        if permit.ordered_by:
            self.demand("law 4: an order has a reason", permit.reason, permit.id)
            return
        rules = self.history.rules[scan.area]
        absent = self.history.clerk.presence.absence(scan.area)
        self.demand("law 3", not absent, scan.name, when, "in an area that is not there")
        self.demand("prune: off", self.history.marks[scan.area]["prune"], scan.name, when)
        self.demand("the policy", rules.prunes, scan.name, when)
        age = now - (scan.acquired_at or scan.first_seen_at)
        old = rules.least_age_days == 0 or age > timedelta(days=rules.least_age_days)
        self.demand("the policy", old, scan.name, "is of", age)
        verdict = scan.declared_verdict or scan.verdict
        self.demand("law 4: complete", verdict in ("complete", "aborted"), scan.name, verdict)
        self._copies_suffice(scan, victim, rules, now, when)

    def _copies_suffice(self, scan, victim, rules, now, when):
        wanted = max(2, rules.copies if rules.archives else 2)
        archive = self._counted(victim, "tape", timedelta(days=rules.archive_days), now)
        if len(archive) >= wanted:
            self.demand("law 4", True)
            return
        mirror = self._counted(victim, "mirror", timedelta(days=rules.disk_days), now)
        jobs = [j for j in self.rows["job"] if j.scan_id == scan.id and j.action == "archive"]
        last = max(jobs, key=lambda j: j.queued_at, default=None)
        hoped = rules.archives and (last is None or last.status not in ("failed", "cancelled"))
        fast = victim.tier == "fast" and mirror and hoped
        self.demand("law 4", fast, scan.name, victim.form, when, f"with {len(archive)} of {wanted}", sorted(archive))

    def _counted(self, victim, tier, within, now):
        """Failure domains with a copy that was re-read so lately, and by the table of bytes really was."""
        found = set()
        for replica in self.replicas.values():
            same = replica.product_id == victim.product_id and replica.id != victim.id
            if same and replica.tier == tier and replica.state == "verified":
                if timedelta(0) <= now - replica.verified_at <= within:
                    found.add(replica.domain)
        return found

    def _pinned(self, scan, now):
        return [p for p in self.rows["pin"] if p.scan_id == scan.id and p.until > now and p.tier is None]

    def _jumped(self):
        clock = self.history.clock
        wall, running_s = self.history.employed_at
        return abs((clock.wall - wall) - timedelta(seconds=clock.running_s - running_s)) > HOUR

    def _state(self, replica):
        where = f"{replica.form} of {self.scans[replica.scan_id].name} on {replica.tier}"
        digest = self.products[replica.product_id].digest
        if replica.state == "verified":
            really = (replica.location, digest, replica.verified_at) in self.ground.reads
            self.demand("law 2: verified was read", really, where, replica.verified_at)
        if replica.state == "gone":
            buried = any(t.replica_id == replica.id for t in self.rows["tombstone"])
            scan = self.scans[replica.scan_id]
            overwritten = replica.form == "files" and scan.superseded_by is not None
            self.demand("law 3: absence is no order", buried or overwritten, where, "is gone without a permit")

    def _quarantine(self):
        """What is in quarantine can be taken back: its permit is open. What is leaving has one."""
        for permit in self.ground.quarantine:
            self.demand("law 5: quarantine", self.permits[permit].phase in OPEN, permit, self.permits[permit].phase)
        under_way = {p.replica_id for p in self.permits.values() if p.phase in OPEN}
        for replica in self.replicas.values():
            if replica.state == "leaving":
                self.demand("law 5: leaving", replica.id in under_way, replica.id, "is leaving without a permit")

    def _room(self, granted):
        """A watermark takes no more than brings the area down to its low mark, and one scan."""
        by_area = defaultdict(list)
        for permit in granted:
            if not permit.ordered_by:
                by_area[self.scans[permit.scan_id].area].append(permit)
        for area, permits in by_area.items():
            kept = self._kept(area)
            marks = self.history.marks[area]
            low = int(marks["low"] * marks["quota"])
            scans = Counter()
            for permit in permits:
                scans[permit.scan_id] += permit.bytes
            last = max(scans.values())
            self.demand("watermark", kept + last > low, f"{area}: {kept} kept and {last} of the last, low mark {low}")

    def _kept(self, area):
        packed = {p.scan_id for p in self.products.values() if p.kind == "original"}
        known = sum(r.bytes for r in self.replicas.values() if r.tier == area and r.state != "gone")
        known += sum(s.bytes for s in self.scans.values() if s.area == area and s.id not in packed)
        leaving = sum(r.bytes for r in self.replicas.values() if r.tier == area and r.state == "leaving")
        return max(known, self.ground.used(area) + self.history.others[area]) - leaving

    def _no_repetition(self):
        """Nothing is tried twice on the same facts, but for what a job's own retries are."""
        for job in self.rows["job"]:
            known = self.jobs.get(job.id)
            if known is None and job.action in BY_RULE:
                facts = self._facts(job)
                again = [j for j in self.tried[job.action, facts] if self.jobs[j] in ("failed", "succeeded")]
                self.demand("no action twice on the same facts", not again, job.action, self.scans[job.scan_id].name)
                self.tried[job.action, facts].add(job.id)
            self.jobs[job.id] = job.status

    def _facts(self, job):
        scan = self.scans[job.scan_id]
        mine = [r for r in self.replicas.values() if r.scan_id == scan.id]
        facts = (scan.id, scan.identity, scan.verdict, scan.settled, self.history.version, self.history.deaths)
        if job.action == "prune":
            # Of what is asked again after each failure: is anything newer than the failure known of its copies?
            permit = self.permits[job.order["permit"]]
            return (*facts, permit.replica_id, scan.changed_at, tuple(sorted((r.id, str(r.verified_at)) for r in mine)))
        phases = tuple(sorted((p.id, p.phase) for p in self.permits.values() if p.scan_id == scan.id))
        return (*facts, phases, tuple(sorted((r.id, r.state) for r in mine)))

    # --- when a job is about to touch bytes ------------------------------------------------------

    def before_act(self, action, order):
        if action not in ("prune", "empty_quarantine", "destroy"):
            return
        self._read()
        permit = self.permits[order["permit"]]
        replica, now = self.replicas[permit.replica_id], self.history.clock.wall
        phase = "granted" if action == "prune" else "leaving"
        self.demand("law 5: two phases", permit.phase == phase, action, "while", permit.phase)
        if action == "prune":
            named = order["place"]["root"] if order["form"] == "files" else order["files"][0]["location"]
        elif action == "destroy":
            named = order["placed"]["location"]
        else:
            named = self.ground.quarantine.get(permit.id, (replica.location,))[0]
        self.demand("law 5: only what the permit names", named == replica.location, action, named, replica.location)
        self._may_go(permit, now, f"at the {action}")

    # --- after each event ------------------------------------------------------------------------

    def after_event(self):
        self.after_turn()
        self._went()
        self._usage()
        problems = self.history.catalogue.check()
        self.demand("the catalogue", not problems, problems)
        with self.history.catalogue.reading() as tx:
            chain = [tuple(r) for r in tx.rows(sa.select(tables.audit.c.seq, tables.audit.c.hash))]
        chain.sort()
        self.demand("law 9", chain[: len(self.chain)] == self.chain, "what was in the audit log is not as it was")
        self.chain = chain

    def _went(self):
        """What really went, by the table of bytes: of no original fewer tapes are left than the law says."""
        for permit_id, location, copy in self.ground.went:
            permit = self.permits[permit_id]
            self.demand("law 5: only what the permit names", location == self.replicas[permit.replica_id].location)
            left = self.ground.originals(copy.digest)
            if permit.ordered_by:
                continue
            tapes = {c.domain for c in left if c.tier == "tape"}
            mirrored = copy.tier == "fast" and any(c.tier == "mirror" for c in left)
            ordered = any(p.ordered_by and p.scan_id == permit.scan_id for p in self.permits.values())
            self.demand("law 4: what is left", len(tapes) >= 2 or mirrored or ordered, copy.name, sorted(tapes))
        self.ground.went.clear()

    def _usage(self):
        """The roll-up of each tier is the sum of its live replicas."""
        wanted = Counter()
        for replica in self.replicas.values():
            if replica.state != ReplicaState.GONE and replica.tier in ("tape", "mirror"):
                wanted[replica.tier] += replica.bytes
        with self.history.catalogue.reading() as tx:
            query = sa.select(tables.usage.c.tier, sa.func.sum(tables.usage.c.bytes)).group_by(tables.usage.c.tier)
            told = {tier: size for tier, size in tx.rows(query) if tier in ("tape", "mirror") and size}
        self.demand("usage", told == dict(wanted), told, dict(wanted))


# --- histories ---------------------------------------------------------------------------------------

#: How often each event happens beside the others.
EVENTS = {
    "live": 14,
    "time": 8,
    "arrive": 4,
    "established": 6,
    "mark": 3,
    "grow": 1,
    "vanish": 1,
    "confirm": 1,
    "spoil": 3,
    "verify": 2,
    "policy": 2,
    "fast_policy": 1,
    "pin": 2,
    "unpin": 1,
    "extension": 1,
    "undo": 2,
    "destroy": 2,
    "restore": 2,
    "absence": 2,
    "filled": 1,
    "fault": 3,
    "kill": 3,
    "jump": 1,
    "second": 1,
}
_NAMES = [name for name, often in EVENTS.items() for _ in range(often)]
events = st.tuples(st.sampled_from(_NAMES), st.integers(0, 7), st.integers(0, 7))
histories = st.lists(events, min_size=15, max_size=60)


def play(history, happenings):
    """The laws, after they looked on at all that happens."""
    laws = history.laws = Laws(history)
    for name, a, b in happenings:
        getattr(history, name)(a, b)
        laws.after_event()
    come_to_rest(history, laws)
    return laws


def come_to_rest(history, laws, looks=3):
    """When nothing more happens the daemon does what is due, and then nothing, however often it looks at every scan."""
    history.ground.fault = ""
    known = None
    for _ in range(20):
        history.clock.go(600.0)
        look_at_all(history)
        laws.after_turn()
        if known == laws.jobs.keys():
            break
        known = set(laws.jobs)
    for _ in range(looks):
        look_at_all(history)
    laws.after_event()
    new = [(j.action, j.status, j.error) for j in laws.rows["job"] if j.id not in known]
    laws.demand("rest", not new, new)


def look_at_all(history):
    """The daemon looked at every scan once more, whatever it thinks to be worth it."""
    with history.catalogue.writing() as tx:
        for scan in history.catalogue.list_scans(tx):
            history.catalogue.set_next_due(tx, scan.id, history.clock.wall)
    history.live(3)


def live_through(begin, count, *, url=str, shrink=True):
    """So many histories are lived; returns how often each law was asked."""
    asked = Counter()

    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        derandomize=True,
        phases=(Phase.generate, *([Phase.shrink] if shrink else [])),
        suppress_health_check=list(HealthCheck),
    )
    @given(histories)
    def live(happenings):
        with begin(url()) as history:
            asked.update(play(history, happenings).count)

    live()
    return asked


@pytest.mark.timeout(600)
def test_the_laws_hold_in_some_histories(begin):
    asked = live_through(begin, 12)
    assert asked["law 4"] > 0
    assert asked["usage"] > 100


@pytest.mark.soak
@pytest.mark.timeout(36000)
def test_the_laws_hold_in_many_histories(begin):
    asked = live_through(begin, int(os.environ.get("TOMOVAULT_HISTORIES", "2000")))
    assert min(asked[law] for law in ("law 4: what is left", "watermark", "law 5: the hold really passed")) > 0


@pytest.mark.soak
@pytest.mark.component("postgresql")
@pytest.mark.timeout(36000)
def test_the_laws_hold_on_postgresql(begin, postgresql):
    live_through(begin, int(os.environ.get("TOMOVAULT_HISTORIES", "2000")) // 10, url=postgresql.emptied)


# --- one life, and what would be seen of mistakes ----------------------------------------------------

_MONTH = [("established", 5, 3), ("established", 4, 5), ("established", 3, 7), ("live", 3, 0)]
_REMOVED = [("time", 4, 0), ("live", 3, 0), ("live", 3, 0)]


@pytest.fixture
def life(begin):
    """Called with what happens; the laws looked on, and the history is at its end."""

    def live(*happenings):
        with begin() as history:
            return play(history, happenings)

    return live


def test_an_area_over_its_mark_is_emptied_down_to_its_low_one(life):
    """A history in which all of it happens: what the laws are asked about is not nothing."""
    asked = life(*_MONTH, *_REMOVED).count
    for law in ("law 4", "watermark", "law 5: the hold really passed", "law 4: a tombstone", "law 4: what is left"):
        assert asked[law] > 0, law


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("looks", [50, pytest.param(1000, marks=pytest.mark.soak)])
def test_nothing_is_done_twice_however_often_it_is_looked_at(begin, looks):
    """Every scan is looked at again and again: the jobs stay those that there are."""
    with begin() as history:
        laws = history.laws = Laws(history)
        for name, a, b in [*_MONTH, ("spoil", 1, 2), ("verify", 1, 0), ("fault", 1, 0), ("live", 3, 0)]:
            getattr(history, name)(a, b)
            laws.after_event()
        come_to_rest(history, laws)
        before = set(laws.jobs)
        for _ in range(looks):
            with history.catalogue.writing() as tx:
                for scan in laws.scans:
                    history.catalogue.set_next_due(tx, scan, history.clock.wall)
            history.clerk.plan_scans(history.clock.wall)
            history.clerk.make_room(history.clock.wall)
        laws.after_event()
        assert set(laws.jobs) == before


def _plant_no_hold(monkeypatch):
    """The hold of a permit is none."""
    monkeypatch.setattr("tomovault.vault.removals.timedelta", lambda **_seconds: timedelta(0))


def _plant_no_pins(monkeypatch):
    monkeypatch.setattr("tomovault.core.known.KnownScan.pinned_by", lambda _scan, _now: "")


def _plant_greed(monkeypatch):
    """Room is made for ten times the bytes that are wanted."""
    from tomovault.policy.area_facts import bytes_to_free

    for place in ("tomovault.vault.room", "tomovault.daemon.room_maker"):
        monkeypatch.setattr(f"{place}.bytes_to_free", lambda facts: 10 * bytes_to_free(facts))


def _plant_no_brake(monkeypatch):
    """A clock that jumped is believed."""
    monkeypatch.setattr("tomovault.daemon.clock.WallClock.look", lambda _clock, _now: "")
    monkeypatch.setattr("tomovault.daemon.clock.WallClock._doubt", lambda _clock: "")


@pytest.mark.parametrize(
    ("plant", "happenings", "law"),
    [
        pytest.param(_plant_no_hold, [*_MONTH, ("live", 3, 0)], "law 5: the hold", id="no hold"),
        pytest.param(
            _plant_no_pins, [("established", 3, 7), ("pin", 0, 3), ("mark", 2, 0), ("live", 3, 0)], "pins", id="no pins"
        ),
        pytest.param(
            _plant_greed, [("mark", 1, 0)] + [("established", 3, 1)] * 12 + [("live", 3, 0)], "watermark", id="greed"
        ),
        pytest.param(
            _plant_no_brake,
            [("live", 0, 0), ("jump", 6, 0), *_MONTH],
            "brakes",
            id="no brake after a jump of the clock",
        ),
    ],
)
def test_a_mistake_is_found(life, monkeypatch, plant, happenings, law):
    life(*happenings)  # without the mistake it is a life like any other
    plant(monkeypatch)
    with pytest.raises(Broken, match=law):
        life(*happenings)


@pytest.mark.soak
def test_a_mistake_is_found_by_chance(begin, monkeypatch):
    """No life was written for this one: pins are forgotten, and some history tells."""
    _plant_no_pins(monkeypatch)
    with pytest.raises(Broken, match="pins"):
        live_through(begin, 100, shrink=False)
