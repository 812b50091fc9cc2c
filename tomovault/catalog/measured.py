"""What runs were measured to take."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import ColumnElement, ScalarSelect, and_, select

from tomovault.catalog import tables
from tomovault.catalog.transaction import Tx
from tomovault.core.record import Outcome


def cpu_of_volumes(tx: Tx, scans: Collection[str]) -> dict[str, float]:
    """CPU seconds of the last run that made a volume of each of these scans, where there was one."""
    job, attempt = tables.job, tables.attempt
    query = (
        select(job.c.scan_id, attempt.c.cpu_s)
        .join(attempt, attempt.c.job_id == job.c.id)
        .where(job.c.scan_id.in_(scans), _made_a_volume())
        .order_by(attempt.c.finished_at, attempt.c.id)
    )
    return {row.scan_id: float(row.cpu_s) for row in tx.rows(query)}


def cpu_of_volume() -> ScalarSelect[float]:
    """The same of the scan of a query; NULL where there was none."""
    job, attempt = tables.job, tables.attempt
    return (
        select(attempt.c.cpu_s)
        .select_from(job.join(attempt, attempt.c.job_id == job.c.id))
        .where(job.c.scan_id == tables.scan.c.id, _made_a_volume())
        .order_by(attempt.c.finished_at.desc(), attempt.c.id.desc())
        .limit(1)
        .correlate(tables.scan)
        .scalar_subquery()
    )


def _made_a_volume() -> ColumnElement[bool]:
    """A run that found nothing to do succeeds, too, and says why."""
    job, attempt = tables.job, tables.attempt
    made = attempt.c.outcome == Outcome.SUCCEEDED.value
    return and_(job.c.action == "reconstruct", made, attempt.c.error == "", attempt.c.finished_at.is_not(None))
