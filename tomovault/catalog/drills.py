"""Fire drills: which archived copies may be drawn, and how each drill ended."""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import delete, func, insert, select, update

from tomovault.catalog import tables
from tomovault.catalog.transaction import Tx, new_id
from tomovault.core.known import JobStatus
from tomovault.core.replica import Form, ProductKind, ReplicaState


class DrillOutcome(enum.StrEnum):
    """How a drill ended. One that was put off, or that waits for a medium which brings its copy, says nothing of it."""

    UNDER_WAY = "under_way"
    PASSED = "passed"
    BAD = "bad"
    NOT_REPRODUCED = "not_reproduced"
    PUT_OFF = "put_off"
    WAITING = "waiting"


#: What a drill that was carried out ended with.
_JUDGED = (DrillOutcome.PASSED.value, DrillOutcome.BAD.value, DrillOutcome.NOT_REPRODUCED.value)


@dataclass(frozen=True)
class Drawable:
    """A good archived copy, how often it was drilled, and how often a drill asked in vain for it to be brought."""

    replica: str
    scan: str
    drills: int
    waited: int


@dataclass(frozen=True)
class Drill:
    """A drill. `facts` are what was found: bytes, files, what was compared and for how long."""

    id: str
    replica: str
    scan: str
    name: str
    tier: str
    location: str
    scratch: str
    begun_at: datetime
    ended_at: datetime | None
    outcome: DrillOutcome
    problem: str
    facts: Mapping[str, Any] = field(default_factory=dict)


def list_drawable(tx: Tx, tiers: Collection[str]) -> list[Drawable]:
    """Every good package of an original on these tiers, by id."""
    replica, product, drill = tables.replica, tables.product, tables.drill
    number = func.count().label("number")
    counted = select(drill.c.replica_id, number).where(drill.c.outcome.in_(_JUDGED)).group_by(drill.c.replica_id)
    judged = {row.replica_id: int(row.number) for row in tx.rows(counted)}
    waiting = select(drill.c.replica_id, drill.c.facts).where(drill.c.outcome == DrillOutcome.WAITING.value)
    waited = {row.replica_id: int(row.facts.get("asked", 1)) for row in tx.rows(waiting)}
    query = (
        select(replica.c.id, replica.c.scan_id)
        .join(product, product.c.id == replica.c.product_id)
        .where(
            replica.c.tier.in_(sorted(tiers)),
            replica.c.form == Form.PACKAGE.value,
            replica.c.state == ReplicaState.VERIFIED.value,
            product.c.kind == ProductKind.ORIGINAL.value,
        )
        .order_by(replica.c.id)
    )
    return [Drawable(row.id, row.scan_id, judged.get(row.id, 0), waited.get(row.id, 0)) for row in tx.rows(query)]


def begin_drill(tx: Tx, replica: str, scan: str, tier: str, location: str, scratch: str, now: datetime) -> None:
    """A drill of a copy is under way; it is called as the folder that it uses ends. One that found nothing out is
    forgotten for it.
    """
    table = tables.drill
    idle = (DrillOutcome.PUT_OFF.value, DrillOutcome.WAITING.value)
    tx.run(delete(table).where(table.c.replica_id == replica, table.c.outcome.in_(idle)))
    tx.run(
        insert(table).values(
            id=scratch.rpartition(".")[2],
            replica_id=replica,
            scan_id=scan,
            tier=tier,
            location=location,
            scratch=scratch,
            begun_at=now,
            ended_at=None,
            outcome=DrillOutcome.UNDER_WAY.value,
            problem="",
            facts={},
        )
    )


def new_drill_id() -> str:
    """An id for a drill."""
    return new_id("d")


def end_drill(tx: Tx, drill: str, outcome: DrillOutcome, problem: str, facts: Mapping[str, Any], now: datetime) -> None:
    """A drill is over, and what it used is free again."""
    table = tables.drill
    values = {"ended_at": now, "outcome": outcome.value, "problem": problem, "facts": dict(facts)}
    tx.run(update(table).where(table.c.id == drill).values(**values))


def list_drills(tx: Tx, limit: int | None = None, *, under_way: bool = False) -> list[Drill]:
    """The newest first; only those without an end where they are asked for."""
    drill, scan = tables.drill, tables.scan
    query = select(drill, scan.c.name).join(scan, scan.c.id == drill.c.scan_id)
    if under_way:
        query = query.where(drill.c.ended_at.is_(None))
    rows = tx.rows(query.order_by(drill.c.begun_at.desc(), drill.c.id).limit(limit))
    return [
        Drill(
            row.id,
            row.replica_id,
            row.scan_id,
            row.name,
            row.tier,
            row.location,
            row.scratch,
            row.begun_at,
            row.ended_at,
            DrillOutcome(row.outcome),
            row.problem,
            row.facts,
        )
        for row in rows
    ]


def count_drills(tx: Tx) -> dict[str, int]:
    """How many ended how."""
    drill = tables.drill
    counted = select(drill.c.outcome, func.count().label("number")).group_by(drill.c.outcome)
    return {row.outcome: int(row.number) for row in tx.rows(counted)}


def last_drill_at(tx: Tx) -> datetime | None:
    """When the last drill that was carried out began."""
    drill = tables.drill
    found: datetime | None = tx.value(select(func.max(drill.c.begun_at)).where(drill.c.outcome.in_(_JUDGED)))
    return found


def do_people_wait(tx: Tx) -> bool:
    """Whether a restore is to be done or is being done."""
    job = tables.job
    unfinished = (JobStatus.TODO.value, JobStatus.DOING.value)
    query = select(job.c.id).where(job.c.action == "restore", tables.IS_UNFINISHED, job.c.status.in_(unfinished))
    return tx.first(query.limit(1)) is not None
