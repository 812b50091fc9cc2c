"""What is looked into, and what is looked into again."""

import itertools
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import select

from tomovault.catalog import tables
from tomovault.core.known import JobStatus
from tomovault.core.record import Inspected, Outcome, Result
from tomovault.core.scan import Candidate, Certificate, FileRole, FileState, ScanFile, ScanReport, Verdict
from tomovault.daemon import lookout as lookout_module
from tomovault.daemon.lookout import Lookout
from tomovault.watch.sweep import FolderLinks, Seen, Sweep


class Watched:
    """One settled candidate that each sweep finds, and how its inspections end."""

    def __init__(self, town):
        self.town = town
        self.candidate = Candidate("edf", str(town.area / "one"), "")
        self.now = town.now
        self.lookout = Lookout(town.vault)

    def sweep(self, snapshot="snap"):
        seen = Seen(self.candidate, snapshot, True, 60.0, 1, 1)
        return self.lookout.take("inhouse", Sweep((seen,), (), (), 1, 1, 0.1, changed=(seen,)), self.now)

    def end(self, *, settled, problem="", snapshot="snap", verdict=None):
        catalogue = self.town.vault.catalogue
        reports = ()
        if verdict is not None:
            file = ScanFile(FileState("a.edf", 400, 1, 1, 1, 1, 0o100644), FileRole.PROJECTION)
            root = str(self.town.area / "one")
            reports = (ScanReport("edf", "one", root, "", "one", Certificate(verdict), (file,)),)
        inspected = Inspected(self.candidate, snapshot, settled, reports, problem)
        with catalogue.writing() as tx:
            job = catalogue.claim_job(tx, "somebody", now=self.now, actions=["inspect"])
            result = Result(Outcome.SUCCEEDED, (inspected,))
            catalogue.finish_job(tx, job.id, job.token, result, now=self.now, retry_after_s=1.0, max_attempts=1)

    def pass_time(self, **much):
        self.now += timedelta(**much)

    def waiting(self):
        with self.town.vault.catalogue.reading() as tx:
            return len(self.town.vault.catalogue.list_jobs(tx, JobStatus.TODO))


@pytest.fixture
def watched(town):
    return Watched(town)


def test_what_was_believed_is_not_looked_into_again(watched):
    assert watched.sweep() == 1
    watched.end(settled=True)
    for _ in range(5):
        watched.pass_time(hours=1)
        assert watched.sweep() == 0
    assert watched.waiting() == 0


@pytest.mark.parametrize("settled", [False, True])
def test_what_could_not_be_read_is_looked_into_ever_more_seldom(watched, settled):
    assert watched.sweep() == 1
    watched.end(settled=settled, problem="EIO")
    watched.pass_time(seconds=5)
    assert watched.sweep() == 0, "not at once"
    asked = []
    for minute in range(0, 2000, 5):
        watched.pass_time(minutes=5)
        if watched.sweep():
            asked.append(minute)
            assert watched.sweep() == 0, "it is asked for already"
            watched.end(settled=settled, problem="EIO")
    pauses = [later - sooner for sooner, later in itertools.pairwise(asked)]
    assert len(asked) >= 6, "it never ends: the disk may be mended at any time"
    assert pauses == sorted(pauses)
    assert pauses[-1] > 300
    assert watched.sweep("another") == 1, "a change is looked into as ever"
    watched.end(settled=False, snapshot="another")
    watched.pass_time(minutes=10)
    assert watched.sweep("another") == 1


def test_an_unreadable_scan_is_looked_into_again(watched):
    """Its inspection settled, and said that a file could not be read."""
    watched.sweep()
    watched.end(settled=True, verdict=Verdict.UNREADABLE)
    watched.pass_time(minutes=10)
    assert watched.sweep() == 1
    watched.end(settled=True, verdict=Verdict.COMPLETE)
    watched.pass_time(hours=20)
    assert watched.sweep() == 0


@pytest.mark.parametrize("settled", [False, True])
def test_a_restart_asks_at_once_for_what_was_not_believed(watched, settled):
    assert watched.sweep() == 1
    watched.end(settled=settled, problem="EACCES")
    watched.lookout = Lookout(watched.town.vault)
    watched.pass_time(seconds=1)
    assert watched.sweep() == 1
    assert watched.waiting() == 1
    watched.end(settled=True)
    watched.pass_time(hours=1)
    assert watched.sweep() == 0


def test_one_that_is_not_seen_any_more_is_not_asked_for(watched):
    watched.sweep()
    watched.end(settled=False)
    watched.pass_time(hours=1)
    away = replace(watched.candidate, key="another")
    seen = Seen(away, "snap", True, 60.0, 1, 1)
    watched.lookout.take("inhouse", Sweep((), (), (), 1, 1, 0.1), watched.now)
    assert watched.waiting() == 0
    watched.lookout.take("inhouse", Sweep((seen,), (), (), 1, 1, 0.1), watched.now)
    assert watched.waiting() == 1


def test_files_that_were_no_scans_stop_an_area_for_one_sweep_at_most(watched):
    looks = [Candidate("nxtomo", str(watched.town.area), f"volume{n}.h5") for n in range(6)]
    catalogue = watched.town.vault.catalogue
    with catalogue.writing() as tx:
        for look in looks:
            catalogue.note_candidate(tx, "inhouse", look, "snap", True, watched.now)
            told = (
                Inspected(look, "snap", True, no_scan="a volume") if look != looks[0] else Inspected(look, "snap", True)
            )
            catalogue.record_inspected(tx, "inhouse", told, watched.now)
    stopped = Sweep((), tuple(looks), (), 1, 1, 0.1, stopped="6 of 6 scans are missing in one sweep")
    assert watched.lookout.take("inhouse", stopped, watched.now) == 0
    assert sorted(key.key for _, key in watched.lookout.to_forget) == [f"volume{n}.h5" for n in range(1, 6)]
    with catalogue.reading() as tx:
        assert [row.path.rsplit("/", 1)[-1] for row in catalogue.list_unclaimed(tx)] == ["volume0.h5"]


def test_a_large_sweep_is_noted_in_parts(town, monkeypatch):
    monkeypatch.setattr(lookout_module, "_AT_ONCE", 4)
    seen = tuple(Seen(Candidate("edf", str(town.area / f"s{n}"), ""), "snap", True, 60.0, 1, 1) for n in range(10))
    sweep = Sweep(seen, (), (), 1, 1, 0.1, changed=seen)
    lookout = Lookout(town.vault)
    compared = []
    whole = lookout._noted
    lookout._noted = type("Noted", (dict,), {"get": lambda self, key: compared.append(key) or dict.get(self, key)})(
        whole
    )
    parts = [lookout.take("inhouse", sweep, town.now)]
    while lookout.more:
        assert not lookout.swept.get("inhouse"), "an area that was not noted whole was not seen"
        parts.append(lookout.take("inhouse", sweep, town.now))
    assert parts == [4, 4, 2]
    assert len(compared) == 10, "each was compared once, not at each part"
    assert lookout.swept["inhouse"] == 1
    with town.vault.catalogue.reading() as tx:
        orders = [j.order for j in town.vault.catalogue.list_jobs(tx)]
    assert sorted(look["candidate"]["folder"] for o in orders for look in o["looks"]) == sorted(
        s.candidate.folder for s in seen
    )


def test_an_area_that_stands_still_is_looked_up_without_writing(town, monkeypatch):
    """It is swept again and again, and commands must be able to write meanwhile."""
    look = Candidate("edf", str(town.area / "one"), "")
    lookout = Lookout(town.vault)
    monkeypatch.setattr(town.vault.catalogue, "writing", None)
    lookout.take("inhouse", Sweep((), (look,), (), 1, 1, 0.1, stopped="1 of 1 scans are missing"), town.now)
    assert lookout.to_forget == []


def test_links_are_noted_and_forgotten_when_a_whole_sweep_did_not_see_them(town):
    area = str(town.area)

    def sweep(*links, stopped="", unreadable=()):
        return Sweep((), (), unreadable, 1, 1, 0.1, stopped, links=links)

    def known():
        with town.vault.catalogue.reading() as tx:
            return sorted(row.path for row in tx.rows(select(tables.link)))

    paper, other = (
        FolderLinks(f"{area}/paper", {"figure": "../one"}),
        FolderLinks(f"{area}/other", {"a": "/x", "b": "."}),
    )
    Lookout(town.vault).take("inhouse", sweep(paper, other), town.now)
    assert known() == [f"{area}/other/a", f"{area}/other/b", f"{area}/paper/figure"]
    after = Lookout(town.vault)
    after.take("inhouse", sweep(paper, stopped="EIO"), town.now)
    after.take("inhouse", sweep(unreadable=((f"{area}/other", "no"),)), town.now)
    assert len(known()) == 3, "what could not be read may be there"
    after.take("inhouse", sweep(), town.now)
    assert known() == [f"{area}/paper/figure"]
    after.take("inhouse", sweep(FolderLinks(f"{area}/paper")), town.now)
    assert known() == []
