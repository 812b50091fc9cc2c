"""Backups of the catalogue: each that was made, and where in the archive it is. They are of no scan and in no usage."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import insert, select, update

from tomovault.catalog import tables
from tomovault.catalog.audit import add_audit
from tomovault.catalog.transaction import Tx, new_id
from tomovault.core.backup import BackupTold, read_backup, tell_backup
from tomovault.core.ports import Placed
from tomovault.core.replica import StoredFile


@dataclass(frozen=True)
class BackupCopy:
    """A backup on a tier. `placed` is None until it is known to be there; `problem` is why it is not, or is bad."""

    tier: str
    domain: str
    begun_at: datetime
    placed: Placed | None
    written_at: datetime | None
    verified_at: datetime | None
    problem: str

    @property
    def unfinished(self) -> bool:
        """Whether it was begun and nobody knows yet how it ended."""
        return self.verified_at is None and not self.problem and self.written_at is None


@dataclass(frozen=True)
class Backup:
    """A backup that was made or found, with its copies by tier."""

    id: str
    told: BackupTold
    copies: Mapping[str, BackupCopy]


def record_backup(tx: Tx, told: BackupTold, actor: str, now: datetime) -> str:
    """A backup was made: it is known, and its digest is in the audit log (law 9). Returns its id.

    One of the same bytes is that which is known.
    """
    if (known := _id_of(tx, told.sha256)) is not None:
        return known
    add_audit(tx, actor, "catalogue.backup", {"file": told.file, "bytes": told.bytes, "sha256": told.sha256}, now)
    return _insert(tx, told)


def begin_copy(tx: Tx, backup: str, tier: str, domain: str, now: datetime) -> None:
    """A backup is being written to a tier."""
    table = tables.backup_copy
    values = {"domain": domain, "begun_at": now, "location": "", "file": "", "problem": ""}
    values |= {"written_at": None, "verified_at": None}
    here = (table.c.backup_id == backup) & (table.c.tier == tier)
    if not tx.changed(update(table).where(here).values(**values)):
        tx.run(insert(table).values(backup_id=backup, tier=tier, **values))


def end_copy(
    tx: Tx, backup: Backup, tier: str, placed: Placed, actor: str, written_at: datetime, now: datetime
) -> None:
    """A backup is on a tier and was re-read there just now, which is in the audit log."""
    body = {"tier": tier, "location": placed.location, "bytes": backup.told.bytes, "sha256": backup.told.sha256}
    add_audit(tx, actor, "catalogue.archived", body, now)
    _change(tx, backup.id, tier, **_place(placed), written_at=written_at, verified_at=now, problem="")


def fail_copy(tx: Tx, backup: str, tier: str, problem: str) -> None:
    """A backup could not be put onto a tier."""
    _change(tx, backup, tier, problem=problem)


def reread_copy(tx: Tx, backup: str, tier: str, now: datetime) -> None:
    """A backup was read again on a tier, and is right."""
    _change(tx, backup, tier, verified_at=now, problem="")


def record_found(tx: Tx, told: BackupTold, tier: str, placed: Placed, written_at: datetime, problem: str) -> bool:
    """A backup that a medium told of is known, unverified; whether it was not known there before."""
    backup = _id_of(tx, told.sha256) or _insert(tx, told)
    table = tables.backup_copy
    known = tx.first(select(table.c.location).where(table.c.backup_id == backup, table.c.tier == tier))
    if known is not None and known.location:
        if known.location == placed.location and problem:
            _change(tx, backup, tier, problem=problem)
        return False
    begin_copy(tx, backup, tier, placed.domain, written_at)
    _change(tx, backup, tier, **_place(placed), written_at=written_at, problem=problem)
    return True


def list_backups(tx: Tx, limit: int | None = None) -> list[Backup]:
    """The newest first."""
    made, copy = tables.catalogue_backup, tables.backup_copy
    rows = tx.rows(select(made).order_by(made.c.made_at.desc(), made.c.id).limit(limit))
    copies: dict[str, dict[str, BackupCopy]] = defaultdict(dict)
    told = {row.id: read_backup(row.told) for row in rows}
    for row in tx.rows(select(copy)):
        if row.backup_id in told:
            copies[row.backup_id][row.tier] = BackupCopy(
                row.tier,
                row.domain,
                row.begun_at,
                _placed(row.location, row.domain, row.file, told[row.backup_id]),
                row.written_at,
                row.verified_at,
                row.problem,
            )
    return [Backup(row.id, told[row.id], copies[row.id]) for row in rows]


def _placed(location: str, domain: str, file: str, told: BackupTold) -> Placed | None:
    return Placed(location, domain, (StoredFile(file, told.bytes, told.sha256),)) if location else None


def _place(placed: Placed) -> dict[str, str]:
    (file,) = placed.files
    return {"domain": placed.domain, "location": placed.location, "file": file.location}


def _change(tx: Tx, backup: str, tier: str, **values: object) -> None:
    table = tables.backup_copy
    tx.run(update(table).where(table.c.backup_id == backup, table.c.tier == tier).values(**values))


def _id_of(tx: Tx, sha256: str) -> str | None:
    table = tables.catalogue_backup
    found: str | None = tx.value(select(table.c.id).where(table.c.sha256 == sha256))
    return found


def _insert(tx: Tx, told: BackupTold) -> str:
    backup = new_id("b")
    values = {"made_at": told.made_at, "sha256": told.sha256, "bytes": told.bytes, "database": told.database}
    tx.run(insert(tables.catalogue_backup).values(id=backup, told=tell_backup(told), **values))
    return backup
