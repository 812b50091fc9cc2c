"""A scan found elsewhere with the same digests is the same scan at a new place: two rows become one."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, and_, delete, insert, or_, select, update

from tomovault.catalog import tables
from tomovault.catalog.audit import add_audit
from tomovault.catalog.candidates import CONFIRMED, candidate_hash
from tomovault.catalog.manifests import entry_path, files_of_manifest, manifest_path
from tomovault.catalog.scans import require_scan, touch
from tomovault.catalog.transaction import Tx, new_id, place_hash
from tomovault.catalog.usage import accounted
from tomovault.core.known import JobStatus, RemovalPhase
from tomovault.core.manifest import names_together
from tomovault.core.record import Recognised
from tomovault.core.replica import Form, ProductKind, ReplicaState
from tomovault.core.scan import Candidate

_ACTOR = "tomovault"

#: Why the files of a scan are suspect whose whole candidate several sweeps did not find.
NOT_FOUND = "its files are not found in their place"

#: What is said in the audit log of a replica that is not in its place, or not whole there.
MISSING = "replica missing"

#: Where a scan was, as far as its row tells: what follows it to a new place.
_PLACE = (
    "area",
    "root",
    "root_hash",
    "place_hash",
    "candidate",
    "master",
    "master_hash",
    "identity",
    "verdict",
    "certificate",
    "settled",
    "newest_mtime_ns",
    "bytes",
    "files",
    "set_id",
)

_DECLARED = ("declared_verdict", "declared_by", "declared_reason", "declared_at")

_THERE = (ReplicaState.PRESENT.value, ReplicaState.VERIFIED.value)


@dataclass(frozen=True)
class Twin:
    """A known scan that another may be, found elsewhere, and the manifest that tells."""

    scan: str
    digest: str
    manifest: str


def list_twins(tx: Tx, scan_id: str) -> list[Twin]:
    """Known scans that a scan without an original of its own may be: acquired at the same time as far as can be told
    without reading, of the same format, with a manifest. Whether it is one only the digests say.
    """
    scan, product = tables.scan, tables.product
    new = tx.first(select(scan).where(scan.c.id == scan_id))
    if new is None or new.superseded_by is not None or _original(tx, scan_id) is not None:
        return []
    alike = scan.c.identity == new.identity
    if new.acquired_at is not None:  # a copy that lost its times has another identity
        alike = or_(
            alike,
            and_(scan.c.acquired_at == new.acquired_at, scan.c.bytes == new.bytes, scan.c.files == new.files),
        )
    query = (
        select(scan.c.id, product.c.digest)
        .join(product, product.c.scan_id == scan.c.id)
        .where(
            scan.c.id != scan_id,
            scan.c.format == new.format,
            scan.c.entry == new.entry,
            scan.c.place_hash != new.place_hash,
            product.c.kind == ProductKind.ORIGINAL.value,
            alike,
        )
        .order_by(scan.c.first_seen_at, scan.c.id, product.c.created_at)
    )
    return [Twin(r.id, r.digest, manifest_path(tx.manifests, r.digest)) for r in tx.rows(query)]


def record_recognised(tx: Tx, scan_id: str, found: Recognised, now: datetime) -> None:
    """The scan is the known one at a new place, if that still has the product: its row points to the known scan from
    now on, which has the files as one more replica; what was made of it and its pins are the known scan's.

    Where the known scan's own files are missing it has moved, and its place follows. The caller accounts the usage of
    `scan_id`.
    """
    new, old = require_scan(tx, scan_id), require_scan(tx, found.same_as)
    original = _original(tx, old.id, found.digest)
    if new.superseded_by is not None or original is None or _original(tx, new.id) is not None:
        touch(tx, scan_id, now, new_fact=True)  # facts changed while it was read: it is asked again
        return
    with accounted(tx, old.id):
        _add_files(tx, old.id, original, found)
        _hand_over(tx, new.id, old.id)
        tx.run(update(tables.scan).where(tables.scan.c.id == new.id).values(superseded_by=old.id, next_due_at=None))
        body = {"as": new.id, "root": found.root, "area": found.area, "digest": found.digest}
        add_audit(tx, _ACTOR, "scan found again", body, now, scan=old.id)
        if _home_is_lost(tx, old) and all(was_not_found(tx, old.id, r.id) for r in _home_rows(tx, old)):
            _follow(tx, old, new, now)
    _cancel_jobs(tx, new.id, now)
    touch(tx, old.id, now, new_fact=True)


def follow_lost(tx: Tx, candidate: str, now: datetime) -> None:
    """Scans of a candidate that is not found any more and of which a copy was found elsewhere by its digests have
    moved there.
    """
    scan = tables.scan
    for old in tx.rows(select(scan).where(scan.c.candidate == candidate, scan.c.superseded_by.is_(None))):
        if not _home_is_lost(tx, old):
            continue
        new = _joined_place(tx, old)
        if new is not None:
            with accounted(tx, old.id):
                _follow(tx, old, new, now)
            touch(tx, old.id, now, new_fact=True)


def follow_moved(tx: Tx, scan_id: str, replica_id: str, now: datetime) -> bool:
    """Whether a scan is from now on where that copy of its files in another area is: its rules are those there.

    Only where we removed its files from its own place, nothing of its original is left in its area, the walker knows
    the copy, and the copy has the paths of the manifest. The caller accounts nothing.
    """
    scan, replica = tables.scan, tables.replica
    old = require_scan(tx, scan_id)
    copy = tx.first(select(replica).where(replica.c.id == replica_id, replica.c.scan_id == scan_id))
    if copy is None or old.superseded_by is not None or _is_left(tx, old) or not _as_listed(tx, copy):
        return False
    place = place_hash(copy.tier, old.format, copy.location, old.entry)
    taken = select(scan.c.id).where(scan.c.place_hash == place, scan.c.superseded_by.is_(None))
    candidate = _candidate_at(tx, old, copy)
    if candidate is None or tx.first(taken) is not None:
        return False
    master = None if old.master is None else f"{copy.location}{old.master.removeprefix(old.root)}"
    values = {
        "area": copy.tier,
        "root": copy.location,
        "root_hash": place_hash(copy.location),
        "place_hash": place,
        "candidate": candidate,
        "master": master,
        "master_hash": None if master is None else place_hash(master),
        "changed_at": now,
    }
    with accounted(tx, old.id):
        tx.run(update(scan).where(scan.c.id == old.id).values(**values))
        _leave_candidate(tx, old)
        body = {"from": old.root, "from_area": old.area, "to": copy.location, "to_area": copy.tier}
        add_audit(tx, _ACTOR, "scan moved", body, now, scan=old.id)
    touch(tx, old.id, now, new_fact=True)
    return True


def _is_left(tx: Tx, scan: Row[Any]) -> bool:
    """Whether anything of the original is left in the scan's area, or its files went otherwise than by our removal."""
    replica, product, permit = tables.replica, tables.product, tables.permit
    here = tx.rows(
        select(replica.c.state)
        .join(product, product.c.id == replica.c.product_id)
        .where(
            replica.c.scan_id == scan.id,
            replica.c.tier == scan.area,
            product.c.kind == ProductKind.ORIGINAL.value,
            replica.c.state != ReplicaState.GONE.value,
        )
    )
    home = [row.id for row in _home_rows(tx, scan)]
    removed = select(permit.c.id).where(permit.c.replica_id.in_(home), permit.c.phase == RemovalPhase.GONE.value)
    return bool(here) or tx.first(removed) is None


def _as_listed(tx: Tx, copy: Row[Any]) -> bool:
    """Whether a good copy of the original files stands as its manifest lists it: a split scan stands together there."""
    good = copy.form == Form.FILES.value and copy.state == ReplicaState.VERIFIED.value
    files = files_of_manifest(tx.manifests, copy.sha256) if good else None
    return files is not None and not names_together([entry_path(entry) for entry in files])[0]


def _candidate_at(tx: Tx, old: Row[Any], copy: Row[Any]) -> str | None:
    """The candidate that the walker knows where the copy stands, None where it knows none."""
    table = tables.candidate
    own = tx.first(select(table).where(table.c.key_hash == old.candidate))
    if own is None:
        return None
    folder = os.path.normpath(os.path.join(copy.location, os.path.relpath(own.folder, old.root)))
    found = select(table.c.key_hash).where(
        table.c.key_hash == candidate_hash(copy.tier, Candidate(own.format, folder, own.key))
    )
    return None if (key := tx.value(found)) is None else str(key)


def was_not_found(tx: Tx, scan_id: str, replica_id: str) -> bool:
    """Whether the last that was said of a suspect replica is that it is not in its place: not that its bytes differ."""
    return last_word(tx, scan_id, replica_id)[1] == NOT_FOUND


def was_missing(tx: Tx, scan_id: str, replica_id: str) -> bool:
    """Whether the last that was said of a suspect replica is that it is missing, whole or in part."""
    return last_word(tx, scan_id, replica_id)[0] == MISSING


def last_word(tx: Tx, scan_id: str, replica_id: str) -> tuple[str, str]:
    """(operation, reason) of the last in the audit log that says whether a replica is right; ('', '') for none."""
    audit = tables.audit
    ops = ("replica suspect", MISSING, "replica verified again")
    query = select(audit.c.op, audit.c.body).where(audit.c.scan_id == scan_id, audit.c.op.in_(ops))
    for row in tx.rows(query.order_by(audit.c.seq.desc())):
        body = json.loads(row.body)
        told = body.get("checked", body)
        if told["replica"] == replica_id:
            return str(row.op), str(told["reason"])
    return "", ""


def _original(tx: Tx, scan_id: str, digest: str | None = None) -> Row[Any] | None:
    product = tables.product
    query = select(product).where(product.c.scan_id == scan_id, product.c.kind == ProductKind.ORIGINAL.value)
    return tx.first(query if digest is None else query.where(product.c.digest == digest))


def _add_files(tx: Tx, scan_id: str, original: Row[Any], found: Recognised) -> None:
    replica = tables.replica
    at = place_hash(found.root)
    values = {
        "domain": found.domain,
        "bytes": found.bytes,
        "files": original.files,
        "sha256": found.digest,
        "written_at": found.at,
        "verified_at": found.at,
        "state": ReplicaState.VERIFIED.value,
        "parts": [],
    }
    same = (
        replica.c.product_id == original.id,
        replica.c.tier == found.area,
        replica.c.form == Form.FILES.value,
        replica.c.location_hash == at,
    )
    if not tx.changed(update(replica).where(*same).values(**values)):
        tx.run(
            insert(replica).values(
                id=new_id("r"),
                scan_id=scan_id,
                product_id=original.id,
                form=Form.FILES.value,
                tier=found.area,
                location=found.root,
                location_hash=at,
                **values,
            )
        )


def _hand_over(tx: Tx, new: str, old: str) -> None:
    """What was made of the one is the other's; of two equal products one is left, with the replicas of both."""
    product, replica, processing, pin = tables.product, tables.replica, tables.processing, tables.pin
    for made in tx.rows(select(product).where(product.c.scan_id == new)):
        query = select(product.c.id).where(
            product.c.scan_id == old, product.c.kind == made.kind, product.c.digest == made.digest
        )
        same = tx.value(query)
        for table in (replica, processing):
            values = {"scan_id": old} if same is None else {"scan_id": old, "product_id": same}
            tx.run(update(table).where(table.c.product_id == made.id).values(**values))
        if same is None:
            tx.run(update(product).where(product.c.id == made.id).values(scan_id=old))
        else:
            tx.run(delete(product).where(product.c.id == made.id))
    for table in (pin, tables.transfer, tables.owner_warning):
        tx.run(update(table).where(table.c.scan_id == new).values(scan_id=old))


def _cancel_jobs(tx: Tx, scan_id: str, now: datetime) -> None:
    """What is queued for the scan is not wanted any more; what is being done ends by itself and finds it so."""
    job = tables.job
    tx.run(
        update(job)
        .where(job.c.scan_id == scan_id, job.c.status == JobStatus.TODO.value)
        .values(status=JobStatus.CANCELLED.value, finished_at=now)
    )


def _home_rows(tx: Tx, scan: Row[Any]) -> Sequence[Row[Any]]:
    """Replicas of the original files where the scan's own place is."""
    replica, product = tables.replica, tables.product
    return tx.rows(
        select(replica)
        .join(product, product.c.id == replica.c.product_id)
        .where(
            replica.c.scan_id == scan.id,
            product.c.kind == ProductKind.ORIGINAL.value,
            replica.c.form == Form.FILES.value,
            replica.c.tier == scan.area,
            replica.c.location_hash == scan.root_hash,
        )
    )


def _home_is_lost(tx: Tx, scan: Row[Any]) -> bool:
    """Whether the files are missing where the scan was, and not because we took them away or another came there."""
    home = _home_rows(tx, scan)
    permit = tables.permit
    taken = select(permit.c.id).where(permit.c.replica_id.in_([r.id for r in home]), permit.c.phase != "undone")
    lost = bool(home) and all(r.state == ReplicaState.SUSPECT for r in home)
    return scan.superseded_by is None and lost and tx.first(taken) is None


def _joined_place(tx: Tx, old: Row[Any]) -> Row[Any] | None:
    """The row of a place where the scan was found again, and its files still are."""
    scan, replica = tables.scan, tables.replica
    query = (
        select(scan)
        .join(
            replica,
            and_(
                replica.c.scan_id == scan.c.superseded_by,
                replica.c.tier == scan.c.area,
                replica.c.location_hash == scan.c.root_hash,
            ),
        )
        .where(
            scan.c.superseded_by == old.id,
            scan.c.place_hash != old.place_hash,
            replica.c.form == Form.FILES.value,
            replica.c.state.in_(_THERE),
        )
        .order_by(scan.c.first_seen_at.desc())
    )
    return tx.first(query)


def _follow(tx: Tx, old: Row[Any], new: Row[Any], now: datetime) -> None:
    """The scan is at the place of the other row, which keeps the old place in case it is moved back; nothing is missed
    there any more.
    """
    scan, replica = tables.scan, tables.replica
    for row in _home_rows(tx, old):
        tx.run(update(replica).where(replica.c.id == row.id).values(state=ReplicaState.GONE.value))
    declared = _DECLARED if old.declared_verdict is None else ()
    values: dict[str, Any] = {name: getattr(new, name) for name in (*_PLACE, *declared)}
    tx.run(update(scan).where(scan.c.id == old.id).values(**values, ever_complete=True, changed_at=now))
    left = {name: getattr(old, name) for name in _PLACE}
    tx.run(update(scan).where(scan.c.id == new.id).values(**left))
    _leave_candidate(tx, old)
    body = {"from": old.root, "from_area": old.area, "to": new.root, "to_area": new.area}
    add_audit(tx, _ACTOR, "scan moved", body, now, scan=old.id)


def _leave_candidate(tx: Tx, old: Row[Any]) -> None:
    """The candidate that a scan was at is missed no more, if no other scan is there."""
    scan, candidate = tables.scan, tables.candidate
    others = select(scan.c.id).where(scan.c.candidate == old.candidate, scan.c.superseded_by.is_(None))
    if old.candidate is not None and tx.first(others) is None:
        tx.run(
            update(candidate)
            .where(candidate.c.key_hash == old.candidate)
            .values(inspected_snapshot=None, inspected_settled=False, problem=f"{CONFIRMED}{_ACTOR}: it was moved")
        )
