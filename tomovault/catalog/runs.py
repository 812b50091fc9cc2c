"""Runs of engines by their id."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select

from tomovault.catalog import tables
from tomovault.catalog.transaction import Tx
from tomovault.core.record import Processing


@dataclass(frozen=True)
class Run:
    """A processing, its id, and the scan that it was of."""

    id: str
    scan: str
    processing: Processing


def find_run(tx: Tx, run_id: str) -> Run | None:
    """The run of that id, of whichever scan; None where there is none."""
    table = tables.processing
    row = tx.first(select(table).where(table.c.id == run_id))
    if row is None:
        return None
    run = Processing(
        row.engine, row.engine_version, row.parameters, row.started_at, row.finished_at, tuple(row.outputs)
    )
    return Run(row.id, row.scan_id, run)
