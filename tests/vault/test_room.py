from datetime import timedelta

import pytest

from tomovault.core.known import JobStatus
from tomovault.core.record import Outcome, Result
from tomovault.core.replica import Form
from tomovault.vault import room
from tomovault.vault.removals import grant
from tomovault.vault.room import choose_room


def _choose(town, *, draining=False):
    catalogue = town.vault.catalogue
    with catalogue.reading() as tx:
        return choose_room(town.vault, tx, town.vault.area_facts(tx, "inhouse", town.now, draining=draining), town.now)


def _grant(town, going):
    catalogue = town.vault.catalogue
    with catalogue.writing() as tx:
        scan = catalogue.known(tx, going.choice.scan)
        return grant(town.vault, tx, scan, going.choice.replica, rule=going.rule, now=town.now)


def _grant_all(town):
    granted = []
    for going in _choose(town).going:
        granted.append(going.choice.scan)
        _grant(town, going)
    return granted


def test_nothing_goes_below_the_mark(town):
    town.scan("one")
    town.room(quota="1GB")
    room = _choose(town)
    assert (room.going, room.stays, room.full) == ([], {}, "")


def test_files_of_the_oldest_scan_go_first(town):
    first, second = town.scan("one"), town.scan("two")
    town.room(quota="1.5kB")
    town.change(quarantine={"limit": "1GB"})
    going = _choose(town).going
    assert [(g.choice.scan, g.choice.form, g.rule.name) for g in going][:2] == [
        (first, Form.FILES, "prune-files"),
        (second, Form.FILES, "prune-files"),
    ]


def test_while_prune_is_off_each_says_so(town):
    town.scan("one")
    town.room(prune="off")
    assert "prune: off" in " ".join(s.reason for s in _choose(town).stays.values())


def test_too_few_copies_are_named(town):
    town.scan("one", copies=1)
    town.room()
    room = _choose(town)
    assert room.going == []
    assert any("no rule lets" in r or "law 4" in r or "archived" in r for r in (s.reason for s in room.stays.values()))


def test_a_pin_holds_both_forms(town):
    scan = town.scan("one")
    town.room()
    town.pin(scan)
    room = _choose(town)
    assert room.going == []
    assert all("pinned by anna" in r for r in (s.reason for s in room.stays.values()))


def test_a_scan_at_work_stays(town):
    scan = town.scan("one")
    town.room()
    with town.vault.catalogue.writing() as tx:
        town.vault.catalogue.queue_job(
            tx, "restore", scan, {"to": "/x"}, dedup_key="r", rule="anna", now=town.now, place="inhouse"
        )
    room = _choose(town)
    assert room.going == []
    assert all("restore is not over" in r for r in (s.reason for s in room.stays.values()))


def test_a_full_quarantine_stops_and_says_so(town):
    first = town.scan("one")
    town.scan("two")
    town.room()
    town.change(quarantine={"limit": "10B", "hold": "1d"})
    room = _choose(town)
    assert [g.choice.scan for g in room.going] == [first], "one goes in while it is empty"
    assert "the quarantine is full" in room.full
    _grant(town, room.going[0])
    room = _choose(town)
    assert room.going == []
    assert "the quarantine is full" in room.full


def test_the_quarantine_counts_once_and_only_what_is_in_it(town):
    scan = town.scan("one")
    town.room()
    town.change(quarantine={"limit": "1GB"})
    _grant(town, _choose(town).going[0])
    with town.vault.catalogue.reading() as tx:
        facts = town.vault.area_facts(tx, "inhouse", town.now)
    assert (facts.used_bytes, facts.quarantine_bytes) == (600, 400)
    town.quarantine(scan)
    with town.vault.catalogue.reading() as tx:
        assert town.vault.area_facts(tx, "inhouse", town.now).quarantine_bytes == 400


@pytest.mark.parametrize("limits", ["{bytes: 500B}", "{files: 1}"])
def test_the_limits_of_a_rule_bound_one_run(town, limits):
    scans = [town.scan(name) for name in ("one", "two", "three")]
    town.room()
    town.change(quarantine={"limit": "1GB"})
    town.policy(("    order: 10\n", f"    order: 10\n    limits: {limits}\n"))
    assert _grant_all(town) == [scans[0]]
    assert [p.phase.value for s in scans for p in town.known(s).permits if p.rule.startswith("prune-files")] == [
        "granted"
    ]
    town.quarantine(scans[0])
    assert [g.choice.scan for g in _choose(town).going if g.rule.name == "prune-files"] == [scans[1]], "the next run"


def test_an_edit_of_the_policy_does_not_lift_the_limits_of_what_is_under_way(town):
    scans = [town.scan(name) for name in ("one", "two", "three")]
    town.room()
    town.change(quarantine={"limit": "1GB"})
    town.policy(("    order: 10\n", "    order: 10\n    limits: {files: 1}\n"))
    assert _grant_all(town) == [scans[0]]
    town.policy(("version: 1", "version: 2"))
    assert [g for g in _choose(town).going if g.rule.name == "prune-files"] == []


def test_a_preview_shows_no_more_than_the_limits_of_a_rule_let_go(town, ask):
    scans = [town.scan(name) for name in ("one", "two", "three")]
    town.room()
    town.change(quarantine={"limit": "1GB"})
    town.policy(("    order: 10\n", "    order: 10\n    limits: {bytes: 500B}\n"))
    rows = {row["rule"]: row for row in ask("policy", "preview")["rules"]}
    row = rows["prune-files@standard:1"]
    assert (row["scans"], row["bytes_freed"]) == ([scans[0]], {"inhouse": 400})


def test_a_removal_that_failed_waits_for_a_new_fact(town):
    first, second = town.scan("one"), town.scan("two")
    town.room()
    town.change(quarantine={"limit": "1GB"})
    _grant(town, _choose(town).going[0])
    permit = town.known(first).permits[0]
    town.now += timedelta(minutes=1)
    assert town.finish("prune", Result(Outcome.REFUSED, error="files are missing")) is JobStatus.FAILED
    with town.vault.catalogue.writing() as tx:
        town.vault.catalogue.withdraw_permit(tx, permit.id, "it failed", town.now)
    room = _choose(town)
    files = [g.choice.scan for g in room.going if g.choice.form is Form.FILES]
    assert files == [second], "another scan goes in its place"
    assert "its last removal failed: files are missing" in room.stays[permit.replica].reason


SPLIT = (
    "  - name: prune-files\n",
    "  - {name: large, when: archived and usage > high and size > 500B, do: prune, with: {forms: [files, package]}}\n"
    "  - name: prune-files\n",
)


@pytest.mark.parametrize("at_once", [1, 2, 50])
def test_what_an_earlier_rule_lets_go_goes_first_however_few_are_looked_at(town, monkeypatch, at_once):
    monkeypatch.setattr(room, "_AT_ONCE", at_once)
    old, young = town.scan("old"), town.scan("young", size=600)
    town.policy(SPLIT, ("    order: 10\n", ""), ("    order: 20\n", ""))
    town.room(quota="2kB", high="70%", low="60%")
    town.change(quarantine={"limit": "1GB"})
    assert [(g.choice.scan, g.rule.name) for g in _choose(town).going] == [(young, "large")]
    town.room(quota="2kB", high="50%", low="35%")
    assert [(g.choice.scan, g.choice.form, g.rule.name) for g in _choose(town).going] == [
        (young, Form.FILES, "large"),
        (young, Form.PACKAGE, "large"),
    ]
    town.room(quota="2kB", high="50%", low="5%")
    assert [(g.choice.scan, g.choice.form, g.rule.name) for g in _choose(town).going][2:] == [
        (old, Form.FILES, "prune-files"),
        (old, Form.PACKAGE, "prune-packages"),
    ]


@pytest.mark.parametrize("at_once", [1, 50])
def test_the_largest_go_first_where_a_rule_says_so(town, monkeypatch, at_once):
    monkeypatch.setattr(room, "_AT_ONCE", at_once)
    scans = {size: town.scan(f"s{size}", size=size) for size in (400, 900, 300, 600)}
    town.policy(("{forms: [files]}", "{forms: [files], first: largest}"))
    town.room(quota="10kB", high="30%", low="20%")
    town.change(quarantine={"limit": "1GB"})
    assert [g.choice.scan for g in _choose(town).going] == [scans[900], scans[600]]
