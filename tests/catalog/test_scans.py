from __future__ import annotations

import dataclasses
import math
from datetime import timedelta

import pytest

from tomovault.catalog import scans
from tomovault.core.errors import UserError
from tomovault.core.known import JobStatus, KnownScan
from tomovault.core.record import Made, Outcome, Processing, Result
from tomovault.core.replica import Form, ProductKind, ReplicaState, TierClass
from tomovault.core.scan import Candidate, Certificate, Condition, FileRole, FrameCounts, Verdict

ODD = "n\udcff\x00a\\me\n'\""


def _full_report(make):
    return make.report(
        root="/data/inhouse/od\udce9d\n'\"",
        name=ODD,
        entry="1.1",
        identity="id\udcfe",
        certificate=Certificate(
            Verdict.COMPLETE, FrameCounts(2, None, 1), FrameCounts(2, 1, None), ("p\udcff",), ("e\x00",)
        ),
        conditions={
            "energy": Condition(17.05, "keV", "a.edf: Energy"),
            "n_projections": Condition(1500, None, "info"),
            "huge": Condition(10**400, None, "x"),
            "title": Condition("t\udcff", None, "x"),
            "lost": Condition(None, "mm", "x"),
            "nan": Condition(math.inf, "mm", "x"),
        },
        beamline="ID19",
        proposal="ma1",
        sample="bone\udcff",
        owner="dom\\user",
        acquired_at=make.now if hasattr(make, "now") else None,
        set_name="holo",
        set_size=4,
        metadata={"a": [1, 2.5, None, "x\udcff"], "b": {"c": True}},
    )


def test_every_field_of_a_known_scan_comes_back(site, make, now):
    report = dataclasses.replace(_full_report(make), acquired_at=now - timedelta(days=2))
    run = Processing("fourier", "1", {"centre": 3.5}, now, now + timedelta(seconds=3), ("/v/volume.h5",))
    with site.writing() as tx:
        whose = lambda _r: {"proposal": ("from-path", "path")}  # noqa: E731
        (scan_id,) = site.record_inspected(tx, "inhouse", make.inspected(report), now, whose)
        site.declare(tx, scan_id, Verdict.ABORTED, "ann", "beam lost", now)
        volume = Made(ProductKind.VOLUME, make.digest("a"), 9, 1, processing=run, details={"gate": [1.5]})
        site.apply_records(
            tx,
            [
                make.made(),
                volume,
                make.stored("inhouse", "d", form=Form.FILES, location=report.root, size=150),
                make.stored("inhouse.vault", "d", location="/v/\udcff.tomo.h5", verified_at=None),
                make.stored("tape", "pool-a", pinned_until=now + timedelta(days=1)),
                make.stored("emulated", "pool-b", digest=make.digest("a"), kind=ProductKind.VOLUME),
            ],
            now,
            scan_id=scan_id,
        )
        site.accept(tx, scan_id, "ann", "sharp", now)
        pin = site.add_pin(tx, scan_id, "bob", "why\udcff", now + timedelta(days=9), now, tier="tape")
        job = site.queue_job(
            tx, "pack", scan_id, {"p": "\udcff"}, dedup_key="k", rule="r", now=now, place="inhouse", not_before=now
        )
        claimed = site.claim_job(tx, "me", now=now)
        site.finish_job(
            tx, job, claimed.token, Result(Outcome.FAILED, error=ODD, hint="h"), now, retry_after_s=1, max_attempts=1
        )
    with site.reading() as tx:
        scan = site.known(tx, scan_id)

    for field in ("format", "root", "entry", "identity", "certificate", "name", "acquired_at", "conditions"):
        assert getattr(scan, field) == getattr(report, field), field
    for field in ("beamline", "sample", "owner", "set_name", "set_size", "metadata"):
        assert getattr(scan, field) == getattr(report, field), field
    assert isinstance(scan.conditions["n_projections"].value, int)
    assert scan.proposal == "from-path"
    assert scan.sources == dict.fromkeys(("beamline", "sample", "owner"), "metadata") | {"proposal": "path"}
    assert (scan.area, scan.bytes, scan.files, scan.settled) == ("inhouse", 150, 2, True)
    assert scan.first_seen_at == scan.changed_at == now
    assert scan.first_seen_at.utcoffset() == timedelta(0)
    assert (scan.declared.verdict, scan.declared.by, scan.declared.reason, scan.declared.at) == (
        Verdict.ABORTED,
        "ann",
        "beam lost",
        now,
    )
    assert scan.accepted_by == "ann"
    assert scan.superseded_by is None
    assert scan.candidate == Candidate("edf", report.root, "", None)
    assert {p.kind for p in scan.products} == {ProductKind.ORIGINAL, ProductKind.VOLUME}
    made = scan.product(ProductKind.VOLUME)
    assert (made.digest, made.bytes, made.files, made.lossless, made.made_by_us, made.created_at, made.details) == (
        make.digest("a"),
        9,
        1,
        True,
        True,
        now,
        {"gate": [1.5]},
    )
    assert scan.product(ProductKind.ORIGINAL).made_by_us is False
    assert [p for _id, p in scan.processings] == [run]
    by_tier = {r.tier: r for r in scan.replicas}
    assert by_tier["inhouse.vault"].location == "/v/\udcff.tomo.h5"
    assert by_tier["inhouse.vault"].state is ReplicaState.PRESENT
    assert by_tier["inhouse.vault"].verified_at is None
    tape = by_tier["tape"]
    assert (tape.tier_class, tape.domain, tape.counts, tape.lossless) == (TierClass.ARCHIVE, "pool-a", True, True)
    assert (tape.state, tape.sha256, tape.bytes) == (ReplicaState.VERIFIED, make.digest("e"), 60)
    assert tape.written_at == tape.verified_at == now
    assert by_tier["emulated"].counts is False
    assert by_tier["inhouse"].form is Form.FILES
    assert pin in scan.pins
    assert {(p.owner, p.reason) for p in scan.pins} == {("bob", "why\udcff"), ("tomovault", "recalled")}
    (done,) = scan.jobs
    assert (done.id, done.action, done.scan, done.status, done.attempts) == (
        job,
        "pack",
        scan_id,
        JobStatus.FAILED,
        1,
    )
    assert (done.error, done.hint, done.rule, done.order) == (ODD, "h", "r", {"p": "\udcff"})
    assert done.queued_at == done.finished_at == done.not_before == now
    assert scan.transfers == (), "test_transfers reads them back"
    assert scan.warnings == (), "test_owner_warnings reads them back"
    assert scan.volume_cpu_s is None, "nothing was reconstructed"
    covered = {f.name for f in dataclasses.fields(KnownScan)}
    assert covered == {
        *("id name root area format entry identity certificate settled first_seen_at changed_at bytes files").split(),
        *("acquired_at beamline proposal sample owner sources set_name set_size candidate superseded_by").split(),
        *("found_again declared accepted_by conditions metadata products replicas processings").split(),
        *("pins permits jobs transfers warnings volume_cpu_s").split(),
    }


def test_many_are_read_in_a_few_queries(site, make, now):
    with site.writing() as tx:
        for i in range(30):
            report = make.report(root=f"/data/inhouse/s{i}")
            (scan_id,) = site.record_inspected(tx, "inhouse", make.inspected(report), now)
            site.apply_records(tx, [make.made(digest=f"{i:064x}")], now, scan_id=scan_id)
    with site.reading() as tx:
        seen = []
        original = tx.conn.execute
        object.__setattr__(tx.conn, "execute", lambda *a, **k: (seen.append(str(a[0])), original(*a, **k))[1])
        scans = site.list_scans(tx, "inhouse")
        assert len(scans) == 30
        assert len(seen) <= 11
        assert not any("JOIN attempt" in asked for asked in seen), "none has a volume that could be made again"
        assert all(len(s.products) == 1 for s in scans)
        assert site.list_scans(tx, "elsewhere") == []


def test_a_scan_is_found_by_id_name_root_and_master(site, make, now):
    report = make.report(
        root="/data/inhouse/ds", name="ds", entry="1.1", files=(make.file("ds.h5", role=FileRole.MASTER),)
    )
    odd = make.report(root="/data/inhouse/\udcff x", name="\udcff x")
    with site.writing() as tx:
        (a,) = site.record_inspected(tx, "inhouse", make.inspected(report, key="ds.h5"), now)
        (b,) = site.record_inspected(tx, "inhouse", make.inspected(odd), now)
    with site.reading() as tx:
        for text in (a, "ds", "/data/inhouse/ds", "/data/inhouse/ds/", "/data/inhouse/ds/ds.h5"):
            assert [f.id for f in site.find_scans(tx, text)] == [a], text
        assert [f.id for f in site.find_scans(tx, "/data/inhouse/\udcff x")] == [b]
        assert site.find_scans(tx, "d") == []
        assert site.find_scans(tx, "/data/inhouse") == []


def test_an_unknown_scan_is_a_wrong_request(site):
    with site.reading() as tx, pytest.raises(UserError, match="no scan"):
        site.known(tx, "nope")


def test_due_scans_come_longest_due_first(site, make, now):
    with site.writing() as tx:
        ids = [
            site.record_inspected(tx, "inhouse", make.inspected(make.report(root=f"/data/inhouse/s{i}")), now)[0]
            for i in range(4)
        ]
        site.set_next_due(tx, ids[0], now - timedelta(hours=1))
        site.set_next_due(tx, ids[1], None)
        site.set_next_due(tx, ids[2], now + timedelta(microseconds=1))
        site.set_next_due(tx, ids[3], now - timedelta(hours=2))
        assert site.list_due(tx, now, 10) == [ids[3], ids[0]]
        assert site.list_due(tx, now, 1) == [ids[3]]
        site.touch(tx, ids[1], now)
        assert site.list_due(tx, now, 10) == [ids[3], ids[0], ids[1]]


def test_a_naive_time_is_refused(site, scan_id, now):
    with pytest.raises(Exception, match="without a zone"), site.writing() as tx:
        site.set_next_due(tx, scan_id, now.replace(tzinfo=None))


def test_a_new_volume_has_to_be_accepted_anew(site, scan_id, make, now):
    first = [
        Made(ProductKind.VOLUME, make.digest("a"), 9, 1),
        make.stored(kind=ProductKind.VOLUME, digest=make.digest("a")),
    ]
    second = [
        Made(ProductKind.VOLUME, make.digest("b"), 9, 1),
        make.stored(kind=ProductKind.VOLUME, digest=make.digest("b"), location="/t/2"),
    ]
    with site.writing() as tx:
        site.apply_records(tx, first, now, scan_id=scan_id)
        site.accept(tx, scan_id, "ann", "", now)
        assert site.known(tx, scan_id).accepted_by == "ann"
        site.apply_records(tx, second, now + timedelta(seconds=1), scan_id=scan_id)
        assert site.known(tx, scan_id).accepted_by is None


def test_a_whole_catalogue_is_gone_through_some_at_a_time(site, make, now, monkeypatch):
    monkeypatch.setattr(scans, "_AT_A_TIME", 2)
    with site.writing() as tx:
        for n in (1, 3, 0, 2, 4):
            at = None if n == 4 else now - timedelta(days=n)
            report = make.report(root=f"/data/inhouse/n{n}", identity=f"n{n}", acquired_at=at)
            site.record_inspected(tx, "inhouse", make.inspected(report), now - timedelta(days=8 - n))
        assert [s.name for s in site.walk_scans(tx, ["inhouse"])] == ["n0", "n1", "n2", "n3", "n4"]
        assert [s.name for s in site.walk_scans(tx, newest_first=True)] == ["n0", "n1", "n2", "n3", "n4"]
        assert list(site.walk_scans(tx, ["elsewhere"])) == []
        read = []
        known_many = scans.known_many
        monkeypatch.setattr(scans, "known_many", lambda tx, ids: read.append(len(ids)) or known_many(tx, ids))
        assert next(site.walk_scans(tx)).name == "n0"
        assert read == [2]


def test_a_walk_over_all_scans_may_be_left_early(site, make, now, monkeypatch):
    monkeypatch.setattr(scans, "_AT_A_TIME", 1)
    with site.writing() as tx:
        for name in "abc":
            site.record_inspected(tx, "inhouse", make.inspected(make.report(f"/data/inhouse/{name}")), now)
    with site.reading() as tx:
        walk = site.walk_scans(tx)
        first = next(walk)
        assert site.known(tx, first.id) == first  # other questions in between
        second = next(walk)
    with site.reading() as tx:
        assert [s.id for s in site.walk_scans(tx)][:2] == [first.id, second.id]
    del walk
    with site.reading() as tx:
        assert len(site.list_scans(tx)) == 3
