"""What people are told: notices, their deliveries, standing alarms, warnings of owners, and time that was seen pass."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables of notifications."""
    op.create_table(
        "notice",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("topic", sa.String(16), nullable=False),
        sa.Column("template", sa.String(32), nullable=False),
        sa.Column("key", sa.String(64), nullable=False),
        sa.Column("facts", sa.Text(), nullable=False),
        sa.Column("made_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_notice"),
    )
    op.create_index("ix_notice_key", "notice", ["key"])
    op.create_index("ix_notice_made_at", "notice", ["made_at"])
    op.create_table(
        "delivery",
        sa.Column("id", sa.String(48), nullable=False),
        sa.Column("notice_id", sa.String(32), sa.ForeignKey("notice.id", name="fk_delivery_notice_id"), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("recipient", sa.Text(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True)),
        sa.Column("error", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_delivery"),
    )
    op.create_index("ix_delivery_notice_id", "delivery", ["notice_id"])
    for name, where in (("ix_delivery_waiting", "state = 'waiting'"), ("ix_delivery_given_up", "state = 'given_up'")):
        few = sa.text(where)
        op.create_index(name, "delivery", ["not_before"], sqlite_where=few, postgresql_where=few)
    op.create_table(
        "standing_alarm",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("area", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("began_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("told_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_standing_alarm"),
    )
    op.create_table(
        "owner_warning",
        sa.Column("replica_id", sa.String(32), sa.ForeignKey("replica.id", name="fk_owner_warning_replica_id"), nullable=False),
        sa.Column("scan_id", sa.String(32), sa.ForeignKey("scan.id", name="fk_owner_warning_scan_id"), nullable=False),
        sa.Column("notice_id", sa.String(32), sa.ForeignKey("notice.id", name="fk_owner_warning_notice_id"), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("warn_s", sa.BigInteger(), nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("sent_at", sa.DateTime(timezone=True)),
        sa.Column("sent_at_s", sa.BigInteger()),
        sa.PrimaryKeyConstraint("replica_id", name="pk_owner_warning"),
    )
    op.create_index("ix_owner_warning_scan_id", "owner_warning", ["scan_id"])
    op.create_index("ix_owner_warning_notice_id", "owner_warning", ["notice_id"])
    op.create_table(
        "seen_time",
        sa.Column("name", sa.String(16), nullable=False),
        sa.Column("passed_s", sa.Double(), nullable=False),
        sa.Column("boot", sa.Text(), nullable=False),
        sa.Column("running_s", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_seen_time"),
    )
