"""For which scans another policy plans otherwise than the one before: asked of the database, some scans at a time."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import and_, false, func, not_, or_, select

from tomovault.catalog import tables
from tomovault.catalog.sentence import asked_copies, holds, may_hold, over_scans
from tomovault.catalog.summed import asks_about_copies
from tomovault.catalog.terms import Condition, Moment
from tomovault.catalog.transaction import Tx
from tomovault.core.replica import ReplicaState
from tomovault.policy.calendar import Months
from tomovault.policy.document import Policy, Rule
from tomovault.policy.edit import Edit

#: Scans that are gone through at once: some tens of milliseconds.
IN_A_TURN = 4000

#: What began at the end of a month may be as old as some months up to the end of the month in which it is.
_A_MONTH = timedelta(days=31)


class Page(NamedTuple):
    """Scans that are to be looked at again, of those up to the id `to`; None: of all that were left."""

    scans: list[str]
    to: str | None


def choose_page(
    tx: Tx, areas: Collection[str], edits: Sequence[Edit] | None, at: Moment, after: str, *, size: int = IN_A_TURN
) -> Page:
    """Of the next scans by id those of the areas that are planned otherwise after one of the edits, or may be; every
    one where it is not known what was before (`edits` is None).
    """
    scan = tables.scan
    to = tx.value(select(scan.c.id).where(scan.c.id > after).order_by(scan.c.id).offset(size - 1).limit(1))
    query = select(scan.c.id).where(scan.c.id > after, scan.c.area.in_(sorted(areas)))
    if to is not None:
        query = query.where(scan.c.id <= to)
    if edits is not None:
        condition = or_(_is_leaving(), *(plans_otherwise(edit, at) for edit in edits))
        query = query.having(condition) if asks_about_copies(condition) else query.where(condition)
        trees = [rule.condition for edit in edits for policy in (edit.old, edit.new) for rule in policy.rules]
        query = over_scans(query, [condition], trees, sqlite=tx.sqlite)
    return Page([row.id for row in tx.rows(query)], to)


def plans_otherwise(edit: Edit, at: Moment) -> Condition:
    """Whether the new policy may plan something else for a scan, now or at another time than the old one would look at
    it next. Never NULL. What the watermark decides, and a second look at a removal, is no part of it.
    """
    old, new = _moment_of(edit.old, at), _moment_of(edit.new, at)
    return or_(
        false(),
        *(_differ(a, b) for was, is_ in edit.pairs for a, b in zip(_said(was, old), _said(is_, new), strict=True)),
        *(answer for rule in edit.gone for answer in _said(rule, old)),
        *(answer for rule in edit.come for answer in _said(rule, new)),
        *(answer for rule in edit.dated for answer in _said_in_time(rule, new)),
        *_looks_sooner(edit, at.now),
    )


def _moment_of(policy: Policy, at: Moment) -> Moment:
    return replace(at, copies=asked_copies(policy, at))


def _said(rule: Rule, at: Moment) -> list[Condition]:
    """What planning reads of a rule: none is ever NULL."""
    if rule.is_over(at.now):
        return [false() for _ in _said_in_time(rule, at)]
    answers = _said_in_time(rule, at)
    return answers if rule.has_begun(at.now) else [false(), *answers[1:]]


def _said_in_time(rule: Rule, at: Moment) -> list[Condition]:
    """The same, as if its dates did not matter: whether it holds, or may come to. A doubt is enough to forbid. How many
    copies are asked for is read before it is known what 'archived' means.
    """
    now = holds(rule.condition, at)
    if rule.do == "forbid":
        return [now.is_not(false())]
    answers = [func.coalesce(now, false()), may_hold(rule.condition, at)]
    if rule.do in ("archive", "prune"):
        answers.append(may_hold(rule.condition, replace(at, copies=())))
    return answers


def _differ(one: Condition, other: Condition) -> Condition:
    return or_(and_(one, not_(other)), and_(not_(one), other))


def _looks_sooner(edit: Edit, now: datetime) -> list[Condition]:
    """Whether a moment is still ahead at which only the new policy looks at a scan."""
    scan, replica = tables.scan, tables.replica
    found = []
    ages = [age.longest + _A_MONTH if isinstance(age, Months) else age for age in edit.ages]
    if ages:
        found.append(func.coalesce(scan.c.acquired_at, scan.c.first_seen_at) >= now - max(ages))
    if edit.periods:
        read = replica.c.verified_at >= now - max(edit.periods)
        good = and_(replica.c.scan_id == scan.c.id, replica.c.state == ReplicaState.VERIFIED.value, read)
        found.append(select(replica.c.id).where(good).correlate(scan).exists())
    return found


def _is_leaving() -> Condition:
    """Whether a second look at a removal is to come, which asks the rules of the day."""
    permit = tables.permit
    return tables.scan.c.id.in_(select(permit.c.scan_id).where(tables.IS_OPEN))
