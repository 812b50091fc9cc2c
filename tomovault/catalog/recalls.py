"""Jobs that may need a cartridge: what waits and what is being done, with the copies that they are about."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Row, or_, select

from tomovault.catalog import tables
from tomovault.catalog.transaction import Tx, chunks
from tomovault.core.known import JobStatus
from tomovault.core.replica import Form, ProductKind, ReplicaState, TierClass

#: Actions that may read or write cartridges.
TAPED = frozenset({"restore", "archive", "verify"})

_STANDING = (ReplicaState.PRESENT, ReplicaState.VERIFIED, ReplicaState.SUSPECT)


@dataclass(frozen=True)
class Held:
    """A copy of a scan that stands somewhere."""

    replica: str
    product: ProductKind
    form: Form
    tier: str
    tier_class: TierClass
    domain: str
    location: str
    bytes: int
    state: ReplicaState


@dataclass(frozen=True)
class Errand:
    """A job that may need a cartridge, with every standing copy of its scan. `begun_at` is None where it waits."""

    job: str
    action: str
    scan: str
    order: Mapping[str, Any]
    queued_at: datetime
    begun_at: datetime | None
    copies: tuple[Held, ...] = ()


def list_errands(
    tx: Tx,
    now: datetime,
    *,
    limit: int,
    actions: Collection[str] = TAPED,
    skip_places: Collection[str] = (),
    host: str | None = None,
    unbound: bool = True,
    anywhere: bool = False,
) -> list[Errand]:
    """The jobs that waited longest among those that `claim_job` might take now, here or `anywhere`; so many of each
    action at most, or people would wait unseen behind all that the archive is to take.
    """
    job = tables.job
    here = job.c.host == host
    query = (
        select(job.c.id, job.c.action, job.c.scan_id, job.c.order, job.c.queued_at)
        .where(
            job.c.finished_at.is_(None),
            job.c.status == JobStatus.TODO.value,
            job.c.scan_id.is_not(None),
            or_(job.c.not_before.is_(None), job.c.not_before <= now),
        )
        .order_by(job.c.queued_at, job.c.id)
        .limit(limit)
    )
    if not anywhere:
        query = query.where(or_(job.c.host.is_(None), here) if unbound else here)
    if skip_places:
        query = query.where(job.c.place.not_in(sorted(skip_places)))
    rows = [
        row for action in sorted(TAPED.intersection(actions)) for row in tx.rows(query.where(job.c.action == action))
    ]
    rows.sort(key=lambda row: (row.queued_at, row.id))
    return _with_copies(tx, [Errand(r.id, r.action, r.scan_id, r.order, r.queued_at, None) for r in rows])


def list_begun(tx: Tx) -> list[Errand]:
    """Those that are being done now."""
    job, attempt = tables.job, tables.attempt
    query = (
        select(job.c.id, job.c.action, job.c.scan_id, job.c.order, job.c.queued_at, attempt.c.started_at)
        .join(attempt, (attempt.c.job_id == job.c.id) & (attempt.c.token == job.c.token))
        .where(job.c.status == JobStatus.DOING.value, job.c.action.in_(sorted(TAPED)), job.c.scan_id.is_not(None))
        .order_by(attempt.c.started_at, job.c.id)
    )
    return _with_copies(
        tx, [Errand(r.id, r.action, r.scan_id, r.order, r.queued_at, r.started_at) for r in tx.rows(query)]
    )


def _with_copies(tx: Tx, errands: list[Errand]) -> list[Errand]:
    replica, product, tier = tables.replica, tables.product, tables.tier
    columns = (replica.c[name] for name in ("id", "scan_id", "form", "tier", "domain", "location", "bytes", "state"))
    copies: dict[str, list[Held]] = {}
    for batch in chunks(sorted({errand.scan for errand in errands})):
        query = (
            select(*columns, product.c.kind, tier.c.tier_class)
            .join(product, product.c.id == replica.c.product_id)
            .join(tier, tier.c.name == replica.c.tier)
            .where(replica.c.scan_id.in_(batch), replica.c.state.in_([state.value for state in _STANDING]))
            .order_by(replica.c.id)
        )
        for row in tx.rows(query):
            copies.setdefault(row.scan_id, []).append(_held(row))
    return [replace(errand, copies=tuple(copies.get(errand.scan, ()))) for errand in errands]


def _held(row: Row[Any]) -> Held:
    return Held(
        replica=row.id,
        product=ProductKind(row.kind),
        form=Form(row.form),
        tier=row.tier,
        tier_class=TierClass(row.tier_class),
        domain=row.domain,
        location=row.location,
        bytes=row.bytes,
        state=ReplicaState(row.state),
    )
