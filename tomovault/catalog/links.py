"""Symbolic links that sweeps saw in areas, and which of them lead to files of a scan.

A link is known by the words in it. Where these lead through another link, or out of the machine that swept, is not.
"""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, insert, select

from tomovault.catalog import tables
from tomovault.catalog.manifests import entry_path, legible_files
from tomovault.catalog.transaction import Tx, chunks, place_hash
from tomovault.core.known import KnownScan
from tomovault.core.replica import Form, ProductKind, Replica


@dataclass(frozen=True)
class Link:
    """A symbolic link in an area, and the absolute path it leads to."""

    path: str
    leads_to: str


def note_links(tx: Tx, area: str, folder: str, links: Mapping[str, str], now: datetime) -> None:
    """These, by name, are the links in a folder of the area, and there are no others."""
    table = tables.link
    here = (table.c.area == area) & (table.c.folder_hash == place_hash(folder))
    seen = {_join(folder, name): _leads_to(folder, target) for name, target in links.items()}
    known = {row.path: row.leads_to for row in tx.rows(select(table.c.path, table.c.leads_to).where(here))}
    changed = [path for path in known.keys() | seen.keys() if known.get(path) != seen.get(path)]
    for batch in chunks(place_hash(area, path) for path in changed if path in known):
        tx.run(delete(table).where(table.c.key_hash.in_(batch)))
    for path in changed:
        if path in seen:
            tx.run(
                insert(table).values(
                    key_hash=place_hash(area, path),
                    area=area,
                    folder_hash=place_hash(folder),
                    path=path,
                    leads_to=seen[path],
                    seen_at=now,
                )
            )


def drop_other_links(tx: Tx, area: str, folders: Collection[str]) -> None:
    """Links of the area in any other folder than these are known no more."""
    table = tables.link
    kept = {place_hash(folder) for folder in folders}
    known = {row.folder_hash for row in tx.rows(select(table.c.folder_hash).where(table.c.area == area).distinct())}
    for batch in chunks(sorted(known - kept)):
        tx.run(delete(table).where(table.c.area == area, table.c.folder_hash.in_(batch)))


def links_to_scan(tx: Tx, scan: KnownScan) -> list[Link]:
    """Links from elsewhere that lead to files of a scan where they were written or copied to, or to a folder of them,
    by path: what they show goes with the files.
    """
    copies = [r for r in scan.replicas_of(ProductKind.ORIGINAL) if r.form is Form.FILES]
    if not copies:
        return _from_outside(_links_below(tx, scan.root), scan.root)
    return sorted({link for copy in copies for link in links_to_copy(tx, copy)}, key=lambda link: link.path)


def links_to_copy(tx: Tx, copy: Replica) -> list[Link]:
    """Those that lead to the files of one copy, by path."""
    found = _links_below(tx, copy.location)
    files = legible_files(tx.manifests, copy.digest) if found else None
    if files is None:
        return _from_outside(found, copy.location)
    paths = {_join(copy.location, entry_path(entry)) for entry in files}
    folders = {above for path in paths for above in _folders_to(path, copy.location.rstrip("/"))}
    return [link for link in found if link.path not in paths and link.leads_to in paths | folders]


def _links_below(tx: Tx, root: str) -> list[Link]:
    """Links that lead to a folder or into it, by path."""
    table, top = tables.link, root.rstrip("/")
    columns = (table.c.path, table.c.leads_to)
    inside = (table.c.leads_to >= f"{top}/") & (table.c.leads_to < f"{top}0")  # in the order of bytes, 0 comes after /
    query = select(*columns).where(inside | (table.c.leads_to == (top or "/"))).distinct()
    return sorted((Link(row.path, row.leads_to) for row in tx.rows(query)), key=lambda link: link.path)


def _from_outside(links: list[Link], root: str) -> list[Link]:
    return [link for link in links if not link.path.startswith(f"{root.rstrip('/')}/")]


def _folders_to(path: str, top: str) -> set[str]:
    """The folders of a file, from the last one up to `top`."""
    found = set()
    folder = posixpath.dirname(path)
    while len(folder) >= len(top) and folder not in ("", "/"):
        found.add(folder)
        folder = posixpath.dirname(folder)
    return found


def _join(folder: str, name: str) -> str:
    return f"{folder.rstrip('/')}/{name}"


def _leads_to(folder: str, target: str) -> str:
    path = posixpath.normpath(posixpath.join(folder, target))
    return path[1:] if path.startswith("//") else path
