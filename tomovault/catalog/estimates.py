"""When people were told that a restore would be over, and when it was."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import insert, select

from tomovault.catalog import tables
from tomovault.catalog.transaction import Tx
from tomovault.core.known import JobStatus

#: So many of the last restores say how long the next ones take, if there are so many.
_LAST = 20
_LEAST = 3


@dataclass(frozen=True)
class Estimate:
    """What was told of a job. `model_s`: how long it would take if the drives kept to their figures and nothing came
    between; `ended_at` is None while it is not over.
    """

    job: str
    told_at: datetime
    model_s: float
    ends_at: datetime
    ended_at: datetime | None


def note_estimate(tx: Tx, job: str, told_at: datetime, model_s: float, ends_at: datetime) -> None:
    """It is known what was told of a job; of one job it is told once."""
    tx.run(insert(tables.estimate).values(job_id=job, told_at=told_at, model_s=model_s, ends_at=ends_at))


def open_estimates(tx: Tx) -> list[Estimate]:
    """What was told of jobs that are not over yet."""
    return [e for e in _estimates(tx, over=False) if e.ended_at is None]


def last_estimates(tx: Tx) -> list[Estimate]:
    """What was told of the last jobs that succeeded, the newest first."""
    return _estimates(tx, over=True)


def pace_of(last: list[Estimate]) -> float:
    """How many times as long as by the figures of the drives the last ones took, the middle one of them; 1 where there
    are too few to say.
    """
    paces = [
        (e.ended_at - e.told_at).total_seconds() / e.model_s for e in last if e.ended_at is not None and e.model_s > 0
    ]
    return max(statistics.median(paces), 0.0) if len(paces) >= _LEAST else 1.0


def honesty_of(last: list[Estimate]) -> float | None:
    """How many times as long as they were told the last ones took, the middle one of them; None where none was told."""
    told = [((e.ends_at - e.told_at).total_seconds(), e) for e in last if e.ended_at is not None]
    ratios = [(e.ended_at - e.told_at).total_seconds() / s for s, e in told if s > 0 and e.ended_at is not None]
    return statistics.median(ratios) if ratios else None


def _estimates(tx: Tx, *, over: bool) -> list[Estimate]:
    job, estimate = tables.job, tables.estimate
    query = select(estimate, job.c.finished_at).join(job, job.c.id == estimate.c.job_id)
    if over:
        query = query.where(job.c.status == JobStatus.SUCCEEDED.value).order_by(
            estimate.c.told_at.desc(), estimate.c.job_id
        )
        query = query.limit(_LAST)
    else:
        query = query.where(tables.IS_UNFINISHED).order_by(estimate.c.told_at, estimate.c.job_id)
    return [Estimate(r.job_id, r.told_at, r.model_s, r.ends_at, r.finished_at) for r in tx.rows(query)]
