"""Questions of a census: how far an area was looked into, what was found, and which files scans say are theirs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import and_, func, select

from tomovault.catalog import tables
from tomovault.catalog.manifests import entry_path, legible_files
from tomovault.catalog.transaction import Tx
from tomovault.catalog.unclaimed import listed_files
from tomovault.core.known import JobStatus
from tomovault.core.replica import Form, ProductKind, ReplicaState


@dataclass(frozen=True)
class Progress:
    """Places where scans may be: found by name, and looked into as they are now; jobs that look are `at_work`."""

    found: int
    looked_into: int
    at_work: int


@dataclass(frozen=True)
class Found:
    """Scans of one format with one verdict."""

    format: str
    verdict: str
    scans: int
    files: int
    bytes: int


@dataclass(frozen=True)
class Closure:
    """A place where files of a scan stand: which, says the manifest of its `digest`, or before it was packed its format
    (`files`, below the root), or nobody, where both are None.
    """

    root: str
    digest: str | None = None
    files: frozenset[str] | None = None


def census_progress(tx: Tx, area: str) -> Progress:
    """How far the area was looked into."""
    candidate, job = tables.candidate, tables.job
    here = candidate.c.area == area
    looked = and_(here, candidate.c.inspected_snapshot == candidate.c.snapshot)
    inspecting = and_(tables.IS_UNFINISHED, job.c.action == "inspect", job.c.place == area)
    counts = [
        int(tx.value(select(func.count()).select_from(table).where(where)) or 0)
        for table, where in ((candidate, here), (candidate, looked), (job, inspecting))
    ]
    return Progress(*counts)


def census_found(tx: Tx, area: str) -> list[Found]:
    """The scans of the area as they stand, by format and verdict, those of most bytes first."""
    scan = tables.scan
    verdict = func.coalesce(scan.c.declared_verdict, scan.c.verdict)
    size = func.sum(scan.c.bytes)
    files = func.sum(scan.c.files).label("files")
    query = (
        select(scan.c.format, verdict.label("verdict"), func.count().label("scans"), files, size.label("bytes"))
        .where(scan.c.area == area, scan.c.superseded_by.is_(None))
        .group_by(scan.c.format, verdict)
        .order_by(size.desc(), scan.c.format, verdict)
    )
    return [Found(r.format, r.verdict, r.scans, int(r.files), int(r.bytes)) for r in tx.rows(query)]


def walk_closures(tx: Tx, area: str) -> Iterator[Closure]:
    """Every place in the area where files of a scan, or of a copy of one, stand."""
    scan, replica, product = tables.scan, tables.replica, tables.product
    packed = select(product.c.id).where(product.c.scan_id == scan.c.id, product.c.kind == ProductKind.ORIGINAL.value)
    not_packed = select(scan.c.root, scan.c["metadata"]).where(
        scan.c.area == area, scan.c.superseded_by.is_(None), ~packed.exists()
    )
    for row in tx.stream(not_packed):
        yield Closure(row.root, files=listed_files(row.metadata))
    copies = (
        select(replica.c.location, product.c.digest)
        .join(product, product.c.id == replica.c.product_id)
        .where(
            replica.c.tier == area,
            replica.c.form == Form.FILES.value,
            replica.c.state != ReplicaState.GONE.value,
            product.c.kind == ProductKind.ORIGINAL.value,
        )
    )
    for row in tx.stream(copies):
        yield Closure(row.location, digest=row.digest)


def files_of(manifests: str, digest: str) -> frozenset[str] | None:
    """The files of an original below its root, None where its manifest is not in the folder, or damaged."""
    entries = legible_files(manifests, digest)
    return None if entries is None else frozenset(entry_path(entry) for entry in entries)


def failed_looks(tx: Tx, area: str) -> int:
    """Jobs of the area that were to look into something and gave up."""
    job = tables.job
    failed = and_(job.c.status == JobStatus.FAILED.value, job.c.action == "inspect", job.c.place == area)
    return int(tx.value(select(func.count()).select_from(job).where(failed)) or 0)
