from __future__ import annotations

import dataclasses
import json
from datetime import timedelta

import pytest

from tomovault.catalog.work import reasons_of
from tomovault.core.known import RemovalPhase
from tomovault.core.record import Checked, PutBack, Quarantined
from tomovault.core.replica import Form, ReplicaState
from tomovault.core.scan import Candidate, Certificate, FileRole, FrameCounts, Verdict


def _record(site, inspected, at, area="inhouse"):
    with site.writing() as tx:
        return site.record_inspected(tx, area, inspected, at)


def _known(site, scan_id):
    with site.reading() as tx:
        return site.known(tx, scan_id)


def _agree(site):
    with site.reading() as tx:
        assert site.recount(tx) == []


def test_the_same_scan_is_updated_and_changes_only_when_it_does(site, make, now):
    acquiring = make.report(verdict=Verdict.ACQUIRING)
    (scan_id,) = _record(site, make.inspected(acquiring, settled=False), now)
    with site.writing() as tx:
        site.set_next_due(tx, scan_id, None)
    later = now + timedelta(hours=1)
    assert _record(site, make.inspected(dataclasses.replace(acquiring, sample="bone"), settled=False), later) == [
        scan_id
    ]
    scan = _known(site, scan_id)
    assert (scan.changed_at, scan.sample) == (now, "bone")
    with site.reading() as tx:
        assert site.list_due(tx, later, 9) == []
    _record(site, make.inspected(make.report()), later)
    scan = _known(site, scan_id)
    assert (scan.changed_at, scan.first_seen_at, scan.verdict, scan.settled) == (later, now, Verdict.COMPLETE, True)
    with site.reading() as tx:
        assert site.list_due(tx, later, 9) == [scan_id]


@pytest.mark.parametrize("what", ["verdict", "found", "bytes", "settled"])
def test_each_thing_that_matters_is_a_change(site, make, now, what):
    first = make.inspected(make.report(verdict=Verdict.INCOMPLETE), settled=what != "settled")
    (scan_id,) = _record(site, first, now)
    certificate = Certificate(Verdict.INCOMPLETE, FrameCounts(2, 1, 1), FrameCounts(2, 1, 1))
    changes = {
        "verdict": {"certificate": dataclasses.replace(certificate, verdict=Verdict.UNDECIDED)},
        "found": {"certificate": dataclasses.replace(certificate, found=FrameCounts(1, 1, 1))},
        "bytes": {"files": (make.file("a.edf", 7),)},
        "settled": {},
    }
    report = make.report(**({"certificate": certificate} | changes[what]))
    later = now + timedelta(hours=1)
    assert _record(site, make.inspected(report), later) == [scan_id]
    assert _known(site, scan_id).changed_at == later
    _agree(site)


def test_a_scan_never_complete_is_updated_in_place(site, make, now):
    (a,) = _record(site, make.inspected(make.report(identity="1", verdict=Verdict.INCOMPLETE)), now)
    (b,) = _record(site, make.inspected(make.report(identity="2", verdict=Verdict.COMPLETE)), now)
    assert a == b
    assert _known(site, a).identity == "2"


def test_an_unsettled_complete_scan_was_not_complete(site, make, now):
    (a,) = _record(site, make.inspected(make.report(identity="1"), settled=False), now)
    (b,) = _record(site, make.inspected(make.report(identity="2")), now)
    assert a == b


def test_a_rescan_supersedes_and_leaves_the_package(site, archived, make, now):
    later = now + timedelta(hours=1)
    again = make.report(identity="two", files=(make.file("a.edf", 7, mtime_ns=2_000),))
    (new,) = _record(site, make.inspected(again), later)
    assert new != archived.id
    old = _known(site, archived.id)
    assert old.superseded_by == new
    states = {(r.tier, r.form): r.state for r in old.replicas}
    assert states[("inhouse", Form.FILES)] is ReplicaState.GONE
    assert states[("inhouse.vault", Form.PACKAGE)] is ReplicaState.VERIFIED
    scan = _known(site, new)
    assert (scan.name, scan.superseded_by, scan.products) == ("s1_2", None, ())
    _agree(site)
    (same,) = _record(site, make.inspected(again), later)
    assert same == new
    assert _known(site, new).name == "s1_2"
    (third,) = _record(site, make.inspected(make.report(identity="three")), later)
    assert _known(site, third).name == "s1_3"
    with site.reading() as tx:
        found = site.find_scans(tx, "/data/inhouse/s1")
        assert found[0].id == third
        assert {f.id for f in found[1:]} == {archived.id, new}
    _agree(site)


@pytest.fixture
def listed(site, archived, make, now):
    """The archived scan, with a manifest that names its files."""
    names = {"a.edf": 100, "b.edf": 50}
    files = [{"path": p, "size": n, "mtime_ns": 1_000, "role": "projection"} for p, n in names.items()]
    with site.writing() as tx:
        site.apply_records(tx, [make.made(manifest=json.dumps({"files": files}))], now, scan_id=archived.id)
    return archived


def test_what_a_prune_left_is_not_a_rescan(site, listed, make, now):
    archived = listed
    with site.writing() as tx:
        permit = site.grant_permit(
            tx,
            archived.id,
            archived.replica["inhouse/disk"],
            removal_enabled=True,
            copies_asked=2,
            within={},
            rule="r",
            hold_until=now,
            archiving_hopeful=True,
            now=now,
        )
    half = make.report(identity="half", verdict=Verdict.INCOMPLETE, files=(make.file("b.edf", 50),))
    assert _record(site, make.inspected(half), now) == [archived.id]
    with site.writing() as tx:
        site.apply_records(tx, [Quarantined(permit.id, ("a.edf",), 100, left=("b.edf",))], now)
    assert _record(site, make.inspected(half), now) == [archived.id]
    scan = _known(site, archived.id)
    assert scan.superseded_by is None
    assert (scan.identity, scan.verdict) == ("one", Verdict.COMPLETE)
    side = make.report(
        identity="notes", verdict=Verdict.UNDECIDED, files=(make.file("n.txt", 5, 9_999, FileRole.SIDE),)
    )
    assert _record(site, make.inspected(side), now) == [archived.id]
    newer = make.report(identity="new", files=(make.file("a.edf", 100, mtime_ns=5_000),))
    (new,) = _record(site, make.inspected(newer), now)
    assert new != archived.id
    old = _known(site, archived.id)
    files = next(r for r in old.replicas if r.form is Form.FILES)
    assert files.state is ReplicaState.LEAVING, "what is in quarantine takes up room until it goes"
    assert old.permits[0].phase is RemovalPhase.QUARANTINED
    _agree(site)


@pytest.mark.parametrize("other", [{"mtime_ns": 999}, {"size": 99}, {"path": "c.edf"}])
def test_an_older_acquisition_in_a_pruned_place_is_a_rescan(site, listed, make, now, other):
    with site.writing() as tx:
        site.grant_permit(
            tx,
            listed.id,
            listed.replica["inhouse/disk"],
            removal_enabled=True,
            copies_asked=2,
            within={},
            rule="r",
            hold_until=now,
            archiving_hopeful=True,
            now=now,
        )
    same = make.report(identity="left", files=(make.file("a.edf"),))
    assert _record(site, make.inspected(same), now) == [listed.id]
    older = make.report(identity="older", files=(make.file(**({"path": "a.edf"} | other)),))
    (new,) = _record(site, make.inspected(older), now)
    assert new != listed.id
    assert _known(site, listed.id).superseded_by == new
    _agree(site)
    ((permit,), files) = _known(site, listed.id).permits, listed.replica["inhouse/disk"]
    assert permit.phase is RemovalPhase.GRANTED, "it may have moved files, which are to come back"
    with site.writing() as tx:
        site.apply_records(tx, [Checked(files, ok, now) for ok in (False, True)], now)
        site.apply_records(tx, [PutBack(permit.id, 1, 100)], now)
    states = {r.id: r.state for r in _known(site, listed.id).replicas}
    assert states[files] is ReplicaState.GONE
    _agree(site)


@pytest.mark.parametrize("settled", [False, True])
def test_a_packed_scan_stays_complete_where_a_file_goes(site, archived, make, now, settled):
    later = now + timedelta(hours=1)
    lacking = Certificate(Verdict.INCOMPLETE, FrameCounts(2, 1, 1), FrameCounts(2, 0, 1), problems=("1 flat missing",))
    fewer = make.report(certificate=lacking, files=(make.file("a.edf"),))
    before = _known(site, archived.id)
    with site.writing() as tx:
        site.note_candidate(tx, "inhouse", Candidate("edf", "/data/inhouse/s1", ""), "fewer", settled, later)
    assert _record(site, make.inspected(fewer, snapshot="fewer", settled=settled), later) == [archived.id]
    scan = _known(site, archived.id)
    assert (scan.verdict, scan.settled, scan.certificate) == (Verdict.COMPLETE, True, before.certificate)
    assert (scan.bytes, scan.complete) == (before.bytes, True)
    states = {r.id: r.state for r in scan.replicas}
    files = states.pop(archived.replica["inhouse/disk"])
    assert files is (ReplicaState.SUSPECT if settled else ReplicaState.VERIFIED)
    assert set(states.values()) == {ReplicaState.VERIFIED}
    with site.reading() as tx:
        told = reasons_of(tx, archived.id)
    assert told == ({archived.replica["inhouse/disk"]: "1 flat missing"} if settled else {})
    _agree(site)


def test_a_declared_verdict_survives_the_same_identity_only(site, make, now):
    (a,) = _record(site, make.inspected(make.report(verdict=Verdict.UNDECIDED)), now)
    with site.writing() as tx:
        site.declare(tx, a, Verdict.COMPLETE, "ann", "seen it", now)
    _record(site, make.inspected(make.report(verdict=Verdict.INCOMPLETE)), now)
    assert _known(site, a).verdict is Verdict.COMPLETE
    (b,) = _record(site, make.inspected(make.report(identity="two", verdict=Verdict.INCOMPLETE)), now)
    assert b != a, "a scan declared complete was complete"
    assert _known(site, b).declared is None

    place = "/data/inhouse/s2"
    (c,) = _record(site, make.inspected(make.report(place, verdict=Verdict.ACQUIRING), settled=False), now)
    with site.writing() as tx:
        site.declare(tx, c, Verdict.ABORTED, "ann", "seen it", now)
    (d,) = _record(site, make.inspected(make.report(place, "two", verdict=Verdict.ACQUIRING), settled=False), now)
    assert d == c
    assert _known(site, c).declared is None


def test_an_unreadable_candidate_is_reported_and_its_scans_are_unreadable(site, make, now):
    (a,) = _record(site, make.inspected(make.report()), now)
    later = now + timedelta(hours=1)
    assert _record(site, make.inspected(folder="/data/inhouse/s1", problem="EIO\udcff"), later) == [a]
    scan = _known(site, a)
    assert (scan.verdict, scan.certificate.problems) == (Verdict.UNREADABLE, ("EIO\udcff",))
    assert scan.certificate.found == FrameCounts(2, 1, 1)
    assert scan.changed_at == later
    assert _record(site, make.inspected(folder="/data/inhouse/new", problem="no"), later) == []
    with site.reading() as tx:
        assert [(c.candidate.folder, c.problem) for c in site.list_problems(tx)] == [
            ("/data/inhouse/s1", "EIO\udcff"),
            ("/data/inhouse/new", "no"),
        ]
    _record(site, make.inspected(make.report()), later)
    assert _known(site, a).verdict is Verdict.COMPLETE
    with site.reading() as tx:
        assert [c.problem for c in site.list_problems(tx)] == ["no"]


def test_scans_of_one_master_are_told_apart_by_entry(site, make, now):
    reports = [make.report(entry=f"{i}.1", identity=str(i)) for i in (1, 2)]
    ids = _record(site, make.inspected(*reports, key="m.h5"), now)
    assert len(set(ids)) == 2
    assert _record(site, make.inspected(*reversed(reports), key="m.h5"), now) == ids[::-1]


def test_owner_and_proposal_come_from_the_path_first(site, make, now):
    report = make.report(owner="meta", proposal="meta", sample="meta")
    with site.writing() as tx:
        (a,) = site.record_inspected(
            tx, "inhouse", make.inspected(report), now, lambda r: {"owner": (r.name, "file owner")}
        )
    scan = _known(site, a)
    assert (scan.owner, scan.sources["owner"]) == ("s1", "file owner")
    assert (scan.proposal, scan.sources["proposal"]) == ("meta", "metadata")
    assert (scan.beamline, scan.sources.get("beamline")) == (None, None)


def test_a_set_has_the_size_last_reported(site, make, now):
    _record(site, make.inspected(make.report("/data/inhouse/h1", set_name="h")), now)
    (b,) = _record(site, make.inspected(make.report("/data/inhouse/h2", set_name="h", set_size=4)), now)
    with site.reading() as tx:
        assert [(s.set_name, s.set_size) for s in site.list_scans(tx)] == [("h", 4), ("h", 4)]
    assert _known(site, b).set_size == 4


def test_a_very_long_name_is_cut_and_still_told_apart(site, make, now):
    names = ["n" * 5000 + "1", "n" * 5000 + "2"]
    ids = [
        _record(site, make.inspected(make.report(f"/data/inhouse/{i}" + "/x" * 2000, name=name)), now)[0]
        for i, name in enumerate(names)
    ]
    cut = [_known(site, i).name for i in ids]
    assert len(set(cut)) == 2
    assert max(map(len, cut)) < 300
    assert _record(site, make.inspected(make.report("/data/inhouse/0" + "/x" * 2000, name=names[0])), now) == ids[:1]


def test_a_candidate_is_inspected_again_only_after_a_change(site, make, now):
    candidate = Candidate("edf", "/data/inhouse/\udcff", "", "/data/server")
    inspected = dataclasses.replace(make.inspected(folder=candidate.folder), candidate=candidate)

    def note(snapshot, settled):
        with site.writing() as tx:
            return site.note_candidate(tx, "inhouse", candidate, snapshot, settled, now)

    assert note("1", False)
    assert note("1", False)
    _record(site, dataclasses.replace(inspected, snapshot="1", settled=False), now)
    assert not note("1", False)
    assert note("1", True), "it settled since"
    _record(site, dataclasses.replace(inspected, snapshot="1", settled=True), now)
    assert not note("1", True)
    assert not note("1", False), "a watcher that started again has not seen it settle yet"
    assert note("2", True)
    _record(site, dataclasses.replace(inspected, snapshot="1", settled=True), now)
    assert note("2", True), "an inspection of what was there before is not one of what is there now"
    with site.reading() as tx:
        (entry,) = site.list_candidates(tx, "inhouse")
        assert site.list_candidates(tx, "other") == []
    assert entry.candidate == candidate
    assert (entry.snapshot, entry.inspected_snapshot) == ("2", "1")


def test_a_late_word_on_an_earlier_state_is_dropped(site, make, now):
    (scan_id,) = _record(site, make.inspected(make.report()), now)
    late = make.inspected(make.report(verdict=Verdict.ACQUIRING), settled=False)
    assert _record(site, late, now + timedelta(minutes=1)) == []
    assert _known(site, scan_id).verdict is Verdict.COMPLETE
    older = dataclasses.replace(late, snapshot="an earlier one", settled=True)
    assert _record(site, older, now + timedelta(minutes=2)) == []
    assert _known(site, scan_id).settled


def test_scans_of_one_folder_are_told_apart_by_candidate(site, make, now):
    """Two prefixes of an EDF folder, or two NXtomo files, may have entries of one name."""
    first = make.inspected(make.report(name="a_"), key="a_")
    second = make.inspected(make.report(name="b_", identity="two"), key="b_")
    ids = [_record(site, one, now)[0] for one in (first, second, first, second)]
    assert ids[:2] == ids[2:]
    assert len(set(ids)) == 2
    assert all(_known(site, scan_id).superseded_by is None for scan_id in ids)
    _agree(site)


def test_texts_that_appear_at_another_root_make_no_new_scan(site, make, now):
    """An EDF series on a fast disk has the root of both places once its texts are there."""
    fast = make.report(root="/data/inhouse/fast/s1", verdict=Verdict.ACQUIRING)
    both = make.report(root="/data/inhouse", name="s1")
    folder = "/data/inhouse/fast/s1"
    (scan_id,) = _record(site, make.inspected(fast, folder=folder, settled=False), now)
    assert _record(site, make.inspected(both, folder=folder), now) == [scan_id]
    assert _known(site, scan_id).root == "/data/inhouse"
    _agree(site)
