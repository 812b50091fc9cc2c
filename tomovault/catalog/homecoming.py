"""Original files that a rebuilt catalogue has only heard of, and that are found where they were written."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Row, and_, insert, select, update

from tomovault.catalog import tables
from tomovault.catalog.audit import add_audit
from tomovault.catalog.manifests import entry_path, legible_files
from tomovault.catalog.scans import touch
from tomovault.catalog.transaction import Tx, new_id, place_hash
from tomovault.catalog.usage import accounted
from tomovault.core.replica import Form, ProductKind, ReplicaState
from tomovault.core.scan import FileState, ScanReport


def expect_files(tx: Tx, scan_id: str, product_id: str, *, area: str, root: str, domain: str) -> None:
    """The files of an original may still be where they were written: gone, until a look finds them there."""
    product, replica = tables.product, tables.replica
    at = place_hash(root)
    there = (replica.c.product_id == product_id, replica.c.tier == area, replica.c.form == Form.FILES.value)
    if tx.first(select(replica.c.id).where(*there, replica.c.location_hash == at)) is not None:
        return
    original = tx.rows(select(product).where(product.c.id == product_id))[0]
    tx.run(
        insert(replica).values(
            id=new_id("r"),
            scan_id=scan_id,
            product_id=product_id,
            form=Form.FILES.value,
            tier=area,
            domain=domain,
            location=root,
            location_hash=at,
            bytes=original.bytes,
            files=original.files,
            state=ReplicaState.GONE.value,
            sha256=original.digest,
            written_at=None,
            verified_at=None,
            parts=[],
        )
    )


def tie_files(tx: Tx, scan_id: str, report: ScanReport, now: datetime) -> None:
    """Files that were only heard of are present, not verified, where a look found every one of the manifest in its
    place with its size. Whether their bytes are right, a re-read tells.
    """
    rows = [row for row in _heard_of(tx, scan_id) if _are_there(tx, row, report)]
    for row in rows:
        with accounted(tx, scan_id):
            state = {"state": ReplicaState.PRESENT.value}
            tx.run(update(tables.replica).where(tables.replica.c.id == row.id).values(**state))
        body = {"replica": row.id, "location": row.location}
        add_audit(tx, "tomovault", "replica found again", body, now, scan=scan_id)
    if rows:
        touch(tx, scan_id, now, new_fact=True)


def _heard_of(tx: Tx, scan_id: str) -> list[Row[Any]]:
    """Replicas of the original's files at the scan's own place that are gone, though nobody wrote or took them: they
    have no date.
    """
    scan, product, replica, permit = tables.scan, tables.product, tables.replica, tables.permit
    home = and_(
        scan.c.id == replica.c.scan_id,
        scan.c.root_hash == replica.c.location_hash,
        scan.c.area == replica.c.tier,
    )
    query = (
        select(replica.c.id, replica.c.location, product.c.digest)
        .join(product, product.c.id == replica.c.product_id)
        .join(scan, home)
        .where(
            replica.c.scan_id == scan_id,
            product.c.kind == ProductKind.ORIGINAL.value,
            replica.c.form == Form.FILES.value,
            replica.c.state == ReplicaState.GONE.value,
            replica.c.written_at.is_(None),
            ~select(permit.c.id).where(permit.c.replica_id == replica.c.id).exists(),
        )
    )
    return list(tx.rows(query))


def _are_there(tx: Tx, row: Row[Any], report: ScanReport) -> bool:
    listed = legible_files(tx.manifests, row.digest)
    found = {f.state.path: f.state for f in report.files}
    if not listed or not {entry_path(entry) for entry in listed} <= found.keys():
        return False
    states = [(found[entry_path(entry)], entry) for entry in listed]
    return report.root == row.location and all(_is_like(state, entry) for state, entry in states)


def _is_like(state: FileState, entry: Mapping[str, Any]) -> bool:
    if "link_target" in entry:
        return state.link_target is not None
    return state.link_target is None and state.size == entry.get("size")
