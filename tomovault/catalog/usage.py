"""Bytes, files and scans by area, tier, proposal, owner and beamline, kept by delta in the writing transaction.

A scan counts on each tier that holds a live replica of it, quarantine included. A scan that was not packed
yet has no replica: its files count as they were found, in its area.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, ColumnElement, and_, delete, func, insert, select, update

from tomovault.catalog import tables
from tomovault.catalog.transaction import Tx, chunks, place_hash
from tomovault.core.errors import UserError
from tomovault.core.replica import Form, ProductKind, ReplicaState

#: area, tier, proposal, owner, beamline.
Key = tuple[str | None, str | None, str | None, str | None, str | None]

GROUPINGS = ("area", "tier", "proposal", "owner", "beamline")

#: Scans that one turn of a recount counts: some tens of milliseconds.
_IN_A_TURN = 200


@dataclass(frozen=True)
class UsageRow:
    """What one value of a grouping uses; `value` is None for scans where it is not known."""

    by: str
    value: str | None
    bytes: int
    files: int
    scans: int


@dataclass(frozen=True)
class _Amount:
    bytes: int = 0
    files: int = 0
    scans: int = 0

    def __add__(self, other: _Amount) -> _Amount:
        return _Amount(self.bytes + other.bytes, self.files + other.files, self.scans + other.scans)

    def __neg__(self) -> _Amount:
        return _Amount(-self.bytes, -self.files, -self.scans)


@contextmanager
def accounted(tx: Tx, scan_id: str | None) -> Iterator[None]:
    """Whatever is written about a scan inside is in the roll-up when it ends. Must not be nested for one scan."""
    before = _shares(tx, [scan_id]) if scan_id is not None else {}
    yield
    if scan_id is not None:
        _apply(tx, before, _shares(tx, [scan_id]))


def usage(tx: Tx, by: str) -> list[UsageRow]:
    """The roll-up by one grouping, largest first. Raises UserError for a grouping that is not kept."""
    if by not in GROUPINGS:
        raise UserError(f"usage is not kept by {by!r}", hint="one of " + ", ".join(GROUPINGS))
    table = tables.usage
    column: Column[Any] = table.c[by]
    scans_where = {
        "area": and_(table.c.tier.is_(None), table.c.area.is_not(None)),
        "tier": table.c.tier.is_not(None),
    }.get(by, and_(table.c.tier.is_(None), table.c.area.is_(None)))
    bytes_where: ColumnElement[bool] = table.c.tier.is_not(None)
    if by == "area":
        bytes_where = and_(bytes_where, table.c.area.is_not(None))
    found: dict[str | None, _Amount] = defaultdict(_Amount)
    for row in tx.rows(
        select(column.label("value"), func.sum(table.c.bytes).label("b"), func.sum(table.c.files).label("f"))
        .where(bytes_where)
        .group_by(column)
    ):
        found[row.value] += _Amount(int(row.b), int(row.f), 0)
    for row in tx.rows(
        select(column.label("value"), func.sum(table.c.scans).label("n")).where(scans_where).group_by(column)
    ):
        found[row.value] += _Amount(scans=int(row.n))
    for name in _all_names(tx, by):
        found[name] += _Amount()
    rows = [UsageRow(by, value, a.bytes, a.files, a.scans) for value, a in found.items()]
    wanted = [r for r in rows if r.bytes or r.files or r.scans or by in ("area", "tier")]
    return sorted(wanted, key=lambda r: (-r.bytes, r.value or ""))


def recount(tx: Tx) -> list[str]:
    """Count everything anew and compare: one text per key that differs; empty when the roll-up is right."""
    counted = _count_all(tx)
    return [_told(key, is_, should) for key, (is_, should) in _differences(_kept(tx), counted).items()]


def recount_in_turns(
    reading: Callable[[], AbstractContextManager[Tx]], writing: Callable[[], AbstractContextManager[Tx]]
) -> Generator[None, None, list[str]]:
    """As `recount`, in many short transactions, with a pause for the caller after each; what differs is mended, and
    the texts are returned.

    What is written meanwhile may be counted on one side alone. So a key that differs is counted once more, and
    mended by that amount if it differs by the very same again: whatever is recorded meanwhile adds to both alike.
    """
    first = yield from _one_pass(reading)
    if not first:
        return []
    again = yield from _one_pass(reading)
    lasting = {
        key: found
        for key, found in again.items()
        if key in first and found[0] + -found[1] == first[key][0] + -first[key][1]
    }
    if lasting:
        with writing() as tx:
            for key, (is_, should) in lasting.items():
                _apply_one(tx, key, should + -is_)
    return [_told(key, is_, should) for key, (is_, should) in lasting.items()]


def _one_pass(
    reading: Callable[[], AbstractContextManager[Tx]],
) -> Generator[None, None, dict[Key, tuple[_Amount, _Amount]]]:
    total: dict[Key, _Amount] = defaultdict(_Amount)
    last = ""
    while True:
        with reading() as tx:
            scan = tables.scan
            query = select(scan.c.id).where(scan.c.id > last).order_by(scan.c.id).limit(_IN_A_TURN)
            batch = [row.id for row in tx.rows(query)]
            for key, amount in _shares(tx, batch).items():
                total[key] += amount
            if len(batch) < _IN_A_TURN:
                return _differences(_kept(tx), total)
        last = batch[-1]
        yield


def _differences(kept: Mapping[Key, _Amount], counted: Mapping[Key, _Amount]) -> dict[Key, tuple[_Amount, _Amount]]:
    """What is kept and what was counted, of each key where they differ."""
    pairs = {
        key: (kept.get(key, _Amount()), counted.get(key, _Amount()))
        for key in sorted(counted.keys() | kept.keys(), key=repr)
    }
    return {key: (is_, should) for key, (is_, should) in pairs.items() if is_ != should}


def _told(key: Key, is_: _Amount, should: _Amount) -> str:
    name = ", ".join(f"{g}={v}" for g, v in zip(GROUPINGS, key, strict=True) if v is not None) or "all"
    return f"usage of {name}: kept {_words(is_)}, counted {_words(should)}"


def rebuild_usage(tx: Tx) -> None:
    """Replace the roll-up by a count of everything."""
    tx.run(delete(tables.usage))
    _apply(tx, {}, _count_all(tx))


def _words(amount: _Amount) -> str:
    return f"{amount.bytes} bytes {amount.files} files {amount.scans} scans"


def _all_names(tx: Tx, by: str) -> Iterable[str]:
    if by == "area":
        return [r.name for r in tx.rows(select(tables.area.c.name))]
    if by == "tier":
        return [r.name for r in tx.rows(select(tables.tier.c.name))]
    return []


def _count_all(tx: Tx) -> dict[Key, _Amount]:
    total: dict[Key, _Amount] = defaultdict(_Amount)
    for batch in chunks([r.id for r in tx.rows(select(tables.scan.c.id))]):
        for key, amount in _shares(tx, batch).items():
            total[key] += amount
    return {key: amount for key, amount in total.items() if amount != _Amount()}


def _kept(tx: Tx) -> dict[Key, _Amount]:
    rows = tx.rows(select(tables.usage))
    kept = {(r.area, r.tier, r.proposal, r.owner, r.beamline): _Amount(r.bytes, r.files, r.scans) for r in rows}
    return {key: amount for key, amount in kept.items() if amount != _Amount()}


def _shares(tx: Tx, scan_ids: Iterable[str]) -> dict[Key, _Amount]:
    """What these scans add to each key, read from their rows."""
    wanted = list(scan_ids)
    held: dict[str, dict[tuple[str | None, str], _Amount]] = defaultdict(lambda: defaultdict(_Amount))
    has_files: Counter[str] = Counter()
    for row in tx.rows(_replica_query(wanted)):
        if row.form == Form.FILES and row.kind == ProductKind.ORIGINAL:
            has_files[row.scan_id] += 1
        if row.state != ReplicaState.GONE:
            held[row.scan_id][(row.area, row.tier)] += _Amount(row.bytes, row.files)
    total: dict[Key, _Amount] = defaultdict(_Amount)
    for row in tx.rows(_scan_query(wanted)):
        places = held[row.id]
        if row.superseded_by is None and not has_files[row.id]:
            places[(row.area, row.area)] += _Amount(row.bytes, row.files)
        _add_scan(total, places, (row.proposal, row.owner, row.beamline))
    return total


def _scan_query(scan_ids: list[str]) -> Any:
    """What is counted of scans, and not their metadata, which would take most of the time."""
    scan = tables.scan
    counted = (scan.c.id, scan.c.area, scan.c.bytes, scan.c.files, scan.c.superseded_by)
    return select(*counted, scan.c.proposal, scan.c.owner, scan.c.beamline).where(scan.c.id.in_(scan_ids))


def _replica_query(scan_ids: list[str]) -> Any:
    replica, product, tier = tables.replica, tables.product, tables.tier
    return (
        select(
            replica.c.scan_id,
            replica.c.form,
            replica.c.state,
            replica.c.tier,
            replica.c.bytes,
            replica.c.files,
            product.c.kind,
            tier.c.area,
        )
        .join(product, product.c.id == replica.c.product_id)
        .join(tier, tier.c.name == replica.c.tier)
        .where(replica.c.scan_id.in_(scan_ids))
    )


def _add_scan(
    total: dict[Key, _Amount],
    places: Mapping[tuple[str | None, str], _Amount],
    whose: tuple[str | None, str | None, str | None],
) -> None:
    if not places:
        return
    once = _Amount(scans=1)
    for (area, tier), amount in places.items():
        total[(area, tier, *whose)] += amount + once
    for area in {area for area, _tier in places if area is not None}:
        total[(area, None, *whose)] += once
    total[(None, None, *whose)] += once


def _apply(tx: Tx, before: Mapping[Key, _Amount], after: Mapping[Key, _Amount]) -> None:
    for key in sorted(before.keys() | after.keys(), key=repr):
        delta = after.get(key, _Amount()) + -before.get(key, _Amount())
        if delta != _Amount():
            _apply_one(tx, key, delta)


def _apply_one(tx: Tx, key: Key, delta: _Amount) -> None:
    table = tables.usage
    hashed = place_hash(json.dumps(key))
    kept = tx.first(select(table).where(table.c.key_hash == hashed))
    wanted = delta if kept is None else delta + _Amount(kept.bytes, kept.files, kept.scans)
    amount = _Amount(max(0, wanted.bytes), max(0, wanted.files), max(0, wanted.scans))
    if amount != wanted:  # a sum that went wrong must not refuse a fact: the next recount mends it
        import structlog  # slow to load, and hardly ever needed

        structlog.get_logger(__name__).error("usage has drifted", key=key, would_be=_words(wanted))
    values = {"bytes": amount.bytes, "files": amount.files, "scans": amount.scans}
    if kept is not None:
        tx.run(update(table).where(table.c.key_hash == hashed).values(**values))
    else:
        names = dict(zip(GROUPINGS, key, strict=True))
        tx.run(insert(table).values(key_hash=hashed, **values, **names))
