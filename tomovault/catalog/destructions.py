"""The permits of a person's order: what is destroyed by name and with a reason, whatever copies are left."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import update

from tomovault.catalog import tables
from tomovault.catalog.permits import go_on, lock_open, lock_victim, write_permit
from tomovault.catalog.removals import require_permit
from tomovault.catalog.scans import permit_of
from tomovault.catalog.transaction import Tx
from tomovault.core.destruction import copies_left, work_on_copies
from tomovault.core.errors import Refused, Transient
from tomovault.core.known import KnownScan, Permit, RemovalPhase
from tomovault.core.replica import Replica


def grant_destruction(
    tx: Tx,
    scan_id: str,
    replicas: Sequence[str],
    *,
    by: str,
    reason: str,
    hold_until: datetime,
    last: bool,
    moves: bool,
    now: datetime,
) -> list[Permit]:
    """Permit what a person ordered: the replicas are leaving, and each permit says who, why, and what copies stay.

    Where nothing `moves` into quarantine, as on a tape, the hold begins at once. Raises Refused where nothing good is
    left and the person did not know that these are the `last`, where the scan is pinned, or where a replica is not
    there to be removed, and Transient while work that needs its copies is under way.
    """
    if not reason.strip():
        raise ValueError("an order to destroy has a reason")
    scans_and_victims = [lock_victim(tx, scan_id, replica) for replica in replicas]
    victims = tuple(victim for _, victim in scans_and_victims)
    permits = []
    for scan, victim in scans_and_victims:
        _refuse_pinned(scan, now)
        if not last:
            _refuse_last(scan, victim, victims)
        if action := work_on_copies(scan, victim):
            raise Transient(f"{scan.name}: {action} is under way", hint="try again when it is over")
        permit = write_permit(
            tx,
            scan,
            victim,
            rule=f"destroy by {by}",
            relied_on=copies_left(scan, victim.product, victims),
            hold_until=hold_until,
            actor=by,
            reason=reason,
            now=now,
        )
        if not moves:
            held = RemovalPhase.QUARANTINED.value
            tx.run(update(tables.permit).where(tables.permit.c.id == permit.id).values(phase=held))
        permits.append(permit_of(require_permit(tx, permit.id)))
    return permits


def regrant_destruction(tx: Tx, permit_id: str, *, now: datetime) -> Permit:
    """An order to destroy is looked at again, and after its hold goes to its second phase.

    Raises Refused where the scan was pinned meanwhile, none of the copies that were to stay is good any more, the hold
    is not over, or the order was taken back.
    """
    row, scan, victim = lock_open(tx, permit_id, now)
    _refuse_pinned(scan, now)
    if row.relied_on:
        _refuse_last(scan, victim, (victim,))
    return go_on(tx, row, copies_left(scan, victim.product, (victim,)), now)


def _refuse_pinned(scan: KnownScan, now: datetime) -> None:
    if pin := scan.pinned_by(now):
        raise Refused(f"{scan.name}: pinned by {pin}", by="pin", hint=f"tomovault unpin {scan.id}, if it is yours")


def _refuse_last(scan: KnownScan, victim: Replica, without: tuple[Replica, ...]) -> None:
    """Whoever gave the order was told that something stays."""
    if not copies_left(scan, victim.product, without):
        raise Refused(
            f"{scan.name}: none of the copies that were to stay of its {victim.product} is good any more",
            by="law 5",
            hint=f"tomovault prune undo {scan.id}; then order it anew, knowing that it is the last",
        )
