"""The audit log: append-only, each row chained to the one before by sha256, its head exported."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import func, insert, select

from tomovault.catalog.columns import canonical_json
from tomovault.catalog.tables import audit
from tomovault.catalog.transaction import Tx
from tomovault.core.errors import IntegrityError, UserError

#: What the first row is chained to.
GENESIS = "0" * 64


@dataclass(frozen=True)
class AuditRow:
    """One entry of the log."""

    seq: int
    at: datetime
    actor: str
    op: str
    scan: str | None
    body: Mapping[str, Any]
    hash: str


@dataclass(frozen=True)
class AuditState:
    """`rows` were checked; `head` is the hash of the last good one; `problem` is '' when all are good."""

    ok: bool
    rows: int
    head: str
    problem: str = ""


def add_audit(
    tx: Tx, actor: str, op: str, body: Mapping[str, Any], now: datetime, *, scan: str | None = None
) -> tuple[int, str]:
    """Append one row; returns its number and hash."""
    last = tx.first(select(audit.c.seq, audit.c.hash).order_by(audit.c.seq.desc()).limit(1))
    seq, prev = (last.seq + 1, last.hash) if last else (1, GENESIS)
    text = canonical_json(body)
    digest = _hash(prev, seq, now, actor, op, scan, text)
    tx.run(
        insert(audit).values(seq=seq, at=now, actor=actor, op=op, scan_id=scan, body=text, prev_hash=prev, hash=digest)
    )
    return seq, digest


def list_audit(tx: Tx, scan: str | None = None, limit: int = 100) -> list[AuditRow]:
    """The newest rows first, of one scan or of all."""
    query = select(audit).order_by(audit.c.seq.desc()).limit(limit)
    if scan is not None:
        query = query.where(audit.c.scan_id == scan)
    return [AuditRow(r.seq, r.at, r.actor, r.op, r.scan_id, json.loads(r.body), r.hash) for r in tx.rows(query)]


def find_audit_around(tx: Tx, moment: datetime) -> tuple[datetime | None, datetime | None]:
    """When the last row until `moment` was written, and the first one after it; None where there is none."""
    before = tx.value(select(func.max(audit.c.at)).where(audit.c.at <= moment))
    after = tx.value(select(func.min(audit.c.at)).where(audit.c.at > moment))
    return before, after


def verify_audit(tx: Tx, exported: tuple[int, str] | None = None) -> AuditState:
    """Re-compute the whole chain. With an exported head (number, hash), that row must be there with that hash:
    only this shows that the end of the log was cut off or that all of it was written anew.
    """
    prev, seq = GENESIS, 0
    met = exported is None or exported[0] == 0
    # Closed at the end of the block: a server-side cursor must not outlive a broken chain.
    with tx.run(select(audit).order_by(audit.c.seq).execution_options(yield_per=2000)) as rows:
        for row in rows:
            expected = _hash(prev, seq + 1, row.at, row.actor, row.op, row.scan_id, row.body)
            if row.seq != seq + 1 or row.prev_hash != prev or row.hash != expected:
                return AuditState(False, seq, prev, f"audit row {row.seq}, expected as {seq + 1}, breaks the chain")
            seq, prev = row.seq, row.hash
            if exported is not None and seq == exported[0]:
                met = prev == exported[1]
    if not met:
        return AuditState(False, seq, prev, "the audit log does not hold the exported head")
    return AuditState(True, seq, prev)


def export_head(tx: Tx, path: str) -> tuple[int, str]:
    """Append the head to the file at `path` as one line of JSON, synced; returns (number, hash)."""
    last = tx.first(select(audit.c.seq, audit.c.hash).order_by(audit.c.seq.desc()).limit(1))
    head = (int(last.seq), str(last.hash)) if last else (0, GENESIS)
    line = json.dumps({"seq": head[0], "hash": head[1]}) + "\n"
    with open(path, "a", encoding="ascii") as file:
        file.write(line)
        file.flush()
        os.fsync(file.fileno())
    return head


def read_exported(path: str) -> tuple[int, str]:
    """The last head in a file that `export_head` wrote; raises UserError where there is none."""
    try:
        with open(path, encoding="ascii") as file:
            lines = file.read().split("\n")
    except FileNotFoundError as problem:
        raise UserError(f"no exported audit head at {path}") from problem
    whole = [line for line in lines[:-1] if line]
    if not whole:
        raise UserError(f"no exported audit head in {path}")
    try:
        entry = json.loads(whole[-1])
        return int(entry["seq"]), str(entry["hash"])
    except (ValueError, KeyError, TypeError) as problem:
        raise IntegrityError(f"the exported audit head in {path} cannot be read") from problem


def _hash(prev: str, seq: int, at: datetime, actor: str, op: str, scan: str | None, body: str) -> str:
    text = canonical_json([prev, seq, at.astimezone(UTC), actor, op, scan, body])
    return hashlib.sha256(text.encode("ascii")).hexdigest()
