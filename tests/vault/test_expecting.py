"""When a restore from a cartridge is expected to be over."""

import json
import re
from datetime import UTC, datetime, timedelta

import pytest

from tomovault.catalog.estimates import last_estimates, open_estimates
from tomovault.core.errors import Transient
from tomovault.core.ports import DriveState, Stretch
from tomovault.core.record import Outcome, Result
from tomovault.recall.timing import Timing
from tomovault.vault import expecting
from tomovault.vault.asking import ask
from tomovault.vault.expecting import expect, recalls_page, tell_expected
from tomovault.vault.fellows import LEADER
from tomovault.vault.libraries import Library

TIMING = Timing()


class Tape:
    """One drive, and the cartridges that the town's scans are on."""

    def __init__(self):
        self.absent = False

    def drives(self):
        if self.absent:
            raise Transient("not mounted")
        return [DriveState(0, None, 0.0)]

    def lay(self, locations):
        return {location: Stretch(location.split("#")[0], 0.3, 0.3) for location in locations}

    def domains(self):
        return ["tape:A", "tape:B"]

    def writes_to(self, domain):
        return None


@pytest.fixture
def tape(monkeypatch):
    tape = Tape()
    monkeypatch.setattr(expecting, "open_libraries", lambda _site: {"tape": Library("tape", tape, TIMING)})
    return tape


@pytest.fixture
def led(town):
    """A daemon leads."""
    with town.vault.catalogue.writing() as tx:
        assert town.vault.catalogue.take_lease(tx, LEADER, "daemon", 600.0)


@pytest.fixture
def restore(town, led):
    def queue(name, **wish):
        wish = {"to": str(town.base / "out"), "from": "tape"} | wish
        return ask(town.vault, "restore", town.scan(name), wish, by="anna", wait=False)

    return queue


def _expected(town, now=None):
    with town.vault.catalogue.reading() as tx:
        return expect(town.vault, tx, now or datetime.now(UTC))


def test_a_restore_from_a_cartridge_is_expected_after_the_moves_of_the_drive(town, tape, restore):
    before = datetime.now(UTC)
    answer = restore("one")
    seconds = TIMING.load_s + TIMING.locate_s(0.0, 0.3)
    told = answer.expected_at - timedelta(seconds=seconds)
    assert before <= told <= datetime.now(UTC)
    with town.vault.catalogue.reading() as tx:
        assert [(e.job, e.ends_at) for e in open_estimates(tx)] == [(answer.job, answer.expected_at)]


def test_the_next_one_is_expected_later(town, tape, restore):
    first, second = restore("one"), restore("two", **{"from": "tape"})
    assert second.expected_at > first.expected_at
    assert set(_expected(town)) == {first.job, second.job}


def test_people_are_told_of_it(town, tape, led, say):
    town.scan("one")
    queued = say("restore", "one", "--to", str(town.base / "out"), "--from", "tape")
    assert re.search(r"Queued as j\w+, expected at 20\d\d-\d\d-\d\d \d\d:\d\d UTC;", queued.out)
    status = say("status")
    assert "restores from cartridges:" in status.out
    assert re.search(r"j\w+: one: expected at 20\d\d-\d\d-\d\d \d\d:\d\d UTC", status.out)
    page = json.loads(say("restore", "one", "--to", str(town.base / "out"), "--from", "tape", "--json").out)
    assert datetime.fromisoformat(page["expected_at"]) > datetime.now(UTC)


def test_while_nobody_is_there_to_do_it_no_time_is_told(town, tape, say):
    """It is said how long it takes, and nothing is noted that could be compared with what happened."""
    town.scan("one")
    queued = say("restore", "one", "--to", str(town.base / "out"), "--from", "tape")
    assert "expected" not in queued.out
    assert "No daemon runs now" in queued.out
    status = say("status").out
    assert "restores from cartridges, which wait for a daemon:" in status
    assert re.search(r"j\w+: one: over about [\d.]+ (s|min) after one starts", status)
    with town.vault.catalogue.reading() as tx:
        assert open_estimates(tx) == []


def test_of_one_from_disk_nothing_is_told(town, tape, restore):
    assert restore("one", **{"from": None}).expected_at is None


def test_what_cannot_be_worked_out_keeps_nobody_from_asking(town, tape, restore, monkeypatch):
    tape.absent = True
    assert restore("one").expected_at is None
    monkeypatch.setattr(expecting, "expect", _fail)
    assert restore("two").job


def _fail(*_):
    raise Transient("the database is locked")


def test_a_job_that_is_being_done_keeps_its_drive_as_long_as_it_should_take(town, tape, restore):
    first, second = restore("one"), restore("two")
    catalogue = town.vault.catalogue
    with catalogue.writing() as tx:
        catalogue.claim_job(tx, "here", now=datetime.now(UTC), only=first.job)
    now = datetime.now(UTC)
    expected = _expected(town, now)
    assert now < expected[first.job].ends_at <= expected[second.job].ends_at
    late = _expected(town, now + timedelta(hours=9))
    assert late[first.job].ends_at == now + timedelta(hours=9)


def test_it_is_as_much_faster_than_the_figures_as_the_last_ones_were(town, tape, restore):
    catalogue = town.vault.catalogue
    for number in range(3):
        job = restore(f"s{number}").job
        with catalogue.writing() as tx:
            claimed = catalogue.claim_job(tx, "here", now=datetime.now(UTC), only=job)
            (told,) = open_estimates(tx)
            end = told.told_at + timedelta(seconds=told.model_s / 4)
            catalogue.finish_job(
                tx, job, claimed.token, Result(Outcome.SUCCEEDED), end, retry_after_s=1.0, max_attempts=1
            )
    answer = restore("last")
    with catalogue.reading() as tx:
        (told,) = open_estimates(tx)
        page = recalls_page(town.vault, tx, datetime.now(UTC))
        assert len(last_estimates(tx)) == 3
    assert (told.ends_at - told.told_at).total_seconds() == pytest.approx(told.model_s / 4, abs=0.01)
    assert (page["took_times_told"], page["of_last"]) == (pytest.approx(0.25, abs=0.01), 3)
    (line,) = page["restores"]
    assert (line["job"], line["name"], line["status"]) == (answer.job, "last", "todo")
    assert line["expected"] >= line["told_at"]


def test_it_is_told_of_a_job_once(town, tape, restore):
    job = restore("one").job
    assert tell_expected(town.vault, "j0", datetime.now(UTC)) is None
    with town.vault.catalogue.reading() as tx:
        assert [e.job for e in open_estimates(tx)] == [job]


def test_where_nothing_was_told_no_library_is_opened(town, monkeypatch):
    monkeypatch.setattr(expecting, "open_libraries", None)
    with town.vault.catalogue.reading() as tx:
        page = recalls_page(town.vault, tx, datetime.now(UTC))
    assert page == {"restores": [], "took_times_told": None, "of_last": 0}
