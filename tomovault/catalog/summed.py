"""What is asked about copies, added up for every scan of the catalogue in one pass along two indexes: much cheaper than
scan by scan where most scans are asked about, since scans, products and copies each lie in another order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeGuard

from sqlalchemy import Column, ColumnElement, FromClause, Select, Subquery, and_, func, select, text
from sqlalchemy.sql import visitors
from sqlalchemy.sql.functions import FunctionElement

from tomovault.catalog import tables
from tomovault.catalog.terms import COPY, IS_VERIFIED, PLACE, PRODUCT, Condition, is_newest

Sum = FunctionElement[Any]


def asks_about_copies(condition: Condition) -> bool:
    """Whether a condition has to do with copies."""
    return any(isinstance(part, Column) and part.table is COPY for part in visitors.iterate(condition))


def can_be_summed(conditions: Sequence[Condition]) -> bool:
    """Whether they ask about copies, and `over_most_scans` can tell: no sum needs to know which scan it is of."""
    sums = _sums_of(conditions)
    of_scans = (part.table is tables.scan for one in sums for part in visitors.iterate(one) if isinstance(part, Column))
    return bool(sums) and not any(of_scans)


def over_most_scans(
    query: Select[Any], conditions: Sequence[Condition], kinds: Sequence[str], *, sqlite: bool
) -> tuple[Select[Any], list[Condition]]:
    """The query of scans with the sums joined to each, and the conditions on the newest products of these kinds as they
    may stand in it: in what it selects, and in `where`. Only of what `can_be_summed`.
    """
    sums = _sums_of(conditions)
    summed = _each_scan(sums, kinds, sqlite=sqlite)

    def read(element: Any, **_: Any) -> ColumnElement[Any] | None:
        number = _position(element, sums) if _is_sum(element) else None
        if number is None:
            return None
        column = summed.c[f"sum_{number}"]
        return func.coalesce(column, 0) if element.name == "count" else column

    scan = tables.scan
    joined = query.select_from(scan.outerjoin(summed, summed.c.scan_id == scan.c.id))
    return joined, [visitors.replacement_traverse(condition, {}, read) for condition in conditions]


def _sums_of(conditions: Sequence[Condition]) -> list[Sum]:
    """Each sum once, however many conditions ask for it."""
    found: list[Sum] = []
    for condition in conditions:
        for part in visitors.iterate(condition):
            if _is_sum(part) and _position(part, found) is None:
                found.append(part)
    return found


def _is_sum(part: Any) -> TypeGuard[Sum]:
    return isinstance(part, FunctionElement) and part.name in ("count", "min", "max") and asks_about_copies(part)


def _position(part: Any, sums: Sequence[Sum]) -> int | None:
    return next((number for number, one in enumerate(sums) if one.compare(part)), None)


def _each_scan(sums: Sequence[Sum], kinds: Sequence[str], *, sqlite: bool) -> Subquery:
    """The sums of each scan that has good copies of such products."""
    newest: FromClause = PRODUCT if sqlite else _newest(kinds)

    def read(element: Any, **_: Any) -> ColumnElement[Any] | None:
        return newest.c[element.name] if isinstance(element, Column) and element.table is PRODUCT else None

    good = and_(COPY.c.scan_id == newest.c.scan_id, COPY.c.product_id == newest.c.id, IS_VERIFIED)
    told = [visitors.replacement_traverse(one, {}, read).label(f"sum_{number}") for number, one in enumerate(sums)]
    query = (
        select(newest.c.scan_id, *told)
        .select_from(newest.join(COPY, good).outerjoin(PLACE, PLACE.c.name == COPY.c.tier))
        .group_by(newest.c.scan_id)
    )
    return (query.where(PRODUCT.c.kind.in_(kinds), is_newest()) if sqlite else query).subquery("summed")


def _newest(kinds: Sequence[str]) -> Subquery:
    """As `is_newest` says; PostgreSQL finds them so in the order of the index and sorts nothing."""
    product = tables.product
    return (
        select(product.c.scan_id, product.c.kind, product.c.id, product.c.lossless)
        .prefix_with(text("DISTINCT ON (product.scan_id, product.kind)"))  # SQLAlchemy 2.0 and 2.1 say it differently
        .where(product.c.kind.in_(kinds))
        .order_by(product.c.scan_id, product.c.kind, product.c.created_at.desc(), product.c.id)
        .subquery("newest")
    )
