"""Which policies were in force and since when: in the audit log, each with its text, so that it can still be read what
a rule said that a permit cites. And by which of them the scans of each area were planned last.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import delete, insert, or_, select, update

from tomovault.catalog import tables
from tomovault.catalog.audit import add_audit
from tomovault.catalog.transaction import Tx, chunks

_OP = "policy in force"


class Text(NamedTuple):
    """A text of a policy; `sha256` is of it as it is on disk."""

    policy: str
    sha256: str


_UNKNOWN = Text("", "")


@dataclass(frozen=True)
class RecordedPolicy:
    """A policy that came into force; `sha256` is of its text as it is on disk."""

    name: str
    version: int
    sha256: str
    text: str
    at: datetime


def record_policy(tx: Tx, name: str, version: int, sha256: str, text: str, now: datetime) -> None:
    """From now on scans are decided by this text."""
    add_audit(tx, "tomovault", _OP, {"name": name, "version": version, "sha256": sha256, "text": text}, now)


def recorded_policies(tx: Tx) -> list[RecordedPolicy]:
    """Every policy that ever came into force, in that order."""
    audit = tables.audit
    query = select(audit.c.at, audit.c.body).where(audit.c.scan_id.is_(None), audit.c.op == _OP).order_by(audit.c.seq)
    return [RecordedPolicy(**json.loads(row.body), at=row.at) for row in tx.rows(query)]


@dataclass(frozen=True)
class Change:
    """Other rules hold in these areas since their scans were planned last: by those of `before`, or by what is not
    known if it is None. The scans up to the id `to` were looked through.
    """

    areas: tuple[str, ...]
    policy: Text
    before: frozenset[Text] | None
    to: str


def keep_areas(tx: Tx, areas: Collection[str]) -> None:
    """Nothing is known any more of areas that are not among these."""
    table = tables.planned_by
    tx.run(delete(table).where(table.c.area.not_in(sorted(areas))))


def areas_ruled(tx: Tx) -> dict[str, Text]:
    """The text of the policy that rules each area, of those where one was ever put in force."""
    table = tables.planned_by
    return {row.area: Text(row.policy, row.sha256) for row in tx.rows(select(table).where(table.c.in_force))}


def rule_area(tx: Tx, area: str, policy: Text) -> None:
    """From now on the scans of an area are decided by that text: those that were planned by another are to be looked
    through.
    """
    table = tables.planned_by
    mine = table.c.area == area
    if tx.first(select(table.c.area).where(mine).limit(1)) is None:
        tx.run(insert(table).values(area=area, in_force=False, **_UNKNOWN._asdict()))
    tx.run(update(table).where(mine).values(in_force=False, looked_to=None))
    tx.run(delete(table).where(mine, table.c.policy == policy.policy, table.c.sha256 == policy.sha256))
    tx.run(insert(table).values(area=area, in_force=True, looked_to="", **policy._asdict()))


def list_changes(tx: Tx) -> list[Change]:
    """Every change that not all scans were looked through for; areas that are alike in that are in one."""
    table = tables.planned_by
    rows = tx.rows(select(table).order_by(table.c.area))
    before: dict[str, set[Text]] = defaultdict(set)
    for row in rows:
        if not row.in_force:
            before[row.area].add(Text(row.policy, row.sha256))
    alike: dict[tuple[Text, frozenset[Text], str], list[str]] = defaultdict(list)
    for row in rows:
        if row.in_force and row.looked_to is not None:
            alike[Text(row.policy, row.sha256), frozenset(before[row.area]), row.looked_to].append(row.area)
    return [
        Change(tuple(areas), policy, None if _UNKNOWN in texts else texts, to)
        for (policy, texts, to), areas in alike.items()
    ]


def look_again(tx: Tx, change: Change, scans: Collection[str], to: str | None, now: datetime) -> None:
    """These scans are due to be looked at, but that one which is due already keeps its place; the change was looked
    through up to the id `to`, or where that is None to its end. Of one that is not as it was, nothing is noted.
    """
    scan, table = tables.scan, tables.planned_by
    for batch in chunks(scans):
        later = or_(scan.c.next_due_at.is_(None), scan.c.next_due_at > now)
        tx.run(update(scan).where(scan.c.id.in_(batch), later).values(next_due_at=now))
    for area in change.areas:
        mine = (table.c.area == area, table.c.policy == change.policy.policy, table.c.sha256 == change.policy.sha256)
        as_it_was = tx.changed(
            update(table).where(*mine, table.c.in_force, table.c.looked_to == change.to).values(looked_to=to)
        )
        if as_it_was and to is None:
            tx.run(delete(table).where(table.c.area == area, ~table.c.in_force))
