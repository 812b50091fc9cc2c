"""The second reading of a rule's sentence: a condition over the catalogue, which the database answers for any number of
scans in one pass.

It has the three answers of the first reading (`tomovault.policy.reading`), and each term means what
`tomovault.policy.values.values_of` says. A term about copies adds them up for each scan, so it stands in a query that
`over_scans` or `over_most_scans` makes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from sqlalchemy import Select, and_, false, literal_column, not_, or_, true

from tomovault.catalog import tables
from tomovault.catalog.summed import asks_about_copies
from tomovault.catalog.terms import (
    COPY,
    IS_VERIFIED,
    PLACE,
    PRODUCT,
    Condition,
    Moment,
    condition_of,
    is_newest,
    kinds_of,
)
from tomovault.core.replica import LEAST_COPIES
from tomovault.policy.document import Policy
from tomovault.policy.expression import And, Compare, Expression, Not, Or
from tomovault.policy.reading import leaves, may_turn


def holds(tree: Expression, at: Moment) -> Condition:
    """Whether the sentence holds for a scan of these areas: true, false, or NULL where that is not known."""
    if isinstance(tree, Not):
        return not_(holds(tree.part, at))
    if isinstance(tree, And):
        return and_(*(holds(part, at) for part in tree.parts))
    if isinstance(tree, Or):
        return or_(*(holds(part, at) for part in tree.parts))
    return condition_of(tree, at)


def may_hold(tree: Expression, at: Moment) -> Condition:
    """Whether the sentence holds or may hold later by itself, as `reading.may_come` says; never NULL."""
    return _may_be(tree, True, at)


def rule_conditions(policy: Policy, at: Moment) -> dict[str, Condition]:
    """For each rule by name whether its sentence holds, as `decide.matches_of` says: 'archived' means the number of
    copies that the policy's archive and prune rules ask for that very scan. Out of its dates a rule's does not hold.
    """
    at = replace(at, copies=asked_copies(policy, at))
    return {rule.name: holds(rule.condition, at) if rule.is_in_force(at.now) else false() for rule in policy.ordered()}


def asked_copies(policy: Policy, at: Moment) -> list[tuple[Condition, int]]:
    """For which scans the policy's archive and prune rules ask for more copies than the laws, the most first."""
    asking = [rule for rule in policy.rules if rule.do in ("archive", "prune") and not rule.is_over(at.now)]
    numbers = sorted({rule.settings.copies for rule in asking if rule.settings.copies > LEAST_COPIES}, reverse=True)
    at = replace(at, copies=())
    return [
        (or_(*(may_hold(rule.condition, at) for rule in asking if rule.settings.copies == number)), number)
        for number in numbers
    ]


def over_scans(
    query: Select[Any], conditions: Iterable[Condition], trees: Iterable[Expression], *, sqlite: bool
) -> Select[Any]:
    """The query of scans, such that these conditions of these sentences may stand in what it selects or in `having`."""
    if not any(map(asks_about_copies, conditions)):
        return query
    mine = and_(PRODUCT.c.scan_id == tables.scan.c.id, PRODUCT.c.kind.in_(kinds_asked(trees)), is_newest())
    good = and_(COPY.c.scan_id == PRODUCT.c.scan_id, COPY.c.product_id == PRODUCT.c.id, IS_VERIFIED)
    joined = tables.scan.outerjoin(PRODUCT, mine).outerjoin(COPY, good).outerjoin(PLACE, PLACE.c.name == COPY.c.tier)
    # SQLite goes through scans in the order in which they lie then, and not in that of an index.
    one_scan = literal_column("scan.rowid") if sqlite else tables.scan.c.id
    return query.select_from(joined).group_by(one_scan)


def kinds_asked(trees: Iterable[Expression]) -> list[str]:
    """The products about whose copies these sentences ask."""
    return sorted({kind.value for tree in trees for leaf in leaves(tree) for kind in kinds_of(leaf)})


def _may_be(tree: Expression, answer: bool, at: Moment) -> Condition:
    """Whether the sentence has that answer, or may have it later: each term for itself."""
    if isinstance(tree, Not):
        return _may_be(tree.part, not answer, at)
    if isinstance(tree, (And, Or)):
        parts = [_may_be(part, answer, at) for part in tree.parts]
        return and_(*parts) if isinstance(tree, And) is answer else or_(*parts)
    now = condition_of(tree, at)
    turns = may_turn(tree, answer)
    if turns and isinstance(tree, Compare) and tree.term == "age":
        return now.is_not(None)
    return true() if turns else now.is_(true() if answer else false())
