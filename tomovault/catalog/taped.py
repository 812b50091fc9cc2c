"""Copies by where they lie on cartridges."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from sqlalchemy import select

from tomovault.catalog import tables
from tomovault.catalog.transaction import Tx, place_hash
from tomovault.core.replica import Form, ReplicaState, StoredFile
from tomovault.core.wire import from_plain

_AT_A_TIME = 500


@dataclass(frozen=True)
class Reading:
    """Where a copy lies, how large it is, and when it was last read."""

    replica: str
    location: str
    bytes: int
    state: ReplicaState
    verified_at: datetime | None


@dataclass(frozen=True)
class Copy:
    """A copy at one place, with each of its files as stored there."""

    replica: str
    scan: str
    name: str
    product: str
    digest: str
    state: ReplicaState
    domain: str
    location: str
    files: tuple[StoredFile, ...]


def list_readings(tx: Tx, tier: str) -> list[Reading]:
    """Every package that a tier has or had."""
    replica = tables.replica
    query = select(replica.c.id, replica.c.location, replica.c.bytes, replica.c.state, replica.c.verified_at).where(
        replica.c.tier == tier, replica.c.form == Form.PACKAGE.value
    )
    return [
        Reading(row.id, row.location, int(row.bytes), ReplicaState(row.state), row.verified_at)
        for row in tx.rows(query)
    ]


def list_copies_at(tx: Tx, tier: str, locations: Iterable[str]) -> list[Copy]:
    """Every package that a tier has or had at one of these locations."""
    found: list[Copy] = []
    waiting = iter(sorted(set(locations)))
    while some := list(islice(waiting, _AT_A_TIME)):
        found += _copies_at(tx, tier, some)
    return found


def _copies_at(tx: Tx, tier: str, locations: list[str]) -> Iterator[Copy]:
    scan, replica, product = tables.scan, tables.replica, tables.product
    query = (
        select(replica, scan.c.name, product.c.kind, product.c.digest)
        .join(scan, scan.c.id == replica.c.scan_id)
        .join(product, product.c.id == replica.c.product_id)
        .where(
            replica.c.location_hash.in_([place_hash(location) for location in locations]),
            replica.c.tier == tier,
            replica.c.form == Form.PACKAGE.value,
        )
        .order_by(replica.c.location, replica.c.id)
    )
    for row in tx.rows(query):
        yield Copy(
            row.id,
            row.scan_id,
            row.name,
            row.kind,
            row.digest,
            ReplicaState(row.state),
            row.domain,
            row.location,
            tuple(from_plain(StoredFile, part) for part in row.parts),
        )
