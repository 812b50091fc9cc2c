"""Whose a name in a vault is, where scans of one folder have the same name."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import select

from tomovault.catalog import tables
from tomovault.catalog.transaction import Tx, place_hash
from tomovault.core.known import KnownScan
from tomovault.core.replica import Form, ProductKind, ReplicaState


def owner_of(tx: Tx, scan: KnownScan, locations: Sequence[str]) -> str:
    """The id of the scan that files at these locations of the vault of `scan` are of: `scan` itself, if of nobody else.

    One with its package there goes before one with another product, that before one that had something there and may
    have it recalled, and that before current scans in the same folder that are called the same, of which the one that
    was seen first comes first.
    """
    rows, replica = tables.scan, tables.replica
    ranks: dict[str, tuple[int, datetime, str]] = {scan.id: (3, scan.first_seen_at, scan.id)}
    waiting = select(rows.c.id, rows.c.first_seen_at).where(
        rows.c.name == scan.name,
        rows.c.area == scan.area,
        rows.c.root_hash == place_hash(scan.root),
        rows.c.superseded_by.is_(None),
    )
    for row in tx.rows(waiting):
        ranks[row.id] = (3, row.first_seen_at, row.id)
    holding = (
        select(rows.c.id, rows.c.first_seen_at, replica.c.state, tables.product.c.kind)
        .select_from(replica.join(rows, rows.c.id == replica.c.scan_id).join(tables.product))
        .where(
            replica.c.location_hash.in_([place_hash(location) for location in locations]),
            replica.c.tier == scan.area,
            replica.c.form == Form.PACKAGE.value,
        )
    )
    for row in tx.rows(holding):
        rank = 2 if row.state == ReplicaState.GONE.value else int(row.kind != ProductKind.ORIGINAL.value)
        ranks[row.id] = min(ranks.get(row.id, (3, row.first_seen_at, row.id)), (rank, row.first_seen_at, row.id))
    return min(ranks.values())[2]
