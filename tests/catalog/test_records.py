from __future__ import annotations

import errno
import os
from datetime import timedelta

import pytest

from tomovault.catalog import manifests
from tomovault.core.errors import IntegrityError, NoSpace, Refused, Transient, UserError
from tomovault.core.record import Checked, Made
from tomovault.core.replica import Form, ProductKind, ReplicaState, TierClass
from tomovault.core.scan import FileRole, FileState, ScanFile


def _states(site, tx, scan_id):
    return {f"{r.tier}/{r.domain}": r.state for r in site.known(tx, scan_id).replicas}


def test_products_and_replicas_are_recorded_once(site, archived, make, now):
    later = now + timedelta(days=1)
    with site.writing() as tx:
        before = site.known(tx, archived.id)
        again = [make.made(), make.stored("tape", "pool-a", verified_at=later)]
        site.apply_records(tx, again, later, scan_id=archived.id)
        after = site.known(tx, archived.id)
        assert len(after.products) == len(before.products)
        assert len(after.replicas) == len(before.replicas)
        assert {r.verified_at for r in after.replicas if r.domain == "pool-a"} == {later}
        assert site.recount(tx) == []


def test_parts_of_a_package_are_kept_and_those_of_files_are_the_manifests(site, archived, make):
    with site.reading() as tx:
        (part,) = site.replica_parts(tx, archived.replica["tape/pool-a"])
        assert (part.location, part.size, part.sha256) == ("/tape/pool-a/x", 60, make.digest("e"))
        assert site.replica_parts(tx, archived.replica["inhouse/disk"]) == ()


def test_a_check_verifies_or_makes_suspect(site, archived, now):
    replica = archived.replica["tape/pool-a"]
    later = now + timedelta(days=1)
    with site.writing() as tx:
        site.set_next_due(tx, archived.id, None)
        site.apply_records(tx, [Checked(replica, False, later, "bit flip\udcff")], later)
        assert _states(site, tx, archived.id)["tape/pool-a"] is ReplicaState.SUSPECT
        assert site.list_due(tx, later, 9) == [archived.id]
        row = site.list_audit(tx, archived.id)[0]
        assert (row.op, row.body["checked"]["reason"]) == ("replica suspect", "bit flip\udcff")
        site.apply_records(tx, [Checked(replica, True, later)], later)
        scan = site.known(tx, archived.id)
        found = next(r for r in scan.replicas if r.id == replica)
        assert (found.state, found.verified_at) == (ReplicaState.VERIFIED, later)


def test_a_missing_replica_is_suspect_and_never_gone(site, archived, now):
    with site.writing() as tx:
        site.record_missing(tx, archived.replica["inhouse/disk"], "not found", now)
        site.record_missing(tx, archived.replica["inhouse/disk"], "not found", now)
        assert _states(site, tx, archived.id)["inhouse/disk"] is ReplicaState.SUSPECT
        assert [r.op for r in site.list_audit(tx, archived.id)].count("replica missing") == 1


def test_a_package_written_over_another_of_the_scan_replaces_it(site, archived, make, now):
    other = [
        Made(ProductKind.ORIGINAL, make.digest("f"), 150, 2),
        make.stored("inhouse.vault", "disk", digest=make.digest("f")),
    ]
    with site.writing() as tx:
        site.apply_records(tx, other, now + timedelta(seconds=1), scan_id=archived.id)
        at = {r.digest: r.state for r in site.known(tx, archived.id).replicas if r.tier == "inhouse.vault"}
        assert at == {make.digest("d"): ReplicaState.GONE, make.digest("f"): ReplicaState.VERIFIED}
        assert site.recount(tx) == []


def test_two_scans_never_share_a_package_but_may_share_a_folder(site, archived, make, now):
    with site.writing() as tx:
        report = make.report(entry="2.1", identity="other")
        (other,) = site.record_inspected(tx, "inhouse", make.inspected(report, key="2"), now)
        files = make.stored("inhouse", "disk", form=Form.FILES, location="/data/inhouse/s1", digest=make.digest("f"))
        made = Made(ProductKind.ORIGINAL, make.digest("f"), 150, 2)
        site.apply_records(tx, [made, files], now, scan_id=other)
    with pytest.raises(IntegrityError, match=archived.id), site.writing() as tx:
        site.apply_records(tx, [make.stored("tape", "pool-a", digest=make.digest("f"))], now, scan_id=other)


def test_a_replica_needs_its_product_and_a_known_tier(site, scan_id, make, now):
    for records in ([make.stored()], [make.made(), make.stored("nowhere")]):
        with pytest.raises(UserError), site.writing() as tx:
            site.apply_records(tx, records, now, scan_id=scan_id)


def test_without_a_scan_a_replica_is_of_the_one_that_has_its_product(site, archived, make, now):
    with site.writing() as tx:
        site.apply_records(tx, [make.stored("tape", "pool-z")], now)
        assert _states(site, tx, archived.id)["tape/pool-z"] is ReplicaState.VERIFIED
        with pytest.raises(UserError, match="fits no scan"):
            site.apply_records(tx, [make.stored("tape", digest=make.digest("0"))], now)


def test_a_recall_writes_one_pin_and_lengthens_it(site, archived, make, now):
    with site.writing() as tx:
        for days in (1, 5, 3):
            until = now + timedelta(days=days)
            site.apply_records(tx, [make.stored("mirror", "m", pinned_until=until)], now, scan_id=archived.id)
        (pin,) = site.known(tx, archived.id).pins
        assert (pin.tier, pin.until, pin.owner) == ("mirror", now + timedelta(days=5), "tomovault")
        assert site.remove_pins(tx, archived.id, "ann", now, owner="bob") == 0
        assert site.remove_pins(tx, archived.id, "ann", now) == 1
        assert site.known(tx, archived.id).pins == ()


def test_a_verified_replica_has_a_date_says_the_database_too(site, archived):
    from sqlalchemy import update
    from sqlalchemy.exc import IntegrityError as Violation

    from tomovault.catalog import tables

    with pytest.raises(Violation), site.writing() as tx:
        tx.run(update(tables.replica).values(verified_at=None))


def test_acceptance_needs_a_verified_volume(site, archived, now):
    with pytest.raises(Refused, match="no verified volume"), site.writing() as tx:
        site.accept(tx, archived.id, "ann", "", now)


def test_the_manifest_of_an_original_is_a_file_named_by_its_digest(site, scan_id, make, now):
    text = '{"files": ["\\udcff é"]}'
    with site.writing() as tx:
        site.apply_records(tx, [make.made(manifest=text)], now, scan_id=scan_id)
    path = site.manifest_path(make.digest("d"))
    assert path.endswith(f"/dd/{make.digest('d')}.json")
    assert site.read_manifest(make.digest("d")) == text
    assert os.listdir(os.path.dirname(path)) == [os.path.basename(path)]
    assert site.read_manifest(make.digest("0")) is None
    with pytest.raises(UserError):
        site.manifest_path("../../etc/passwd")


@pytest.mark.parametrize(("number", "kind"), [(errno.ENOSPC, NoSpace), (errno.EDQUOT, NoSpace), (errno.EIO, Transient)])
def test_a_full_disk_leaves_no_half_manifest(tmp_path, monkeypatch, number, kind):
    def fail(_handle):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(manifests.os, "fsync", fail)
    with pytest.raises(kind):
        manifests.write_manifest(str(tmp_path), "a" * 64, "x")
    assert list((tmp_path / "aa").iterdir()) == []


@pytest.mark.parametrize("simulated", [False, True])
def test_an_area_that_nobody_has_seen_takes_the_marker_that_it_has(catalogue, now, simulated):
    def record(uuid, fsid, **more):
        known = {"path": "/data/new", "mount_source": "", "tier_class": TierClass.SERVER, "now": now}
        with catalogue.writing() as tx:
            return catalogue.record_area(tx, "new", uuid=uuid, fsid=fsid, **(known | more))

    record("", "", simulated=False)
    seen = record("u9", "ext4:1", simulated=simulated, mount_source="/dev/sdz")
    assert (seen.uuid, seen.fsid, seen.simulated) == ("u9", "ext4:1", simulated)
    with pytest.raises(UserError, match="marker"):
        record("u8", "ext4:1", simulated=simulated)


def test_an_area_first_real_never_becomes_simulated(site, now):
    def record(**more):
        values = {
            "path": "/data/inhouse",
            "uuid": "u1",
            "fsid": "f1",
            "mount_source": "/dev/sda1",
            "simulated": False,
            "tier_class": TierClass.SERVER,
            "now": now,
        }
        with site.writing() as tx:
            return site.record_area(tx, "inhouse", **(values | more))

    with pytest.raises(Refused) as refusal:
        record(simulated=True)
    assert refusal.value.by == "law 4"
    with pytest.raises(UserError, match="marker"):
        record(uuid="u2")
    with pytest.raises(UserError, match="watched"):
        record(tier_class=TierClass.ARCHIVE)
    moved = record(mount_source="/dev/sdb1")
    with site.reading() as tx:
        assert site.list_areas(tx) == [moved]
        ops = [row.op for row in site.list_audit(tx)]
        assert ops == ["area changed", "area recorded"]
        assert {t.name for t in site.list_tiers(tx)} == {"emulated", "inhouse", "inhouse.vault", "mirror", "tape"}


def test_a_candidate_that_cannot_be_recorded_hides_no_other(site, make, now):
    good = make.inspected(make.report(root="/data/inhouse/s2", identity="two"))
    bad = make.inspected(make.report(identity=None))
    with site.writing() as tx:
        site.apply_records(tx, [bad, good], now, area="inhouse")
    with site.reading() as tx:
        assert [s.root for s in site.list_scans(tx)] == ["/data/inhouse/s2"]
        (problem,) = site.list_problems(tx)
    assert problem.candidate.folder == "/data/inhouse/s1"
    assert "cannot be recorded" in problem.problem


@pytest.mark.parametrize("year", [1600, 2300])
def test_a_date_far_away_is_recorded(site, make, now, year):
    state = FileState("a.edf", 1, (year - 1970) * 31_556_952 * 10**9, 0, 1, 1, 0o100644, 0, 0)
    report = make.report(files=(ScanFile(state, FileRole.PROJECTION),))
    with site.writing() as tx:
        (scan_id,) = site.record_inspected(tx, "inhouse", make.inspected(report), now)
        assert site.record_inspected(tx, "inhouse", make.inspected(report), now) == [scan_id]
