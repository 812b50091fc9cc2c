"""Which policies were in force and since when: in the audit log, each with its text, so that it can still be read what
a rule said that a permit cites.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import or_, select, update

from tomovault.catalog import tables
from tomovault.catalog.audit import add_audit
from tomovault.catalog.transaction import Tx

_OP = "policy in force"


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


def look_again(tx: Tx, areas: Collection[str], now: datetime) -> None:
    """Every scan of these areas is due to be looked at; one that is due already keeps its place."""
    scan = tables.scan
    later = or_(scan.c.next_due_at.is_(None), scan.c.next_due_at > now)
    tx.run(update(scan).where(scan.c.area.in_(sorted(areas)), later).values(next_due_at=now))
