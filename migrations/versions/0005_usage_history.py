"""What the stored bytes stand for, every byte that ever came, and the history of both."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

#: Live copies that are not the original files themselves stand for another number of bytes than they take.
_STAND_FOR = """
SELECT tier.area, replica.tier, scan.proposal, scan.owner, scan.beamline,
       sum(product.bytes - replica.bytes) AS difference
FROM replica
JOIN product ON product.id = replica.product_id
JOIN tier ON tier.name = replica.tier
JOIN scan ON scan.id = replica.scan_id
WHERE replica.state <> 'gone' AND replica.form <> 'files'
GROUP BY tier.area, replica.tier, scan.proposal, scan.owner, scan.beamline
"""

_NAMES = ("area", "tier", "proposal", "owner", "beamline")
_COUNTS = ("bytes", "files", "scans", "logical", "written")


def upgrade() -> None:
    """Make the tables of the history, and the roll-up anew with what it counts besides."""
    rows = _rolled_up()
    op.drop_table("usage")
    roll_up = op.create_table(
        "usage",
        sa.Column("key_hash", sa.String(64), nullable=False),
        *(sa.Column(name, sa.Text()) for name in _NAMES),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in _COUNTS),
        sa.PrimaryKeyConstraint("key_hash", name="pk_usage"),
        sa.CheckConstraint(
            "bytes >= 0 AND files >= 0 AND scans >= 0 AND logical >= 0 AND written >= 0",
            name=op.f("ck_usage_not_negative"),
        ),
    )
    op.bulk_insert(roll_up, rows)
    op.create_table(
        "usage_series",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("grouping", sa.String(16), nullable=False),
        sa.Column("value", sa.Text()),
        sa.Column("key_hash", sa.String(64), nullable=False),
        sa.Column("over_since", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("id", name="pk_usage_series"),
        sa.UniqueConstraint("key_hash", name="uq_usage_series_key_hash"),
    )
    op.create_table(
        "usage_history",
        sa.Column(
            "series",
            sa.Integer(),
            sa.ForeignKey("usage_series.id", name="fk_usage_history_series"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("at", sa.BigInteger(), autoincrement=False, nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in _COUNTS),
        sa.PrimaryKeyConstraint("series", "at", name="pk_usage_history"),
    )


def _rolled_up() -> list[dict[str, Any]]:
    """The rows of the roll-up. What came before this day is not known as written."""
    bind = op.get_bind()
    difference: dict[tuple[Any, ...], int] = defaultdict(int)
    for row in bind.execute(sa.text(_STAND_FOR)):
        difference[tuple(row[:5])] = int(row.difference)
    found = bind.execute(sa.text(f"SELECT key_hash, {', '.join(_NAMES)}, bytes, files, scans FROM usage"))
    rows = [dict(row._mapping) for row in found]
    for row in rows:
        key = tuple(row[name] for name in _NAMES)
        row["logical"] = max(0, row["bytes"] + difference[key])
        row["written"] = 0
    return rows
