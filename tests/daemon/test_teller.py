"""Alarms are told when they begin, while they last and when they are over, and not at every look."""

from datetime import timedelta

import pytest

from tomovault.catalog.outbox import list_deliveries
from tomovault.catalog.owner_warnings import Running
from tomovault.daemon.teller import Raised, Teller

NOTIFY = {
    "channels": {"chat": {"kind": "webhook", "url": "http://127.0.0.1:9/"}},
    "alarms": {"channels": ["chat"]},
}
FULL = Raised("room", "inhouse", "over its high mark (86%)")


class Watched:
    """A daemon's teller, its steady clock, and what people were told so far."""

    def __init__(self, town):
        self.town = town
        self.at = 0.0
        self.now = town.now
        self.start()

    def start(self):
        self.teller = Teller(self.town.vault, steady=lambda: self.at, running=lambda: Running("b", self.at))

    def look(self, *raised, after=1.0):
        self.at += after
        self.now += timedelta(seconds=after)
        self.teller.look(lambda: raised, self.now)

    @property
    def told(self):
        with self.town.vault.catalogue.reading() as tx:
            found = list_deliveries(tx, "chat", self.now, 100)
        return [(d.template.removeprefix("alarm_"), d.facts["area"], d.facts["text"]) for d in found]


@pytest.fixture
def watched(town):
    town.change(notify=NOTIFY)
    return Watched(town)


def test_an_alarm_is_told_once_however_its_text_changes(watched):
    for percent in range(86, 99):
        watched.look(FULL._replace(text=f"over its high mark ({percent}%)"))
    assert watched.told == [("begun", "inhouse", "over its high mark (86%)")]


def test_one_that_lasts_is_told_again_after_a_day(watched):
    watched.look(FULL)
    watched.look(FULL, after=86_398.0)
    assert len(watched.told) == 1
    watched.look(FULL._replace(text="worse"), after=3.0)
    watched.look(FULL)
    assert watched.told == [("begun", *FULL[1:]), ("lasts", "inhouse", "worse")]


def test_one_that_comes_and_goes_is_one_alarm_and_over_once(watched):
    for _ in range(5):
        watched.look(FULL)
        watched.look(after=200.0)
    assert len(watched.told) == 1
    watched.look(after=200.0)
    watched.look()
    assert [what for what, *_ in watched.told] == ["begun", "over"]
    watched.look(FULL)
    assert [what for what, *_ in watched.told] == ["begun", "over", "begun"]


def test_after_a_restart_nothing_is_said_anew_or_to_be_over(watched):
    watched.look(FULL)
    watched.start()
    watched.look(after=1000.0)
    watched.look(FULL)
    assert len(watched.told) == 1
    watched.look(after=301.0)
    assert [what for what, *_ in watched.told] == ["begun", "over"]


def test_one_of_an_earlier_daemon_that_is_never_raised_again_is_over_in_the_end(watched):
    watched.look(FULL)
    watched.start()
    watched.look()
    watched.look(after=6 * 3600.0)
    assert len(watched.told) == 1
    watched.look(after=2 * 3600.0)
    assert [what for what, *_ in watched.told] == ["begun", "over"]


def test_a_hundred_scans_in_trouble_are_one_alarm(watched):
    watched.look(*(Raised("scan", "inhouse", f"scan s{n} cannot be planned") for n in range(100)), FULL)
    assert sorted(watched.told)[1] == ("begun", "inhouse", "scan s0 cannot be planned (and 99 more)")
    assert len(watched.told) == 2


def test_some_alarms_have_to_last_before_they_are_told(watched):
    lost = Raised("unwatched", "inhouse", "no daemon")
    watched.look(lost)
    watched.look(after=60.0)
    watched.look(lost)
    watched.look(lost, after=100.0)
    assert watched.told == []
    watched.look(lost, after=30.0)
    assert len(watched.told) == 1


def test_without_anybody_to_tell_nothing_is_asked_and_nothing_written(town):
    watched = Watched(town)

    def never():
        raise AssertionError

    watched.teller.look(never, town.now)
    town.change(notify={"channels": NOTIFY["channels"]})
    watched.start()
    watched.teller.look(never, town.now)
