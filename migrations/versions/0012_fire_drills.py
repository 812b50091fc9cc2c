"""Archived scans that were restored to prove that they can be."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "drill",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("replica_id", sa.String(32), nullable=False),
        sa.Column("scan_id", sa.String(32), nullable=False),
        sa.Column("tier", sa.Text(), nullable=False),
        sa.Column("location", sa.LargeBinary(), nullable=False),
        sa.Column("scratch", sa.LargeBinary(), nullable=False),
        sa.Column("begun_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True)),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("problem", sa.Text(), nullable=False),
        sa.Column("facts", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["replica_id"], ["replica.id"], name="fk_drill_replica_id"),
        sa.ForeignKeyConstraint(["scan_id"], ["scan.id"], name="fk_drill_scan_id"),
        sa.PrimaryKeyConstraint("id", name="pk_drill"),
    )
    op.create_index("ix_drill_begun_at", "drill", ["begun_at"])
    op.create_index("ix_drill_replica_id", "drill", ["replica_id"])
