"""Questions of a comparison of what is known with what is there."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import or_, select

from tomovault.catalog import tables
from tomovault.catalog.transaction import Tx
from tomovault.core.replica import Form, ReplicaState, StoredFile
from tomovault.core.wire import from_plain

_THERE = (ReplicaState.PRESENT.value, ReplicaState.VERIFIED.value)


@dataclass(frozen=True)
class Known:
    """A copy that is taken to be good, and the files it has."""

    replica: str
    scan: str
    area: str
    location: str
    files: tuple[StoredFile, ...]


@dataclass(frozen=True)
class Placed:
    """A scan, and where it or a copy of it stands."""

    scan: str
    name: str
    location: str


def list_kept(tx: Tx, tier: str, after: str, limit: int) -> list[Known]:
    """Up to so many good packages, previews and volumes of ours on a tier, by id, those up to `after` left out."""
    replica, scan = tables.replica, tables.scan
    query = (
        select(replica.c.id, replica.c.scan_id, scan.c.area, replica.c.location, replica.c.parts)
        .join(scan, scan.c.id == replica.c.scan_id)
        .where(
            replica.c.tier == tier,
            replica.c.form == Form.PACKAGE.value,
            replica.c.state.in_(_THERE),
            replica.c.id > after,
        )
        .order_by(replica.c.id)
        .limit(limit)
    )
    return [
        Known(row.id, row.scan_id, row.area, row.location, tuple(from_plain(StoredFile, part) for part in row.parts))
        for row in tx.rows(query)
    ]


def list_moved(tx: Tx, area: str, limit: int) -> list[Placed]:
    """Scans of an area that were found to have moved to where they are, newest first."""
    audit, scan = tables.audit, tables.scan
    query = (
        select(scan.c.id, scan.c.name, scan.c.root)
        .join(audit, audit.c.scan_id == scan.c.id)
        .where(scan.c.area == area, audit.c.op == "scan moved")
        .order_by(audit.c.seq.desc())
        .limit(limit)
    )
    return list(dict.fromkeys(Placed(row.id, row.name, row.root) for row in tx.rows(query)))


def list_elsewhere(tx: Tx, area: str, limit: int) -> list[Placed]:
    """Copies of scans in an area that stand at another place than their own: restored or copied there by somebody."""
    replica, scan = tables.replica, tables.scan
    query = (
        select(scan.c.id, scan.c.name, replica.c.location)
        .join(scan, scan.c.id == replica.c.scan_id)
        .where(
            replica.c.tier == area,
            replica.c.form == Form.FILES.value,
            replica.c.state.in_(_THERE),
            or_(replica.c.location != scan.c.root, scan.c.area != area),
        )
        .order_by(scan.c.first_seen_at.desc(), replica.c.id)
        .limit(limit)
    )
    return [Placed(row.id, row.name, row.location) for row in tx.rows(query)]
