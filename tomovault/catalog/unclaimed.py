"""Files that formats were asked about and none took for a scan, each with the reason that a format gave."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, select, update

from tomovault.catalog import tables
from tomovault.catalog.candidates import CONFIRMED, NO_SCAN, candidate_hash
from tomovault.catalog.manifests import entry_path, legible_files
from tomovault.catalog.transaction import Tx, place_hash
from tomovault.core.replica import Form, ProductKind, ReplicaState
from tomovault.core.scan import Candidate

#: Said where a format found nothing and gave no reason.
SILENT = "it holds no scan of this format"

#: Keys of a scan's metadata under which a format of one file lists what it needs, relative to its root: the file, and
#: those it links to. A package's manifest says it of all formats later.
MASTER, LINKED_FILES = "master", "linked_files"

#: So many values in one question to the database.
_MANY = 500


@dataclass(frozen=True)
class Unclaimed:
    """A file, or a place, that is no scan: why not, by format."""

    area: str
    path: str
    reasons: Mapping[str, str]


def list_without_scan(tx: Tx, area: str) -> frozenset[Candidate]:
    """Candidates that are known as no scan: nothing is lost where they go."""
    return frozenset(_candidate(row) for row in _without_scan(tx, area) if row.problem.startswith(NO_SCAN))


def drop_vanished(tx: Tx, area: str, candidates: Iterable[Candidate]) -> None:
    """What is not there any more and was no scan is told of no more; should it come back, it is looked into again."""
    table, scan = tables.candidate, tables.scan
    for keys in _batches([candidate_hash(area, candidate) for candidate in candidates]):
        held = {row.candidate for row in tx.rows(select(scan.c.candidate).where(scan.c.candidate.in_(keys)).distinct())}
        tx.run(
            update(table)
            .where(
                table.c.key_hash.in_(sorted(set(keys) - held)),
                table.c.problem != "",
                table.c.problem.not_like(f"{CONFIRMED}%"),
            )
            .values(inspected_snapshot=None, inspected_settled=False)
        )


def list_unclaimed(tx: Tx, area: str | None = None) -> list[Unclaimed]:
    """What stands settled in an area, or in all, was looked into, and is in no scan or copy of one, by path."""
    rows = [
        row
        for row in _without_scan(tx, area)
        if row.settled and row.inspected_snapshot == row.snapshot and not row.problem.startswith(CONFIRMED)
    ]
    copies = _Copies(tx, {row.folder for row in rows})
    found: dict[tuple[str, str, str], dict[str, str]] = {}
    looked_at: dict[tuple[str, str, str], datetime] = {}
    for row in rows:
        # What is a copy of a known scan has no scan of its own, and no reason either.
        if row.problem or not copies.hold(row.folder):
            reason = row.problem.removeprefix(NO_SCAN) or SILENT
            place = (row.area, row.folder, row.key)
            found.setdefault(place, {})[row.format] = reason
            looked_at[place] = max(row.inspected_at, looked_at.get(place, row.inspected_at))
    taken = _taken(tx, found)
    left = [(place, _path(*place[1:])) for place in found if place not in taken]
    inside = copies.files() | _closures(tx, [path for _, path in left])
    removed_at = _removed_at(tx, [path for place, path in left if path not in inside])
    told = [
        Unclaimed(place[0], path, found[place])
        for place, path in left
        if path not in inside and (path not in removed_at or removed_at[path] < looked_at[place])
    ]
    return sorted(told, key=lambda row: (row.area, row.path))


class _Copies:
    """Files of known scans that stand in or above some folders, each at its scan's place or another."""

    def __init__(self, tx: Tx, folders: Iterable[str]) -> None:
        self._tx = tx
        self._places: dict[str, set[str]] = {}
        replica, product = tables.replica, tables.product
        roots = {place_hash(above) for folder in folders for above in (folder, *_above(folder))}
        for hashes in _batches(sorted(roots)):
            query = (
                select(replica.c.location, product.c.digest)
                .join(product, product.c.id == replica.c.product_id)
                .where(
                    replica.c.location_hash.in_(hashes),
                    replica.c.form == Form.FILES.value,
                    replica.c.state != ReplicaState.GONE.value,
                    product.c.kind == ProductKind.ORIGINAL.value,
                )
            )
            for row in tx.rows(query):
                self._places.setdefault(row.location, set()).add(row.digest)

    def hold(self, folder: str) -> bool:
        """Whether a folder is, or is below, the place of a copy."""
        return any(above in self._places for above in (folder, *_above(folder)))

    def files(self) -> set[str]:
        """Paths of all of them, by the manifests of their products."""
        return {
            f"{place.rstrip('/')}/{entry_path(entry)}"
            for place, digests in self._places.items()
            for digest in digests
            for entry in (legible_files(self._tx.manifests, digest) or ())
        }


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
    """Files that scans of roots above these paths say they need, packed or not."""
    roots = {place_hash(above) for path in paths for above in _above(path)}
    scan = tables.scan
    found = set()
    for hashes in _batches(sorted(roots)):
        for row in tx.rows(select(scan.c.root, scan.c["metadata"]).where(scan.c.root_hash.in_(hashes))):
            found |= {f"{row.root.rstrip('/')}/{name}" for name in listed_files(row.metadata) or ()}
    return found


def _removed_at(tx: Tx, paths: Iterable[str]) -> dict[str, datetime]:
    """When those of the paths that were files of a scan were last removed by us."""
    roots = {place_hash(above) for path in paths for above in _above(path)}
    replica, permit, tombstone = tables.replica, tables.permit, tables.tombstone
    found: dict[str, datetime] = {}
    for hashes in _batches(sorted(roots)):
        query = (
            select(tombstone.c.location, permit.c.moved, tombstone.c.removed_at)
            .join(permit, permit.c.id == tombstone.c.permit_id)
            .join(replica, replica.c.id == tombstone.c.replica_id)
            .where(replica.c.location_hash.in_(hashes), tombstone.c.form == Form.FILES.value)
            .order_by(tombstone.c.removed_at)
        )
        for row in tx.rows(query):
            found |= {f"{row.location.rstrip('/')}/{path}": row.removed_at for path in row.moved}
    return found


def listed_files(told: Any) -> frozenset[str] | None:
    """Every file that a scan's metadata says it needs, None where its format does not list them."""
    linked = told.get(LINKED_FILES) if isinstance(told, dict) else None
    if not isinstance(linked, list) or not isinstance(told.get(MASTER), str):
        return None
    return frozenset({told[MASTER], *linked})


def _above(path: str) -> Iterator[str]:
    parts = path.split("/")
    for count in range(len(parts) - 1, 0, -1):
        yield "/".join(parts[:count]) or "/"


def _batches(values: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(values), _MANY):
        yield values[start : start + _MANY]
