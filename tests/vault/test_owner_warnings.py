"""Owners are warned before their scans go, and nothing goes earlier, whatever happens meanwhile."""

import random
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tomovault.catalog.outbox import list_deliveries, record_sent, record_unsent
from tomovault.catalog.owner_warnings import Running, see_time_pass
from tomovault.core.errors import Refused
from tomovault.core.record import Made, Stored
from tomovault.core.replica import Form, ProductKind, StoredFile
from tomovault.vault.notices import message_of
from tomovault.vault.owner_warnings import Leaving, extend, refuse_unwarned, warn_owners
from tomovault.vault.removals import grant, regrant
from tomovault.vault.room import choose_room

DAY = timedelta(days=1)
WEEK = 7 * DAY
HOOK = {"kind": "webhook", "url": "http://127.0.0.1:9/"}
NOTIFY = {
    "site": "ID19",
    "channels": {"mail": {"kind": "smtp", "host": "localhost", "from": "v@example.org"}, "chat": HOOK},
    "warnings": {"channels": ["mail"], "to": ["{owner}@example.org"]},
}
WARN = ("    with: {forms: [files]}\n", "    with: {forms: [files], warn: 7d}\n")
ANNA = {"metadata": {"owner": "anna"}}


@pytest.fixture
def full(town):
    """Called for scans of an area over its mark, whose files go only after a warning; `owner` is theirs."""

    def make(*names, notify=NOTIFY, quota="1kB", **more):
        town.room(quota=quota)
        town.change(quarantine={"hold": "1d", "limit": "1GB"}, notify=notify)
        town.policy(WARN)
        return [town.scan(name, **more) for name in names]

    return make


def own(town, scan, owner):
    from sqlalchemy import update

    from tomovault.catalog import tables

    with town.vault.catalogue.writing() as tx:
        tx.run(update(tables.scan).where(tables.scan.c.id == scan).values(owner=owner))


def room_of(town):
    catalogue = town.vault.catalogue
    with catalogue.reading() as tx:
        facts = town.vault.area_facts(tx, "inhouse", town.now)
        return facts, choose_room(town.vault, tx, facts, town.now)


def warn(town, running=0.0):
    """What would go is warned of; returns the problems."""
    catalogue = town.vault.catalogue
    facts, room = room_of(town)
    with catalogue.writing() as tx:
        see_time_pass(tx, Running("b", running))
        leaving = [_leaving(catalogue.known(tx, w.going.choice.scan), w) for w in room.waiting]
        return warn_owners(town.vault, tx, facts, leaving, town.now)


def _leaving(scan, waiting):
    replica = next(r for r in scan.replicas if r.id == waiting.going.choice.replica)
    return Leaving(scan, replica, waiting.going.rule)


def deliveries(town, channel="mail"):
    with town.vault.catalogue.reading() as tx:
        return list_deliveries(tx, channel, town.now + DAY, 100)


def send(town, running=0.0):
    with town.vault.catalogue.writing() as tx:
        for delivery in list_deliveries(tx, "mail", town.now + DAY, 100):
            record_sent(tx, delivery.id, Running("b", running), town.now)


def test_nothing_goes_before_its_owner_was_warned_and_nothing_later_in_its_place(town, full):
    scans = full("one", "two", quota="2kB")
    _, room = room_of(town)
    assert room.going == [], "packages may go without a warning, but the files are enough"
    assert [(w.going.choice.scan, w.going.choice.form, w.hold.ask) for w in room.waiting] == [
        (scan, Form.FILES, True) for scan in scans
    ]


def test_an_owner_gets_one_text_with_all_that_is_to_go(town, full, say):
    scans = full("one", "two; rm -rf", "three")
    for scan in scans:
        own(town, scan, "anna")
    assert warn(town) == {}
    assert warn(town) == {}
    (delivery,) = deliveries(town)
    assert delivery.recipient == "anna@example.org"
    told = message_of(town.vault.site, delivery, town.now)
    assert told.subject.startswith("[ID19] 3 of your scans leave inhouse, not before ")
    assert f"{town.now + WEEK:%Y-%m-%d %H:%M} UTC" in told.text
    for scan in scans:
        assert f"tomovault extend {scan} --days 30" in told.text
    assert all(word in told.text for word in ("package on tape", "package on inhouse", "two; rm -rf", "400 B"))
    assert "prune-files@standard:1" in told.text


@pytest.mark.parametrize("elsewhere", [False, True])
def test_of_a_volume_it_is_said_whether_it_can_only_be_made_again(town, full, elsewhere):
    (scan,) = full("one")
    own(town, scan, "anna")
    digest = "f" * 64
    stored = [
        Stored(
            ProductKind.VOLUME,
            digest,
            Form.PACKAGE,
            tier,
            domain,
            at,
            (StoredFile(at, 9, digest),),
            9,
            digest,
            town.now,
            town.now,
        )
        for tier, domain, at in [("inhouse", "area:inhouse", "/v/vol.h5"), ("tape", "pool-0", "V1#1")][: 1 + elsewhere]
    ]
    with town.vault.catalogue.writing() as tx:
        town.vault.catalogue.apply_records(
            tx, [Made(ProductKind.VOLUME, digest, 9, 1), *stored], town.now, scan_id=scan
        )
    known = town.known(scan)
    (volume,) = [r for r in known.replicas if r.product is ProductKind.VOLUME and r.tier == "inhouse"]
    with town.vault.catalogue.writing() as tx:
        facts = town.vault.area_facts(tx, "inhouse", town.now)
        (rule,) = [r for r in town.vault.policy_of("inhouse").rules if r.name == "prune-files"]
        assert warn_owners(town.vault, tx, facts, [Leaving(known, volume, rule)], town.now) == {}
    (delivery,) = deliveries(town)
    text = message_of(town.vault.site, delivery, town.now).text
    assert "9 B as its volume" in text
    again = "only if it is made again, from the original: files on inhouse, package on inhouse, package on tape"
    if elsewhere:
        assert f"tomovault restore {scan} --to DIR --product volume" in text
        assert again not in text
    else:
        assert again in text
        assert "tomovault restore" not in text


@pytest.mark.parametrize(
    ("notify", "owner", "problem"),
    [
        (None, "anna", "names no channel for that"),
        ({"channels": {"chat": HOOK}}, "anna", "names no channel for that"),
        (NOTIFY, None, "its owner is not known"),
        (NOTIFY, "anna b", "its owner anna b has no address"),
    ],
)
def test_where_nobody_can_be_warned_nothing_goes_and_it_is_said_why(town, full, notify, owner, problem):
    (scan,) = full("one", notify=notify)
    own(town, scan, owner)
    assert problem in " ".join(warn(town).values())
    assert town.known(scan).warnings == ()
    assert room_of(town)[1].going == []


def test_explain_and_preview_say_when_it_may_go(town, full, ask):
    (scan,) = full("one")
    own(town, scan, "anna")
    page = {s["stage"]: s for s in ask("explain", scan)["stages"]}["pruned"]
    assert (page["status"], page["reason"]) == ("held", "its owner is to be warned first")
    warn(town)
    send(town)
    page = {s["stage"]: s for s in ask("explain", scan)["stages"]}["pruned"]
    assert page["reason"].startswith(f"warned on {town.now:%Y-%m-%d}, goes not before {town.now + WEEK:%Y-%m-%d}")
    rules = {r["rule"]: r for r in ask("policy", "preview")["rules"]}
    (waiting,) = rules["prune-files@standard:1"]["waiting_for_warnings"]
    assert (waiting["scan"], rules["prune-files@standard:1"]["scans"]) == (scan, [])
    assert waiting["not_before"].startswith(f"{town.now + WEEK:%Y-%m-%d}")


def test_a_permit_is_refused_until_the_days_are_over_and_granted_then(town, full):
    (scan,) = full("one")
    own(town, scan, "anna")
    rule = next(r for r in town.vault.policy_of("inhouse").rules if r.name == "prune-files")
    files = town.replica(scan, Form.FILES).id

    def ask(when, running):
        catalogue = town.vault.catalogue
        with catalogue.writing() as tx:
            see_time_pass(tx, Running("b", running))
            return grant(town.vault, tx, catalogue.known(tx, scan), files, rule=rule, now=when)

    def refused(when, running):
        with pytest.raises(Refused) as refusal:
            ask(when, running)
        assert refusal.value.by == "warning"

    refused(town.now, 0.0)
    warn(town)
    refused(town.now + WEEK, WEEK.total_seconds())
    send(town, WEEK.total_seconds())
    later = town.now + WEEK
    refused(later - timedelta(seconds=1), 2 * WEEK.total_seconds())
    refused(later, 2 * WEEK.total_seconds() - 10)
    assert ask(later, 2 * WEEK.total_seconds() + 1).phase.value == "granted"


def test_the_second_phase_is_refused_where_a_rule_asks_for_warnings_by_then(town, full):
    (scan,) = full("one")
    own(town, scan, "anna")
    town.policy((WARN[1], WARN[0]))
    rule = next(r for r in town.vault.policy_of("inhouse").rules if r.name == "prune-files")
    catalogue = town.vault.catalogue
    with catalogue.writing() as tx:
        grant(town.vault, tx, catalogue.known(tx, scan), town.replica(scan, Form.FILES).id, rule=rule, now=town.now)
    permit = town.quarantine(scan)
    town.policy(WARN)
    later = town.now + 2 * DAY
    known = town.known(scan)
    with town.vault.catalogue.writing() as tx, pytest.raises(Refused) as refusal:
        regrant(town.vault, tx, known, known.permits[0], later)
    assert refusal.value.by == "warning"
    assert town.known(scan).permits[0].id == permit


# --- the one command that keeps a scan ---------------------------------------------------------------


def test_a_scan_is_kept_by_one_command_once(town, full, ask):
    (scan,) = full("one")
    kept = ask("extend", scan, "--days", "10")
    assert (kept["already"], kept["quarantined"]) == (False, False)
    assert ask("extend", scan, "--days", "10") == kept | {"already": True}
    assert ask("extend", scan, "--days", "9")["until"] == kept["until"], "it stays longer already"
    assert [p.reason for p in town.known(scan).pins] == ["extension asked after a warning"]


def test_it_can_be_kept_only_so_long_and_so_often(town, full, ask):
    (scan,) = full("one", notify=NOTIFY | {"extend": {"days": 20, "times": 2}})
    assert "20 days at a time" in ask("extend", scan, "--days", "21", code=3)["error"]
    ask("extend", scan, "--days", "1")
    ask("extend", scan)
    with pytest.raises(Refused, match="2 times already"), town.vault.catalogue.writing() as tx:
        extend(town.vault, tx, town.known(scan), None, "anna", town.now + DAY)


def test_what_was_kept_is_warned_of_anew(town, full):
    (scan,) = full("one")
    own(town, scan, "anna")
    warn(town)
    send(town)
    with town.vault.catalogue.writing() as tx:
        extend(town.vault, tx, town.known(scan), 5, "anna", town.now)
    town.now += 8 * DAY
    _, room = room_of(town)
    assert [w.hold.ask for w in room.waiting if w.going.choice.scan == scan][:1] == [True]


# --- whatever happens --------------------------------------------------------------------------------


class World:
    """A scan that a rule would prune, true time, what the clock says, and how long which boot of a machine has run."""

    def __init__(self, town, scan, choose):
        self.town, self.scan_id, self.choose = town, scan, choose
        self.start = town.now
        self.true = self.ahead = self.booted = 0.0
        self.boot = 0
        #: True time when the last warning was sent; None where there was none, or the scan was kept since.
        self.sent = None
        self.rule = next(r for r in town.vault.policy_of("inhouse").rules if r.name == "prune-files")

    def step(self):
        with self.town.vault.catalogue.writing() as tx:
            self.tx = tx
            self.facts = self.town.vault.area_facts(tx, "inhouse", self.town.now)
            self.scan = self.town.vault.catalogue.known(tx, self.scan_id)
            self.files = next(r for r in self.scan.replicas if r.form is Form.FILES)
            self.choose.choice(STEPS)(self)

    @property
    def now(self):
        return self.start + timedelta(seconds=self.true + self.ahead)

    @property
    def running(self):
        return Running(f"b{self.boot}", self.true - self.booted)

    def some_time(self):
        return self.choose.choice([3600, 86_400, 3 * 86_400, 8 * 86_400])

    def rest(self):
        self.true += self.some_time()

    def watch(self):
        self.rest()
        see_time_pass(self.tx, self.running)

    def set_clock(self):
        self.ahead += self.choose.choice([-1, 1]) * self.some_time()

    def reboot(self):
        self.boot, self.booted = self.boot + 1, self.true

    def due(self):
        return list_deliveries(self.tx, "mail", self.now + DAY, 9)

    def warn(self):
        before = {d.id for d in self.due()}
        warn_owners(self.town.vault, self.tx, self.facts, [Leaving(self.scan, self.files, self.rule)], self.now)
        if {d.id for d in self.due()} - before:
            self.sent = None

    def send(self):
        for delivery in self.due():
            record_sent(self.tx, delivery.id, self.running, self.now)
            self.sent = self.true

    def fail(self):
        for delivery in self.due():
            record_unsent(self.tx, delivery.id, "busy", self.running, self.now, give_up_after=WEEK)

    def keep(self):
        self.town.vault.catalogue.add_pin(self.tx, self.scan_id, "anna", "mine", self.now + DAY, self.now)
        self.sent = None

    def look(self):
        see_time_pass(self.tx, self.running)
        try:
            refuse_unwarned(self.town.vault, self.scan, self.files.id, self.rule, self.facts, self.now)
        except Refused:
            return
        assert self.sent is not None, "its owner was never warned, or has kept it since"
        assert self.true - self.sent >= WEEK.total_seconds()


W = World
STEPS = (W.watch, W.watch, W.rest, W.set_clock, W.reboot, W.warn, W.warn, W.send, W.send, W.fail, W.keep, *[W.look] * 4)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_never_before_the_days_are_over_whatever_the_order_of_events(full, town, seed):
    """The days are true ones: no step of a clock, no restart and no failure of a channel makes them fewer."""
    if not hasattr(town, "subject"):
        (town.subject,) = full("one")
        own(town, town.subject, "anna")
    clear(town)
    world = World(town, town.subject, random.Random(seed))
    for _ in range(40):
        world.step()


def clear(town):
    from sqlalchemy import delete

    from tomovault.catalog import tables

    with town.vault.catalogue.writing() as tx:
        for table in (tables.pin, tables.owner_warning, tables.delivery, tables.notice, tables.seen_time):
            tx.run(delete(table))


def test_in_such_histories_some_do_go(full, town):
    """Else the property above would say nothing."""
    (scan,) = full("one")
    own(town, scan, "anna")
    warn(town)
    send(town)
    with town.vault.catalogue.writing() as tx:
        see_time_pass(tx, Running("b", WEEK.total_seconds() + 1))
    _, room = room_of(town)
    assert [w.going.choice.scan for w in room.waiting if w.going.choice.form is Form.FILES] == [scan]
    town.now += WEEK
    assert [g.choice.scan for g in room_of(town)[1].going if g.choice.form is Form.FILES] == [scan]
