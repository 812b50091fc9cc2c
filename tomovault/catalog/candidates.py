"""Places where scans may be, and what was last inspected of each, so that a restart repeats nothing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, insert, or_, select, update

from tomovault.catalog import tables
from tomovault.catalog.transaction import Tx, place_hash
from tomovault.core.scan import Candidate, Verdict

#: How the reason of a candidate begins that a person said is gone for good.
CONFIRMED = "missing, confirmed by "

#: How the reason of a candidate begins that was read and is no scan of its format.
NO_SCAN = "no scan: "


@dataclass(frozen=True)
class CandidateEntry:
    """A candidate with its last snapshot, what was inspected, and why it could not be read, if so."""

    area: str
    candidate: Candidate
    snapshot: str
    settled: bool
    inspected_snapshot: str | None
    inspected_settled: bool
    inspected_at: datetime | None
    first_seen_at: datetime
    changed_at: datetime
    problem: str

    @property
    def confirmed_missing(self) -> bool:
        """A person said that it is gone, and it was not seen since."""
        return self.inspected_snapshot is None and self.problem.startswith(CONFIRMED)


def candidate_hash(area: str, candidate: Candidate) -> str:
    """The key of a candidate's row."""
    return place_hash(area, candidate.format, candidate.folder, candidate.key)


def note_candidate(tx: Tx, area: str, candidate: Candidate, snapshot: str, settled: bool, now: datetime) -> bool:
    """Record what the walker saw; True if it changed, or has settled, since it was inspected.

    Nothing is written where nothing is new.
    """
    table = tables.candidate
    hashed = candidate_hash(area, candidate)
    row = tx.first(select(table).where(table.c.key_hash == hashed).with_for_update())
    if row is None:
        tx.run(insert(table).values(**_new_row(area, candidate, snapshot, settled, now)))
        return True
    seen = (row.snapshot, row.settled, row.metadata_folder)
    if seen != (snapshot, settled, candidate.metadata_folder):
        changed_at = row.changed_at if row.snapshot == snapshot else now
        tx.run(
            update(table)
            .where(table.c.key_hash == hashed)
            .values(
                snapshot=snapshot,
                settled=settled,
                metadata_folder=candidate.metadata_folder,
                changed_at=changed_at,
            )
        )
    return _to_inspect(snapshot, settled, row.inspected_snapshot, row.inspected_settled)


def list_candidates(tx: Tx, area: str | None = None) -> list[CandidateEntry]:
    """Every candidate of an area, or of all, oldest first."""
    table = tables.candidate
    query = select(table).order_by(table.c.first_seen_at, table.c.key_hash)
    if area is not None:
        query = query.where(table.c.area == area)
    return [_entry(row) for row in tx.rows(query)]


def list_unbelieved(tx: Tx, area: str) -> list[tuple[Candidate, str, datetime]]:
    """(candidate, snapshot, when it was inspected) of what settled, yet was found unsettled when it was inspected, or
    could not be read: by its bytes alone nobody can tell whether the file is bad, or the disk or its rights were.
    """
    table, scan = tables.candidate, tables.scan
    problem = table.c.problem
    as_it_is = (
        select(table)
        .where(table.c.area == area, table.c.settled.is_(True), table.c.inspected_at.is_not(None))
        .where(table.c.inspected_snapshot == table.c.snapshot)
    )
    refused = select(scan.c.candidate).where(scan.c.area == area, scan.c.verdict == Verdict.UNREADABLE.value)
    query = as_it_is.where(
        or_(
            table.c.inspected_settled.is_(False),
            (problem != "") & problem.not_like(f"{NO_SCAN}%"),
            table.c.key_hash.in_(refused),
        )
    )
    return [(_entry(row).candidate, row.snapshot, row.inspected_at) for row in tx.rows(query)]


def list_problems(tx: Tx) -> list[CandidateEntry]:
    """Candidates that could not be read when last inspected; those confirmed as gone, or known as no scan, are none."""
    table = tables.candidate
    problem = table.c.problem
    query = select(table).where(problem != "", problem.not_like(f"{NO_SCAN}%")).order_by(table.c.changed_at)
    return [entry for entry in map(_entry, tx.rows(query)) if not entry.confirmed_missing]


def note_inspected(
    tx: Tx, area: str, candidate: Candidate, snapshot: str, settled: bool, problem: str, now: datetime
) -> str:
    """Record that a candidate was inspected as of `snapshot`; returns the key of its row."""
    table = tables.candidate
    hashed = candidate_hash(area, candidate)
    if tx.first(select(table.c.key_hash).where(table.c.key_hash == hashed).with_for_update()) is None:
        tx.run(insert(table).values(**_new_row(area, candidate, snapshot, settled, now)))
    tx.run(
        update(table)
        .where(table.c.key_hash == hashed)
        .values(inspected_snapshot=snapshot, inspected_settled=settled, inspected_at=now, problem=problem)
    )
    return hashed


def is_outdated(tx: Tx, area: str, candidate: Candidate, snapshot: str, settled: bool) -> bool:
    """Whether an inspection speaks of an earlier state than the one that was inspected already and still stands.

    Inspections may end in another order than they were asked for; a later word is never taken back by an earlier.
    """
    table = tables.candidate
    row = tx.first(select(table).where(table.c.key_hash == candidate_hash(area, candidate)).with_for_update())
    if row is None or row.inspected_snapshot != row.snapshot or (snapshot, settled) == (row.snapshot, row.settled):
        return False
    return snapshot != row.snapshot or bool(row.inspected_settled and not settled)


def _to_inspect(snapshot: str, settled: bool, inspected: str | None, inspected_settled: bool) -> bool:
    return snapshot != inspected or (settled and not inspected_settled)


def _new_row(area: str, candidate: Candidate, snapshot: str, settled: bool, now: datetime) -> dict[str, Any]:
    return {
        "key_hash": candidate_hash(area, candidate),
        "area": area,
        "format": candidate.format,
        "folder": candidate.folder,
        "key": candidate.key,
        "metadata_folder": candidate.metadata_folder,
        "snapshot": snapshot,
        "settled": settled,
        "inspected_settled": False,
        "first_seen_at": now,
        "changed_at": now,
        "problem": "",
    }


def _entry(row: Row[Any]) -> CandidateEntry:
    return CandidateEntry(
        area=row.area,
        candidate=Candidate(row.format, row.folder, row.key, row.metadata_folder),
        snapshot=row.snapshot,
        settled=row.settled,
        inspected_snapshot=row.inspected_snapshot,
        inspected_settled=row.inspected_settled,
        inspected_at=row.inspected_at,
        first_seen_at=row.first_seen_at,
        changed_at=row.changed_at,
        problem=row.problem,
    )
