"""What a person says of a scan: declared, accepted, pinned. Each is in the audit log."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import delete, insert, select, update

from tomovault.catalog import tables
from tomovault.catalog.audit import add_audit
from tomovault.catalog.owner_warnings import drop_warnings
from tomovault.catalog.scans import known, require_scan, touch
from tomovault.catalog.transaction import Tx, new_id
from tomovault.core.errors import Refused, UserError
from tomovault.core.known import Pin
from tomovault.core.replica import ProductKind, ReplicaState
from tomovault.core.scan import Verdict


def declare(tx: Tx, scan_id: str, verdict: Verdict, by: str, reason: str, now: datetime) -> None:
    """A person overrules the certificate, until the scan's identity changes.

    Raises UserError for a verdict other than complete or aborted, or without a reason.
    """
    if verdict not in (Verdict.COMPLETE, Verdict.ABORTED):
        raise UserError(f"a scan cannot be declared {verdict}", hint="--complete or --aborted")
    if not reason.strip():
        raise UserError("a declaration needs a reason", hint="--reason TEXT")
    row = require_scan(tx, scan_id)
    tx.run(
        update(tables.scan)
        .where(tables.scan.c.id == scan_id)
        .values(
            declared_verdict=verdict.value,
            declared_by=by,
            declared_reason=reason,
            declared_at=now,
            ever_complete=row.ever_complete or row.settled,
        )
    )
    add_audit(tx, by, "declared", {"verdict": verdict, "reason": reason}, now, scan=scan_id)
    touch(tx, scan_id, now, new_fact=True)


def accept(tx: Tx, scan_id: str, by: str, reason: str, now: datetime) -> None:
    """A person says that the newest volume is right; a volume made later has to be accepted anew.

    Raises Refused where no volume was re-read to its digest.
    """
    require_scan(tx, scan_id)
    scan = known(tx, scan_id)
    volume = scan.product(ProductKind.VOLUME)
    good = any(r.state is ReplicaState.VERIFIED for r in scan.replicas_of(ProductKind.VOLUME))
    if volume is None or not good:
        raise Refused(
            f"scan {scan.name} has no verified volume to accept",
            by="life: accepted needs reconstructed",
            hint=f"tomovault explain {scan.name}",
        )
    tx.run(update(tables.scan).where(tables.scan.c.id == scan_id).values(accepted_by=by, accepted_digest=volume.digest))
    add_audit(tx, by, "accepted", {"volume": volume.digest, "reason": reason}, now, scan=scan_id)
    touch(tx, scan_id, now, new_fact=True)


def add_pin(
    tx: Tx, scan_id: str, owner: str, reason: str, until: datetime, now: datetime, tier: str | None = None
) -> Pin:
    """Hold a scan until a date; its owner is warned anew before anything goes afterwards.

    Raises UserError for a date that is over, or without a reason.
    """
    if until <= now:
        raise UserError(f"a pin until {until.isoformat()} is over already", hint="--until a later date")
    if not reason.strip():
        raise UserError("a pin needs a reason", hint="--reason TEXT")
    require_scan(tx, scan_id)
    pin = Pin(new_id("k"), owner, reason, until, tier)
    tx.run(insert(tables.pin).values(id=pin.id, scan_id=scan_id, owner=owner, reason=reason, until=until, tier=tier))
    drop_warnings(tx, scan_id)
    add_audit(tx, owner, "pinned", {"pin": pin}, now, scan=scan_id)
    touch(tx, scan_id, now, new_fact=True)
    return pin


def remove_pins(tx: Tx, scan_id: str, by: str, now: datetime, *, owner: str | None = None) -> int:
    """Remove the pins of a scan, all or those of one owner; returns how many."""
    require_scan(tx, scan_id)
    pin = tables.pin
    query = select(pin).where(pin.c.scan_id == scan_id)
    if owner is not None:
        query = query.where(pin.c.owner == owner)
    ids = [row.id for row in tx.rows(query)]
    if ids:
        tx.run(delete(pin).where(pin.c.id.in_(ids)))
        add_audit(tx, by, "unpinned", {"pins": ids}, now, scan=scan_id)
        touch(tx, scan_id, now, new_fact=True)
    return len(ids)
