"""The outbox: what people are told is committed with the fact that it tells of, and sent afterwards.

A delivery is sent at least once: one that ended between the sending and its record is sent again, under the same id.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, and_, delete, func, insert, select, update

from tomovault.catalog import tables
from tomovault.catalog.engine import BUSY_TIMEOUT_S
from tomovault.catalog.owner_warnings import Running, forget_warnings, settle_warnings
from tomovault.catalog.transaction import Tx, new_id, place_hash

_WAITING, _SENT, _GIVEN_UP = "waiting", "sent", "given_up"

#: Until a delivery that failed is tried again; the pause doubles with every try, up to the longest.
FIRST_PAUSE, LONGEST_PAUSE = timedelta(minutes=1), timedelta(hours=6)

#: Entries that one text has at most; then another is begun.
_MOST_ENTRIES = 100


@dataclass(frozen=True)
class Delivery:
    """A notice on its way by one channel."""

    id: str
    notice: str
    topic: str
    template: str
    facts: Mapping[str, Any]
    channel: str
    recipient: str
    attempts: int
    made_at: datetime


@dataclass(frozen=True)
class OutboxRow:
    """How many deliveries of one channel wait, or were given up, since when, and the last problem."""

    channel: str
    state: str
    count: int
    oldest_at: datetime | None
    error: str


def post_notice(
    tx: Tx,
    topic: str,
    template: str,
    facts: Mapping[str, Any],
    to: Iterable[tuple[str, str]],
    now: datetime,
    *,
    key: str = "",
    not_before: datetime | None = None,
) -> str:
    """People will be told: one delivery for each (channel, recipient); returns the notice's id."""
    notice_id = new_id("n")
    tx.run(
        insert(tables.notice).values(
            id=notice_id, topic=topic, template=template, key=place_hash(key), facts=facts, made_at=now
        )
    )
    rows = [
        {
            "id": f"{notice_id}.{number}",
            "notice_id": notice_id,
            "channel": channel,
            "recipient": recipient,
            "state": _WAITING,
            "attempts": 0,
            "not_before": not_before or now,
            "error": "",
        }
        for number, (channel, recipient) in enumerate(to, start=1)
    ]
    if rows:
        tx.run(insert(tables.delivery), rows)
    return notice_id


#: Nothing joins a message so shortly before it goes: who adds may have waited for the database since its `now`, and the
#: channel may have read the message meanwhile.
_CLOSED_BEFORE = timedelta(seconds=BUSY_TIMEOUT_S + 5)


def add_to_notice(
    tx: Tx, key: str, entries: str, new: Sequence[Mapping[str, Any]], now: datetime, *, made_since: datetime
) -> str | None:
    """These are told with what waits under the same key, in its list `entries`; returns the notice's id, or None where
    nothing waits that none has been tried to be sent of, made no earlier than that.
    """
    notice, delivery = tables.notice, tables.delivery
    query = (
        select(notice)
        .where(notice.c.key == place_hash(key), notice.c.made_at >= made_since)
        .order_by(notice.c.made_at.desc(), notice.c.id)
        .limit(1)
        .with_for_update()
    )
    row = tx.first(query)
    if row is None or len(row.facts[entries]) + len(new) > _MOST_ENTRIES:
        return None
    states = tx.rows(select(delivery).where(delivery.c.notice_id == row.id))
    if not states or any(d.state != _WAITING or d.attempts or d.not_before <= now + _CLOSED_BEFORE for d in states):
        return None
    facts = {**row.facts, entries: [*row.facts[entries], *new]}
    tx.run(update(notice).where(notice.c.id == row.id).values(facts=facts))
    return str(row.id)


def is_posted(tx: Tx, key: str) -> bool:
    """Whether something was told under a key, however long ago, as far as it is kept."""
    return tx.first(select(tables.notice.c.id).where(tables.notice.c.key == place_hash(key)).limit(1)) is not None


def list_deliveries(tx: Tx, channel: str, now: datetime, limit: int) -> list[Delivery]:
    """What is to be sent by a channel now, oldest first."""
    delivery = tables.delivery
    query = (
        _joined()
        .where(tables.IS_WAITING, delivery.c.not_before <= now, delivery.c.channel == channel)
        .order_by(delivery.c.not_before, delivery.c.id)
        .limit(limit)
    )
    return [_delivery(row) for row in tx.rows(query)]


def count_untried(tx: Tx, now: datetime) -> int:
    """How many deliveries are due that were never tried."""
    delivery = tables.delivery
    query = select(func.count()).where(tables.IS_WAITING, delivery.c.not_before <= now, delivery.c.attempts == 0)
    return int(tx.value(query))


def record_sent(tx: Tx, delivery_id: str, running: Running, now: datetime) -> None:
    """The other side took it; a warning that it completes counts from now on."""
    _end(tx, delivery_id, _SENT, "", running, now)


def record_unsent(
    tx: Tx, delivery_id: str, error: str, running: Running, now: datetime, *, give_up_after: timedelta
) -> bool:
    """A try failed: it is tried again after a pause, or given up where that has gone on for so long. Returns whether
    it was given up.
    """
    delivery = tables.delivery
    row = tx.first(_joined().where(delivery.c.id == delivery_id))
    if row is None or row.state != _WAITING:
        return False
    if now - row.made_at >= give_up_after:
        _end(tx, delivery_id, _GIVEN_UP, error, running, now)
        return True
    pause = min(FIRST_PAUSE * 2 ** min(row.attempts, 30), LONGEST_PAUSE)
    tx.run(
        update(delivery)
        .where(delivery.c.id == delivery_id, delivery.c.state == _WAITING)
        .values(attempts=row.attempts + 1, error=error, not_before=now + pause)
    )
    return False


def give_up_unknown(tx: Tx, channels: Collection[str], running: Running, now: datetime) -> int:
    """Deliveries of channels that are not among these are given up; returns how many."""
    delivery = tables.delivery
    query = select(delivery.c.id, delivery.c.channel).where(
        tables.IS_WAITING, delivery.c.channel.not_in(sorted(channels))
    )
    rows = tx.rows(query)
    for row in rows:
        _end(tx, row.id, _GIVEN_UP, f"the site has no channel {row.channel} any more", running, now)
    return len(rows)


def forget_in_turns(
    writing: Callable[[], AbstractContextManager[Tx]], before: datetime, *, size: int = 200
) -> Generator[None, None, None]:
    """Old warnings of copies that are gone, and then old notices as `forget_notices` says, are gone to the last one, in
    short transactions with a pause for the caller after each.
    """
    for forget in (forget_warnings, forget_notices):
        while True:
            with writing() as tx:
                count = forget(tx, before, size)
            if count < size:
                break
            yield


def forget_notices(tx: Tx, before: datetime, limit: int = 1000) -> int:
    """Old notices are gone of which nothing waits and no warning speaks; returns how many."""
    notice, delivery, warning = tables.notice, tables.delivery, tables.owner_warning
    waits = select(delivery.c.id).where(delivery.c.notice_id == notice.c.id, delivery.c.state == _WAITING).exists()
    warned = select(warning.c.replica_id).where(warning.c.notice_id == notice.c.id).exists()
    query = select(notice.c.id).where(notice.c.made_at < before, ~waits, ~warned).limit(limit)
    ids = [row.id for row in tx.rows(query)]
    if ids:
        tx.run(delete(delivery).where(delivery.c.notice_id.in_(ids)))
        tx.run(delete(notice).where(notice.c.id.in_(ids)))
    return len(ids)


def list_outbox(tx: Tx) -> list[OutboxRow]:
    """What waits and what was given up, by channel."""
    delivery, notice = tables.delivery, tables.notice
    rows = []
    for state, few in ((_WAITING, tables.IS_WAITING), (_GIVEN_UP, tables.IS_GIVEN_UP)):
        query = (
            select(
                delivery.c.channel,
                func.count().label("number"),
                func.min(notice.c.made_at).label("oldest_at"),
                func.max(delivery.c.error).label("error"),
            )
            .join(notice, notice.c.id == delivery.c.notice_id)
            .where(few)
            .group_by(delivery.c.channel)
            .order_by(delivery.c.channel)
        )
        rows += [OutboxRow(r.channel, state, int(r.number), r.oldest_at, r.error or "") for r in tx.rows(query)]
    return rows


def _end(tx: Tx, delivery_id: str, state: str, error: str, running: Running, now: datetime) -> None:
    delivery = tables.delivery
    ended = tx.changed(
        update(delivery)
        .where(delivery.c.id == delivery_id, delivery.c.state == _WAITING)
        .values(state=state, ended_at=now, error=error, attempts=delivery.c.attempts + 1)
    )
    if not ended:
        return
    notice_id = tx.value(select(delivery.c.notice_id).where(delivery.c.id == delivery_id))
    left = {row.state for row in tx.rows(select(delivery.c.state).where(delivery.c.notice_id == notice_id))}
    if _WAITING not in left:
        settle_warnings(tx, notice_id, running, now, arrived=_SENT in left)


def _joined() -> Any:
    delivery, notice = tables.delivery, tables.notice
    columns = (notice.c.topic, notice.c.template, notice.c.facts, notice.c.made_at)
    return select(delivery, *columns).join(notice, and_(notice.c.id == delivery.c.notice_id))


def _delivery(row: Row[Any]) -> Delivery:
    return Delivery(
        id=row.id,
        notice=row.notice_id,
        topic=row.topic,
        template=row.template,
        facts=row.facts,
        channel=row.channel,
        recipient=row.recipient,
        attempts=row.attempts,
        made_at=row.made_at,
    )
