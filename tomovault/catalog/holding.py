"""Which scans a rule's sentence holds for: asked of the database at once, and not of each scan."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Select, false, func, or_, select, update

from tomovault.catalog import tables
from tomovault.catalog.scans import walk_chosen
from tomovault.catalog.sentence import asks_about_copies, holds, over_scans, rule_conditions
from tomovault.catalog.terms import Condition, Moment
from tomovault.catalog.transaction import Tx
from tomovault.core.known import KnownScan
from tomovault.core.replica import ReplicaState
from tomovault.policy.area_facts import AreaFacts
from tomovault.policy.document import Policy
from tomovault.policy.expression import And, Expression


def walk_holding(
    tx: Tx, tree: Expression, areas: Mapping[str, AreaFacts], now: datetime, *, newest_first: bool = False
) -> Iterator[KnownScan]:
    """The scans of these areas that the sentence holds for, in the order of `walk_scans`; 'archived' means the least
    number of copies that the laws accept.
    """
    at = Moment(now, areas)
    conditions = [holds(part, at) for part in (tree.parts if isinstance(tree, And) else (tree,))]
    query = _chosen(tx, _ids(areas), conditions, [tree])
    return walk_chosen(tx, query, newest_first=newest_first)


def walk_wanted(tx: Tx, policy: Policy, rules: Collection[str], area: AreaFacts, now: datetime) -> Iterator[KnownScan]:
    """The scans of an area that at least one of these rules of its policy holds for, in the order of `walk_scans`."""
    conditions = rule_conditions(policy, Moment(now, {area.name: area}))
    wanted = or_(false(), *(condition for name, condition in conditions.items() if name in rules))
    return walk_chosen(tx, _chosen(tx, _ids([area.name]), [wanted], _sentences(policy)))


def wake_leaving(tx: Tx, policy: Policy, rules: Collection[str], area: AreaFacts, now: datetime) -> int:
    """The scans of an area that one of these prune rules holds for, and that have a good copy there of what rules may
    let go, are due to be looked at now; returns how many were not before.
    """
    scan, replica, product = tables.scan, tables.replica, tables.product
    conditions = rule_conditions(policy, Moment(now, {area.name: area}))
    wanted = or_(false(), *(condition for name, condition in conditions.items() if name in rules))
    removed = {pair for rule in policy.rules if rule.name in rules for pair in rule.removes}
    here = (
        select(replica.c.scan_id)
        .join(product, product.c.id == replica.c.product_id)
        .where(
            replica.c.tier == area.name,
            replica.c.state.in_([ReplicaState.VERIFIED.value, ReplicaState.PRESENT.value]),
            or_(false(), *((product.c.kind == kind) & (replica.c.form == form) for kind, form in sorted(removed))),
        )
    )
    asleep = or_(scan.c.next_due_at.is_(None), scan.c.next_due_at > now)
    asked = _ids([area.name]).where(scan.c.id.in_(here), asleep)
    chosen = _chosen(tx, asked, [wanted], _sentences(policy)).subquery()
    return tx.changed(update(scan).where(scan.c.id.in_(select(chosen.c.id))).values(next_due_at=now))


def count_holding(tx: Tx, policy: Policy, area: AreaFacts, now: datetime) -> dict[str, int]:
    """For each rule of an area's policy how many scans of the area it holds for."""
    conditions = rule_conditions(policy, Moment(now, {area.name: area}))
    asked = [condition.label(f"rule_{number}") for number, condition in enumerate(conditions.values())]
    query = select(tables.scan.c.id, *asked).where(tables.scan.c.area == area.name)
    told = over_scans(query, list(conditions.values()), _sentences(policy), sqlite=tx.sqlite).subquery()
    row = tx.first(select(*(func.count().filter(told.c[label.name]) for label in asked)))
    return dict(zip(conditions, row or (), strict=True))


def _ids(areas: Collection[str]) -> Select[Any]:
    return select(tables.scan.c.id).where(tables.scan.c.area.in_(sorted(areas)))


def _chosen(
    tx: Tx, query: Select[Any], conditions: Collection[Condition], trees: Collection[Expression]
) -> Select[Any]:
    """Those of the scans of which every condition is true; what can be said of a scan alone is asked first."""
    for condition in conditions:
        query = query.having(condition) if asks_about_copies(condition) else query.where(condition)
    return over_scans(query, conditions, trees, sqlite=tx.sqlite)


def _sentences(policy: Policy) -> list[Expression]:
    return [rule.condition for rule in policy.rules]
