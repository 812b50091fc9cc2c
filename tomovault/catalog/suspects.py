"""Copies that were found bad or missing."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select

from tomovault.catalog import tables
from tomovault.catalog.transaction import Tx
from tomovault.catalog.work import reasons_of


@dataclass(frozen=True)
class Suspect:
    """One copy that nothing relies on any more, and what was last found wrong with it."""

    replica: str
    scan: str
    name: str
    area: str
    product: str
    form: str
    tier: str
    location: str
    reason: str


def list_suspects(tx: Tx, limit: int, start: int = 0) -> list[Suspect]:
    """Up to `limit` of them after the first `start`, by scan."""
    scan, replica, product = tables.scan, tables.replica, tables.product
    query = (
        select(replica, scan.c.name, scan.c.area, product.c.kind)
        .join(scan, scan.c.id == replica.c.scan_id)
        .join(product, product.c.id == replica.c.product_id)
        .where(tables.IS_SUSPECT, scan.c.superseded_by.is_(None))
        .order_by(scan.c.first_seen_at.desc(), scan.c.id, replica.c.id)
        .limit(limit)
        .offset(start)
    )
    reasons: dict[str, dict[str, str]] = {}
    found = []
    for row in tx.rows(query):
        if row.scan_id not in reasons:
            reasons[row.scan_id] = reasons_of(tx, row.scan_id)
        why = reasons[row.scan_id].get(row.id, "")
        found.append(Suspect(row.id, row.scan_id, row.name, row.area, row.kind, row.form, row.tier, row.location, why))
    return found
