"""Copies of a known scan at another place: restored there, found there by its digests, moved there."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tomovault.catalog.joins import list_twins
from tomovault.catalog.work import list_inspected, list_removable, record_vanished
from tomovault.core.errors import Refused
from tomovault.core.known import JobStatus
from tomovault.core.record import Checked, GivenBack, GivenFile, Outcome, Recognised, RestoredHere, Result
from tomovault.core.replica import Form, ProductKind, ReplicaState, TierClass
from tomovault.core.scan import Candidate, FileRole

SHA = {"a.edf": "1" * 64, "b.edf": "2" * 64}
COPY = "/data/inhouse/again"


@pytest.fixture
def listed(site, archived, make, now):
    """The archived scan with a manifest, and a second area."""
    sizes = {"a.edf": 100, "b.edf": 50}
    files = [
        {"path": p, "size": n, "mtime_ns": 1_000, "sha256": SHA[p], "role": "projection"} for p, n in sizes.items()
    ]
    with site.writing() as tx:
        site.apply_records(tx, [make.made(manifest=json.dumps({"files": files}))], now, scan_id=archived.id)
        more = {"simulated": False, "tier_class": TierClass.SERVER, "now": now}
        site.record_area(tx, "other", path="/data/other", uuid="u2", fsid="f2", mount_source="/dev/b", **more)
    return archived


@pytest.fixture
def see(site, now):
    """Called with an inspection for the ids it gives."""

    def record(inspected, area="inhouse"):
        with site.writing() as tx:
            site.note_candidate(tx, area, inspected.candidate, inspected.snapshot, inspected.settled, now)
            ids = site.record_inspected(tx, area, inspected, now)
        _agree(site)
        return ids

    return record


@pytest.fixture
def restored(site, listed, make, now):
    """The whole scan was restored to another folder of its area."""
    copy = make.stored("inhouse", "disk", form=Form.FILES, location=COPY, size=150, verified_at=None)
    with site.writing() as tx:
        site.apply_records(tx, [copy], now, scan_id=listed.id)
    return listed


def _agree(site):
    with site.reading() as tx:
        assert site.recount(tx) == []


def _known(site, scan_id):
    with site.reading() as tx:
        return site.known(tx, scan_id)


def _at(site, scan_id, location):
    (found,) = [r for r in _known(site, scan_id).replicas if r.location == location and r.form is Form.FILES]
    return found


def _scans(site):
    with site.reading() as tx:
        return [s.id for s in site.list_scans(tx)]


def _mark(make, base=COPY, root=COPY, digest=None, **hashed):
    return RestoredHere(root, "", base, (digest or make.digest("d"),), hashed)


def _seen(make, report, *marks, snapshot="new"):
    return replace(make.inspected(report, snapshot=snapshot), restored=marks)


# --- restored by us --------------------------------------------------------------------------------


def test_what_is_as_restored_makes_no_scan_before_and_after_the_replica_is_known(site, listed, see, make):
    half = make.report(COPY, identity="half", files=(make.file("a.edf"),))
    assert see(_seen(make, half, _mark(make))) == [listed.id]
    assert see(_seen(make, make.report(COPY), _mark(make), snapshot="all")) == [listed.id]
    assert _scans(site) == [listed.id]
    assert _known(site, listed.id).root == "/data/inhouse/s1"


@pytest.mark.parametrize(
    "change",
    [
        lambda make: {"files": (make.file("a.edf"), make.file("b.edf", 50), make.file("c.edf"))},
        lambda make: {"files": (make.file("a.edf", 101), make.file("b.edf", 50))},
        lambda make: {"files": (make.file("a.edf", mtime_ns=5), make.file("b.edf", 50))},
        lambda make: {"files": (make.file("a.edf"), make.file("b.edf", 50), make.file("n.txt", 1, role=FileRole.SIDE))},
    ],
    ids=["added", "grown", "other-time", "note"],
)
def test_a_mark_excuses_nothing_that_the_manifest_does_not_list_so(site, restored, see, make, change):
    """Whatever a mark says: it only says what to compare."""
    report = make.report(COPY, identity="other", **change(make))
    (new,) = see(_seen(make, report, _mark(make)))
    assert new != restored.id
    assert _at(site, restored.id, COPY).state is ReplicaState.GONE
    assert _at(site, restored.id, "/data/inhouse/s1").state is ReplicaState.VERIFIED


def test_a_file_of_another_time_is_excused_by_its_digest_alone(site, restored, see, make):
    report = make.report(COPY, identity="touched", files=(make.file("a.edf", mtime_ns=5), make.file("b.edf", 50)))
    right = _mark(make, **{"a.edf": SHA["a.edf"]})
    assert see(_seen(make, report, right)) == [restored.id]
    wrong = _mark(make, **{"a.edf": SHA["b.edf"]})
    (new,) = see(_seen(make, report, wrong, snapshot="later"))
    assert new != restored.id


def test_a_mark_of_a_product_that_nobody_knows_excuses_nothing(site, listed, see, make):
    (new,) = see(_seen(make, make.report(COPY), _mark(make, digest=make.digest("0"))))
    assert new != listed.id


def test_a_scan_below_the_marked_folder_is_compared_by_its_path_there(site, listed, see, make):
    report = make.report(f"{COPY}/inner", files=(make.file("a.edf"),))
    (new,) = see(_seen(make, report, _mark(make, root=f"{COPY}/inner")))
    assert new != listed.id, "a.edf of the manifest stands in the folder of the mark, not below it"


def test_without_its_mark_a_whole_replica_is_known_still(site, restored, see, make):
    assert see(_seen(make, make.report(COPY))) == [restored.id]


def test_a_copy_that_lacks_files_is_suspect_and_present_when_they_are_back(site, restored, see, make):
    half = make.report(COPY, identity="half", files=(make.file("a.edf"),))
    assert see(_seen(make, half, _mark(make))) == [restored.id]
    assert _at(site, restored.id, COPY).state is ReplicaState.SUSPECT
    assert see(_seen(make, make.report(COPY), _mark(make), snapshot="all")) == [restored.id]
    assert _at(site, restored.id, COPY).state is ReplicaState.PRESENT


@pytest.mark.parametrize("marked", [True, False])
def test_a_copy_with_wrong_bytes_is_not_lifted_by_its_names_and_times(site, restored, see, make, now, marked):
    copy = _at(site, restored.id, COPY).id
    with site.writing() as tx:
        site.apply_records(tx, [Checked(copy, False, now, "1 files, first a.edf: has changed")], now)
    marks = [_mark(make)] if marked else []
    assert see(_seen(make, make.report(COPY), *marks)) == [restored.id]
    assert _at(site, restored.id, COPY).state is ReplicaState.SUSPECT
    half = make.report(COPY, identity="half", files=(make.file("a.edf"),))
    see(_seen(make, half, *marks, snapshot="half"))
    see(_seen(make, make.report(COPY), *marks, snapshot="again"))
    assert _at(site, restored.id, COPY).state is ReplicaState.SUSPECT
    with site.reading() as tx:
        assert "replica found again" not in {e.op for e in site.list_audit(tx)}


def test_a_copy_that_vanishes_is_gone_and_its_scan_is_as_it_was(site, restored, see, make, now):
    with site.writing() as tx:
        record_vanished(tx, "inhouse", Candidate("edf", COPY, ""), now)
    assert _at(site, restored.id, COPY).state is ReplicaState.GONE
    assert _at(site, restored.id, "/data/inhouse/s1").state is ReplicaState.VERIFIED
    _agree(site)
    assert see(_seen(make, make.report(COPY), _mark(make))) == [restored.id]
    assert _at(site, restored.id, COPY).state is ReplicaState.PRESENT


@pytest.mark.parametrize(
    ("form", "home", "lost"),
    [
        ("bliss", ("s1/m", "m.h5"), ("again/m", "m.h5")),
        ("folder", ("s1", "done"), ("again", "")),
        ("folder", ("s1", "done"), ("again", "all_of_it")),
    ],
    ids=["root-above-master", "no-end-mark", "other-end-mark"],
)
def test_a_copy_vanishes_by_its_place_in_the_scan(site, see, make, now, form, home, lost):
    """The root of a scan may lie above its master; the key of a folder is a word of its area."""
    root = "/data/inhouse/s1"
    at = Candidate(form, f"/data/inhouse/{home[0]}", home[1])
    (scan,) = see(replace(make.inspected(make.report(root, format=form)), candidate=at))
    copies = [
        make.stored("inhouse", "disk", form=Form.FILES, location=place, size=150) for place in (root, COPY, f"{COPY}/m")
    ]
    with site.writing() as tx:
        site.apply_records(tx, [make.made(), *copies], now, scan_id=scan)
        wrong = () if form == "folder" else (("again", home[1]), ("again/m/m", "x"), ("again/m", "other.h5"))
        for folder, key in (*wrong, ("again2", home[1])):
            record_vanished(tx, "inhouse", Candidate(form, f"/data/inhouse/{folder}", key), now)
    assert _at(site, scan, COPY).state is ReplicaState.VERIFIED
    _vanish(site, now, f"/data/inhouse/{lost[0]}", key=lost[1], form=form)
    assert _at(site, scan, COPY).state is ReplicaState.GONE
    assert {_at(site, scan, place).state for place in (root, f"{COPY}/m")} == {ReplicaState.VERIFIED}


def test_an_absent_scan_does_not_make_its_copy_suspect(site, restored, now):
    with site.writing() as tx:
        record_vanished(tx, "inhouse", Candidate("edf", "/data/inhouse/s1", ""), now)
    assert _at(site, restored.id, "/data/inhouse/s1").state is ReplicaState.SUSPECT
    assert _at(site, restored.id, COPY).state is ReplicaState.PRESENT
    assert _known(site, restored.id).root == "/data/inhouse/s1", "we restored it: nobody moved it"


def test_a_rescan_in_place_leaves_the_copy(site, restored, see, make):
    (new,) = see(make.inspected(make.report(identity="two"), snapshot="two"))
    assert new != restored.id
    assert _at(site, restored.id, "/data/inhouse/s1").state is ReplicaState.GONE
    assert _at(site, restored.id, COPY).state is ReplicaState.PRESENT


def test_no_rule_removes_a_copy_that_a_person_wanted(site, restored, make, now):
    with site.writing() as tx, pytest.raises(Refused, match="restored or found"):
        site.grant_permit(
            tx,
            restored.id,
            _at(site, restored.id, COPY).id,
            removal_enabled=True,
            copies_asked=2,
            within={},
            rule="r",
            hold_until=now,
            archiving_hopeful=True,
            now=now,
        )


def test_a_copy_does_not_bring_back_what_was_pruned(site, restored, see, make, now):
    """A restart does not wait for a scan whose files we took away, although a copy of it is in the area."""
    with site.writing() as tx:
        site.grant_permit(
            tx,
            restored.id,
            restored.replica["inhouse/disk"],
            removal_enabled=True,
            copies_asked=2,
            within={},
            rule="r",
            hold_until=now,
            archiving_hopeful=True,
            now=now,
        )
    with site.reading() as tx:
        assert "/data/inhouse/s1" not in {c.folder for c, _ in list_inspected(tx, "inhouse")}
        assert list_removable(tx, "inhouse", Form.FILES) == [restored.id]


def _derived(make, **more):
    return make.report(COPY, identity="x", files=(make.file("s1.flats.nx", 77, 5, FileRole.MASTER),), **more)


@pytest.mark.parametrize("recorded_ns", [5, 6], ids=["as-recorded", "touched"])
def test_a_file_that_a_restore_made_is_known_by_the_record_of_that_restore(site, listed, see, make, now, recorded_ns):
    """While it goes on only what has not settled is believed; then its size and time, or its digest, decide."""
    with site.writing() as tx:
        job = site.queue_job(tx, "restore", listed.id, {"to": COPY}, dedup_key="r", rule="me", now=now, place="inhouse")
        other = site.queue_job(tx, "verify", listed.id, {}, dedup_key="v", rule="me", now=now, place="inhouse")
    mark = RestoredHere(COPY, "", COPY, (make.digest("d"),), {"s1.flats.nx": make.digest("a")}, (job,))
    early = replace(make.inspected(_derived(make), settled=False, snapshot="early"), restored=(mark,))
    assert see(early) == [listed.id]
    with site.writing() as tx:
        claimed = site.claim_job(tx, "me", now=now, only=job)
        made = GivenFile("s1.flats.nx", 77, make.digest("a"), recorded_ns)
        given = GivenBack("inhouse", None, COPY, 1, 77, derived=True, made=(made,))
        result = Result(Outcome.SUCCEEDED, (given,))
        site.finish_job(tx, job, claimed.token, result, now, retry_after_s=1, max_attempts=3)
    assert see(_seen(make, _derived(make), mark)) == [listed.id]
    assert _scans(site) == [listed.id]
    read = replace(mark, hashed={})
    later = replace(make.inspected(_derived(make), settled=False, snapshot="later"), restored=(read,))
    unread = replace(later, restored=(replace(read, unread=("s1.flats.nx",)),))
    assert see(unread) == [listed.id], "it is believed until it has settled"
    if recorded_ns == 5:
        assert see(_seen(make, _derived(make), read)) == [listed.id], "nobody had to read it"
    wrong = replace(mark, hashed={"s1.flats.nx": make.digest("b")}, unread=("s1.flats.nx",))
    foreign = replace(mark, jobs=(other,))
    for number, forged in enumerate((wrong, foreign) if recorded_ns == 6 else (foreign,)):
        (new,) = see(_seen(make, _derived(make, entry=str(number)), replace(forged, entry=str(number)), snapshot="f"))
        assert new != listed.id


def test_what_settled_while_a_restore_goes_on_is_not_believed(site, listed, see, make, now):
    with site.writing() as tx:
        job = site.queue_job(tx, "restore", listed.id, {"to": COPY}, dedup_key="r", rule="me", now=now, place="inhouse")
    mark = RestoredHere(COPY, "", COPY, (make.digest("d"),), {"s1.flats.nx": make.digest("a")}, (job,))
    (new,) = see(_seen(make, _derived(make), mark))
    assert new != listed.id


# --- found elsewhere -------------------------------------------------------------------------------


@pytest.fixture
def found(site, listed, see, make, now):
    """Called for a scan that is found in another area and turns out to be the known one; returns its id."""

    def find(root="/data/other/s1", identity="one", area="other"):
        (new,) = see(make.inspected(make.report(root, identity=identity)), area)
        with site.writing() as tx:
            site.queue_job(tx, "preview", new, {}, dedup_key="p", rule="r", now=now, place=area)
            site.add_pin(tx, new, "me", "looked at", now + make.day, now)
            (twin,) = list_twins(tx, new)
            assert (twin.scan, twin.digest) == (listed.id, make.digest("d"))
            record = Recognised(listed.id, twin.digest, area, "disk2", root, 150, now)
            site.apply_records(tx, [record], now, scan_id=new)
        _agree(site)
        return new

    return find


def _vanish(site, now, folder="/data/inhouse/s1", area="inhouse", form="edf", key=""):
    with site.writing() as tx:
        record_vanished(tx, area, Candidate(form, folder, key), now)
    _agree(site)


def test_a_copy_is_one_more_replica(site, listed, found, see, make):
    new = found()
    assert _known(site, new).superseded_by == listed.id
    assert _known(site, new).jobs[0].status is JobStatus.CANCELLED
    scan = _known(site, listed.id)
    assert (scan.root, scan.area) == ("/data/inhouse/s1", "inhouse")
    assert [p.owner for p in scan.pins] == ["me"]
    assert _at(site, listed.id, "/data/other/s1").state is ReplicaState.VERIFIED
    assert _at(site, listed.id, "/data/inhouse/s1").state is ReplicaState.VERIFIED
    again = make.inspected(make.report("/data/other/s1"), snapshot="again")
    assert see(again, "other") == [listed.id], "it is not found a second time"
    with site.reading() as tx:
        for text in ("s1", "/data/inhouse/s1", "/data/other/s1"):
            assert [f.id for f in site.find_scans(tx, text)] == [listed.id]
        assert [f.id for f in site.find_scans(tx, new)] == [new]
    assert len(_scans(site)) == 2


@pytest.mark.parametrize("missed_first", [True, False])
def test_a_scan_that_was_moved_is_at_its_new_place(site, listed, found, see, make, now, missed_first):
    """Whether its absence is believed before or after it is found elsewhere."""
    if missed_first:
        _vanish(site, now)
        new = found()
    else:
        new = found()
        _vanish(site, now)
    scan = _known(site, listed.id)
    assert (scan.root, scan.area, scan.candidate.folder) == ("/data/other/s1", "other", "/data/other/s1")
    assert scan.superseded_by is None
    assert scan.complete
    assert _at(site, listed.id, "/data/inhouse/s1").state is ReplicaState.GONE
    assert _at(site, listed.id, "/data/other/s1").state is ReplicaState.VERIFIED
    with site.reading() as tx:
        assert list(list_inspected(tx, "inhouse")) == [], "its old place is not missed any more"
        assert site.list_problems(tx) == []
        assert site.find_scans(tx, "/data/other/s1")[0].id == listed.id
        assert [e.op for e in site.list_audit(tx) if e.op == "scan moved"] == ["scan moved"]
    assert see(make.inspected(make.report("/data/other/s1"), snapshot="again"), "other") == [listed.id]
    assert sorted(_scans(site)) == sorted([listed.id, new])
    later = make.report(identity="two", files=(make.file("a.edf", mtime_ns=9_000),))
    (other,) = see(make.inspected(later, snapshot="two"))
    assert other not in (listed.id, new), "another scan may come to the old place"


def test_a_scan_that_was_moved_back_is_at_its_old_place(site, listed, found, see, make, now):
    _vanish(site, now)
    found()
    assert see(make.inspected(make.report(), snapshot="back")) == [listed.id]
    assert _at(site, listed.id, "/data/inhouse/s1").state is ReplicaState.PRESENT
    _vanish(site, now, "/data/other/s1", "other")
    scan = _known(site, listed.id)
    assert (scan.root, scan.area, scan.superseded_by) == ("/data/inhouse/s1", "inhouse", None)
    assert _at(site, listed.id, "/data/other/s1").state is ReplicaState.GONE
    assert len(_scans(site)) == 2


def test_files_whose_bytes_went_bad_have_not_moved(site, listed, found, now):
    """They are there still: a copy elsewhere does not make them unknown."""
    with site.writing() as tx:
        bad = Checked(listed.replica["inhouse/disk"], False, now, "1 files, first a.edf: has changed")
        site.apply_records(tx, [bad], now)
    found()
    assert _known(site, listed.id).root == "/data/inhouse/s1"
    _vanish(site, now)
    assert _known(site, listed.id).root == "/data/other/s1"


def test_what_was_made_of_both_is_one(site, listed, found, make, now):
    preview = make.made(ProductKind.PREVIEW, make.digest("a"))
    with site.writing() as tx:
        site.apply_records(tx, [preview], now, scan_id=listed.id)
    (new,) = [found()]
    assert _known(site, new).products == ()
    assert [p.kind for p in _known(site, listed.id).products].count(ProductKind.PREVIEW) == 1


def test_a_copy_that_lost_its_times_is_known_again_until_it_changes(site, listed, see, make, now):
    files = (make.file("a.edf", mtime_ns=7_000), make.file("b.edf", 50, mtime_ns=7_000))
    late = make.report("/data/other/s1", identity="late", files=files)
    (new,) = see(make.inspected(late), "other")
    with site.writing() as tx:
        assert list_twins(tx, new) == [], "neither its identity nor its date says that it is worth reading"
        record = Recognised(listed.id, make.digest("d"), "other", "disk2", "/data/other/s1", 150, now)
        site.apply_records(tx, [record], now, scan_id=new)
    assert see(make.inspected(late, snapshot="again"), "other") == [listed.id]
    more = make.report("/data/other/s1", identity="late", files=(*files, make.file("c.edf", 1, 7_000)))
    (other,) = see(make.inspected(more, snapshot="more"), "other")
    assert other not in (listed.id, new)
    assert _at(site, listed.id, "/data/other/s1").state is ReplicaState.GONE


def test_the_same_moment_and_size_are_worth_reading(site, listed, see, make, now):
    see(make.inspected(make.report(acquired_at=now), snapshot="dated"))
    (new,) = see(make.inspected(make.report("/data/other/s1", identity="late", acquired_at=now)), "other")
    with site.reading() as tx:
        assert [t.scan for t in list_twins(tx, new)] == [listed.id]


def test_what_is_recognised_too_late_is_asked_again(site, listed, see, make, now):
    (new,) = see(make.inspected(make.report("/data/other/s1")), "other")
    with site.writing() as tx:
        record = Recognised(listed.id, make.digest("0"), "other", "disk2", "/data/other/s1", 150, now)
        site.apply_records(tx, [record], now, scan_id=new)
    assert _known(site, new).superseded_by is None
    assert len([r for r in _known(site, listed.id).replicas if r.form is Form.FILES]) == 1
