"""Symbolic links that sweeps saw, so that a removal can tell which of them will lead to nothing."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table. It fills with the first sweep of each area."""
    op.create_table(
        "link",
        sa.Column("key_hash", sa.String(64), nullable=False),
        sa.Column("area", sa.Text(), nullable=False),
        sa.Column("folder_hash", sa.String(64), nullable=False),
        sa.Column("path", sa.LargeBinary(), nullable=False),
        sa.Column("leads_to", sa.LargeBinary(), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["area"], ["area.name"], name="fk_link_area"),
        sa.PrimaryKeyConstraint("key_hash", name="pk_link"),
    )
    op.create_index("ix_link_area", "link", ["area", "folder_hash"])
