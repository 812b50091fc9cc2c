"""Numbers for metrics, each from an index or a roll-up: no question here goes through all scans or all jobs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select

from tomovault.catalog import tables
from tomovault.catalog.transaction import Tx
from tomovault.core.known import JobStatus

#: Scans that are due are counted up to this.
MOST_DUE = 10_000


@dataclass(frozen=True)
class Queue:
    """Jobs of one action and status, and when the one was queued that has waited longest."""

    action: str
    status: str
    count: int
    oldest_at: datetime | None


def list_queues(tx: Tx) -> list[Queue]:
    """Jobs to do, being done and failed, by action; those that ended well are not counted."""
    job = tables.job
    columns = (job.c.action, job.c.status, func.count().label("number"), func.min(job.c.queued_at).label("oldest_at"))
    found = []
    for few in (tables.IS_UNFINISHED, job.c.status == JobStatus.FAILED.value):
        rows = tx.rows(select(*columns).where(few).group_by(job.c.action, job.c.status))
        found += [Queue(row.action, row.status, int(row.number), row.oldest_at) for row in rows]
    return found


def count_due(tx: Tx, now: datetime) -> int:
    """Scans that are to be looked at now, at most `MOST_DUE`."""
    scan = tables.scan
    due = select(scan.c.id).where(scan.c.next_due_at <= now).limit(MOST_DUE).subquery()
    return int(tx.value(select(func.count()).select_from(due)))


def count_suspect(tx: Tx) -> int:
    """Copies that nothing relies on."""
    return int(tx.value(select(func.count()).select_from(tables.replica).where(tables.IS_SUSPECT)))
