"""Fire drills as they are known in the catalogue."""

from datetime import timedelta

import pytest

from tomovault.catalog.drills import DrillOutcome
from tomovault.core.record import Checked

PASSED, BAD, OFF, WAITING = DrillOutcome.PASSED, DrillOutcome.BAD, DrillOutcome.PUT_OFF, DrillOutcome.WAITING


@pytest.fixture
def hold(site, archived, now):
    """Called with a copy and how its drill ends, if it does."""

    def drill(copy, outcome=None, at=now, **facts):
        replica = archived.replica[f"tape/{copy}"]
        name = f"d{at:%H%M%S}{copy}".replace("-", "")
        with site.writing() as tx:
            site.begin_drill(tx, replica, archived.id, "tape", f"A1#{copy}", f"/vault/.drill.{name}", at)
            if outcome is not None:
                site.end_drill(tx, name, outcome, "", facts, at)
        return name

    return drill


def drawable(site):
    with site.reading() as tx:
        return {one.replica: (one.drills, one.waited) for one in site.list_drawable(tx, ["tape", "emulated"])}


def test_good_archived_copies_are_drawn_from_and_no_others(site, archived, now):
    a, b = archived.replica["tape/pool-a"], archived.replica["tape/pool-b"]
    assert drawable(site) == {a: (0, 0), b: (0, 0)}
    with site.writing() as tx:
        site.apply_records(tx, [Checked(a, ok=False, at=now, reason="a bit flipped")], now)
    assert drawable(site) == {b: (0, 0)}
    with site.reading() as tx:
        assert site.list_drawable(tx, ["mirror"]) == []


def test_those_that_found_something_out_count(site, archived, hold, now):
    a, b = archived.replica["tape/pool-a"], archived.replica["tape/pool-b"]
    hold("pool-a", PASSED)
    hold("pool-a", BAD, now + timedelta(minutes=1))
    hold("pool-b", OFF, now + timedelta(minutes=2))
    assert drawable(site) == {a: (2, 0), b: (0, 0)}
    with site.reading() as tx:
        assert site.count_drills(tx) == {"passed": 1, "bad": 1, "put_off": 1}
        assert site.last_drill_at(tx) == now + timedelta(minutes=1)
        newest = site.list_drills(tx)[0]
    assert (newest.name, newest.location, newest.outcome) == ("s1", "A1#pool-b", OFF)


def test_one_that_found_nothing_out_is_forgotten_for_the_next_of_that_copy(site, archived, hold, now):
    a = archived.replica["tape/pool-a"]
    hold("pool-a", WAITING, asked=3)
    assert drawable(site)[a] == (0, 3)
    hold("pool-a", PASSED, now + timedelta(minutes=1))
    assert drawable(site)[a] == (1, 0)
    with site.reading() as tx:
        assert len(site.list_drills(tx)) == 1


def test_what_is_under_way_is_known_with_its_folder(site, hold, now):
    hold("pool-a", PASSED)
    name = hold("pool-b", at=now + timedelta(minutes=1))
    with site.reading() as tx:
        (one,) = site.list_drills(tx, under_way=True)
    assert (one.id, one.scratch, one.ended_at) == (name, f"/vault/.drill.{name}", None)


def test_people_wait_until_their_restore_is_over(site, scan_id, now):
    with site.writing() as tx:
        assert not site.do_people_wait(tx)
        site.queue_job(tx, "verify", scan_id, {}, dedup_key="v", rule="x", now=now, place="inhouse", host=None)
        assert not site.do_people_wait(tx)
        job = site.queue_job(tx, "restore", scan_id, {}, dedup_key="r", rule="x", now=now, place="inhouse", host=None)
        assert site.do_people_wait(tx)
        site.cancel_job(tx, job, "somebody", now)
        assert not site.do_people_wait(tx)
