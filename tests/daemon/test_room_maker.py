"""Room is made in short turns, none of which holds the catalogue for long."""

import contextlib
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import func, select

from tomovault.catalog import tables
from tomovault.core.errors import Refused, Transient
from tomovault.core.replica import Form
from tomovault.daemon import room_maker
from tomovault.daemon.room_maker import RoomMaker
from tomovault.vault import room
from tomovault.vault.orders import build_order
from tomovault.vault.removals import regrant
from tomovault.vault.requests import Request


@pytest.fixture
def crowd(town, monkeypatch):
    """Called for the scans of an area over its mark, and a maker that looks at two of them at a time."""
    monkeypatch.setattr(room, "_AT_ONCE", 2)
    monkeypatch.setattr(room_maker, "_GRANTED_AT_ONCE", 2)

    def make(count, **more):
        scans = [town.scan(f"scan{number}", **more) for number in range(count)]
        town.room()
        town.change(quarantine={"hold": "1d", "limit": "1GB"})
        return scans, RoomMaker(town.vault)

    return make


def turns(maker, now):
    count = 0
    while maker.turn(now):
        count += 1
        assert count < 1000
    return count


def granted(town, scans):
    return [scan for scan in scans if town.jobs(scan, "prune")]


def watch_writing(town, monkeypatch):
    """How many transactions wrote since."""
    count, real = [0], town.vault.catalogue.writing

    @contextlib.contextmanager
    def writing():
        count[0] += 1
        with real() as tx:
            yield tx

    monkeypatch.setattr(town.vault.catalogue, "writing", writing)
    return count


def test_many_scans_of_which_none_may_go_are_looked_at_in_turns_that_write_nothing(town, crowd, monkeypatch):
    _, maker = crowd(9, copies=0)
    most, known_many = [0], town.vault.catalogue.known_many

    def count(tx, ids):
        most[0] = max(most[0], len(ids))
        return known_many(tx, ids)

    monkeypatch.setattr(town.vault.catalogue, "known_many", count)
    writes = watch_writing(town, monkeypatch)
    maker.ask()
    assert turns(maker, town.now) >= 9 // 2
    assert most[0] <= 2
    assert writes == [0]
    assert "nothing may go" in maker.alarms["inhouse"].text
    assert maker.over


def test_permits_are_granted_a_few_at_a_time(town, crowd, monkeypatch):
    scans, maker = crowd(7)
    writes = watch_writing(town, monkeypatch)
    maker.ask()
    turns(maker, town.now)
    done = granted(town, scans)
    assert done == scans[: len(done)], "the oldest go first"
    assert len(done) > 4
    assert writes[0] >= len(done) // 2
    assert "inhouse" not in maker.alarms


def test_what_changed_since_it_was_chosen_stays(town, crowd):
    scans, maker = crowd(5)
    maker.ask()
    assert maker.turn(town.now)
    with town.vault.catalogue.writing() as tx:
        town.vault.catalogue.queue_job(
            tx, "restore", scans[0], {"to": "/x"}, dedup_key="r", rule="anna", now=town.now, place="inhouse"
        )
    turns(maker, town.now)
    assert granted(town, scans)
    assert scans[0] not in granted(town, scans)


def test_a_brake_ends_a_look_that_is_under_way(town, crowd):
    scans, maker = crowd(5)
    maker.ask()
    assert maker.turn(town.now)
    maker.brake("the clock jumped by +9000 h", frozenset())
    assert turns(maker, town.now) == 0
    assert "the clock jumped" in maker.alarms["inhouse"].text
    assert (granted(town, scans), maker.over) == ([], True)


def test_a_busy_catalogue_begins_a_look_anew(town, crowd, monkeypatch):
    scans, maker = crowd(5)
    maker.ask()
    maker.turn(town.now)
    with monkeypatch.context() as broken:
        broken.setattr(town.vault.catalogue, "known_many", _raise(Transient("the database is locked")))
        with pytest.raises(Transient):
            maker.turn(town.now)
    assert not maker.over
    turns(maker, town.now)
    assert granted(town, scans)


def _raise(problem):
    def fail(*_given, **_more):
        raise problem

    return fail


def test_a_scan_that_cannot_be_read_stays_and_the_others_go(town, crowd, monkeypatch):
    scans, maker = crowd(5)
    real = town.vault.catalogue.known_many

    def known_many(tx, ids):
        if scans[0] in ids:
            raise ValueError("no JSON")
        return real(tx, ids)

    monkeypatch.setattr(town.vault.catalogue, "known_many", known_many)
    maker.ask()
    turns(maker, town.now)
    done = granted(town, scans)
    assert done
    assert scans[0] not in done
    assert town.replica(scans[0], Form.FILES).state.value == "verified"


def test_an_area_that_breaks_is_told_and_the_daemon_goes_on(town, crowd, monkeypatch):
    scans, maker = crowd(3)
    with monkeypatch.context() as broken:
        broken.setattr(type(town.vault), "area_facts", _raise(RuntimeError("a defect")))
        maker.ask()
        assert maker.turn(town.now) == 0
    assert "a defect" in maker.alarms["inhouse"].text
    maker.ask()
    assert maker.turn(town.now) == 0, "it rests"
    maker._rests_until.clear()
    turns(maker, town.now)
    assert granted(town, scans)
    assert maker.alarms == {}


def test_room_is_made_by_figures_that_are_not_older_than_the_question(town, crowd):
    """By those of before a removal, more would go than must."""
    scans, maker = crowd(3)
    measured = []
    maker._is_measured = lambda area: area in measured
    maker.ask()
    assert (maker.turn(town.now), maker.over) == (0, False)
    measured.append("inhouse")
    turns(maker, town.now)
    assert granted(town, scans)


def test_an_area_that_rests_waits_for_no_figures(town, crowd):
    _, maker = crowd(2)
    maker._is_measured = lambda _area: False
    maker.brake("", frozenset({"inhouse"}))
    maker.ask()
    assert (maker.turn(town.now), maker.over) == (0, True)


def test_after_a_long_look_in_vain_the_area_rests(town, crowd, monkeypatch):
    _, maker = crowd(3, copies=0)
    monkeypatch.setattr(room_maker, "_SHORT_S", 0.0)
    maker.ask()
    assert turns(maker, town.now) > 0
    maker.ask()
    assert maker.turn(town.now) == 0
    assert not maker.over, "it is not forgotten"
    maker._rests_until.clear()
    assert turns(maker, town.now) > 0


def test_room_that_came_in_another_way_meanwhile_is_not_made_again(town, crowd, monkeypatch):
    """Facts are measured before each batch: never more goes than the target and one scan."""
    scans, maker = crowd(30)
    maker.ask()
    real = town.vault.area_facts

    def area_facts(tx, area, now, **how):
        facts = real(tx, area, now, **how)
        permits = tx.value(select(func.count()).select_from(tables.permit))
        return facts if permits < 10 else replace(facts, used_bytes=facts.quarantine_bytes)

    monkeypatch.setattr(town.vault, "area_facts", area_facts)
    turns(maker, town.now)
    assert len(granted(town, scans)) == 10, "one batch"


@pytest.fixture
def drained(town):
    """Scans that went from an area on its way to its low mark, while a rule keeps what an area below its mark has."""
    keep = "  - {name: keep, do: forbid, when: usage < high, with: {actions: [prune]}}\n"
    town.policy(("rules:\n", "rules:\n" + keep))
    scans = [town.scan(f"scan{number}") for number in range(3)]
    town.change(quarantine={"hold": "1d", "limit": "1GB"})
    town.room(quota="1.85kB", high="95%", low="60%")
    maker = RoomMaker(town.vault)
    maker.ask()
    turns(maker, town.now)
    gone = granted(town, scans)
    assert len(gone) == 2
    town.room(quota="2kB", high="95%", low="60%")
    return gone


def second_look(town, scan):
    with town.vault.catalogue.writing() as tx:
        known = town.vault.catalogue.known(tx, scan)
        return regrant(town.vault, tx, known, known.permits[0], town.now + timedelta(days=2))


def test_what_the_mark_let_go_a_rule_by_usage_does_not_stop_halfway(town, drained):
    """All of it counts as freed, so the area is below its marks by what is on its way out."""
    for scan in drained:
        (job,) = town.jobs(scan, "prune")
        with town.vault.catalogue.writing() as tx:
            known = town.vault.catalogue.known(tx, scan)
            order = build_order("prune", Request(town.vault, tx, known, job.order, town.now, job.rule))
        assert order["permit"] == known.permits[0].id
        town.quarantine(scan)
    for scan in drained:
        second_look(town, scan)
        assert [p.phase.value for p in town.known(scan).permits] == ["leaving"]


def test_a_rule_by_usage_keeps_what_went_from_an_area_that_is_nearly_empty_since(town, drained):
    for scan in drained:
        town.quarantine(scan)
    town.room(quota="1GB", high="95%", low="60%")
    with pytest.raises(Refused, match="forbidden by keep"):
        second_look(town, drained[0])
