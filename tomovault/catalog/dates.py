"""Dates by which scans, jobs and messages wait, brought forward once a clock that was ahead is set back."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select, update

from tomovault.catalog import tables
from tomovault.catalog.transaction import Tx, chunks
from tomovault.core.known import JobStatus


def bring_scans_forward(tx: Tx, now: datetime, after: str, limit: int) -> str | None:
    """So many of the scans behind that id that wait for a date are due to be looked at now; returns the id to go on
    behind, None where no more are left.
    """
    scan = tables.scan
    query = select(scan.c.id).where(scan.c.id > after, scan.c.next_due_at > now).order_by(scan.c.id).limit(limit)
    found = [row.id for row in tx.rows(query)]
    for batch in chunks(found):
        tx.run(update(scan).where(scan.c.id.in_(batch)).values(next_due_at=now))
    return found[-1] if len(found) == limit else None


def bring_jobs_forward(tx: Tx, now: datetime) -> None:
    """No job waits for a date before it is tried again."""
    job = tables.job
    waits = (job.c.status == JobStatus.TODO.value, job.c.not_before > now)
    tx.run(update(job).where(*waits).values(not_before=now))


def bring_messages_forward(tx: Tx, now: datetime) -> None:
    """No message waits for a date before it is sent, or tried again."""
    delivery = tables.delivery
    tx.run(update(delivery).where(tables.IS_WAITING, delivery.c.not_before > now).values(not_before=now))
