"""The table of fire drills."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, String, Table

from tomovault.catalog.columns import Json, PathBytes, SafeText, Time
from tomovault.catalog.table_parts import ID, metadata

#: An archived copy that was restored to prove that it can be. One without an end is under way, or its process died, and
#: what it left is in `scratch`.
drill = Table(
    "drill",
    metadata,
    Column("id", ID, primary_key=True),
    Column("replica_id", ID, ForeignKey("replica.id"), nullable=False, index=True),
    Column("scan_id", ID, ForeignKey("scan.id"), nullable=False),
    Column("tier", SafeText, nullable=False),
    Column("location", PathBytes, nullable=False),
    Column("scratch", PathBytes, nullable=False),
    Column("begun_at", Time, nullable=False, index=True),
    Column("ended_at", Time),
    Column("outcome", String(16), nullable=False),
    Column("problem", SafeText, nullable=False),
    Column("facts", Json, nullable=False),
)
