"""Bytes, files and scans by area, tier, proposal, owner and beamline, kept by delta in the writing transaction.

A scan counts on each tier that holds a live replica of it, quarantine included. A scan that was not packed
yet has no replica: its files count as they were found, in its area.

The logical size of a replica is what it stands for: of a package the original files in it, of a volume or a preview
its content as it is read. Besides what there is, it is kept how much ever came: see `_written`.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import astuple, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Row,
    and_,
    bindparam,
    case,
    false,
    func,
    insert,
    or_,
    select,
    true,
    update,
)

from tomovault.catalog import tables
from tomovault.catalog.transaction import Tx, chunks, place_hash
from tomovault.core.errors import UserError
from tomovault.core.replica import Form, ProductKind, ReplicaState

#: area, tier, proposal, owner, beamline.
Key = tuple[str | None, str | None, str | None, str | None, str | None]

GROUPINGS = ("area", "tier", "proposal", "owner", "beamline")

#: What is older than this when it is first seen was there before: to find it is no growth.
_NEW_WITHIN = timedelta(days=7)

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
    logical: int
    written: int


@dataclass(frozen=True)
class _Amount:
    bytes: int = 0
    files: int = 0
    scans: int = 0
    logical: int = 0

    def __add__(self, other: _Amount) -> _Amount:
        return _Amount(
            self.bytes + other.bytes,
            self.files + other.files,
            self.scans + other.scans,
            self.logical + other.logical,
        )

    def __neg__(self) -> _Amount:
        return _Amount(-self.bytes, -self.files, -self.scans, -self.logical)


@contextmanager
def accounted(tx: Tx, scan_id: str | None) -> Iterator[None]:
    """Whatever is written about a scan inside is in the roll-up when it ends. Must not be nested for one scan."""
    if scan_id is None:
        yield
        return
    before, _ = _share(tx, scan_id)
    yield
    after, is_new = _share(tx, scan_id)
    deltas = {key: after.get(key, _Amount()) + -before.get(key, _Amount()) for key in before.keys() | after.keys()}
    written = _written(deltas) if is_new else {}
    for key in sorted(deltas, key=repr):
        if deltas[key] != _Amount():
            _add(tx, key, deltas[key], written.get(key, 0))


def usage(tx: Tx, by: str) -> list[UsageRow]:
    """The roll-up by one grouping, largest first. Raises UserError for a grouping that is not kept."""
    rows = [r for r in totals(tx, by) if r.bytes or r.files or r.scans or by in ("area", "tier")]
    return sorted(rows, key=lambda r: (-r.bytes, r.value or ""))


def usage_of(tx: Tx, by: str, values: Collection[str]) -> dict[str, tuple[int, int]]:
    """(bytes, files) of each of these values of a grouping that has any: looked up, each by itself."""
    table = tables.usage
    found: dict[str, tuple[int, int]] = {}
    for batch in chunks(sorted(values)):
        found.update(_held(tx, by, table.c[by].in_(batch)))
    return found


def usage_above(tx: Tx, by: str, *, bytes: int | None, files: int | None) -> dict[str, tuple[int, int]]:
    """(bytes, files) of each value of a grouping that holds more bytes, or more files, than that."""
    table = tables.usage
    limits = (("bytes", bytes), ("files", files))
    above = [func.sum(table.c[name]) > limit for name, limit in limits if limit is not None]
    return _held(tx, by, table.c[by].is_not(None), having=or_(false(), *above))


def _held(
    tx: Tx, by: str, where: ColumnElement[bool], having: ColumnElement[bool] | None = None
) -> dict[str, tuple[int, int]]:
    table = tables.usage
    query = select(
        table.c[by].label("value"), func.sum(table.c.bytes).label("bytes"), func.sum(table.c.files).label("files")
    )
    query = query.where(where, table.c.tier.is_not(None)).group_by(table.c[by])
    rows = tx.rows(query if having is None else query.having(having))
    return {row.value: (int(row.bytes), int(row.files)) for row in rows}


def totals(tx: Tx, by: str) -> list[UsageRow]:
    """As `usage`, with what there was once and is no more. Raises UserError for a grouping that is not kept."""
    if by not in GROUPINGS:
        raise UserError(f"usage is not kept by {by!r}", hint="one of " + ", ".join(GROUPINGS))
    table = tables.usage
    column: Column[Any] = table.c[by]
    # A scan counts once in each row of what is asked for; only rows with a tier have bytes.
    rows_where, scans_where = {
        "area": (table.c.area.is_not(None), table.c.tier.is_(None)),
        "tier": (table.c.tier.is_not(None), true()),
    }.get(by, (true(), and_(table.c.tier.is_(None), table.c.area.is_(None))))
    counted = ("bytes", "files", "logical", "written")
    sums = [func.sum(table.c[name]).label(f"{name}_sum") for name in counted]
    scans = func.sum(case((scans_where, table.c.scans), else_=0)).label("scans_sum")
    found: dict[str | None, dict[str, int]] = defaultdict(lambda: dict.fromkeys((*counted, "scans"), 0))
    for row in tx.rows(select(column.label("value"), *sums, scans).where(rows_where).group_by(column)):
        found[row.value] = {name: int(getattr(row, f"{name}_sum")) for name in (*counted, "scans")}
    for name in _all_names(tx, by):
        found[name]  # a name that holds nothing has a row of its own, too
    return [UsageRow(by, value, **counts) for value, counts in found.items()]


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
                _add(tx, key, should + -is_)
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
    """Bring the roll-up to a count of everything. What ever came stays as it was told."""
    for key, (is_, should) in _differences(_kept(tx), _count_all(tx)).items():
        _add(tx, key, should + -is_)


def _words(amount: _Amount) -> str:
    return f"{amount.bytes} bytes {amount.files} files {amount.scans} scans, {amount.logical} bytes logical"


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
    kept = {
        (r.area, r.tier, r.proposal, r.owner, r.beamline): _Amount(r.bytes, r.files, r.scans, r.logical) for r in rows
    }
    return {key: amount for key, amount in kept.items() if amount != _Amount()}


class _Copy(NamedTuple):
    """What is counted of a replica."""

    scan_id: str
    form: str
    state: str
    tier: str
    bytes: int
    files: int
    kind: str
    product_bytes: int
    area: str | None


def _shares(tx: Tx, scan_ids: Iterable[str]) -> dict[Key, _Amount]:
    """What these scans add to each key, read from their rows."""
    wanted = list(scan_ids)
    replica, product, tier = tables.replica, tables.product, tables.tier
    copies = (
        select(*_COPY_COLUMNS)
        .join(product, product.c.id == replica.c.product_id)
        .join(tier, tier.c.name == replica.c.tier)
        .where(replica.c.scan_id.in_(wanted))
    )
    scans = select(*_SCAN_COLUMNS).where(tables.scan.c.id.in_(wanted))
    return _added_up(tx.rows(scans), map(_Copy._make, tx.rows(copies)))


def _share(tx: Tx, scan_id: str) -> tuple[dict[Key, _Amount], bool]:
    """What one scan adds to each key, and whether it was new when it was first seen."""
    rows = tx.run(_ONE_SCAN, {"scan": scan_id}).all()
    copies = (_Copy._make(row[len(_SCAN_COLUMNS) :]) for row in rows)
    found = _added_up(rows[:1], (copy for copy in copies if copy.scan_id is not None))
    return found, bool(rows) and _is_new(rows[0])


def _added_up(scans: Iterable[Row[Any]], copies: Iterable[_Copy]) -> dict[Key, _Amount]:
    held: dict[str, dict[tuple[str | None, str], _Amount]] = defaultdict(lambda: defaultdict(_Amount))
    has_files: Counter[str] = Counter()
    for copy in copies:
        if copy.form == Form.FILES and copy.kind == ProductKind.ORIGINAL:
            has_files[copy.scan_id] += 1
        if copy.state != ReplicaState.GONE:
            logical = copy.bytes if copy.form == Form.FILES else copy.product_bytes
            held[copy.scan_id][(copy.area, copy.tier)] += _Amount(copy.bytes, copy.files, 0, logical)
    total: dict[Key, _Amount] = defaultdict(_Amount)
    for row in scans:
        places = held[row.id]
        if row.superseded_by is None and not has_files[row.id]:
            places[(row.area, row.area)] += _Amount(row.bytes, row.files, 0, row.bytes)
        _add_scan(total, places, (row.proposal, row.owner, row.beamline))
    return total


#: What is counted of scans, and not their metadata, which would take most of the time.
_SCAN_COLUMNS = tuple(
    tables.scan.c[name]
    for name in (
        *("id", "area", "bytes", "files", "superseded_by", "newest_mtime_ns", "first_seen_at"),
        *("proposal", "owner", "beamline"),
    )
)
_COPY_COLUMNS: tuple[ColumnElement[Any], ...] = (
    *(tables.replica.c[name] for name in ("scan_id", "form", "state", "tier", "bytes", "files")),
    tables.product.c.kind,
    tables.product.c.bytes,
    tables.tier.c.area,
)

#: Asked twice in each transaction that records something: one statement, made once. The scan comes first.
_ONE_SCAN = (
    select(*_SCAN_COLUMNS, *_COPY_COLUMNS)
    .outerjoin(tables.replica, tables.replica.c.scan_id == tables.scan.c.id)
    .outerjoin(tables.product, tables.product.c.id == tables.replica.c.product_id)
    .outerjoin(tables.tier, tables.tier.c.name == tables.replica.c.tier)
    .where(tables.scan.c.id == bindparam("scan"))
)


def _is_new(scan: Row[Any]) -> bool:
    """Whether a scan was still fresh when it was first seen, and not found on a server that was full already."""
    if scan.newest_mtime_ns is None:
        return True
    newest = datetime.fromtimestamp(scan.newest_mtime_ns / 1e9, UTC)
    return bool(scan.first_seen_at - newest <= _NEW_WITHIN)


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


def _written(deltas: Mapping[Key, _Amount]) -> dict[Key, int]:
    """The bytes that came to each key; those that only change hands in one place were there before."""
    left: Counter[tuple[str | None, str | None]] = Counter()
    for (area, tier, *_), delta in deltas.items():
        left[area, tier] += max(0, -delta.bytes)
    return {key: max(0, delta.bytes - left[key[:2]]) for key, delta in deltas.items()}


def _add(tx: Tx, key: Key, delta: _Amount, written: int = 0) -> None:
    """One row of the roll-up is by so much more or less, and never below nothing."""
    table = tables.usage
    hashed = place_hash(json.dumps(key))
    more = dict(zip(_COUNTS, (*astuple(delta), written), strict=True))
    if tx.run(_MORE, {"key": hashed, **{f"more_{name}": count for name, count in more.items()}}).rowcount:
        return
    kept = tx.first(select(table).where(table.c.key_hash == hashed))
    wanted = {name: count + (getattr(kept, name) if kept is not None else 0) for name, count in more.items()}
    values = {name: max(0, count) for name, count in wanted.items()}
    if values != wanted:  # a sum that went wrong must not refuse a fact: the next recount mends it
        import structlog  # slow to load, and hardly ever needed

        structlog.get_logger(__name__).error("usage has drifted", key=key, would_be=wanted)
    if kept is not None:
        tx.run(update(table).where(table.c.key_hash == hashed).values(**values))
    else:
        names = dict(zip(GROUPINGS, key, strict=True))
        tx.run(insert(table).values(key_hash=hashed, **values, **names))


_COUNTS = ("bytes", "files", "scans", "logical", "written")
_SUMS = {name: tables.usage.c[name] + bindparam(f"more_{name}", type_=BigInteger) for name in _COUNTS}
#: Meets the row of a key where there is one and no count of it would become negative.
_MORE = (
    update(tables.usage)
    .where(tables.usage.c.key_hash == bindparam("key"), *(count >= 0 for count in _SUMS.values()))
    .values(_SUMS)
)
