"""By which texts of policies the scans of each area were planned, and indexes for the usage of what is limited."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table and the indexes. No text is known before the first look, so that every scan is looked at once."""
    op.create_table(
        "planned_by",
        sa.Column("area", sa.Text(), nullable=False),
        sa.Column("policy", sa.Text(), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("in_force", sa.Boolean(), nullable=False),
        sa.Column("looked_to", sa.String(32)),
        sa.PrimaryKeyConstraint("area", "policy", "sha256", name="pk_planned_by"),
    )
    for grouping in ("tier", "proposal", "owner", "beamline"):
        op.create_index(f"ix_usage_{grouping}", "usage", [grouping])
