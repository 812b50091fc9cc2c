"""Scans that are due are found, and those of areas that rest are not walked over at every turn."""

from datetime import timedelta

import pytest

from tomovault.catalog.outbox import list_deliveries, post_notice
from tomovault.daemon import due_scans
from tomovault.daemon.due_scans import DueScans
from tomovault.vault.setting_up import set_up_area

RESTING = frozenset({"server"})


@pytest.fixture
def due(town, monkeypatch):
    """Called with areas that rest: the scans that are found due, and since when was asked for. `due.ran` is the time
    that the machine has run.
    """
    (town.base / "server").mkdir()
    set_up_area(town.folder, "server", str(town.base / "server"))
    town.change(areas={"server": {"quota": "1GB"}})
    asked, real = [], due_scans.list_due

    def listed(*arguments, since, **more):
        asked.append(since)
        return real(*arguments, since=since, **more)

    monkeypatch.setattr(due_scans, "list_due", listed)
    scans = DueScans(town.vault, lambda: find.ran)

    def find(resting=RESTING, now=None):
        with town.vault.catalogue.reading() as tx:
            found = scans.find(tx, now or town.now, 9, resting)
        return found, asked.pop()

    find.ran = 0.0
    return find


def be_due(town, scan, when):
    with town.vault.catalogue.writing() as tx:
        town.vault.catalogue.set_next_due(tx, scan, when)


def test_what_was_due_before_is_walked_over_once(town, due):
    scan = town.scan("one")
    town.rested()
    be_due(town, scan, town.now)
    assert due() == ([scan], None)
    town.rested()
    since = town.now - timedelta(minutes=5)
    assert due() == ([], since)
    be_due(town, scan, town.now - timedelta(minutes=1))
    assert due() == ([scan], since)


@pytest.mark.parametrize("change", ["another area rests", "none rests", "ten minutes", "the clock was set back"])
def test_all_is_walked_over_again(town, due, change):
    scan = town.scan("one")
    town.rested()
    due()
    be_due(town, scan, town.now - timedelta(days=2))
    assert due()[0] == [], "no date is recorded so late"
    resting, now = RESTING, town.now
    if change == "another area rests":
        resting = frozenset({"server", "third"})
    elif change == "none rests":
        resting = frozenset()
    elif change == "ten minutes":
        due.ran = 601.0
    else:
        now -= timedelta(days=1)
    assert due(resting, now) == ([scan], None)


def test_where_none_rests_all_that_is_due_is_found(town, due):
    scan = town.scan("one")
    for age in (0, 1, 9):
        be_due(town, scan, town.now - timedelta(days=age))
        assert due(frozenset()) == ([scan], None)


def test_dates_of_a_clock_that_was_ahead_are_brought_forward_in_short_turns(town, monkeypatch):
    monkeypatch.setattr(due_scans, "_FORWARD_AT_ONCE", 2)
    scans = [town.scan(f"scan{n}") for n in range(5)]
    town.rested()
    for scan in scans[:3]:
        be_due(town, scan, town.now + timedelta(days=300))
    later = {"not_before": town.now + timedelta(days=300), "now": town.now, "place": "inhouse", "rule": "r"}
    catalogue = town.vault.catalogue
    with catalogue.writing() as tx:
        catalogue.queue_job(tx, "verify", scans[0], {}, dedup_key="v", **later)
        post_notice(tx, "digest", "digest", {}, [("mail", "")], town.now, not_before=town.now + timedelta(days=300))
    due, turns = DueScans(town.vault), 0
    assert due.bring_forward(town.now) == 0
    due.believe_no_date()
    while due.bring_forward(town.now):
        turns += 1
    assert turns == 2
    with catalogue.writing() as tx:
        assert sorted(catalogue.list_due(tx, town.now, 9)) == sorted(scans[:3])
        assert catalogue.claim_job(tx, "somebody", now=town.now, actions=["verify"]) is not None
        assert len(list_deliveries(tx, "mail", town.now, 9)) == 1
