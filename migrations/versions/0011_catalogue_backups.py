"""Backups of the catalogue that were made, and where in the archive each is."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "catalogue_backup",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("made_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("database", sa.String(16), nullable=False),
        sa.Column("told", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_catalogue_backup"),
        sa.UniqueConstraint("sha256", name="uq_catalogue_backup_sha256"),
    )
    op.create_index("ix_catalogue_backup_made_at", "catalogue_backup", ["made_at"])
    op.create_table(
        "backup_copy",
        sa.Column("backup_id", sa.String(32), nullable=False),
        sa.Column("tier", sa.Text(), nullable=False),
        sa.Column("domain", sa.Text(), nullable=False),
        sa.Column("begun_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("location", sa.LargeBinary(), nullable=False),
        sa.Column("file", sa.LargeBinary(), nullable=False),
        sa.Column("written_at", sa.DateTime(timezone=True)),
        sa.Column("verified_at", sa.DateTime(timezone=True)),
        sa.Column("problem", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["backup_id"], ["catalogue_backup.id"], name="fk_backup_copy_backup_id"),
        sa.PrimaryKeyConstraint("backup_id", "tier", name="pk_backup_copy"),
    )
