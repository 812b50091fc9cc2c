"""How the usage was: a row for each value of each grouping where something was new, thinned to one a day when old.

A moment is in whole seconds since 1970, UTC, and a day is 86400 of them.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Generator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Row, delete, exists, func, insert, select, update

from tomovault.catalog import tables
from tomovault.catalog.transaction import Tx, chunks, place_hash
from tomovault.catalog.usage import GROUPINGS, totals
from tomovault.core.errors import UserError

#: Rows younger than this are kept as they were written, at most one an hour; of older ones the last of each day.
KEPT_WHOLE = timedelta(days=60)

DAY_S = 86400

#: Series that one turn of the thinning goes through: some tens of milliseconds.
_IN_A_TURN = 20

_COUNTS = ("bytes", "files", "scans", "logical", "written")


@dataclass(frozen=True)
class Point:
    """What a value of a grouping used at a moment, and what had ever been written for it."""

    value: str | None
    at: datetime
    bytes: int
    files: int
    scans: int
    logical: int
    written: int


def record_usage(tx: Tx, now: datetime) -> int:
    """The usage of now is in the history, wherever it differs from what stood there last; returns how many rows.

    What a clock that was wrong has written into the future goes.
    """
    return sum(_record_grouping(tx, by, _second(now)) for by in GROUPINGS)


def _record_grouping(tx: Tx, by: str, at: int) -> int:
    history, series, last = tables.usage_history, _series(tx, by), _last(tx, by)
    new: list[dict[str, Any]] = []
    if ahead := [number for number, row in last.items() if row.at >= at]:
        for numbers in chunks(ahead):
            tx.run(delete(history).where(history.c.series.in_(numbers), history.c.at >= at))
        last = _last(tx, by)
    for row in totals(tx, by):
        counts = {name: getattr(row, name) for name in _COUNTS}
        number = series.get(row.value)
        if number is None and not any(counts.values()):
            continue
        if number is None:
            number = _add_series(tx, by, row.value)
        before = last.get(number)
        if before is None or any(getattr(before, name) != count for name, count in counts.items()):
            new.append({"series": number, "at": at, **counts})
    for batch in chunks(new):
        tx.run(insert(history), batch)
    return len(new)


def thin_in_turns(writing: Callable[[], AbstractContextManager[Tx]], now: datetime) -> Generator[None, None, None]:
    """Of each day that is long over only the last row is left, in short transactions with a pause after each."""
    history, later = tables.usage_history, tables.usage_history.alias("later")
    until = _second(now - KEPT_WHOLE) // DAY_S * DAY_S
    another_that_day = exists().where(
        later.c.series == history.c.series,
        later.c.at > history.c.at,
        later.c.at < (history.c.at // DAY_S + 1) * DAY_S,
    )
    start = 0
    while True:
        with writing() as tx:
            query = select(tables.usage_series.c.id).where(tables.usage_series.c.id > start)
            ids = [row.id for row in tx.rows(query.order_by(tables.usage_series.c.id).limit(_IN_A_TURN))]
            if ids:
                tx.run(delete(history).where(history.c.series.in_(ids), history.c.at < until, another_that_day))
        if len(ids) < _IN_A_TURN:
            return
        start = ids[-1]
        yield


def list_history(tx: Tx, by: str, since: datetime) -> list[Point]:
    """Every row since a moment, by value and time, and before them what stood at that moment."""
    _require_grouping(by)
    series, history = tables.usage_series, tables.usage_history
    start = _second(since)
    standing = _newest(history, series, before=start + 1)
    query = (
        select(series.c.value, history)
        .join(series, series.c.id == history.c.series)
        .where(series.c.grouping == by, (history.c.at > start) | (history.c.at == standing))
        .order_by(series.c.value, history.c.series, history.c.at)
    )
    return [
        Point(row.value, datetime.fromtimestamp(max(row.at, start), UTC), *(getattr(row, name) for name in _COUNTS))
        for row in tx.rows(query)
    ]


def growth(tx: Tx, by: str, now: datetime, *, days: int) -> dict[str | None, tuple[int, ...]]:
    """What was written for each value on each whole day before today, of the last `days` at most, oldest day first.

    The day on which a history begins is left out: what was there before is no growth.
    """
    _require_grouping(by)
    today = _second(now) // DAY_S
    earliest = today - days - 1
    ends, levels = _ends_of_days(tx, by, earliest, today), _levels(tx, by, earliest)
    found: dict[str | None, tuple[int, ...]] = {}
    for number, value, first in _beginnings(tx, by):
        begin = max(first // DAY_S, earliest)
        mine = ends[number]
        level, by_day = levels.get(number, mine.get(begin, 0)), []
        for day in range(begin + 1, today):
            by_day.append(max(0, mine.get(day, level) - level))
            level = mine.get(day, level)
        found[value] = tuple(by_day)
    return found


def over_since(tx: Tx) -> dict[tuple[str, str | None], datetime]:
    """Since when each grouping's value is above its soft limit, of those that are."""
    series = tables.usage_series
    query = select(series.c.grouping, series.c.value, series.c.over_since).where(series.c.over_since.is_not(None))
    return {(row.grouping, row.value): row.over_since for row in tx.rows(query)}


def note_over(tx: Tx, over: Collection[tuple[str, str]], now: datetime) -> None:
    """Exactly these are above their soft limits: those that are new there since now, others no longer."""
    series, known = tables.usage_series, over_since(tx)
    for by, value in sorted(set(over) - known.keys()):
        number = _series(tx, by).get(value)
        if number is None:
            number = _add_series(tx, by, value)
        tx.run(update(series).where(series.c.id == number).values(over_since=now))
    for by, gone in known.keys() - set(over):
        tx.run(update(series).where(series.c.key_hash == _hash(by, gone)).values(over_since=None))


def _require_grouping(by: str) -> None:
    if by not in GROUPINGS:
        raise UserError(f"usage is not kept by {by!r}", hint="one of " + ", ".join(GROUPINGS))


def _second(moment: datetime) -> int:
    return int(moment.timestamp())


def _hash(by: str, value: str | None) -> str:
    return place_hash(json.dumps((by, value)))


def _add_series(tx: Tx, by: str, value: str | None) -> int:
    row = {"grouping": by, "value": value, "key_hash": _hash(by, value)}
    made = insert(tables.usage_series).values(row).returning(tables.usage_series.c.id)
    return int(tx.value(made))


def _series(tx: Tx, by: str) -> dict[str | None, int]:
    series = tables.usage_series
    return {r.value: int(r.id) for r in tx.rows(select(series.c.id, series.c.value).where(series.c.grouping == by))}


def _newest(history: Any, series: Any, *, before: int | None = None) -> Any:
    """The moment of the newest row of a series, by a search in its key."""
    row = history.alias("row")
    query = select(func.max(row.c.at)).where(row.c.series == series.c.id)
    if before is not None:
        query = query.where(row.c.at < before)
    return query.correlate(series).scalar_subquery()


def _last(tx: Tx, by: str) -> Mapping[int, Row[Any]]:
    series, history = tables.usage_series, tables.usage_history
    query = (
        select(history)
        .join(series, series.c.id == history.c.series)
        .where(series.c.grouping == by, history.c.at == _newest(history, series))
    )
    return {row.series: row for row in tx.rows(query)}


def _beginnings(tx: Tx, by: str) -> list[tuple[int, str | None, int]]:
    """(number, value, moment of the first row) of each series that has a row."""
    series, history = tables.usage_series, tables.usage_history
    first = select(func.min(history.c.at)).where(history.c.series == series.c.id).correlate(series).scalar_subquery()
    query = select(series.c.id, series.c.value, first.label("first")).where(series.c.grouping == by)
    return [(row.id, row.value, int(row.first)) for row in tx.rows(query) if row.first is not None]


def _levels(tx: Tx, by: str, day: int) -> dict[int, int]:
    """What had been written at the end of a day, of each series that had a row by then."""
    series, history = tables.usage_series, tables.usage_history
    query = (
        select(history.c.series, history.c.written)
        .join(series, series.c.id == history.c.series)
        .where(series.c.grouping == by, history.c.at == _newest(history, series, before=(day + 1) * DAY_S))
    )
    return {row.series: int(row.written) for row in tx.rows(query)}


def _ends_of_days(tx: Tx, by: str, earliest: int, today: int) -> dict[int, dict[int, int]]:
    """What had been written at the end of each day of which a series has a row, from `earliest` to before today."""
    series, history = tables.usage_series, tables.usage_history
    day = history.c.at // DAY_S
    query = (
        select(history.c.series, day.label("day"), func.max(history.c.written).label("written"))
        .join(series, series.c.id == history.c.series)
        .where(series.c.grouping == by, history.c.at >= earliest * DAY_S, history.c.at < today * DAY_S)
        .group_by(history.c.series, day)
    )
    ends: dict[int, dict[int, int]] = defaultdict(dict)
    for row in tx.rows(query):
        ends[row.series][int(row.day)] = int(row.written)
    return ends
