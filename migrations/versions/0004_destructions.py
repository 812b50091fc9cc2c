"""Removals that a person ordered by name: who, and why."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Permits name the person behind them; those of rules, as all were until now, name nobody."""
    for name in ("ordered_by", "reason"):
        op.add_column("permit", sa.Column(name, sa.Text(), nullable=False, server_default=""))
