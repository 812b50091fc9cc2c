"""Indexes that find a few rows among those of a million scans."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Index what is open, what is suspect, and what stands in a tier in which state."""
    for name, table, column, where in (
        ("ix_permit_open", "permit", "replica_id", "phase IN ('granted', 'quarantined', 'leaving')"),
        ("ix_replica_suspect", "replica", "scan_id", "state = 'suspect'"),
    ):
        few = sa.text(where)
        op.create_index(name, table, [column], sqlite_where=few, postgresql_where=few)
    op.create_index("ix_replica_tier_form_state", "replica", ["tier", "form", "state"])
    op.drop_index("ix_replica_tier", "replica")
