"""Indexes of the newest products and of good copies, from which sentences are answered without a look at the rows."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make them. That of all copies by product goes: the unique one begins with the product, too."""
    op.create_index("ix_product_newest", "product", ["scan_id", "kind", "created_at", "id", "lossless"])
    good = sa.text("state = 'verified'")
    columns = ["scan_id", "product_id", "state", "form", "tier", "domain", "verified_at", "bytes"]
    op.create_index("ix_replica_verified", "replica", columns, sqlite_where=good, postgresql_where=good)
    op.drop_index("ix_replica_product_id", "replica")
