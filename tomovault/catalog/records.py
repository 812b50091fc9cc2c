"""Facts that jobs bring back, one function a kind. None of them accounts usage: `apply_records` does, once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Row, insert, select, update
from sqlalchemy.exc import OperationalError

from tomovault.catalog import tables
from tomovault.catalog.audit import add_audit
from tomovault.catalog.inspections import Whose, record_inspected
from tomovault.catalog.joins import record_recognised
from tomovault.catalog.manifests import write_manifest
from tomovault.catalog.removals import record_put_back, record_quarantined, record_removed
from tomovault.catalog.scans import touch
from tomovault.catalog.transaction import Tx, new_id, place_hash
from tomovault.catalog.transfers import record_transfer
from tomovault.catalog.usage import accounted
from tomovault.core.errors import IntegrityError, TomovaultError, UserError
from tomovault.core.record import (
    Checked,
    GivenBack,
    Inspected,
    Made,
    Processing,
    PutBack,
    Quarantined,
    Recognised,
    Record,
    Removed,
    Stored,
    TransferRecord,
)
from tomovault.core.replica import Form, ProductKind, ReplicaState
from tomovault.core.wire import to_plain

ACTOR = "tomovault"


def apply_records(
    tx: Tx,
    records: Iterable[Record],
    now: datetime,
    *,
    scan_id: str | None = None,
    area: str | None = None,
    whose: Whose | None = None,
) -> None:
    """Write every record, products before their replicas, and the change of usage that they make.

    `scan_id` is the scan that Made, Stored and GivenBack speak of; without it a Stored is of the one scan that
    has such a product. `area` is that of Inspected. Raises UserError for a record that fits nothing known.
    """
    by_scan: dict[str, list[Record]] = {}
    for record in records:
        if isinstance(record, Inspected):
            if area is None:
                raise UserError("an inspection without the area it was made in")
            _record_inspected(tx, area, record, now, whose)
        else:
            by_scan.setdefault(_scan_about(tx, record, scan_id), []).append(record)
    for about, group in by_scan.items():
        with accounted(tx, about):
            for record in sorted(group, key=lambda record: not isinstance(record, Made)):
                _apply_one(tx, about, record, now)


def _record_inspected(tx: Tx, area: str, record: Inspected, now: datetime, whose: Whose | None) -> None:
    """One candidate that the database cannot hold has that for its problem; the others of its job are recorded."""
    try:
        with tx.conn.begin_nested():
            record_inspected(tx, area, record, now, whose)
    except (OperationalError, TomovaultError):
        raise
    except Exception as problem:  # noqa: BLE001 - a stranger's file must not hide those beside it
        told = f"what was found cannot be recorded: {type(problem).__name__}: {str(problem).splitlines()[0][:200]}"
        record_inspected(tx, area, replace(record, reports=(), restored=(), problem=told), now, whose)


def _apply_one(tx: Tx, scan_id: str, record: Record, now: datetime) -> None:
    if isinstance(record, Made):
        record_made(tx, scan_id, record, now)
    elif isinstance(record, Stored):
        record_stored(tx, scan_id, record, now)
    elif isinstance(record, Recognised):
        record_recognised(tx, scan_id, record, now)
    elif isinstance(record, Checked):
        record_checked(tx, record, now)
    elif isinstance(record, Quarantined):
        record_quarantined(tx, record, now)
    elif isinstance(record, Removed):
        record_removed(tx, record, now)
    elif isinstance(record, PutBack):
        record_put_back(tx, record, now)
    elif isinstance(record, GivenBack):
        add_audit(tx, ACTOR, "given back", {"given": record}, now, scan=scan_id)
    elif isinstance(record, TransferRecord):
        record_transfer(tx, record, now)


def _scan_about(tx: Tx, record: Record, scan_id: str | None) -> str:
    found: Any = scan_id
    if isinstance(record, Checked):
        found = tx.value(select(tables.replica.c.scan_id).where(tables.replica.c.id == record.replica))
    elif isinstance(record, (Quarantined, Removed, PutBack)):
        found = tx.value(select(tables.permit.c.scan_id).where(tables.permit.c.id == record.permit))
    elif isinstance(record, Stored) and scan_id is None:
        found = _only_scan_with(tx, record)
    if found is None:
        raise UserError(f"a record of kind {type(record).__name__} fits no scan that is known")
    return str(found)


def _only_scan_with(tx: Tx, stored: Stored) -> str | None:
    product = tables.product
    query = select(product.c.scan_id).where(product.c.kind == stored.kind.value, product.c.digest == stored.digest)
    ids = [row.scan_id for row in tx.rows(query)]
    return ids[0] if len(ids) == 1 else None


def record_made(tx: Tx, scan_id: str, made: Made, now: datetime) -> str:
    """Insert or update a product, keep its manifest text, and its processing once; returns its id."""
    if made.manifest:
        write_manifest(tx.manifests, made.digest, made.manifest)
    product = tables.product
    row = tx.first(
        select(product)
        .where(product.c.scan_id == scan_id, product.c.kind == made.kind.value, product.c.digest == made.digest)
        .with_for_update()
    )
    values = {
        "bytes": made.bytes,
        "files": made.files,
        "lossless": made.lossless,
        "details": dict(made.details),
    }
    if row is None:
        product_id = new_id("p")
        tx.run(
            insert(product).values(
                id=product_id,
                scan_id=scan_id,
                kind=made.kind.value,
                digest=made.digest,
                made_by_us=made.kind is not ProductKind.ORIGINAL,
                created_at=now,
                **values,
            )
        )
    else:
        product_id = row.id
        tx.run(update(product).where(product.c.id == product_id).values(**values))
    again = made.processing is not None and _record_processing(tx, scan_id, product_id, made.processing)
    if row is not None and again:
        # It stands where what was made after it stood: of its kind it is the newest once more.
        tx.run(update(product).where(product.c.id == product_id).values(created_at=now))
    touch(tx, scan_id, now, new_fact=row is None or again)
    return str(product_id)


def _record_processing(tx: Tx, scan_id: str, product_id: str, run: Processing) -> bool:
    """Whether the run was not known yet."""
    table = tables.processing
    known = tx.first(
        select(table.c.id).where(
            table.c.product_id == product_id,
            table.c.engine == run.engine,
            table.c.started_at == run.started_at,
            table.c.finished_at == run.finished_at,
        )
    )
    if known is not None:
        return False
    tx.run(
        insert(table).values(
            id=new_id("x"),
            scan_id=scan_id,
            product_id=product_id,
            engine=run.engine,
            engine_version=run.engine_version,
            parameters=dict(run.parameters),
            started_at=run.started_at,
            finished_at=run.finished_at,
            outputs=list(run.outputs),
        )
    )
    return True


def record_stored(tx: Tx, scan_id: str, stored: Stored, now: datetime) -> str:
    """Insert a replica, or update the one of this product, form, tier and location; returns its id.

    It is verified if it was re-read, else present. A replica under a removal stays so. Another product's
    package that lay at the same location was overwritten and is gone. Raises UserError for an unknown product
    or tier, IntegrityError where another scan's live package lies at that location.
    """
    product_id = _product_id(tx, scan_id, stored)
    if tx.first(select(tables.tier.c.name).where(tables.tier.c.name == stored.tier)) is None:
        raise UserError(f"tier {stored.tier} is not recorded in the catalogue", hint="is it in tomovault.yaml?")
    replica = tables.replica
    at = place_hash(stored.location)
    _overwrite_others(tx, scan_id, product_id, stored, at, now)
    row = tx.first(
        select(replica)
        .where(
            replica.c.product_id == product_id,
            replica.c.tier == stored.tier,
            replica.c.form == stored.form.value,
            replica.c.location_hash == at,
        )
        .with_for_update()
    )
    state = ReplicaState.PRESENT if stored.verified_at is None else ReplicaState.VERIFIED
    values = _replica_values(tx, product_id, stored)
    if row is None or row.sha256 != stored.sha256:
        body = {"kind": stored.kind, "form": stored.form, "tier": stored.tier, "location": stored.location}
        more = {"digest": stored.digest, "sha256": stored.sha256, "verified_at": stored.verified_at}
        add_audit(tx, ACTOR, "replica stored", {**body, **more}, now, scan=scan_id)
    if row is None:
        replica_id = new_id("r")
        tx.run(
            insert(replica).values(
                id=replica_id,
                scan_id=scan_id,
                product_id=product_id,
                form=stored.form.value,
                tier=stored.tier,
                location=stored.location,
                location_hash=at,
                state=state.value,
                **values,
            )
        )
    else:
        replica_id = row.id
        if row.state != ReplicaState.LEAVING:
            values["state"] = state.value
        tx.run(update(replica).where(replica.c.id == replica_id).values(**values))
    if stored.pinned_until is not None and stored.pinned_until > now:
        _pin_recalled(tx, scan_id, stored)
    touch(tx, scan_id, now, new_fact=row is None or row.state != state)
    return str(replica_id)


def _replica_values(tx: Tx, product_id: str, stored: Stored) -> dict[str, Any]:
    # The parts of form `files` are the manifest's, which is a file: rows stay of one size for any scan.
    as_written = stored.form is Form.FILES
    count = len(stored.files)
    if as_written and not count:
        count = tx.value(select(tables.product.c.files).where(tables.product.c.id == product_id))
    return {
        "domain": stored.domain,
        "bytes": stored.bytes,
        "files": count,
        "sha256": stored.sha256,
        "written_at": stored.written_at,
        "verified_at": stored.verified_at,
        "parts": [] if as_written else [to_plain(part) for part in stored.files],
    }


def _product_id(tx: Tx, scan_id: str, stored: Stored) -> str:
    product = tables.product
    row = tx.first(
        select(product.c.id).where(
            product.c.scan_id == scan_id,
            product.c.kind == stored.kind.value,
            product.c.digest == stored.digest,
        )
    )
    if row is None:
        raise UserError(f"a replica of {stored.kind} {stored.digest[:12]}, which scan {scan_id} does not have")
    return str(row.id)


def _overwrite_others(tx: Tx, scan_id: str, product_id: str, stored: Stored, at: str, now: datetime) -> None:
    """One place holds one package. Scans of one folder share the location of their form `files`."""
    if stored.form is Form.FILES:
        return
    replica = tables.replica
    others = tx.rows(
        select(replica).where(
            replica.c.tier == stored.tier,
            replica.c.location_hash == at,
            replica.c.form == stored.form.value,
            replica.c.product_id != product_id,
            replica.c.state != ReplicaState.GONE.value,
        )
    )
    for other in others:
        if other.scan_id != scan_id:
            raise IntegrityError(
                f"{stored.location} on {stored.tier} holds the package of scan {other.scan_id} already",
                hint="two packages were written to one place; verify both scans",
            )
        tx.run(update(replica).where(replica.c.id == other.id).values(state=ReplicaState.GONE.value))
        add_audit(tx, ACTOR, "replica overwritten", {"replica": other.id}, now, scan=scan_id)


def _pin_recalled(tx: Tx, scan_id: str, stored: Stored) -> None:
    pin = tables.pin
    reason = "recalled"
    same = (pin.c.scan_id == scan_id, pin.c.owner == ACTOR, pin.c.reason == reason, pin.c.tier == stored.tier)
    old = tx.first(select(pin).where(*same))
    if old is None:
        tx.run(
            insert(pin).values(
                id=new_id("k"),
                scan_id=scan_id,
                owner=ACTOR,
                reason=reason,
                until=stored.pinned_until,
                tier=stored.tier,
            )
        )
    elif stored.pinned_until is not None and stored.pinned_until > old.until:
        tx.run(update(pin).where(pin.c.id == old.id).values(until=stored.pinned_until))


def record_checked(tx: Tx, checked: Checked, now: datetime) -> None:
    """A replica was re-read: `verified_at` is set, or it is suspect. One that is leaving keeps that state.

    Files that are leaving are moved away one by one, also while they are read: to miss some of them says nothing bad of
    the others, and where the removal is taken back they count as not re-read.
    """
    row = _replica(tx, checked.replica)
    if row.state == ReplicaState.GONE:
        add_audit(tx, ACTOR, "gone replica checked", {"checked": checked}, now, scan=row.scan_id)
        return
    leaving = row.state == ReplicaState.LEAVING
    after = ReplicaState.VERIFIED if checked.ok else ReplicaState.SUSPECT
    values: dict[str, Any] = {} if leaving else {"state": after.value}
    if checked.ok:
        values["verified_at"] = checked.at
    if values:
        tx.run(update(tables.replica).where(tables.replica.c.id == row.id).values(**values))
    if leaving:
        moving = row.form == Form.FILES and not checked.ok
        _remember_state(tx, row.id, ReplicaState.PRESENT if moving else after)
    if not checked.ok or row.state == ReplicaState.SUSPECT:
        op = "replica verified again" if checked.ok else "replica suspect"
        add_audit(tx, ACTOR, op, {"checked": checked, "tier": row.tier}, now, scan=row.scan_id)
    touch(tx, row.scan_id, now, new_fact=not leaving and row.state != after)


def record_missing(tx: Tx, replica_id: str, reason: str, now: datetime) -> None:
    """A replica was not found where it should be: it is suspect, never gone by absence alone."""
    row = _replica(tx, replica_id)
    if row.state not in (ReplicaState.ARRIVING, ReplicaState.PRESENT, ReplicaState.VERIFIED):
        return
    tx.run(update(tables.replica).where(tables.replica.c.id == row.id).values(state=ReplicaState.SUSPECT.value))
    add_audit(tx, ACTOR, "replica missing", {"replica": row.id, "reason": reason}, now, scan=row.scan_id)
    touch(tx, row.scan_id, now, new_fact=True)


def _remember_state(tx: Tx, replica_id: str, state: ReplicaState) -> None:
    """What a replica under removal returns to, should the removal be taken back. A suspect one is not just unread, and
    one in whose place another scan stands is gone.
    """
    permit = tables.permit
    stays = [ReplicaState.GONE, *([ReplicaState.SUSPECT] if state is ReplicaState.PRESENT else [])]
    tx.run(
        update(permit)
        .where(permit.c.replica_id == replica_id, permit.c.phase.in_(("granted", "quarantined", "leaving")))
        .where(permit.c.state_before.not_in([kept.value for kept in stays]))
        .values(state_before=state.value)
    )


def _replica(tx: Tx, replica_id: str) -> Row[Any]:
    row = tx.first(select(tables.replica).where(tables.replica.c.id == replica_id).with_for_update())
    if row is None:
        raise UserError(f"no replica {replica_id}")
    return row
