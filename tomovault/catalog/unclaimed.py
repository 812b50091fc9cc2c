"""Files that formats were asked about and none took for a scan, each with the reason that a format gave."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, select

from tomovault.catalog import tables
from tomovault.catalog.candidates import CONFIRMED, NO_SCAN, candidate_hash
from tomovault.catalog.manifests import entry_path, original_files
from tomovault.catalog.transaction import Tx, place_hash
from tomovault.core.scan import Candidate

#: Said where a format found nothing and gave no reason.
SILENT = "it holds no scan of this format"

#: The key of a scan's metadata under which a format lists files of the closure that may look like scans themselves:
#: what a package's manifest says of them later.
LINKED_FILES = "linked_files"

#: So many values in one question to the database.
_MANY = 500


@dataclass(frozen=True)
class Unclaimed:
    """A file, or a place, that is no scan: why not, by format."""

    area: str
    path: str
    reasons: Mapping[str, str]


def list_without_scan(tx: Tx, area: str) -> frozenset[Candidate]:
    """Candidates that were inspected and have no scan, read or not: nothing is lost where they go."""
    return frozenset(_candidate(row) for row in _without_scan(tx, area) if not row.problem.startswith(CONFIRMED))


def list_unclaimed(tx: Tx, area: str | None = None) -> list[Unclaimed]:
    """What stands settled in an area, or in all, was looked into, and is in no scan, by path."""
    found: dict[tuple[str, str, str], dict[str, str]] = {}
    for row in _without_scan(tx, area):
        if row.settled and row.inspected_snapshot == row.snapshot and not row.problem.startswith(CONFIRMED):
            reason = row.problem.removeprefix(NO_SCAN) or SILENT
            found.setdefault((row.area, row.folder, row.key), {})[row.format] = reason
    taken = _taken(tx, found)
    rows = [
        Unclaimed(place[0], _path(*place[1:]), reasons)
        for place, reasons in found.items()
        if place not in taken and reasons
    ]
    closures = _closures(tx, [row.path for row in rows])
    return sorted((row for row in rows if row.path not in closures), key=lambda row: (row.area, row.path))


def _without_scan(tx: Tx, area: str | None) -> Sequence[Row[Any]]:
    table, scan = tables.candidate, tables.scan
    query = (
        select(table)
        .outerjoin(scan, scan.c.candidate == table.c.key_hash)
        .where(table.c.inspected_snapshot.is_not(None), scan.c.id.is_(None))
    )
    return tx.rows(query if area is None else query.where(table.c.area == area))


def _candidate(row: Row[Any]) -> Candidate:
    return Candidate(row.format, row.folder, row.key, row.metadata_folder)


def _path(folder: str, key: str) -> str:
    return f"{folder.rstrip('/')}/{key}" if key else folder


def _taken(tx: Tx, places: Iterable[tuple[str, str, str]]) -> set[tuple[str, str, str]]:
    """Places that another format took."""
    formats = [row.format for row in tx.rows(select(tables.candidate.c.format).distinct())]
    hashed = {
        candidate_hash(place[0], Candidate(name, place[1], place[2])): place for place in places for name in formats
    }
    scan = tables.scan
    taken = set()
    for keys in _batches(list(hashed)):
        for row in tx.rows(select(scan.c.candidate).where(scan.c.candidate.in_(keys)).distinct()):
            taken.add(hashed[row.candidate])
    return taken


def _closures(tx: Tx, paths: Iterable[str]) -> set[str]:
    """Of these paths and others, those that are files of a scan whose root is above them."""
    roots = {place_hash(above) for path in paths for above in _above(path)}
    scan = tables.scan
    found = set()
    for hashes in _batches(sorted(roots)):
        for row in tx.rows(select(scan.c.id, scan.c.root, scan.c["metadata"]).where(scan.c.root_hash.in_(hashes))):
            listed = [entry_path(entry) for entry in original_files(tx, row.id) or ()]
            linked = row.metadata.get(LINKED_FILES) if isinstance(row.metadata, dict) else None
            listed += [name for name in linked if isinstance(name, str)] if isinstance(linked, list) else []
            found |= {f"{row.root.rstrip('/')}/{name}" for name in listed}
    return found


def _above(path: str) -> Iterator[str]:
    parts = path.split("/")
    for count in range(len(parts) - 1, 0, -1):
        yield "/".join(parts[:count]) or "/"


def _batches(values: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(values), _MANY):
        yield values[start : start + _MANY]
