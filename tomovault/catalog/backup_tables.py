"""The tables of backups of the catalogue."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, String, Table

from tomovault.catalog.columns import PathBytes, SafeText, Time
from tomovault.catalog.table_parts import ID, KEY, metadata

#: A backup of the catalogue that was made. `told` is what it says of itself on a medium.
catalogue_backup = Table(
    "catalogue_backup",
    metadata,
    Column("id", ID, primary_key=True),
    Column("made_at", Time, nullable=False, index=True),
    Column("sha256", KEY, nullable=False, unique=True),
    Column("bytes", BigInteger, nullable=False),
    Column("database", String(16), nullable=False),
    Column("told", SafeText, nullable=False),
)

#: A backup on a tier, or on its way there: one that was begun, and has neither a place nor a problem, is being written.
backup_copy = Table(
    "backup_copy",
    metadata,
    Column("backup_id", ID, ForeignKey("catalogue_backup.id"), primary_key=True),
    Column("tier", SafeText, primary_key=True),
    Column("domain", SafeText, nullable=False),
    Column("begun_at", Time, nullable=False),
    Column("location", PathBytes, nullable=False),
    Column("file", PathBytes, nullable=False),
    Column("written_at", Time),
    Column("verified_at", Time),
    Column("problem", SafeText, nullable=False),
)
