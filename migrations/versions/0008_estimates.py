"""What people were told of when a restore will be over, and an index by which those of an action are found that wait."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table, empty: nothing was told so far. The index is of the few jobs that are not over, whatever else was."""
    op.create_table(
        "estimate",
        sa.Column("job_id", sa.String(32), sa.ForeignKey("job.id", name="fk_estimate_job_id"), nullable=False),
        sa.Column("told_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("model_s", sa.Double(), nullable=False),
        sa.Column("ends_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("job_id", name="pk_estimate"),
    )
    op.create_index("ix_estimate_told_at", "estimate", ["told_at"])
    few = sa.text("finished_at IS NULL")
    op.create_index(
        "ix_job_unfinished", "job", ["status", "action", "queued_at"], sqlite_where=few, postgresql_where=few
    )
