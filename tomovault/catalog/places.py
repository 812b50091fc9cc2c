"""What is known to be in a place."""

from __future__ import annotations

from sqlalchemy import select

from tomovault.catalog import tables
from tomovault.catalog.transaction import Tx
from tomovault.core.replica import Form, ReplicaState

_THERE = (ReplicaState.PRESENT, ReplicaState.VERIFIED, ReplicaState.SUSPECT)


def list_locations(tx: Tx, tier: str, form: Form, *, limit: int) -> list[str]:
    """Where copies of a form are on a tier, some of them: those on their way in or out are left out."""
    replica = tables.replica
    query = (
        select(replica.c.location)
        .where(
            replica.c.tier == tier,
            replica.c.form == form.value,
            replica.c.state.in_([state.value for state in _THERE]),
        )
        .limit(limit)
    )
    return [row.location for row in tx.rows(query)]
