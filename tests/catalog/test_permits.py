from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import select, update

from tomovault.catalog import tables
from tomovault.core.errors import Refused, UserError
from tomovault.core.known import RemovalPhase
from tomovault.core.record import Checked, Made, Processing, PutBack, Quarantined, Removed
from tomovault.core.replica import Form, ProductKind, ReplicaState, TierClass
from tomovault.core.scan import Verdict


def _grant(site, tx, archived, now, place="inhouse/disk", **more):
    values = {
        "removal_enabled": True,
        "copies_asked": 2,
        "within": {},
        "rule": "watermark v1",
        "hold_until": now + timedelta(days=14),
        "archiving_hopeful": True,
        "now": now,
    }
    return site.grant_permit(tx, archived.id, archived.replica[place], **(values | more))


def _regrant(site, tx, permit, now, **more):
    values = {"removal_enabled": True, "copies_asked": 2, "within": {}, "archiving_hopeful": True, "now": now}
    return site.regrant(tx, permit.id, **(values | more))


def _state(site, tx, archived, place="inhouse/disk"):
    scan = site.known(tx, archived.id)
    return next(r.state for r in scan.replicas if r.id == archived.replica[place])


def _refused(site, archived, now, match, by="law 4", place="inhouse/disk", **more):
    with pytest.raises(Refused, match=match) as refusal, site.writing() as tx:
        _grant(site, tx, archived, now, place, **more)
    assert refusal.value.by == by
    with site.reading() as tx:
        assert site.known(tx, archived.id).permits == ()
        assert _state(site, tx, archived, place) is not ReplicaState.LEAVING


def test_a_permit_names_the_copies_it_relies_on(site, archived, now, make):
    with site.writing() as tx:
        permit = _grant(site, tx, archived, now)
        assert (permit.phase, permit.rule, permit.bytes, permit.files) == (
            RemovalPhase.GRANTED,
            "watermark v1",
            150,
            1,
        )
        relied = {(c["replica"], c["tier"], c["domain"], c["sha256"], c["verified_at"]) for c in permit.relied_on}
        expected = {
            (archived.replica[f"tape/{d}"], "tape", d, make.digest("e"), now.isoformat()) for d in ("pool-a", "pool-b")
        }
        assert relied >= expected
        assert site.known(tx, archived.id).permits == (permit,)
        assert _state(site, tx, archived) is ReplicaState.LEAVING
        row = site.list_audit(tx, archived.id)[0]
        assert (row.op, row.body["permit"]) == ("permit granted", permit.id)
    with pytest.raises(Refused, match="is leaving"), site.writing() as tx:
        _grant(site, tx, archived, now)


@pytest.mark.parametrize(
    ("more", "match", "by"),
    [
        ({"removal_enabled": False}, "prune is off", "prune: off"),
        ({"copies_asked": 3}, "2 of 3", "law 4"),
        ({"copies_asked": 0, "within": {TierClass.ARCHIVE: timedelta(0)}}, None, None),
    ],
)
def test_what_the_caller_asks_is_weighed(site, archived, now, more, match, by):
    if match:
        _refused(site, archived, now, match, by, **more)
    else:
        with site.writing() as tx:
            assert _grant(site, tx, archived, now, **more)


def test_old_and_future_dates_do_not_count(site, archived, now):
    _refused(site, archived, now + timedelta(days=401), "0 of 2")
    _refused(site, archived, now - timedelta(days=1), "0 of 2")
    _refused(site, archived, now + timedelta(days=2), "0 of 2", within={TierClass.ARCHIVE: timedelta(days=1)})


@pytest.mark.parametrize("how", ["suspect", "same domain", "lossy", "emulated", "leaving", "pinned", "incomplete"])
def test_each_lack_refuses(site, archived, now, how):
    replica = archived.replica["tape/pool-b"]
    by = "law 4"
    with site.writing() as tx:
        if how == "suspect":
            site.apply_records(tx, [Checked(replica, False, now, "bad")], now)
        elif how == "same domain":
            tx.run(update(tables.replica).where(tables.replica.c.id == replica).values(domain="pool-a"))
        elif how == "lossy":
            tx.run(update(tables.product).values(lossless=False))
        elif how == "emulated":
            tx.run(update(tables.replica).where(tables.replica.c.id == replica).values(tier="emulated"))
        elif how == "leaving":
            tx.run(update(tables.replica).where(tables.replica.c.id == replica).values(state="leaving"))
        elif how == "pinned":
            site.add_pin(tx, archived.id, "ann", "mine", now + timedelta(days=1), now)
            by = "pin"
        else:
            tx.run(update(tables.scan).values(settled=False))
    match = {"pinned": "pinned by ann", "incomplete": "not complete", "lossy": "0 of 2"}.get(how, "1 of 2")
    _refused(site, archived, now, match, by)


def test_an_archive_copy_goes_only_while_enough_others_stay(site, archived, now, make):
    _refused(site, archived, now, "1 of 2", place="tape/pool-a")
    with site.writing() as tx:
        site.apply_records(tx, [make.stored("tape", "pool-c")], now, scan_id=archived.id)
        permit = _grant(site, tx, archived, now, "tape/pool-a")
        assert {c["domain"] for c in permit.relied_on if c["tier"] == "tape"} == {"pool-b", "pool-c"}
    with pytest.raises(Refused, match="1 of 2"), site.writing() as tx:
        _grant(site, tx, archived, now, "tape/pool-b")


def test_a_fast_tier_may_rely_on_one_server_in_another_domain(site, make, now):
    with site.writing() as tx:
        site.record_area(
            tx,
            "nvme",
            path="/nvme",
            uuid="u2",
            fsid="f2",
            mount_source="s2",
            simulated=False,
            tier_class=TierClass.FAST,
            now=now,
        )
        (scan_id,) = site.record_inspected(tx, "nvme", make.inspected(make.report("/nvme/s")), now)
        files = make.stored("nvme", "nvme0", form=Form.FILES, location="/nvme/s")
        site.apply_records(tx, [make.made(), files, make.stored("mirror", "nvme0")], now, scan_id=scan_id)
        victim = next(r.id for r in site.known(tx, scan_id).replicas if r.tier == "nvme")

    class It:
        id = scan_id
        replica = {"nvme": victim}  # noqa: RUF012

    _refused(site, It, now, "0 of 2", place="nvme")
    with site.writing() as tx:
        site.apply_records(tx, [make.stored("mirror", "server7", location="/m/2")], now, scan_id=scan_id)
    _refused(site, It, now, "not wanted or has failed", place="nvme", archiving_hopeful=False)
    with site.writing() as tx:
        permit = _grant(site, tx, It, now, "nvme")
        assert [c["domain"] for c in permit.relied_on] == ["server7"]


@pytest.mark.parametrize("kept", ["copy", "parameters", "neither"])
def test_a_volume_goes_with_a_copy_or_with_its_parameters(site, archived, make, now, kept):
    parameters = {"centre": 1.0} if kept == "parameters" else {}
    run = Processing("fourier", "1", parameters, now, now, (make.digest("a"),))
    volume = Made(ProductKind.VOLUME, make.digest("a"), 9, 1, lossless=False, processing=run)
    where = {"kind": ProductKind.VOLUME, "digest": make.digest("a")}
    records = [volume, make.stored("inhouse.vault", "disk", location="/v/vol", **where)]
    if kept == "copy":
        records.append(make.stored("tape", "pool-a", location="/t/vol", **where))
    with site.writing() as tx:
        site.apply_records(tx, records, now, scan_id=archived.id)
        scan = site.known(tx, archived.id)
    archived.replica["v"] = next(r.id for r in scan.replicas if r.location == "/v/vol")
    if kept == "neither":
        _refused(site, archived, now, "cannot be made again", place="v")
    else:
        with site.writing() as tx:
            assert _grant(site, tx, archived, now, "v").relied_on


def test_a_removal_goes_through_its_phases_to_a_tombstone(site, archived, now):
    with site.writing() as tx:
        permit = _grant(site, tx, archived, now)
        before = {r.value: r.bytes for r in site.usage(tx, "area")}
        site.apply_records(tx, [Quarantined(permit.id, ("a.edf",), 100, ("b.edf",), ("c.edf",))], now)
        (permit,) = site.known(tx, archived.id).permits
        assert (permit.phase, permit.bytes, permit.files, permit.left) == (
            RemovalPhase.QUARANTINED,
            100,
            1,
            ("b.edf",),
        )
        assert {r.value: r.bytes for r in site.usage(tx, "area")} == before, "quarantine counts in the quota"
    with pytest.raises(Refused, match="holds until") as refusal, site.writing() as tx:
        _regrant(site, tx, permit, now + timedelta(days=13))
    assert refusal.value.by == "hold"
    later = now + timedelta(days=14)
    with site.writing() as tx:
        assert _regrant(site, tx, permit, later).phase is RemovalPhase.LEAVING
        site.apply_records(tx, [Removed(permit.id, 1, 100)], later)
        site.apply_records(tx, [Removed(permit.id, 1, 100)], later)
        scan = site.known(tx, archived.id)
        assert scan.permits[0].phase is RemovalPhase.GONE
        assert _state(site, tx, archived) is ReplicaState.GONE
        (stone,) = tx.rows(select(tables.tombstone))
        assert (stone.permit_id, stone.tier, stone.location, stone.bytes) == (
            permit.id,
            "inhouse",
            "/data/inhouse/s1",
            100,
        )
        assert {r.value: r.bytes for r in site.usage(tx, "area")} == {"inhouse": before["inhouse"] - 150}
        assert site.recount(tx) == []
    with pytest.raises(Refused), site.writing() as tx:
        site.apply_records(tx, [PutBack(permit.id, 1, 100)], later)
    with pytest.raises(Refused), site.writing() as tx:
        _regrant(site, tx, permit, later)


def test_a_removal_that_was_over_before_it_could_be_told_has_a_whole_tombstone(site, archived, now):
    """The attempt that removed the bytes died; the next one found nothing to remove."""
    later = now + timedelta(days=15)
    with site.writing() as tx:
        permit = _grant(site, tx, archived, now)
        site.apply_records(tx, [Quarantined(permit.id, ("a.edf", "b.edf"), 150)], now)
        assert _regrant(site, tx, permit, later).moved == ("a.edf", "b.edf")
        site.apply_records(tx, [Removed(permit.id, 0, 0)], later)
        (stone,) = tx.rows(select(tables.tombstone))
        assert (stone.files, stone.bytes) == (2, 150)
        assert site.recount(tx) == []


def test_the_second_evaluation_sees_what_went_bad_in_the_hold(site, archived, now):
    with site.writing() as tx:
        permit = _grant(site, tx, archived, now)
        site.apply_records(tx, [Quarantined(permit.id, ("a.edf",), 100)], now)
        site.apply_records(tx, [Checked(archived.replica["tape/pool-a"], False, now, "bad")], now)
    with pytest.raises(Refused, match="1 of 2"), site.writing() as tx:
        _regrant(site, tx, permit, now + timedelta(days=20))
    with site.writing() as tx:
        assert site.known(tx, archived.id).permits[0].phase is RemovalPhase.QUARANTINED
        site.apply_records(tx, [PutBack(permit.id, 1, 100)], now)
        assert _state(site, tx, archived) is ReplicaState.VERIFIED
        assert site.known(tx, archived.id).permits[0].phase is RemovalPhase.UNDONE
    with pytest.raises(Refused, match="taken back"), site.writing() as tx:
        site.apply_records(tx, [Removed(permit.id, 1, 100)], now)


def test_a_conflict_at_undo_leaves_the_copy_suspect(site, archived, now):
    with site.writing() as tx:
        permit = _grant(site, tx, archived, now)
        site.apply_records(tx, [Quarantined(permit.id, ("a.edf",), 100)], now)
        site.apply_records(tx, [PutBack(permit.id, 0, 0, ("a.edf",))], now)
        assert _state(site, tx, archived) is ReplicaState.SUSPECT


def test_a_file_that_a_removal_found_changed_keeps_the_copy_suspect_when_it_is_taken_back(site, archived, now):
    with site.writing() as tx:
        permit = _grant(site, tx, archived, now)
        changed = "b.edf: has other content"
        site.apply_records(tx, [Quarantined(permit.id, ("a.edf",), 100, (changed, "c.h5: another scan needs it"))], now)
        site.apply_records(tx, [PutBack(permit.id, 1, 100)], now)
        assert _state(site, tx, archived) is ReplicaState.SUSPECT
        assert site.known(tx, archived.id).permits[0].left == (changed,)


def test_what_conflicts_stays_under_its_permit_until_it_is_back(site, archived, now):
    with site.writing() as tx:
        permit = _grant(site, tx, archived, now)
        site.apply_records(tx, [Quarantined(permit.id, ("a.edf", "b.edf"), 150)], now)
        kept = PutBack(permit.id, 1, 50, ("a.edf: something else",), kept=("a.edf",), kept_bytes=100)
        site.apply_records(tx, [kept], now)
        (open_,) = site.known(tx, archived.id).permits
        assert (open_.phase, open_.files, open_.bytes) == (RemovalPhase.QUARANTINED, 1, 100)
        assert open_.left == ("a.edf: something else",)
        assert tx.value(select(tables.permit.c.moved)) == ["a.edf"]
        assert _state(site, tx, archived) is ReplicaState.SUSPECT
    with pytest.raises(Refused, match="in part"), site.writing() as tx:
        _regrant(site, tx, permit, now + timedelta(days=15))
    with pytest.raises(Refused, match="quarantine"), site.writing() as tx:
        _grant(site, tx, archived, now)
    with site.writing() as tx:
        site.apply_records(tx, [PutBack(permit.id, 2, 150)], now)
        (undone,) = site.known(tx, archived.id).permits
        assert (undone.phase, undone.left) == (RemovalPhase.UNDONE, ())
        assert _state(site, tx, archived) is ReplicaState.VERIFIED
        assert tx.rows(select(tables.tombstone)) == []
        assert site.recount(tx) == []


def test_what_went_before_the_undo_has_a_tombstone(site, archived, now):
    later = now + timedelta(days=15)
    with site.writing() as tx:
        permit = _grant(site, tx, archived, now)
        site.apply_records(tx, [Quarantined(permit.id, ("a.edf", "b.edf"), 150)], now)
        _regrant(site, tx, permit, later)
        gone = PutBack(permit.id, 1, 50, ("a.edf: was removed already",), removed_files=1, removed_bytes=100)
        site.apply_records(tx, [gone], later)
        (stone,) = tx.rows(select(tables.tombstone))
        assert (stone.permit_id, stone.files, stone.bytes, stone.removed_at) == (permit.id, 1, 100, later)
        assert site.known(tx, archived.id).permits[0].phase is RemovalPhase.UNDONE
        assert _state(site, tx, archived) is ReplicaState.SUSPECT


def test_a_permit_that_moved_nothing_can_be_withdrawn(site, archived, now):
    with site.writing() as tx:
        permit = _grant(site, tx, archived, now)
        site.withdraw_permit(tx, permit.id, "job failed", now)
        assert _state(site, tx, archived) is ReplicaState.VERIFIED
        second = _grant(site, tx, archived, now)
        site.apply_records(tx, [Quarantined(second.id, ("a.edf",), 100)], now)
        with pytest.raises(Refused, match="quarantined"):
            site.withdraw_permit(tx, second.id, "x", now)


@pytest.mark.parametrize(
    ("place", "before", "after"),
    [
        ("inhouse.vault/disk", ReplicaState.VERIFIED, ReplicaState.SUSPECT),
        ("inhouse/disk", ReplicaState.VERIFIED, ReplicaState.PRESENT),
        ("inhouse/disk", ReplicaState.SUSPECT, ReplicaState.SUSPECT),
    ],
)
def test_what_reads_wrong_while_it_leaves(site, archived, now, place, before, after):
    """Files that are moved away one by one while they are read look bad without being so: put back, they have to be
    read again. The removal looks at each of them before it moves it.
    """
    bad = Checked(archived.replica[place], False, now, "bad")
    with site.writing() as tx:
        if before is ReplicaState.SUSPECT:
            site.apply_records(tx, [bad], now)
        permit = _grant(site, tx, archived, now, place)
        site.apply_records(tx, [bad], now)
        assert _state(site, tx, archived, place) is ReplicaState.LEAVING
        site.withdraw_permit(tx, permit.id, "x", now)
        assert _state(site, tx, archived, place) is after


def test_unknown_things_are_wrong_requests(site, archived, now):
    with site.writing() as tx:
        for call in (
            lambda: site.grant_permit(
                tx,
                archived.id,
                "r0",
                removal_enabled=True,
                copies_asked=2,
                within={},
                rule="",
                hold_until=None,
                archiving_hopeful=False,
                now=now,
            ),
            lambda: site.withdraw_permit(tx, "m0", "", now),
            lambda: site.apply_records(tx, [Removed("m0", 1, 1)], now),
            lambda: site.apply_records(tx, [Checked("r0", True, now)], now),
            lambda: site.record_missing(tx, "r0", "", now),
            lambda: site.declare(tx, archived.id, Verdict.UNDECIDED, "a", "b", now),
            lambda: site.declare(tx, archived.id, Verdict.ABORTED, "a", " ", now),
            lambda: site.add_pin(tx, archived.id, "a", "b", now, now),
            lambda: site.add_pin(tx, "s0", "a", "b", now + timedelta(1), now),
            lambda: site.replica_parts(tx, "r0"),
        ):
            with pytest.raises(UserError):
                call()
