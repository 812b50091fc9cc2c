"""Runs migrations on the connection that `tomovault.catalog.schema` passes in, inside its transaction."""

from __future__ import annotations

from alembic import context

from tomovault.catalog.tables import metadata

connection = context.config.attributes.get("connection")
if connection is None:
    raise RuntimeError("migrations run in process only: tomovault catalogue upgrade")

context.configure(connection=connection, target_metadata=metadata, render_as_batch=True, compare_type=True)
with context.begin_transaction():
    context.run_migrations()
