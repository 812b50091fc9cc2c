"""Volumes that others made, by the scan that they were made from."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from sqlalchemy import select

from tomovault.catalog import tables
from tomovault.catalog.scans import known_many
from tomovault.catalog.transaction import Tx
from tomovault.core.known import KnownScan

#: Formats of scans that are volumes; their metadata has 'of', the name of the scan, where that is known.
VOLUME_FORMATS = ("volume", "volume_hdf5")


def volumes_of(tx: Tx, scan: KnownScan) -> list[KnownScan]:
    """The volumes that name this scan and no other as well: of several scans of one name, the one nearest to the
    volume in the tree of folders. By name, oldest first.
    """
    table = tables.scan
    query = (
        select(table.c.id, table.c.root, table.c.metadata)
        .where(table.c.format.in_(VOLUME_FORMATS), table.c.superseded_by.is_(None))
        .order_by(table.c.first_seen_at, table.c.id)
    )
    named = [row for row in tx.rows(query) if _is_named(row.metadata, scan.name)]
    if not named:
        return []
    rivals = select(table.c.id, table.c.root).where(
        table.c.name.in_(sorted(_spellings(scan.name))),
        table.c.format.not_in(VOLUME_FORMATS),
        table.c.superseded_by.is_(None),
    )
    roots = {row.id: row.root for row in tx.rows(rivals)}
    return known_many(tx, [row.id for row in named if _nearest(row.root, roots) == scan.id])


def _spellings(name: str) -> Iterator[str]:
    """A prefix is written with its last underscore, or without."""
    bare = name.rstrip("_")
    yield from (name, bare, f"{bare}_")


def _is_named(metadata: Mapping[str, object] | None, name: str) -> bool:
    of = (metadata or {}).get("of")
    return isinstance(of, str) and of in set(_spellings(name))


def _nearest(place: str, roots: Mapping[str, str]) -> str | None:
    """The scan with the longest path in common; None where two have it."""
    shared = {scan: len(os.path.commonpath([place, root]).split("/")) for scan, root in roots.items()}
    best = [scan for scan, depth in shared.items() if depth == max(shared.values())]
    return best[0] if len(best) == 1 else None
