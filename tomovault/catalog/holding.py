"""Which scans a rule's sentence holds for: asked of the database at once, and not of each scan."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Select, false, func, or_, select, true, update

from tomovault.catalog import tables
from tomovault.catalog.scans import walk_chosen
from tomovault.catalog.sentence import holds, kinds_asked, over_scans, rule_conditions
from tomovault.catalog.summed import asks_about_copies, can_be_summed, over_most_scans
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
    return walk_chosen(tx, _chosen_of(tx, areas, conditions, [tree]), newest_first=newest_first)


def walk_wanted(tx: Tx, policy: Policy, rules: Collection[str], area: AreaFacts, now: datetime) -> Iterator[KnownScan]:
    """The scans of an area that at least one of these rules of its policy holds for, in the order of `walk_scans`."""
    conditions = rule_conditions(policy, Moment(now, {area.name: area}))
    wanted = or_(false(), *(condition for name, condition in conditions.items() if name in rules))
    return walk_chosen(tx, _chosen_of(tx, [area.name], [wanted], _sentences(policy)))


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
    query, asked, trees = _ids([area.name]), list(conditions.values()), _sentences(policy)
    if can_be_summed(asked) and _has_most(tx, [area.name]):
        query, asked = over_most_scans(query, asked, kinds_asked(trees), sqlite=tx.sqlite)
    else:
        query = over_scans(query, asked, trees, sqlite=tx.sqlite)
    told = query.add_columns(*(one.label(f"rule_{number}") for number, one in enumerate(asked))).subquery()
    row = tx.first(select(*(func.count().filter(told.c[f"rule_{number}"]) for number in range(len(asked)))))
    return dict(zip(conditions, row or (), strict=True))


def _ids(areas: Collection[str]) -> Select[Any]:
    area, names = tables.scan.c.area, sorted(areas)
    # Of one area SQLite knows that its scans come in the order in which they lie.
    return select(tables.scan.c.id).where(area == names[0] if len(names) == 1 else area.in_(names))


def _has_most(tx: Tx, areas: Collection[str]) -> bool:
    """Whether at least half of all scans are in these areas."""
    scan = tables.scan
    here = func.count().filter(scan.c.area.in_(sorted(areas)))
    return bool(tx.value(select(2 * here >= func.count()).select_from(scan)))


def _chosen_of(
    tx: Tx, areas: Collection[str], conditions: Collection[Condition], trees: Collection[Expression]
) -> Select[Any]:
    """The scans of these areas of which every condition is true."""
    asked = [condition for condition in conditions if condition is not true()]
    if all(map(asks_about_copies, asked)) and can_be_summed(asked) and _has_most(tx, areas):
        query, told = over_most_scans(_ids(areas), asked, kinds_asked(trees), sqlite=tx.sqlite)
        return query.where(*told)
    return _chosen(tx, _ids(areas), asked, trees)


def _chosen(
    tx: Tx, query: Select[Any], conditions: Collection[Condition], trees: Collection[Expression]
) -> Select[Any]:
    """Those of the scans of which every condition is true; what can be said of a scan alone is asked first."""
    for condition in conditions:
        query = query.having(condition) if asks_about_copies(condition) else query.where(condition)
    return over_scans(query, conditions, trees, sqlite=tx.sqlite)


def _sentences(policy: Policy) -> list[Expression]:
    return [rule.condition for rule in policy.rules]
