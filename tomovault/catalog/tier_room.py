"""How full a tier is that is no area, and which copies on it may be asked about."""

from __future__ import annotations

from sqlalchemy import func, select

from tomovault.catalog import tables
from tomovault.catalog.transaction import Tx
from tomovault.catalog.work import with_good_copy
from tomovault.core.replica import Form, ProductKind, ReplicaState


def tier_bytes(tx: Tx, tier: str) -> tuple[int, int]:
    """(bytes of every live copy on a tier, quarantine included; bytes of it that are leaving)."""
    usage, replica, permit = tables.usage, tables.replica, tables.permit
    used = tx.value(select(func.sum(usage.c.bytes)).where(usage.c.tier == tier))
    # By tier, and not of this one alone: then a database would start from all that stands there.
    leaving = (
        select(replica.c.tier, func.sum(permit.c.bytes).label("bytes"))
        .join(replica, replica.c.id == permit.c.replica_id)
        .where(tables.IS_OPEN)
        .group_by(replica.c.tier)
    )
    return int(used or 0), next((int(row.bytes) for row in tx.rows(leaving) if row.tier == tier), 0)


def bytes_left_on_media(tx: Tx, tier: str) -> int:
    """Bytes of copies that are gone from a tier: a sequential medium has them still."""
    replica = tables.replica
    gone = select(func.sum(replica.c.bytes)).where(replica.c.tier == tier, replica.c.state == ReplicaState.GONE.value)
    return int(tx.value(gone) or 0)


def list_removable_on(tx: Tx, tier: str) -> list[tuple[str, str]]:
    """(scan, area) of every scan with a good package of its original on a tier, oldest acquisition first."""
    scan = tables.scan
    acquired_at = func.coalesce(scan.c.acquired_at, scan.c.first_seen_at)
    found = with_good_copy(tier, Form.PACKAGE, ProductKind.ORIGINAL)
    query = select(scan.c.id, scan.c.area).where(scan.c.id.in_(found)).order_by(acquired_at, scan.c.id)
    return [(row.id, row.area) for row in tx.rows(query)]
