import dataclasses
import json
from datetime import timedelta

import pytest

from tomovault.catalog.work import (
    area_bytes,
    confirm_missing,
    has_work_before,
    last_outcome,
    list_inspected,
    list_overdue,
    list_taken_away,
    record_vanished,
    shared_paths,
    waits_for_host,
)
from tomovault.core.record import Outcome, Quarantined, Result
from tomovault.core.replica import Form, TierClass
from tomovault.core.scan import Candidate, FileRole


@pytest.fixture
def packed(site, make, now):
    """Called to put a scan with its files and their manifest into the catalogue; returns its id."""

    def put(name, root, paths, *, role=FileRole.SIDE, manifest=True):
        digest = make.digest("abcdef0123456789"[hash(name) % 16])[: -len(name)] + name.encode().hex()[: len(name)]
        files = tuple(make.file(p, role=role) for p in paths)
        report = make.report(root=root, identity=name, name=name, entry=name, files=files)
        text = json.dumps({"files": [{"path": p, "role": role.value} for p in paths]})
        with site.writing() as tx:
            scan = site.record_inspected(tx, "inhouse", make.inspected(report, folder=f"{root}/{name}"), now)[0]
            if manifest:
                there = make.stored("inhouse", "disk", digest=digest, form=Form.FILES, location=f"{root}#{name}")
                made = make.made(digest=digest, manifest=text)
                site.apply_records(tx, [made, there], now, scan_id=scan)
        return scan

    return put


def _shared(site, scan):
    with site.reading() as tx:
        return shared_paths(tx, scan)


def test_a_file_that_another_scan_needs_is_shared(site, packed):
    one = packed("one", "/data/inhouse/v", ["master.h5", "a.h5"])
    two = packed("two", "/data/inhouse/v", ["master.h5", "b.h5"])
    assert _shared(site, one) == {"master.h5"} == _shared(site, two)


def test_scans_of_different_roots_share_files_too(site, packed):
    """Flats in a folder of another data set: the root of that scan is the folder of both."""
    inner = packed("inner", "/data/inhouse/v/flats", ["flat.h5", "own.h5"])
    outer = packed("outer", "/data/inhouse/v", ["scan/a.h5", "flats/flat.h5"])
    packed("beside", "/data/inhouse/v/fl", ["flat.h5"])
    assert _shared(site, inner) == {"flat.h5"}
    assert _shared(site, outer) == {"flats/flat.h5"}


def test_beside_a_scan_that_is_not_packed_what_may_be_shared_stays(site, packed):
    one = packed("one", "/data/inhouse/v", ["master.h5"])
    packed("two", "/data/inhouse/v", ["x.h5"], manifest=False)
    assert _shared(site, one) == {"master.h5"}
    three = packed("three", "/data/inhouse/w", ["p.edf"], role=FileRole.PROJECTION)
    packed("four", "/data/inhouse/w", ["q.edf"], manifest=False)
    assert _shared(site, three) == frozenset()


def test_beside_a_scan_that_lists_its_files_only_those_stay(site, packed, make, now):
    one = packed("one", "/data/inhouse/v", ["a.h5", "cams/c.h5"])
    report = dataclasses.replace(
        make.report(name="two", root="/data/inhouse/v", entry="b.nx"),
        metadata={"master": "b.nx", "linked_files": ["cams/c.h5"]},
    )
    with site.writing() as tx:
        site.record_inspected(tx, "inhouse", make.inspected(report, folder="/data/inhouse/v/two"), now)
    assert _shared(site, one) == {"cams/c.h5"}


def test_what_only_scans_need_that_are_gone_is_not_shared(site, packed, now):
    one = packed("one", "/data/inhouse/v", ["master.h5"])
    two = packed("two", "/data/inhouse/v", ["master.h5"])
    with site.writing() as tx:
        from sqlalchemy import update

        from tomovault.catalog import tables

        tx.run(update(tables.replica).where(tables.replica.c.scan_id == two).values(state="gone"))
    assert _shared(site, one) == frozenset()
    assert _shared(site, "s-nobody") == frozenset()


@pytest.mark.parametrize(("mine", "theirs"), [("v/a", "v"), ("v", "v/a"), ("v/a", "v/a"), ("v\udcff", "v\udcff/a")])
def test_neighbours_are_found_above_and_below(site, packed, mine, theirs):
    one, two = f"/data/inhouse/{mine}", f"/data/inhouse/{theirs}"
    place = f"{max(one, two, key=len)}/m.h5"
    scan = packed("one", one, [place.removeprefix(f"{one}/")])
    packed("two", two, [place.removeprefix(f"{two}/")])
    assert _shared(site, scan) == {place.removeprefix(f"{one}/")}


def test_only_neighbours_are_looked_at(site, packed, make, now):
    """A site has very many scans that share nothing with this one."""
    one = packed("one", "/data/inhouse/v", ["master.h5", "a.h5"])
    packed("two", "/data/inhouse/v", ["master.h5", "b.h5"])
    with site.writing() as tx:
        for number in range(200):
            root = f"/data/inhouse/{'v' if number % 2 else 'w'}{number}"
            site.record_inspected(tx, "inhouse", make.inspected(make.report(root=root, identity=root)), now)
    fetched = 0

    class Counted:
        def __init__(self, tx):
            self._tx = tx

        def __getattr__(self, name):
            return getattr(self._tx, name)

        def rows(self, statement):
            nonlocal fetched
            rows = self._tx.rows(statement)
            fetched += len(rows)
            return rows

    with site.reading() as tx:
        assert shared_paths(Counted(tx), one) == {"master.h5"}
    assert fetched < 10


def test_work_that_waits_for_others_is_no_work(site, now):
    with site.writing() as tx:
        site.queue_job(tx, "pack", None, {}, dedup_key="1", rule="r", now=now, place="inhouse", host="far")
        site.queue_job(
            tx,
            "pack",
            None,
            {},
            dedup_key="2",
            rule="r",
            now=now,
            place="inhouse",
            not_before=now + timedelta(seconds=30),
        )
    with site.reading() as tx:
        minute = now + timedelta(minutes=1)
        assert has_work_before(tx, minute, now)
        assert has_work_before(tx, minute, now, hosts={"here"})
        assert not has_work_before(tx, now, now, hosts={"here"}), "the other starts later"
        assert not has_work_before(tx, minute, now, skip_places={"inhouse"})
        assert not has_work_before(tx, minute, now, skip_actions={"pack"})


def test_a_job_being_done_is_work_wherever_it_is(site, now):
    with site.writing() as tx:
        site.queue_job(tx, "pack", None, {}, dedup_key="1", rule="r", now=now, place="inhouse")
        site.claim_job(tx, "daemon", now=now)
    with site.reading() as tx:
        assert has_work_before(tx, now, now, hosts={"here"}, skip_places={"inhouse"}, skip_actions={"pack"})


def test_a_scan_that_is_due_is_work(site, scan_id, now):
    with site.reading() as tx:
        assert has_work_before(tx, now, now)
    with site.writing() as tx:
        site.set_next_due(tx, scan_id, now + timedelta(hours=6))
    with site.reading() as tx:
        assert not has_work_before(tx, now, now)


def test_the_last_outcome_of_a_job(site, now):
    with site.writing() as tx:
        job = site.queue_job(tx, "pack", None, {}, dedup_key="1", rule="r", now=now, place="inhouse", host="far")
        assert last_outcome(tx, job) == ""
        assert waits_for_host(tx, job, "here")
        assert not waits_for_host(tx, job, "far")
        for outcome in (Outcome.TRANSIENT, Outcome.REFUSED):
            claimed = site.claim_job(tx, "d", now=now + timedelta(hours=1), host="far")
            site.finish_job(tx, job, claimed.token, Result(outcome), now, retry_after_s=1, max_attempts=5)
            assert last_outcome(tx, job) == outcome
        assert not waits_for_host(tx, job, "here")


def test_the_quarantine_is_what_was_moved(site, archived, scan_id, now):
    """Files that were left in place are no space to come."""
    scan = site
    with scan.writing() as tx:
        files = next(r for r in scan.known(tx, scan_id).replicas if r.form is Form.FILES)
        permit = scan.grant_permit(
            tx,
            scan_id,
            files.id,
            removal_enabled=True,
            copies_asked=2,
            within={kind: timedelta(days=400) for kind in TierClass},
            rule="r",
            hold_until=now,
            archiving_hopeful=True,
            now=now,
        )
        assert area_bytes(tx, "inhouse")[1] == 150
        scan.apply_records(tx, [Quarantined(permit.id, ("a.edf",), 100, ("b.edf: has grown",))], now)
        assert area_bytes(tx, "inhouse")[1] == 100


def test_copies_read_long_ago_or_in_the_future_are_overdue(site, archived, now):
    within = {kind: timedelta(days=90) for kind in TierClass}
    with site.reading() as tx:
        assert list_overdue(tx, "inhouse", within, now, limit=10) == []
        assert len(list_overdue(tx, "inhouse", within, now + timedelta(days=91), limit=10)) == 3
        assert len(list_overdue(tx, "inhouse", within, now - timedelta(days=1), limit=10)) == 3
        some = list_overdue(tx, "inhouse", within, now + timedelta(days=91), limit=2)
        assert len(some) == 2
        skip = {late.replica for late in some}
        (last,) = list_overdue(tx, "inhouse", within, now + timedelta(days=91), limit=2, skip=skip)
        assert last.replica not in skip
        assert list_overdue(tx, "inhouse", within, now + timedelta(days=91), limit=2, after=some[-1]) == [last]
        assert list_overdue(tx, "inhouse", within, now + timedelta(days=91), limit=2, after=last) == []


def test_files_elsewhere_are_overdue_where_a_fast_disk_relies_on_them(site, archived, make, now):
    within = {kind: timedelta(days=90) for kind in TierClass}
    later = now + timedelta(days=91)
    with site.writing() as tx:
        site.record_tier(tx, "other", TierClass.SERVER, counts=True)
        copy = make.stored("other", "server", form=Form.FILES, location="/data/other/s1", size=150)
        site.apply_records(tx, [copy], now, scan_id=archived.id)
        (copied,) = [r.id for r in site.known(tx, archived.id).replicas if r.tier == "other"]
    with site.reading() as tx:
        assert copied not in {r for _, r, _ in list_overdue(tx, "inhouse", within, later, limit=10)}
    with site.writing() as tx:
        site.record_tier(tx, "inhouse", TierClass.FAST, counts=True, area="inhouse")
        late = {r for _, r, _ in list_overdue(tx, "inhouse", within, later, limit=10)}
        assert copied in late
        assert archived.replica["inhouse/disk"] not in late


def test_vanished_files_are_suspect_and_never_gone(site, archived, scan_id, now):
    with site.writing() as tx:
        record_vanished(tx, "inhouse", Candidate("edf", "/data/inhouse/s1", ""), now)
        states = {r.form: r.state.value for r in site.known(tx, scan_id).replicas if r.tier == "inhouse"}
    assert states[Form.FILES] == "suspect"


def test_what_we_took_away_ourselves_is_not_missing(site, archived, scan_id, make, now):
    with site.writing() as tx:
        site.record_inspected(tx, "inhouse", make.inspected(make.report("/data/inhouse/s2")), now)
        assert list_taken_away(tx, "inhouse") == frozenset()
        permit = site.grant_permit(
            tx,
            scan_id,
            archived.replica["inhouse/disk"],
            removal_enabled=True,
            copies_asked=2,
            within={},
            rule="r",
            hold_until=now,
            archiving_hopeful=True,
            now=now,
        )
        site.apply_records(tx, [Quarantined(permit.id, ("a.edf", "b.edf"), 150)], now)
        assert list_taken_away(tx, "inhouse") == {Candidate("edf", "/data/inhouse/s1", "")}
        again = make.report(identity="two", files=(make.file("a.edf", 7),))
        site.record_inspected(tx, "inhouse", make.inspected(again), now)
        assert list_taken_away(tx, "inhouse") == frozenset(), "what came there since is not ours to take away"


def test_a_confirmed_absence_is_no_problem(site, scan_id, make, now):
    at = Candidate("edf", "/data/inhouse/s1", "")
    with site.writing() as tx:
        site.record_inspected(tx, "inhouse", make.inspected(folder="/data/inhouse/s2", problem="EIO"), now)
        confirm_missing(tx, "inhouse", at, "ann", now)
        assert [p.problem for p in site.list_problems(tx)] == ["EIO"]


def test_what_was_unsettled_when_the_daemon_stopped_is_missed_by_the_next(site, make, now):
    """Its files may go before the next start; one that is there still is waited for."""
    settled = make.inspected(make.report())
    with site.writing() as tx:
        site.record_inspected(tx, "inhouse", settled, now)
    with site.reading() as tx:
        assert list(list_inspected(tx, "inhouse")) == [(settled.candidate, settled.snapshot)]
    later = dataclasses.replace(settled, snapshot="touched", settled=False)
    with site.writing() as tx:
        site.note_candidate(tx, "inhouse", later.candidate, "touched", False, now)
        site.record_inspected(tx, "inhouse", later, now)
    with site.reading() as tx:
        assert list(list_inspected(tx, "inhouse")) == [(settled.candidate, "")]
