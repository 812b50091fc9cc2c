"""Scans as the catalogue knows them: one by id, many in a few queries, found by what a person typed."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Row, Select, func, or_, select, update

from tomovault.catalog import tables
from tomovault.catalog.measured import cpu_of_volumes
from tomovault.catalog.owner_warnings import warnings_of
from tomovault.catalog.transaction import Tx, chunks, place_hash
from tomovault.core.errors import UserError
from tomovault.core.known import Declared, Job, JobStatus, KnownScan, Permit, Pin, Product, RemovalPhase
from tomovault.core.notice import OwnerWarning
from tomovault.core.record import Processing
from tomovault.core.replica import Form, ProductKind, Replica, ReplicaState, StoredFile, TierClass
from tomovault.core.scan import Candidate, Certificate, Condition, Verdict
from tomovault.core.transfer import Receipt, Transfer, TransferState
from tomovault.core.wire import from_plain

#: So many scans are in memory at a time while all are gone through.
_AT_A_TIME = 200


class Found(NamedTuple):
    """A scan that fits what was typed."""

    id: str
    name: str
    root: str
    area: str


def known(tx: Tx, scan_id: str) -> KnownScan:
    """Everything known of one scan. Raises UserError where there is none of that id."""
    found = known_many(tx, [scan_id])
    if not found:
        raise UserError(f"no scan {scan_id}", hint="tomovault scan list shows them")
    return found[0]


def known_many(tx: Tx, ids: Iterable[str]) -> list[KnownScan]:
    """Everything known of these scans, in the order given; unknown ids are left out."""
    order = list(dict.fromkeys(ids))
    by_id: dict[str, KnownScan] = {}
    for batch in chunks(order):
        by_id.update(_read_batch(tx, batch))
    return [by_id[i] for i in order if i in by_id]


def list_scans(tx: Tx, area: str | None = None) -> list[KnownScan]:
    """Every scan of an area, or of all, oldest first, in memory at once: `walk_scans` is for a whole catalogue."""
    return list(walk_scans(tx, None if area is None else [area]))


def walk_scans(tx: Tx, areas: Collection[str] | None = None, *, newest_first: bool = False) -> Iterator[KnownScan]:
    """Every scan of these areas, or of all, oldest first by when it was first seen; some are in memory at a time.

    With `newest_first` the newest acquisition comes first; of one without a date, when it was first seen.
    """
    query = select(tables.scan.c.id)
    if areas is not None:
        query = query.where(tables.scan.c.area.in_(sorted(areas)))
    return walk_chosen(tx, query, newest_first=newest_first)


def walk_chosen(tx: Tx, ids: Select[Any], *, newest_first: bool = False) -> Iterator[KnownScan]:
    """As `walk_scans`, the scans whose ids a query of scans gives."""
    scan = tables.scan
    if newest_first:
        query = ids.order_by(func.coalesce(scan.c.acquired_at, scan.c.first_seen_at).desc(), scan.c.id)
    else:
        query = ids.order_by(scan.c.first_seen_at, scan.c.id)
    with contextlib.closing(tx.stream(query)) as rows:
        while batch := [row.id for row in itertools.islice(rows, _AT_A_TIME)]:
            yield from known_many(tx, batch)


def find_scans(tx: Tx, text: str) -> list[Found]:
    """Scans whose id or name is `text`, or whose root or master file is that path; newest first, superseded last.

    A scan that was found again elsewhere is one scan, by its name and by each of its paths.
    """
    scan = tables.scan
    path = place_hash(os.path.normpath(text)) if text.startswith("/") else ""
    scan_id = text if text.isascii() and text.isalnum() else ""
    query = (
        select(scan)
        .where(or_(scan.c.id == scan_id, scan.c.name == text, scan.c.root_hash == path, scan.c.master_hash == path))
        .order_by(scan.c.superseded_by.is_not(None), scan.c.first_seen_at.desc(), scan.c.entry, scan.c.id)
    )
    rows = [row if row.id == scan_id else _joined_to(tx, row) for row in tx.rows(query)]
    return list(dict.fromkeys(Found(r.id, r.name, r.root, r.area) for r in rows))


def _joined_to(tx: Tx, row: Row[Any]) -> Row[Any]:
    """The scan that a row turned out to be a copy of; the row itself of one that was overwritten in place."""
    scan, product = tables.scan, tables.product
    if row.superseded_by is None or tx.first(select(product.c.id).where(product.c.scan_id == row.id)) is not None:
        return row
    other = tx.first(select(scan).where(scan.c.id == row.superseded_by, scan.c.place_hash != row.place_hash))
    return row if other is None else other


def list_due(
    tx: Tx, now: datetime, limit: int, *, skip_areas: Collection[str] = (), since: datetime | None = None
) -> list[str]:
    """Ids of scans to be looked at now, longest due first; with `since` none that were due before. Those of skipped
    areas stay due.
    """
    scan = tables.scan
    query = (
        select(scan.c.id)
        .where(scan.c.next_due_at.is_not(None), scan.c.next_due_at <= now, scan.c.area.not_in(sorted(skip_areas)))
        .order_by(scan.c.next_due_at, scan.c.id)
        .limit(limit)
    )
    if since is not None:
        query = query.where(scan.c.next_due_at >= since)
    return [row.id for row in tx.rows(query)]


def area_of(tx: Tx, scan_id: str) -> str:
    """The area of a scan of which no more can be told; '' for none."""
    return str(tx.value(select(tables.scan.c.area).where(tables.scan.c.id == scan_id)) or "")


def set_next_due(tx: Tx, scan_id: str, when: datetime | None) -> None:
    """Look at the scan again at `when`, or only after a new fact."""
    tx.run(update(tables.scan).where(tables.scan.c.id == scan_id).values(next_due_at=when))


def touch(tx: Tx, scan_id: str, now: datetime, *, new_fact: bool = False) -> None:
    """Make a scan due now. With `new_fact`, a job that succeeded before may be queued again."""
    scan = tables.scan
    values: dict[str, Any] = {"next_due_at": now}
    if new_fact:
        values["facts_seq"] = scan.c.facts_seq + 1
    tx.run(update(scan).where(scan.c.id == scan_id).values(**values))


def require_scan(tx: Tx, scan_id: str) -> Row[Any]:
    """The scan's row, locked. Raises UserError where there is none."""
    row = tx.first(select(tables.scan).where(tables.scan.c.id == scan_id).with_for_update())
    if row is None:
        raise UserError(f"no scan {scan_id}", hint="tomovault scan list shows them")
    return row


def replica_parts(tx: Tx, replica_id: str) -> tuple[StoredFile, ...]:
    """The stored files of a package replica; those of form `files` are in the product's manifest."""
    parts = tx.value(select(tables.replica.c.parts).where(tables.replica.c.id == replica_id))
    if parts is None:
        raise UserError(f"no replica {replica_id}")
    return tuple(from_plain(StoredFile, part) for part in parts)


def certificate_of(plain: Any) -> Certificate:
    """A certificate from its column."""
    return plain if isinstance(plain, Certificate) else from_plain(Certificate, plain)


def job_of(row: Row[Any]) -> Job:
    """A job from its row."""
    return Job(
        id=row.id,
        action=row.action,
        scan=row.scan_id,
        status=JobStatus(row.status),
        attempts=row.attempts,
        error=row.error,
        hint=row.hint,
        rule=row.rule,
        queued_at=row.queued_at,
        finished_at=row.finished_at,
        not_before=row.not_before,
        order=row.order,
    )


def transfer_of(row: Row[Any]) -> Transfer:
    """A transfer from its row."""
    return Transfer(
        id=row.id,
        product=ProductKind(row.kind),
        digest=row.digest,
        collection=row.collection,
        path=row.path,
        state=TransferState(row.state),
        asked_by=row.asked_by,
        asked_at=row.asked_at,
        submission_id=row.submission_id,
        task_id=row.task_id,
        deadline=row.deadline,
        submitted_at=row.submitted_at,
        finished_at=row.finished_at,
        error=row.error,
        receipt=None if row.receipt is None else from_plain(Receipt, row.receipt),
    )


def permit_of(row: Row[Any]) -> Permit:
    """A permit from its row."""
    return Permit(
        id=row.id,
        replica=row.replica_id,
        rule=row.rule,
        phase=RemovalPhase(row.phase),
        granted_at=row.granted_at,
        hold_until=row.hold_until,
        relied_on=tuple(row.relied_on),
        bytes=row.bytes,
        files=row.files,
        left=tuple(row.left),
        moved=tuple(row.moved),
        ordered_by=row.ordered_by,
        reason=row.reason,
        of_suspect=row.state_before == ReplicaState.SUSPECT.value,
    )


class _Parts(NamedTuple):
    """What hangs on a batch of scans, by scan id."""

    conditions: dict[str, dict[str, Condition]]
    products: dict[str, list[Product]]
    replicas: dict[str, list[Replica]]
    processings: dict[str, list[tuple[str, Processing]]]
    pins: dict[str, list[Pin]]
    permits: dict[str, list[Permit]]
    jobs: dict[str, list[Job]]
    transfers: dict[str, list[Transfer]]
    warnings: dict[str, list[OwnerWarning]]
    volume_cpu_s: dict[str, float]


def _read_batch(tx: Tx, batch: list[str]) -> dict[str, KnownScan]:
    scan, scan_set, candidate = tables.scan, tables.scan_set, tables.candidate
    other = scan.alias()
    rows = tx.rows(
        select(
            scan,
            other.c.place_hash.label("place_of_other"),
            scan_set.c.name.label("set_name"),
            scan_set.c.size.label("set_size"),
            candidate.c.folder,
            candidate.c.key,
            candidate.c.metadata_folder,
        )
        .outerjoin(other, other.c.id == scan.c.superseded_by)
        .outerjoin(scan_set, scan_set.c.id == scan.c.set_id)
        .outerjoin(candidate, candidate.c.key_hash == scan.c.candidate)
        .where(scan.c.id.in_(batch))
    )
    products, jobs = _products(tx, batch), _jobs(tx, batch)
    made = [scan_id for scan_id in batch if _made_a_volume(products[scan_id], jobs[scan_id])]
    parts = _Parts(
        _conditions(tx, batch),
        products,
        _replicas(tx, batch),
        _processings(tx, batch),
        _pins(tx, batch),
        _permits(tx, batch),
        jobs,
        _transfers(tx, batch),
        warnings_of(tx, batch),
        cpu_of_volumes(tx, made) if made else {},
    )
    return {row.id: _scan_of(row, parts) for row in rows}


def _made_a_volume(products: Sequence[Product], jobs: Sequence[Job]) -> bool:
    """Whether a run of ours may have made a volume that is known: of others nobody asks what they took."""
    return any(p.kind is ProductKind.VOLUME for p in products) and any(j.action == "reconstruct" for j in jobs)


def _scan_of(row: Row[Any], parts: _Parts) -> KnownScan:
    products = tuple(parts.products[row.id])
    volumes = [p for p in products if p.kind is ProductKind.VOLUME]
    newest = max(volumes, key=lambda p: p.created_at).digest if volumes else None
    return KnownScan(
        id=row.id,
        name=row.name,
        root=row.root,
        area=row.area,
        format=row.format,
        entry=row.entry,
        identity=row.identity,
        certificate=certificate_of(row.certificate),
        settled=row.settled,
        first_seen_at=row.first_seen_at,
        changed_at=row.changed_at,
        bytes=row.bytes,
        files=row.files,
        acquired_at=row.acquired_at,
        beamline=row.beamline,
        proposal=row.proposal,
        sample=row.sample,
        owner=row.owner,
        sources=row.sources,
        set_name=row.set_name,
        set_size=row.set_size,
        candidate=None if row.candidate is None else Candidate(row.format, row.folder, row.key, row.metadata_folder),
        superseded_by=row.superseded_by,
        found_again=row.place_of_other not in (None, row.place_hash),
        declared=_declared(row),
        accepted_by=row.accepted_by if row.accepted_digest == newest else None,
        conditions=parts.conditions[row.id],
        metadata=row.metadata,
        products=products,
        replicas=tuple(parts.replicas[row.id]),
        processings=tuple(parts.processings[row.id]),
        pins=tuple(parts.pins[row.id]),
        permits=tuple(parts.permits[row.id]),
        jobs=tuple(parts.jobs[row.id]),
        transfers=tuple(parts.transfers[row.id]),
        warnings=tuple(parts.warnings[row.id]),
        volume_cpu_s=parts.volume_cpu_s.get(row.id),
    )


def _declared(row: Row[Any]) -> Declared | None:
    if row.declared_verdict is None:
        return None
    return Declared(Verdict(row.declared_verdict), row.declared_by, row.declared_reason, row.declared_at)


def _hanging(tx: Tx, table: Any, batch: list[str], *order: Any) -> Sequence[Row[Any]]:
    return tx.rows(select(table).where(table.c.scan_id.in_(batch)).order_by(*order))


def _conditions(tx: Tx, batch: list[str]) -> dict[str, dict[str, Condition]]:
    made: dict[str, dict[str, Condition]] = defaultdict(dict)
    for r in _hanging(tx, tables.condition, batch, tables.condition.c.name):
        made[r.scan_id][r.name] = Condition(_value(r), r.unit, r.source)
    return made


def _value(row: Row[Any]) -> float | int | str | None:
    if row.value_type == "int":
        return int(row.value_text)
    if row.value_type == "float":
        return float(row.value_text)
    text: str | None = row.value_text
    return text


def _products(tx: Tx, batch: list[str]) -> dict[str, list[Product]]:
    made: dict[str, list[Product]] = defaultdict(list)
    table = tables.product
    for r in _hanging(tx, table, batch, table.c.created_at, table.c.id):
        made[r.scan_id].append(
            Product(
                id=r.id,
                kind=ProductKind(r.kind),
                digest=r.digest,
                bytes=r.bytes,
                files=r.files,
                lossless=r.lossless,
                made_by_us=r.made_by_us,
                created_at=r.created_at,
                details=r.details,
            )
        )
    return made


def _replicas(tx: Tx, batch: list[str]) -> dict[str, list[Replica]]:
    replica, product, tier = tables.replica, tables.product, tables.tier
    made: dict[str, list[Replica]] = defaultdict(list)
    query = (
        select(replica, product.c.kind, product.c.digest, product.c.lossless, tier.c.tier_class, tier.c.counts)
        .join(product, product.c.id == replica.c.product_id)
        .join(tier, tier.c.name == replica.c.tier)
        .where(replica.c.scan_id.in_(batch))
        .order_by(replica.c.written_at, replica.c.id)
    )
    for r in tx.rows(query):
        made[r.scan_id].append(
            Replica(
                id=r.id,
                product=ProductKind(r.kind),
                digest=r.digest,
                lossless=r.lossless,
                form=Form(r.form),
                tier=r.tier,
                tier_class=TierClass(r.tier_class),
                domain=r.domain,
                location=r.location,
                bytes=r.bytes,
                state=ReplicaState(r.state),
                sha256=r.sha256,
                written_at=r.written_at,
                verified_at=r.verified_at,
                counts=r.counts,
            )
        )
    return made


def _processings(tx: Tx, batch: list[str]) -> dict[str, list[tuple[str, Processing]]]:
    made: dict[str, list[tuple[str, Processing]]] = defaultdict(list)
    table = tables.processing
    for r in _hanging(tx, table, batch, table.c.started_at, table.c.id):
        run = Processing(r.engine, r.engine_version, r.parameters, r.started_at, r.finished_at, tuple(r.outputs))
        made[r.scan_id].append((r.id, run))
    return made


def _pins(tx: Tx, batch: list[str]) -> dict[str, list[Pin]]:
    made: dict[str, list[Pin]] = defaultdict(list)
    for r in _hanging(tx, tables.pin, batch, tables.pin.c.until, tables.pin.c.id):
        made[r.scan_id].append(Pin(r.id, r.owner, r.reason, r.until, r.tier))
    return made


def _permits(tx: Tx, batch: list[str]) -> dict[str, list[Permit]]:
    made: dict[str, list[Permit]] = defaultdict(list)
    for r in _hanging(tx, tables.permit, batch, tables.permit.c.granted_at, tables.permit.c.id):
        made[r.scan_id].append(permit_of(r))
    return made


def _jobs(tx: Tx, batch: list[str]) -> dict[str, list[Job]]:
    made: dict[str, list[Job]] = defaultdict(list)
    for r in _hanging(tx, tables.job, batch, tables.job.c.queued_at, tables.job.c.id):
        made[r.scan_id].append(job_of(r))
    return made


def _transfers(tx: Tx, batch: list[str]) -> dict[str, list[Transfer]]:
    made: dict[str, list[Transfer]] = defaultdict(list)
    for r in _hanging(tx, tables.transfer, batch, tables.transfer.c.asked_at, tables.transfer.c.id):
        made[r.scan_id].append(transfer_of(r))
    return made
