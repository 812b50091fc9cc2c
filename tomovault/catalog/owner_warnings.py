"""Warnings before a removal: asked, sent, and how much time has been seen to pass since then."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import delete, func, insert, select, update

from tomovault.catalog import tables
from tomovault.catalog.audit import add_audit
from tomovault.catalog.transaction import Tx, chunks
from tomovault.core.notice import OwnerWarning
from tomovault.core.replica import ReplicaState

_SITE = "site"


class Running(NamedTuple):
    """For how long a machine has run, and since which boot: what no setting of its clock changes."""

    boot: str
    seconds: float


_ACTOR = "tomovault"


def see_time_pass(tx: Tx, running: Running) -> float:
    """The time that a machine has run since the last call is added to what has been seen to pass; returns that.

    Nothing is added where another boot called last: how long nobody looked, no clock of this one can tell.
    """
    table = tables.seen_time
    row = tx.first(select(table).where(table.c.name == _SITE).with_for_update())
    if row is None:
        tx.run(insert(table).values(name=_SITE, passed_s=0.0, boot=running.boot, running_s=running.seconds))
        return 0.0
    step = max(0.0, running.seconds - row.running_s) if row.boot == running.boot else 0.0
    passed = float(row.passed_s) + step
    values = {"passed_s": passed, "boot": running.boot, "running_s": running.seconds}
    tx.run(update(table).where(table.c.name == _SITE).values(**values))
    return passed


def ask_warnings(tx: Tx, notice_id: str, asked: Iterable[tuple[str, str, str, timedelta]], now: datetime) -> None:
    """(scan, replica, rule, promised time) of each replica that the notice warns of; an earlier warning is replaced."""
    table = tables.owner_warning
    for scan_id, replica_id, rule, days in asked:
        tx.run(delete(table).where(table.c.replica_id == replica_id))
        tx.run(
            insert(table).values(
                replica_id=replica_id,
                scan_id=scan_id,
                notice_id=notice_id,
                rule=rule,
                warn_s=int(days.total_seconds()),
                asked_at=now,
            )
        )


def settle_warnings(tx: Tx, notice_id: str, running: Running, now: datetime, *, arrived: bool) -> None:
    """Every delivery of the notice is over: its warnings were sent now, or where none arrived there were none."""
    table = tables.owner_warning
    rows = tx.rows(select(table).where(table.c.notice_id == notice_id, table.c.sent_at.is_(None)))
    if not rows:
        return
    here = (table.c.notice_id == notice_id) & table.c.sent_at.is_(None)
    if not arrived:
        tx.run(delete(table).where(here))
        return
    # Rounded up: a fraction of a second must not make it earlier.
    passed = int(see_time_pass(tx, running)) + 1
    tx.run(update(table).where(here).values(sent_at=now, sent_at_s=passed))
    for row in rows:
        body = {"replica": row.replica_id, "rule": row.rule, "notice": notice_id, "warn_s": row.warn_s}
        add_audit(tx, _ACTOR, "owner warned", body, now, scan=row.scan_id)


def drop_warnings(tx: Tx, scan_id: str) -> None:
    """What was said of a scan's replicas counts no more, whatever the clock said then and now."""
    tx.run(delete(tables.owner_warning).where(tables.owner_warning.c.scan_id == scan_id))


def forget_warnings(tx: Tx, before: datetime, limit: int) -> int:
    """Old warnings of replicas that are gone for good are gone, so many at most; returns how many."""
    table, replica = tables.owner_warning, tables.replica
    query = (
        select(table.c.replica_id)
        .join(replica, replica.c.id == table.c.replica_id)
        .where(table.c.asked_at < before, replica.c.state == ReplicaState.GONE.value)
        .limit(limit)
    )
    ids = [row.replica_id for row in tx.rows(query)]
    for batch in chunks(ids):
        tx.run(delete(table).where(table.c.replica_id.in_(batch)))
    return len(ids)


def warnings_of(tx: Tx, scan_ids: list[str]) -> dict[str, list[OwnerWarning]]:
    """The last warning of each replica, by scan."""
    table = tables.owner_warning
    made: dict[str, list[OwnerWarning]] = defaultdict(list)
    rows = tx.rows(select(table).where(table.c.scan_id.in_(scan_ids)).order_by(table.c.asked_at, table.c.replica_id))
    passed = _passed(tx) if rows else 0.0
    for row in rows:
        since = timedelta(0) if row.sent_at_s is None else timedelta(seconds=max(0.0, passed - row.sent_at_s))
        days = timedelta(seconds=row.warn_s)
        made[row.scan_id].append(OwnerWarning(row.replica_id, row.rule, days, row.asked_at, row.sent_at, since))
    return made


def count_warnings(tx: Tx) -> tuple[int, int]:
    """(asked and not sent yet, sent) warnings that are the last of their replica."""
    table = tables.owner_warning
    row = tx.first(select(func.count().label("all"), func.count(table.c.sent_at).label("sent")))
    return (0, 0) if row is None else (int(row.all) - int(row.sent), int(row.sent))


def _passed(tx: Tx) -> float:
    return float(tx.value(select(tables.seen_time.c.passed_s).where(tables.seen_time.c.name == _SITE)) or 0.0)
