"""The watches of areas know what we take away before the first file is moved, and how it ended."""

from __future__ import annotations

import pytest

from tomovault.catalog.departing import list_departed, list_departing
from tomovault.core.errors import Transient
from tomovault.core.record import Outcome, Quarantined, Result
from tomovault.core.replica import Form
from tomovault.daemon.departures import Departures
from tomovault.vault.removals import grant


class Told:
    """A watch that remembers what it was told."""

    def __init__(self) -> None:
        self.words: list[tuple[str, str]] = []

    def _hear(self, word, candidates):
        self.words += [(word, candidate.folder.rpartition("/")[2]) for candidate in candidates]

    def forget(self, candidates):
        self._hear("forget", candidates)

    def let_leave(self, candidates):
        self._hear("let leave", candidates)

    def keep(self, candidates):
        self._hear("keep", candidates)

    def since(self) -> list[tuple[str, str]]:
        said, self.words = sorted(set(self.words)), []
        return said


@pytest.fixture
def full(town):
    """An area over its mark."""
    town.room()
    return town


@pytest.fixture
def removals(full):
    """Called with scans whose files or package may go; returns their permits."""

    def permit(*scans, form=Form.FILES):
        vault = full.vault
        name = "prune-files" if form is Form.FILES else "prune-packages"
        rule = next(r for r in vault.policy_of("inhouse").rules if r.name == name)
        permits = []
        for scan in scans:
            with vault.catalogue.writing() as tx:
                known, replica = vault.catalogue.known(tx, scan), full.replica(scan, form)
                permits.append(grant(vault, tx, known, replica.id, rule=rule, now=full.now).id)
        return permits

    return permit


def begin(town):
    """A removal is being done."""
    with town.vault.catalogue.writing() as tx:
        return town.vault.catalogue.claim_job(tx, "somebody", now=town.now, actions=["prune"])


def end(town, job, result):
    with town.vault.catalogue.writing() as tx:
        town.vault.catalogue.finish_job(tx, job.id, job.token, result, now=town.now, retry_after_s=1.0, max_attempts=9)


def test_a_watch_hears_of_each_removal_when_it_begins_and_how_it_ended(full, removals):
    first, second = full.scan("one"), full.scan("two")
    removals(first, second)
    departures, watch = Departures(full.vault), Told()
    departures.look({"inhouse": watch})
    assert watch.since() == [], "nothing was begun"
    jobs = [begin(full), begin(full)]
    departures.look({"inhouse": watch})
    assert watch.since() == [], "nobody said that anything changed"
    departures.ask()
    departures.look({"inhouse": watch})
    assert watch.since() == [("let leave", "one"), ("let leave", "two")]
    by_scan = {job.scan: job for job in jobs}
    moved = Quarantined(by_scan[first].order["permit"], ("a.edf",), 400)
    end(full, by_scan[first], Result(Outcome.SUCCEEDED, (moved,)))
    end(full, by_scan[second], Result(Outcome.FAILED, error="it cannot be moved"))
    departures.ask()
    departures.look({"inhouse": watch})
    assert watch.since() == [("forget", "one"), ("keep", "two")]


def test_of_a_package_no_watch_hears(full, removals):
    """What a watch looks at stays where it is."""
    removals(full.scan("one"), form=Form.PACKAGE)
    begin(full)
    departures, watch = Departures(full.vault), Told()
    departures.look({"inhouse": watch})
    assert watch.since() == []


def test_one_that_was_interrupted_is_leaving_still(full, removals):
    (permit,) = removals(full.scan("one"))
    job = begin(full)
    departures, watch = Departures(full.vault), Told()
    departures.look({"inhouse": watch})
    end(full, job, Result(Outcome.TRANSIENT, error="the server is away"))
    departures.ask()
    departures.look({"inhouse": watch})
    assert watch.since() == [("let leave", "one")]
    with full.vault.catalogue.reading() as tx:
        assert list_departing(tx).keys() == {permit}
        assert list_departed(tx, {permit}) == frozenset()
    departures.ask()
    departures.look({})
    assert watch.since() == [], "who does not watch the area is not told"


def test_while_the_catalogue_is_busy_they_wait_for_the_next_look(full, removals, monkeypatch):
    removals(full.scan("one"))
    begin(full)
    departures, watch = Departures(full.vault), Told()
    with monkeypatch.context() as patch:
        patch.setattr(full.vault.catalogue, "reading", lambda: (_ for _ in ()).throw(Transient("it is locked")))
        with pytest.raises(Transient):
            departures.look({"inhouse": watch})
    departures.look({"inhouse": watch})
    assert watch.since() == [("let leave", "one")]
