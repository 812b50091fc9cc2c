"""Transfers asked for by people and rules: the id of a submission is here before it is used, the receipt once in."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Row, delete, func, insert, select, update

from tomovault.catalog import tables
from tomovault.catalog.audit import add_audit
from tomovault.catalog.scans import require_scan, touch, transfer_of
from tomovault.catalog.transaction import Tx, new_id
from tomovault.core.errors import Refused, UserError
from tomovault.core.known import JobStatus
from tomovault.core.record import TransferRecord
from tomovault.core.replica import ProductKind
from tomovault.core.transfer import (
    Transfer,
    TransferFailed,
    TransferPlanned,
    TransferReceived,
    TransferState,
    TransferSubmitted,
)
from tomovault.core.wire import to_plain

_ACTOR = "tomovault"


def add_transfer(
    tx: Tx, scan_id: str, kind: ProductKind, digest: str, *, collection: str, path: str, by: str, now: datetime
) -> str:
    """A person, or a rule, which is cited, asked for a product to be sent to a folder of a collection; returns the id
    of the transfer.
    """
    require_scan(tx, scan_id)
    transfer_id = new_id("t")
    to = {"collection": collection, "path": path}
    tx.run(
        insert(tables.transfer).values(
            id=transfer_id,
            scan_id=scan_id,
            kind=kind.value,
            digest=digest,
            state=TransferState.ASKED.value,
            asked_by=by,
            asked_at=now,
            error="",
            **to,
        )
    )
    asked = {"transfer": transfer_id, "product": kind, "digest": digest, **to}
    add_audit(tx, by, "transfer asked", asked, now, scan=scan_id)
    touch(tx, scan_id, now, new_fact=True)
    return transfer_id


def read_transfer(tx: Tx, transfer_id: str) -> Transfer:
    """One transfer. Raises UserError where there is none."""
    return transfer_of(_row(tx, transfer_id, lock=False))


def first_namesake_sent(tx: Tx, name: str, collection: str, path: str) -> str | None:
    """Of the scans of that name the one that was first asked to be sent to a folder of a collection."""
    transfer, scan = tables.transfer, tables.scan
    query = (
        select(transfer.c.scan_id)
        .join(scan, scan.c.id == transfer.c.scan_id)
        .where(scan.c.name == name, transfer.c.collection == collection, transfer.c.path == path)
        .order_by(transfer.c.asked_at, transfer.c.id)
        .limit(1)
    )
    first: str | None = tx.value(query)
    return first


def exports_under_way(tx: Tx) -> int:
    """How many exports are queued or being done, whoever asked for them."""
    job = tables.job
    query = select(func.count()).select_from(job).where(job.c.action == "export", tables.IS_UNFINISHED)
    return int(tx.value(query))


def why_exports_fail(tx: Tx, in_a_row: int) -> str:
    """The error of the newest export where the last ones, so many, have all failed; else ''."""
    job = tables.job
    exports = select(job.c.error, job.c.queued_at).where(job.c.action == "export")
    failed = exports.where(job.c.status == JobStatus.FAILED.value).order_by(job.c.queued_at.desc(), job.c.id)
    rows = tx.rows(failed.limit(in_a_row))
    if len(rows) < in_a_row:
        return ""
    done = exports.where(job.c.status == JobStatus.SUCCEEDED.value, job.c.queued_at >= rows[-1].queued_at)
    if tx.first(done.where(job.c.error == "").limit(1)) is not None:
        return ""
    return rows[0].error or "no reason was told"


def record_transfer(tx: Tx, record: TransferRecord, now: datetime) -> None:
    """What a job brought of a transfer is recorded, and in the audit log.

    From the plan to the end, or the deadline, the scan is pinned. What is known already changes nothing. Raises Refused
    for what belongs to a submission that is not the transfer's: nothing must be done under an id which was not
    committed first.
    """
    row = _row(tx, record.transfer)
    if isinstance(record, TransferPlanned):
        _record_planned(tx, row, record, now)
        return
    if record.submission_id != row.submission_id:
        raise Refused(
            f"transfer {row.id} was not submitted under {record.submission_id}",
            by="law 6: the intent is committed before the side effect",
        )
    if isinstance(record, TransferSubmitted):
        if row.state == TransferState.PLANNED:
            values = {"task_id": record.task_id, "submitted_at": record.at}
            _change(tx, row, TransferState.SUBMITTED, values, "transfer submitted", record, now)
    elif isinstance(record, TransferReceived):
        _finish(tx, row, TransferState.SUCCEEDED, record, now)
    else:
        _finish(tx, row, TransferState.FAILED, record, now)


def _record_planned(tx: Tx, row: Row[Any], record: TransferPlanned, now: datetime) -> None:
    if row.submission_id == record.submission_id:
        return
    if row.state not in (TransferState.ASKED, TransferState.FAILED):
        raise Refused(
            f"transfer {row.id} is {row.state} under another submission",
            by="law 6: one submission at a time",
        )
    values = {
        "submission_id": record.submission_id,
        "deadline": record.deadline,
        "task_id": None,
        "submitted_at": None,
        "finished_at": None,
        "error": "",
    }
    _change(tx, row, TransferState.PLANNED, values, "transfer planned", record, now)
    _let_go(tx, row)
    tx.run(
        insert(tables.pin).values(
            id=new_id("k"), scan_id=row.scan_id, owner=_ACTOR, reason=_pin_reason(row), until=record.deadline
        )
    )


def _pin_reason(row: Row[Any]) -> str:
    return f"transfer {row.id}"


def _let_go(tx: Tx, row: Row[Any]) -> None:
    """What is sent may be removed again, as far as this transfer is concerned."""
    pin = tables.pin
    tx.run(delete(pin).where(pin.c.scan_id == row.scan_id, pin.c.owner == _ACTOR, pin.c.reason == _pin_reason(row)))


def _finish(
    tx: Tx, row: Row[Any], state: TransferState, record: TransferReceived | TransferFailed, now: datetime
) -> None:
    if TransferState(row.state).over:
        return
    if isinstance(record, TransferReceived):
        values = {
            "task_id": record.receipt.task_id,
            "finished_at": record.receipt.judged_at,
            "receipt": to_plain(record.receipt),
            "error": "",
        }
        op = "transfer received"
    else:
        values = {"task_id": record.task_id or None, "finished_at": record.at, "error": record.reason}
        op = "transfer failed"
    _let_go(tx, row)
    _change(tx, row, state, values, op, record, now)


def _change(
    tx: Tx,
    row: Row[Any],
    state: TransferState,
    values: Mapping[str, Any],
    op: str,
    record: TransferRecord,
    now: datetime,
) -> None:
    tx.run(update(tables.transfer).where(tables.transfer.c.id == row.id).values(state=state.value, **values))
    add_audit(tx, _ACTOR, op, {"told": record}, now, scan=row.scan_id)
    touch(tx, row.scan_id, now, new_fact=True)


def _row(tx: Tx, transfer_id: str, *, lock: bool = True) -> Row[Any]:
    query = select(tables.transfer).where(tables.transfer.c.id == transfer_id)
    row = tx.first(query.with_for_update() if lock else query)
    if row is None:
        raise UserError(f"no transfer {transfer_id}")
    return row
