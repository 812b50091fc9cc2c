"""Files that we are taking away: which scans' they are, and whether they went."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import select

from tomovault.catalog import tables
from tomovault.catalog.transaction import Tx
from tomovault.core.known import JobStatus, RemovalPhase
from tomovault.core.replica import Form
from tomovault.core.scan import Candidate

_AWAY = (RemovalPhase.QUARANTINED, RemovalPhase.LEAVING, RemovalPhase.GONE)


def list_departing(tx: Tx) -> dict[str, tuple[str, Candidate]]:
    """By permit, (area, candidate) of each scan whose own files a removal that was begun takes away: also one that was
    interrupted, and goes on later.
    """
    job, permit, replica, scan = tables.job, tables.permit, tables.replica, tables.scan
    begun = tx.rows(
        select(job.c.order).where(
            job.c.status.in_([JobStatus.DOING.value, JobStatus.TODO.value]),
            job.c.action == "prune",
            job.c.finished_at.is_(None),
            job.c.attempts > 0,
        )
    )
    if not begun:
        return {}
    rows = tx.rows(
        select(permit.c.id.label("permit_id"), scan.c.area.label("home"), tables.candidate)
        .join(replica, replica.c.id == permit.c.replica_id)
        .join(scan, scan.c.id == permit.c.scan_id)
        .join(tables.candidate, tables.candidate.c.key_hash == scan.c.candidate)
        .where(
            permit.c.id.in_(sorted(str(row.order.get("permit")) for row in begun)),
            replica.c.form == Form.FILES.value,
            replica.c.tier == scan.c.area,
            replica.c.location_hash == scan.c.root_hash,
        )
    )
    return {row.permit_id: (row.home, Candidate(row.format, row.folder, row.key, row.metadata_folder)) for row in rows}


def list_departed(tx: Tx, permits: Collection[str]) -> frozenset[str]:
    """Those of the permits under which files went into quarantine, or farther."""
    permit = tables.permit
    rows = tx.rows(
        select(permit.c.id).where(permit.c.id.in_(sorted(permits)), permit.c.phase.in_([p.value for p in _AWAY]))
    )
    return frozenset(row.id for row in rows)
