"""What goes by a rule that does not ask how full its area is: also from an empty area, if nothing forbids it."""

from datetime import timedelta
from types import SimpleNamespace

import pytest
from sqlalchemy import func, select, update

from tomovault.catalog import tables
from tomovault.catalog.terms import Moment
from tomovault.core.known import JobStatus
from tomovault.core.record import Made, Outcome, Processing, Removed, Result, Stored
from tomovault.core.replica import Form, ProductKind, StoredFile
from tomovault.daemon import evidence_pruner
from tomovault.daemon.planner import Planner
from tomovault.daemon.room_maker import RoomMaker
from tomovault.policy.edit import edit_of

DAY = timedelta(days=1)
HOOK = {"channels": {"mail": {"kind": "smtp", "host": "localhost", "from": "v@example.org"}}}
NOTIFY = {**HOOK, "site": "ID19", "warnings": {"channels": ["mail"], "to": ["{owner}@example.org"]}}
QUIET = (
    ("when: complete\n    do: preview", "when: age > 9999d\n    do: preview"),
    ("when: packed and size < 2GB and not aborted", "when: age > 9999d"),
)
BY_AGE = ("when: archived and usage > high\n    do: prune\n    with: {forms: [files]}", "{}\n    do: prune\n    {}")


@pytest.fixture
def halls(town):
    """Called for an almost empty area whose files go by age; a planner, and what it granted."""

    def make(*, when="archived and age > 6 months", settings="with: {forms: [files]}", quarantine=None, **more):
        town.policy(*QUIET, (BY_AGE[0], BY_AGE[1].format(f"when: {when}", settings)))
        town.room(quota="1GB", **more)
        town.change(quarantine={"hold": "1d", "limit": "1GB", **(quarantine or {})})
        planner = Planner(town.vault)
        return SimpleNamespace(planner=planner, plan=lambda now=None: _plan(planner, now or town.now))

    town.now = town.now.replace(year=2026, month=11, day=1)
    return make


def _plan(planner, now):
    turns = 0
    while planner.plan_scans(now):
        turns += 1
        assert turns < 100, "planning comes to an end"
    return turns


def permits(town, *scans):
    return [p.rule for scan in scans for p in town.known(scan).permits]


def due_at(town, scan):
    with town.vault.catalogue.reading() as tx:
        return tx.value(select(tables.scan.c.next_due_at).where(tables.scan.c.id == scan))


def test_the_files_of_an_old_scan_go_from_an_empty_area_and_its_package_stays(town, halls):
    hall = halls()
    old = town.scan("old")
    hall.plan()
    assert permits(town, old) == ["prune-files@standard:1"]
    assert [j.action for j in town.known(old).jobs] == ["prune"]
    assert town.replica(old, Form.FILES).state.value == "leaving"
    assert town.replica(old, Form.PACKAGE).state.value == "verified"
    for _ in range(5):
        hall.plan()
    assert len(permits(town, old)) == 1


def test_it_goes_all_the_way_and_only_once(town, halls):
    hall = halls()
    old = town.scan("old")
    hall.plan()
    permit = town.quarantine(old)
    hall.plan(town.now + 2 * DAY)
    assert town.finish("empty_quarantine", Result(Outcome.SUCCEEDED, (Removed(permit, 1, 400),))) is JobStatus.SUCCEEDED
    hall.plan(town.now + 2 * DAY)
    assert [p.phase.value for p in town.known(old).permits] == ["gone"]


def test_a_young_scan_is_looked_at_when_its_day_comes(town, halls):
    hall = halls()
    young = town.scan("young", acquired_at=town.now - 30 * DAY)
    hall.plan()
    assert permits(town, young) == []
    hall.plan(town.now + 30 * DAY)
    assert permits(town, young) == []
    while (due := due_at(town, young)) is not None and not permits(town, young):
        assert due < town.now + 365 * DAY
        hall.plan(due)
    assert permits(town, young) == ["prune-files@standard:1"]
    (granted,) = town.known(young).permits
    assert granted.granted_at > town.now + 150 * DAY


def test_a_rule_that_asks_for_usage_waits_for_the_mark_as_ever(town, halls):
    hall = halls(when="archived and age > 6 months and usage > high")
    old = town.scan("old")
    hall.plan()
    maker = RoomMaker(town.vault)
    maker.ask()
    while maker.turn(town.now):
        pass
    assert permits(town, old) == []


def _pin(town, hall, scan):
    town.pin(scan)


def _lose_a_copy(town, hall, scan):
    from tomovault.core.record import Checked

    copy = next(r.id for r in town.known(scan).replicas if r.tier == "tape")
    with town.vault.catalogue.writing() as tx:
        town.vault.catalogue.apply_records(tx, [Checked(copy, ok=False, at=town.now, reason="bad")], town.now)


def _jump(town, hall, scan):
    hall.planner.brake("the clock jumped by +9000 h", frozenset())


def _switch_off(town, hall, scan):
    town.room(quota="1GB", prune="off")
    hall.planner._vault = hall.planner._evidence._vault = town.vault


def _restore(town, hall, scan):
    with town.vault.catalogue.writing() as tx:
        town.vault.catalogue.queue_job(
            tx, "restore", scan, {"to": "/x"}, dedup_key="r", rule="anna", now=town.now, place="inhouse"
        )


@pytest.mark.parametrize("but", [_pin, _lose_a_copy, _jump, _switch_off, _restore])
def test_nothing_is_granted(town, halls, but):
    hall = halls()
    old = town.scan("old")
    but(town, hall, old)
    hall.plan()
    assert permits(town, old) == []


def test_what_may_go_since_prune_was_switched_on_goes_after_the_next_start(town, halls):
    halls(prune="off")
    old, gone, young = town.scan("old"), town.scan("gone"), town.scan("young", acquired_at=town.now)
    with town.vault.catalogue.writing() as tx:
        files = town.replica(gone, Form.FILES).id
        tx.run(update(tables.replica).where(tables.replica.c.id == files).values(state="gone"))
    _plan(Planner(town.vault), town.now)
    asleep = {scan: due_at(town, scan) for scan in (old, gone, young)}
    assert all(due is None or due > town.now for due in asleep.values())
    town.room(quota="1GB", prune="on")
    planner = Planner(town.vault)
    planner.brake("", frozenset({"inhouse"}))
    assert _plan(planner, town.now) == 0, "it rests"
    planner.brake("", frozenset())
    assert _plan(planner, town.now) > 0
    assert len(permits(town, old)) == 1
    assert (due_at(town, gone), due_at(town, young)) == (asleep[gone], asleep[young]), "only what may go is looked at"
    assert permits(town, gone, young) == []


def test_a_brake_is_told_and_the_scan_goes_after_it(town, halls):
    hall = halls()
    old = town.scan("old")
    _jump(town, hall, old)
    hall.plan()
    (alarm,) = hall.planner.alarms.values()
    assert (alarm.area, "the clock jumped" in alarm.text) == ("inhouse", True)
    assert due_at(town, old) > town.now + DAY
    hall.planner.brake("", frozenset())
    hall.plan()
    assert len(permits(town, old)) == 1
    assert hall.planner.alarms == {}


def test_what_is_stopped_is_looked_at_once_and_now_and_then_some_of_it(town, halls, monkeypatch):
    monkeypatch.setattr(evidence_pruner, "_TRIED_AT_ONCE", 2)
    look, looks = evidence_pruner.choose_by_evidence, []

    def counted(vault, scan, *more):
        looks.append(scan.id)
        return look(vault, scan, *more)

    monkeypatch.setattr(evidence_pruner, "choose_by_evidence", counted)
    hall = halls(quarantine={"limit": "100B"})
    scans = [town.scan(f"old{n}") for n in range(6)]
    hall.plan()
    stopped = [scan for scan in looks if not permits(town, scan)]
    assert sorted(stopped) == sorted(scan for scan in scans if not permits(town, scan))
    assert len(stopped) == 5
    (alarm,) = hall.planner.alarms.values()
    assert "(and 4 more)" in alarm.text
    looks.clear()
    in_turn = {6: stopped[:2], 12: stopped[2:4], 18: [stopped[4], stopped[0]]}
    for minutes in (1, 4, 6, 7, 12, 18):
        hall.plan(town.now + timedelta(minutes=minutes))
        assert sorted(looks) == sorted(in_turn.get(minutes, [])), minutes
        looks.clear()


def test_where_one_goes_on_the_next_follow_at_once(town, halls, monkeypatch):
    monkeypatch.setattr(evidence_pruner, "_TRIED_AT_ONCE", 1)
    hall = halls()
    scans = [town.scan(f"old{n}") for n in range(4)]
    _jump(town, hall, scans[0])
    hall.plan()
    assert permits(town, *scans) == []
    hall.planner.brake("", frozenset())
    hall.plan()
    assert len(permits(town, *scans)) == 4


def test_the_alarm_of_a_cause_that_is_gone_is_gone(town, halls):
    halls(settings="with: {forms: [files], warn: 7d}")
    town.change(notify=NOTIFY)
    planner = Planner(town.vault)
    old = town.scan("old")
    with town.vault.catalogue.writing() as tx:
        tx.run(update(tables.scan).where(tables.scan.c.id == old).values(owner="anna"))
    planner.brake("the clock jumped", frozenset())
    _plan(planner, town.now)
    assert "the clock jumped" in planner.alarms["evidence inhouse"].text
    planner.brake("", frozenset())
    _plan(planner, town.now)
    assert planner.alarms == {}, "it waits for its warning"


def test_an_area_that_rests_lets_nothing_go(town, halls):
    hall = halls()
    old = town.scan("old")
    hall.planner.brake("", frozenset({"inhouse"}))
    hall.plan()
    assert permits(town, old) == []


def test_a_full_quarantine_stops_it_and_is_told(town, halls):
    hall = halls(quarantine={"limit": "500B"})
    scans = [town.scan(f"old{n}") for n in range(4)]
    hall.plan()
    assert len(permits(town, *scans)) == 2, "the second came while there was room"
    (alarm,) = hall.planner.alarms.values()
    assert "the quarantine is full" in alarm.text
    waiting = [scan for scan in scans if not permits(town, scan)]
    assert all(due_at(town, scan) > town.now + 30 * DAY for scan in waiting), "only when a copy gets old"
    for scan in scans:
        if permits(town, scan):
            permit = town.quarantine(scan)
            with town.vault.catalogue.writing() as tx:
                town.vault.catalogue.apply_records(tx, [Removed(permit, 1, 400)], town.now)
    hall.plan(town.now + DAY)
    assert len(permits(town, *scans)) == 4
    assert hall.planner.alarms == {}


def test_the_limits_of_a_rule_bound_what_is_on_its_way(town, halls):
    hall = halls(settings="with: {forms: [files]}\n    limits: {files: 1}")
    scans = [town.scan(f"old{n}") for n in range(3)]
    hall.plan()
    assert len(permits(town, *scans)) == 1
    town.quarantine(next(scan for scan in scans if permits(town, scan)))
    hall.plan(town.now + timedelta(minutes=6))
    assert len(permits(town, *scans)) == 2


def test_some_are_granted_in_each_turn(town, halls, monkeypatch):
    monkeypatch.setattr(evidence_pruner, "_GRANTED_AT_ONCE", 2)
    hall = halls()
    scans = [town.scan(f"old{n}") for n in range(5)]
    counts = []
    while hall.planner.plan_scans(town.now):
        counts.append(len(permits(town, *scans)))
    assert counts[:3] == [2, 4, 5]


def test_the_owner_is_warned_and_nothing_goes_before_that_is_over(town, halls):
    hall = halls(settings="with: {forms: [files], warn: 7d}")
    town.change(notify=NOTIFY)
    hall = SimpleNamespace(planner=Planner(town.vault))
    old = town.scan("old")
    with town.vault.catalogue.writing() as tx:
        tx.run(update(tables.scan).where(tables.scan.c.id == old).values(owner="anna"))
    _plan(hall.planner, town.now)
    assert permits(town, old) == []
    with town.vault.catalogue.reading() as tx:
        asked = tx.value(select(func.count()).select_from(tables.owner_warning))
    assert asked == 1
    assert town.now < due_at(town, old) <= town.now + DAY
    _plan(hall.planner, town.now + 30 * DAY)
    assert permits(town, old) == [], "it was never sent"


def test_an_owner_whom_nobody_can_warn_is_told(town, halls):
    hall = halls(settings="with: {forms: [files], warn: 7d}")
    old = town.scan("old")
    hall.plan()
    assert permits(town, old) == []
    (alarm,) = hall.planner.alarms.values()
    assert "names no channel" in alarm.text


@pytest.mark.parametrize("version", ["version: 1", "version: 2"])
@pytest.mark.parametrize(
    "edited", ["archived and age > 9999d", "archived and age > 6 months and usage > high", "replicas(archive) >= 3"]
)
def test_an_edit_of_the_policy_during_the_hold_withdraws_it(town, halls, edited, version):
    """Also where nobody raised its version."""
    hall = halls()
    old = town.scan("old")
    hall.plan()
    town.quarantine(old)
    town.policy(("version: 1", version), ("when: archived and age > 6 months", f"when: {edited}"))
    planner = Planner(town.vault)
    _plan(planner, town.now + 2 * DAY)
    assert town.jobs(old, "empty_quarantine") == []
    assert [p.phase.value for p in town.known(old).permits] == ["quarantined"]
    assert any("does not let it go now" in alarm.text for alarm in planner.alarms.values())


WIDER = "when: archived and age > 6 months\n    do: prune\n    with: {forms: [files]}"


@pytest.mark.parametrize(
    ("edited", "looked_at"),
    [
        ("when: archived and age > 1 month\n    do: prune\n    with: {forms: [files]}", True),
        ("when: archived and age > 6 months\n    do: prune\n    with: {forms: [files, package]}", True),
        ("when: archived and usage > high\n    do: prune\n    with: {forms: [files]}", True),
        (WIDER + "\n    limits: {files: 9}", False),
        (WIDER, False),
    ],
)
def test_after_an_edit_that_may_let_other_things_go_the_scan_is_looked_at(town, halls, edited, looked_at):
    halls()
    scan = town.scan("bone", acquired_at=town.now - 60 * DAY)
    before = town.vault.policy_of("inhouse")
    town.policy(("version: 1", "version: 2"), (WIDER, edited))
    catalogue = town.vault.catalogue
    with catalogue.reading() as tx:
        facts = {"inhouse": town.vault.area_facts(tx, "inhouse", town.now)}
        edit = edit_of(before, town.vault.policy_of("inhouse"), town.now)
        page = catalogue.choose_page(tx, ["inhouse"], [edit], Moment(town.now, facts), "")
    assert page.scans == [scan] * looked_at


def test_preview_and_explain_tell_what_the_planner_does(town, halls, ask):
    hall = halls()
    old, young = town.scan("old"), town.scan("young", acquired_at=town.now)
    rows = {row["rule"]: row for row in ask("policy", "preview")["rules"]}
    row = rows["prune-files@standard:1"]
    assert (row["scans"], row["bytes_freed"]) == ([old], {"inhouse": 400})
    stages = {s: next(x for x in ask("explain", s)["stages"] if x["stage"] == "pruned") for s in (old, young)}
    assert (stages[old]["status"], stages[old]["rule"]) == ("due", "prune-files@standard:1")
    assert stages[young]["status"] == "waiting"
    hall.plan()
    assert (len(permits(town, old)), permits(town, young)) == (1, [])


def test_what_goes_by_evidence_counts_as_room_in_a_preview(town, halls, ask):
    """Above the mark, no more goes for the watermark than what the evidence leaves to go."""
    halls(when="archived and age > 6 months and size > 500B")
    town.scan("large", size=600)
    town.scan("small", size=400)
    town.room(quota="2kB", high="70%", low="60%")
    rows = {row["rule"]: row for row in ask("policy", "preview")["rules"]}
    assert sum(row["bytes_freed"].get("inhouse", 0) for row in rows.values()) == 600


# --- volumes ---------------------------------------------------------------------------------------------


VOLUMES = "  - {name: volumes, when: archived and volume, do: prune, with: {product: volume}}\n"


def _with_volume(town, name, *, parameters=True, copies=2):
    scan = town.scan(name, copies=copies)
    digest = name.encode().hex().ljust(64, "1")[:64]
    at = str(town.base / "inhouse.vault" / f"{name}.volume.h5")
    run = Processing("fourier", "1", {"centre": 1.0}, town.now, town.now, (digest,)) if parameters else None
    part = (StoredFile(at, 500, digest),)
    facts = [
        Made(ProductKind.VOLUME, digest, 500, 1, processing=run),
        Stored(
            ProductKind.VOLUME, digest, Form.PACKAGE, "inhouse", "area:inhouse", at, part, 500, digest, town.now,
            town.now,
        ),
    ]  # fmt: skip
    with town.vault.catalogue.writing() as tx:
        town.vault.catalogue.apply_records(tx, facts, town.now, scan_id=scan)
    return scan


@pytest.mark.parametrize(
    ("kept", "made", "goes"),
    [
        ("volumes", {}, True),
        ("volumes", {"parameters": False}, False),
        ("volumes", {"copies": 1}, False),
        ("old", {}, False),
    ],
    ids=["made again", "no parameters", "one copy", "only the original is named"],
)
def test_a_volume_goes_only_where_it_can_be_made_again(town, halls, kept, made, goes):
    hall = halls(when="archived and age > 9999d")
    if kept == "volumes":
        town.policy(("rules:\n", "rules:\n" + VOLUMES))
    planner = Planner(town.vault)
    scan = _with_volume(town, "bone", **made)
    _plan(planner, town.now)
    assert permits(town, scan) == ["volumes@standard:1"] * goes
    states = {(r.product.value, r.form.value): r.state.value for r in town.known(scan).replicas if r.tier == "inhouse"}
    assert states["original", "files"] == states["original", "package"] == "verified"
    assert states["volume", "package"] == ("leaving" if goes else "verified")
    assert hall


def test_volumes_go_before_raw_data_where_their_rule_comes_first(town, halls):
    halls(when="archived and age > 9999d")
    volumes = VOLUMES.replace("archived and volume", "archived and volume and usage > high")
    files = "  - {name: raw, when: archived and usage > high, do: prune}\n"
    town.policy(("rules:\n", "rules:\n" + volumes + files))
    old, young = town.scan("old"), _with_volume(town, "young")
    town.room(quota="2kB", high="60%", low="50%")
    town.change(quarantine={"hold": "1d", "limit": "1GB"})
    maker = RoomMaker(town.vault)
    maker.ask()
    while maker.turn(town.now):
        pass
    assert (permits(town, young)[:1], permits(town, old)) == (["volumes@standard:1"], ["raw@standard:1"])


PRICES = {"tb_month": {"inhouse": 1e9}, "core_hour": 36.0, "horizon": "10 months"}


@pytest.mark.parametrize(("cpu_s", "goes"), [(499.0, True), (501.0, False), (None, False)])
def test_a_volume_that_is_cheaper_to_make_again_goes(town, halls, ask, cpu_s, goes):
    """500 bytes for ten months cost 5, and a CPU second a hundredth."""
    halls(when="archived and age > 9999d")
    town.policy(("rules:\n", "rules:\n" + VOLUMES.replace("archived and volume", "archived and cheaper to recompute")))
    town.change(costs=PRICES)
    scan = _with_volume(town, "bone")
    if cpu_s is not None:
        catalogue = town.vault.catalogue
        with catalogue.writing() as tx:
            more = {"rule": "r", "now": town.now, "place": "inhouse"}
            catalogue.queue_job(tx, "reconstruct", scan, {}, dedup_key="r", **more)
        town.finish("reconstruct", Result(Outcome.SUCCEEDED, cpu_s=cpu_s))
    assert town.known(scan).volume_cpu_s == cpu_s
    (told,) = ask("explain", scan)["made"]
    row = next(r for r in ask("policy", "preview")["rules"] if r["rule"] == "volumes@standard:1")
    _plan(Planner(town.vault), town.now)
    assert permits(town, scan) == ["volumes@standard:1"] * goes
    assert row["scans"] == [scan] * goes
    cost = "not known" if cpu_s is None else f"{cpu_s / 100:.3g} to make it again, 5 to keep it"
    assert told.startswith("volume: " + ("may go by" if goes else "volumes@standard:1 waits for"))
    assert f"cheaper to recompute: {cost}" in told
