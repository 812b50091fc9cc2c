"""How far a permitted removal went: in quarantine, gone with a tombstone, or put back."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Row, insert, select, update

from tomovault.catalog import tables
from tomovault.catalog.audit import add_audit
from tomovault.catalog.scans import touch
from tomovault.catalog.transaction import Tx, new_id, place_hash
from tomovault.core.errors import Refused, UserError
from tomovault.core.known import RemovalPhase
from tomovault.core.record import PutBack, Quarantined, Removed
from tomovault.core.replica import Form, ReplicaState

_ACTOR = "tomovault"

#: Phases of a removal that can still be taken back, or go on.
OPEN_PHASES = (RemovalPhase.GRANTED, RemovalPhase.QUARANTINED, RemovalPhase.LEAVING)


def require_permit(tx: Tx, permit_id: str) -> Row[Any]:
    """The permit's row, locked. Raises UserError where there is none."""
    row = tx.first(select(tables.permit).where(tables.permit.c.id == permit_id).with_for_update())
    if row is None:
        raise UserError(f"no permit {permit_id}")
    return row


def list_removed_from(tx: Tx, location: str) -> list[tuple[str, str]]:
    """(scan, replica) of the files that went from a place under our permits, or are leaving it, oldest permit first:
    also of a scan that is elsewhere by now.
    """
    permit, replica = tables.permit, tables.replica
    query = (
        select(permit.c.scan_id, permit.c.replica_id)
        .join(replica, replica.c.id == permit.c.replica_id)
        .where(
            replica.c.location_hash == place_hash(location),
            replica.c.form == Form.FILES.value,
            replica.c.state.in_([ReplicaState.LEAVING.value, ReplicaState.GONE.value]),
            permit.c.phase != RemovalPhase.UNDONE.value,
        )
        .order_by(permit.c.granted_at, permit.c.id)
    )
    return list(dict.fromkeys((row.scan_id, row.replica_id) for row in tx.rows(query)))


def list_under_removal(tx: Tx) -> list[str]:
    """The scans of which something is on its way out."""
    permit = tables.permit
    return [row.scan_id for row in tx.rows(select(permit.c.scan_id).where(tables.IS_OPEN).distinct())]


def record_quarantined(tx: Tx, record: Quarantined, now: datetime) -> None:
    """Phase one is over: the replica is leaving, and what was left in place is kept by name."""
    row = require_permit(tx, record.permit)
    if row.phase in (RemovalPhase.GONE, RemovalPhase.LEAVING):
        return
    _set_permit(
        tx,
        row,
        RemovalPhase.QUARANTINED,
        bytes=record.bytes,
        files=len(record.moved),
        moved=list(record.moved),
        left=list(record.left),
    )
    _set_replica(tx, row, ReplicaState.LEAVING)
    body = {
        "permit": row.id,
        "replica": row.replica_id,
        "files": len(record.moved),
        "bytes": record.bytes,
        "left": record.left,
        "missing": record.missing,
    }
    add_audit(tx, _ACTOR, "quarantined", body, now, scan=row.scan_id)
    touch(tx, row.scan_id, now, new_fact=True)


def record_removed(tx: Tx, record: Removed, now: datetime) -> None:
    """The bytes are gone: the replica is, and a tombstone says under which permit. Once, however often recorded.

    A record of no file is that of an attempt after one that had removed all and could not tell.

    Raises Refused for a permit that was taken back.
    """
    row = require_permit(tx, record.permit)
    if row.phase == RemovalPhase.GONE:
        return
    if row.phase == RemovalPhase.UNDONE:
        raise Refused(f"permit {row.id} was taken back, yet its bytes were removed", by="law 5")
    _set_permit(tx, row, RemovalPhase.GONE)
    _set_replica(tx, row, ReplicaState.GONE)
    files, size = (record.files, record.bytes) if record.files else (row.files, row.bytes)
    _bury(tx, row, files, size, now)
    body: dict[str, Any] = {"permit": row.id, "replica": row.replica_id, "files": files, "bytes": size}
    if record.left:
        body["left"] = record.left
    add_audit(tx, _ACTOR, "removed", body, now, scan=row.scan_id)
    touch(tx, row.scan_id, now, new_fact=True)


def _bury(tx: Tx, row: Row[Any], files: int, size: int, now: datetime) -> None:
    """A tombstone says what went under a permit; one that has one keeps it. UserError for an unknown replica."""
    replica, product, tombstone = tables.replica, tables.product, tables.tombstone
    if tx.first(select(tombstone.c.id).where(tombstone.c.permit_id == row.id)) is not None:
        return
    gone = tx.first(
        select(replica, product.c.kind, product.c.digest)
        .join(product, product.c.id == replica.c.product_id)
        .where(replica.c.id == row.replica_id)
    )
    if gone is None:
        raise UserError(f"no replica {row.replica_id}")
    tx.run(
        insert(tombstone).values(
            id=new_id("d"),
            permit_id=row.id,
            scan_id=row.scan_id,
            replica_id=row.replica_id,
            kind=gone.kind,
            form=gone.form,
            digest=gone.digest,
            tier=gone.tier,
            location=gone.location,
            rule=row.rule,
            bytes=size,
            files=files,
            removed_at=now,
        )
    )


#: What a removal says of files that it left since they are not what was packed any more (`tiers.quarantine`).
_NOT_AS_PACKED = (": has other content", ": has become shorter")


def record_put_back(tx: Tx, record: PutBack, now: datetime) -> None:
    """What was in quarantine stands where it was: the replica is as before, or suspect where a file conflicts, or was
    not as packed any more when the removal left it where it was.

    While some of it is in quarantine still, the permit is open and speaks of that part alone; what was removed
    for good before has a tombstone. Raises Refused for a permit whose bytes are gone.
    """
    row = require_permit(tx, record.permit)
    if row.phase == RemovalPhase.UNDONE:
        return
    if row.phase == RemovalPhase.GONE:
        raise Refused(f"permit {row.id}: the bytes are gone", by="law 5", hint="tomovault restore gives them back")
    left = list(dict.fromkeys([*(text for text in row.left if text.endswith(_NOT_AS_PACKED)), *record.conflicts]))
    state = ReplicaState.SUSPECT if left else ReplicaState(row.state_before)
    values: dict[str, Any] = {"left": left}
    if record.kept:
        values |= {"moved": list(record.kept), "files": len(record.kept), "bytes": record.kept_bytes}
    _set_permit(tx, row, RemovalPhase.QUARANTINED if record.kept else RemovalPhase.UNDONE, **values)
    _set_replica(tx, row, state)
    if record.removed_files and row.phase == RemovalPhase.LEAVING:
        _bury(tx, row, record.removed_files, record.removed_bytes, now)
    body = {
        "permit": row.id,
        "replica": row.replica_id,
        "files": record.files,
        "bytes": record.bytes,
        "conflicts": record.conflicts,
        "kept": record.kept,
        "removed": record.removed_files,
    }
    add_audit(tx, _ACTOR, "put back", body, now, scan=row.scan_id)
    touch(tx, row.scan_id, now, new_fact=True)


def withdraw_permit(tx: Tx, permit_id: str, reason: str, now: datetime) -> None:
    """Take back a permit under which nothing was moved. Raises Refused once phase one has begun to be recorded."""
    row = require_permit(tx, permit_id)
    if row.phase == RemovalPhase.UNDONE:
        return
    if row.phase != RemovalPhase.GRANTED:
        raise Refused(f"permit {row.id} is {row.phase}", by="law 5", hint="tomovault prune undo")
    _set_permit(tx, row, RemovalPhase.UNDONE)
    _set_replica(tx, row, ReplicaState(row.state_before))
    add_audit(tx, _ACTOR, "permit withdrawn", {"permit": row.id, "reason": reason}, now, scan=row.scan_id)
    touch(tx, row.scan_id, now, new_fact=True)


def _set_permit(tx: Tx, row: Row[Any], phase: RemovalPhase, **values: Any) -> None:
    permit = tables.permit
    changed = tx.changed(
        update(permit).where(permit.c.id == row.id, permit.c.phase == row.phase).values(phase=phase.value, **values)
    )
    if changed != 1:
        raise Refused(f"permit {row.id} changed meanwhile", by="law 7")


def _set_replica(tx: Tx, row: Row[Any], state: ReplicaState) -> None:
    tx.run(update(tables.replica).where(tables.replica.c.id == row.replica_id).values(state=state.value))
