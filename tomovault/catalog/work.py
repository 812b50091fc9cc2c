"""What the daemon's loop asks of the catalogue: claims that stand, work that is left, room that is used."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Collection, Generator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Row, Select, Subquery, case, func, or_, select, tuple_, update

from tomovault.catalog import tables
from tomovault.catalog.audit import add_audit
from tomovault.catalog.candidates import CONFIRMED, NO_SCAN, candidate_hash
from tomovault.catalog.elsewhere import record_copies_vanished
from tomovault.catalog.jobs import ClaimedJob
from tomovault.catalog.joins import NOT_FOUND, follow_lost, was_not_found
from tomovault.catalog.manifests import entry_path, original_files
from tomovault.catalog.records import record_missing
from tomovault.catalog.transaction import Tx, chunks, place_hash
from tomovault.catalog.unclaimed import drop_vanished, listed_files
from tomovault.core.known import JobStatus, RemovalPhase
from tomovault.core.replica import Form, ProductKind, ReplicaState, TierClass
from tomovault.core.scan import Candidate, FileRole

_TAKEN_AWAY = {ReplicaState.LEAVING.value, ReplicaState.GONE.value}
_THERE = (ReplicaState.ARRIVING, ReplicaState.PRESENT, ReplicaState.VERIFIED, ReplicaState.SUSPECT)

#: Files of these roles belong to one scan alone; all others of a folder may be shared with its neighbours.
_OWN_ROLES = frozenset({FileRole.PROJECTION.value, FileRole.CAMERA.value})


class Late(NamedTuple):
    """A copy that was re-read too long ago."""

    scan: str
    replica: str
    verified_at: datetime


@dataclass(frozen=True)
class Claim:
    """A job that is being done, and by whom."""

    job: ClaimedJob
    holder: str


def list_claims(tx: Tx) -> list[Claim]:
    """Every job that is being done, with its current attempt."""
    job, attempt = tables.job, tables.attempt
    query = (
        select(job, attempt.c.id.label("attempt_id"), attempt.c.number)
        .join(attempt, (attempt.c.job_id == job.c.id) & (attempt.c.token == job.c.token))
        .where(job.c.status == JobStatus.DOING.value)
    )
    return [
        Claim(
            ClaimedJob(r.id, r.attempt_id, r.number, r.token, r.action, r.scan_id, r.order, r.rule, r.place, r.host),
            r.holder or "",
        )
        for r in tx.rows(query)
    ]


def last_outcome(tx: Tx, job_id: str) -> str:
    """How the last attempt of a job that is over ended, in the words of `Outcome`; '' if it was never tried."""
    attempt = tables.attempt
    query = select(attempt.c.outcome).where(attempt.c.job_id == job_id).order_by(attempt.c.token.desc()).limit(1)
    return str(tx.value(query) or "")


def waits_for_host(tx: Tx, job_id: str, hosts: Collection[str]) -> bool:
    """Whether a job to do is bound to a host that is none of these."""
    job = tables.job
    bound = tx.value(select(job.c.host).where(job.c.id == job_id, job.c.status == JobStatus.TODO.value))
    return bound is not None and bound not in hosts


def places_of(tx: Tx, jobs: Collection[str]) -> dict[str, str]:
    """The area or tier that each of some jobs works in."""
    job = tables.job
    rows = tx.rows(select(job.c.id, job.c.place).where(job.c.id.in_(sorted(jobs))))
    return {row.id: row.place for row in rows}


def last_attempts(tx: Tx) -> list[tuple[str, JobStatus]]:
    """The last attempt of every job that is being done or has failed, with that status."""
    job, attempt = tables.job, tables.attempt
    query = (
        select(attempt.c.id, job.c.status)
        .join(job, (attempt.c.job_id == job.c.id) & (attempt.c.token == job.c.token))
        .where(job.c.status.in_([JobStatus.DOING.value, JobStatus.FAILED.value]))
    )
    return [(row.id, JobStatus(row.status)) for row in tx.rows(query)]


def has_work_before(
    tx: Tx,
    moment: datetime,
    now: datetime,
    *,
    hosts: Collection[str] | None = None,
    skip_places: Collection[str] = (),
    skip_actions: Collection[str] = (),
) -> bool:
    """Whether a job is being done or may start before `moment`, or a scan is due to be looked at now.

    Jobs to do and scans of skipped places wait, and so do jobs of skipped actions; with `hosts`, also jobs bound to
    another one.
    """
    job, scan = tables.job, tables.scan
    to_do = (
        (job.c.status == JobStatus.TODO.value)
        & or_(job.c.not_before.is_(None), job.c.not_before <= moment)
        & job.c.place.not_in(sorted(skip_places))
        & job.c.action.not_in(sorted(skip_actions))
    )
    if hosts is not None:
        to_do &= or_(job.c.host.is_(None), job.c.host.in_(sorted(hosts)))
    jobs = select(job.c.id).where(tables.IS_UNFINISHED, or_(job.c.status == JobStatus.DOING.value, to_do))
    if tx.first(jobs.limit(1)) is not None:
        return True
    due = select(scan.c.id).where(scan.c.next_due_at <= now, scan.c.area.not_in(sorted(skip_places)))
    return tx.first(due.limit(1)) is not None


def area_bytes(tx: Tx, area: str) -> tuple[int, int]:
    """(bytes of everything live in an area, quarantine included; bytes of it that are leaving)."""
    usage = tables.usage
    used = tx.value(select(func.sum(usage.c.bytes)).where(usage.c.area == area, usage.c.tier.is_not(None)))
    return int(used or 0), leaving_bytes(tx).get(area, 0)


def leaving_beside(tx: Tx, area: str) -> int:
    """Bytes that are leaving other areas on the same file system: room to come for all, and counted by none twice."""
    table = tables.area
    mine = select(table.c.fsid).where(table.c.name == area).scalar_subquery()
    beside = {row.name for row in tx.rows(select(table.c.name).where(table.c.fsid == mine, table.c.name != area))}
    return sum(size for name, size in leaving_bytes(tx).items() if name in beside) if beside else 0


def leaving_bytes(tx: Tx) -> dict[str | None, int]:
    """Bytes that are leaving, quarantine included, by area."""
    replica, tier, permit = tables.replica, tables.tier, tables.permit
    # Not of this area alone: then a database would start from all that stands there.
    leaving = (
        select(tier.c.area, func.sum(permit.c.bytes).label("bytes"))
        .join(replica, replica.c.id == permit.c.replica_id)
        .join(tier, tier.c.name == replica.c.tier)
        .where(tables.IS_OPEN)
        .group_by(tier.c.area)
    )
    return {row.area: int(row.bytes) for row in tx.rows(leaving)}


def list_inspected(tx: Tx, area: str) -> Generator[tuple[Candidate, str], None, None]:
    """Candidates that were inspected, with the snapshot of their settled state: a restart need not wait for them again,
    and misses those that went meanwhile. The snapshot of what was not settled is empty. Few are in memory at a time,
    and they are read while the transaction lasts.

    Those whose scans were all pruned by us are left out, since their absence says nothing, and those that are none.
    """
    table = tables.candidate
    stands = _stands(area)
    query = (
        _candidates(area, table.c.inspected_snapshot.is_not(None), ~_is_no_scan())
        .outerjoin(stands, stands.c.candidate == table.c.key_hash)
        .where(func.coalesce(stands.c.there, 1) == 1)
    )
    with contextlib.closing(tx.stream(query)) as rows:
        yield from ((_candidate(row), row.inspected_snapshot if row.inspected_settled else "") for row in rows)


def list_inspected_in_vain(tx: Tx, area: str) -> Generator[tuple[Candidate, str], None, None]:
    """As `list_inspected`, those that are no scan of their format, so that nothing is lost where they go: a file of
    another format that was pruned is among them.
    """
    table = tables.candidate
    query = _candidates(area, table.c.inspected_snapshot.is_not(None), table.c.inspected_settled, _is_no_scan())
    with contextlib.closing(tx.stream(query)) as rows:
        yield from ((_candidate(row), row.inspected_snapshot) for row in rows)


def _is_no_scan() -> ColumnElement[bool]:
    table, scan = tables.candidate, tables.scan
    held = select(scan.c.id).where(scan.c.candidate == table.c.key_hash).exists()
    return table.c.problem.like(f"{NO_SCAN}%") & ~held


def list_taken_away(tx: Tx, area: str) -> frozenset[Candidate]:
    """Candidates whose scans' files were all moved away by us, or are leaving: that they are not there is no loss."""
    stands = _stands(area)
    query = _candidates(area).join(stands, stands.c.candidate == tables.candidate.c.key_hash)
    return frozenset(_candidate(row) for row in tx.stream(query.where(stands.c.there == 0)))


def _candidates(area: str, *where: ColumnElement[bool]) -> Select[Any]:
    """Candidates of an area, oldest first: what a watch needs of them, since there may be very many."""
    table = tables.candidate
    columns = (table.c[name] for name in ("key_hash", "format", "folder", "key", "metadata_folder"))
    inspected = (table.c.inspected_snapshot, table.c.inspected_settled)
    query = select(*columns, *inspected).where(table.c.area == area, *where)
    return query.order_by(table.c.first_seen_at, table.c.key_hash)


def _candidate(row: Row[Any]) -> Candidate:
    return Candidate(row.format, row.folder, row.key, row.metadata_folder)


def _stands(area: str) -> Subquery:
    """For each candidate of an area with scans that stand, whether any of their original files are `there`, 1 or 0: in
    one pass over all, since a query each would be many thousands.
    """
    scan, replica, product = tables.scan, tables.replica, tables.product
    away = replica.c.state.in_(sorted(_TAKEN_AWAY))
    return (
        select(scan.c.candidate, func.max(case((away, 0), else_=1)).label("there"))
        .join(replica, replica.c.scan_id == scan.c.id)
        .join(product, product.c.id == replica.c.product_id)
        .where(
            scan.c.area == area,
            scan.c.candidate.is_not(None),
            scan.c.superseded_by.is_(None),
            replica.c.tier == area,
            replica.c.location_hash == scan.c.root_hash,
            replica.c.form == Form.FILES.value,
            product.c.kind == ProductKind.ORIGINAL.value,
        )
        .group_by(scan.c.candidate)
        .subquery()
    )


def _files_of(tx: Tx, area: str, candidate: Candidate) -> list[tuple[str, str, ReplicaState]]:
    """(scan, replica, state) of the files of a candidate's scans at their own places."""
    scan, replica, product = tables.scan, tables.replica, tables.product
    key = candidate_hash(area, candidate)
    roots = {row.id: row.root_hash for row in tx.rows(select(scan).where(scan.c.candidate == key))}
    query = (
        select(replica.c.id, replica.c.scan_id, replica.c.state, replica.c.tier, replica.c.location_hash)
        .join(product, product.c.id == replica.c.product_id)
        .where(
            replica.c.scan_id.in_(sorted(roots)),
            replica.c.form == Form.FILES.value,
            product.c.kind == ProductKind.ORIGINAL.value,
        )
    )
    # By tier last and here: SQLite would look through every replica of the area for it.
    return [
        (r.scan_id, r.id, ReplicaState(r.state))
        for r in tx.rows(query)
        if r.tier == area and r.location_hash == roots[r.scan_id]
    ]


def record_vanished(tx: Tx, area: str, candidate: Candidate, now: datetime) -> None:
    """Several sweeps did not find a candidate any more: its scans' files are suspect. Absence alone makes no original
    gone. A scan that was found elsewhere by its digests has moved there; a copy of a scan whose own place is another
    is gone.
    """
    for scan_id, replica_id, state in _files_of(tx, area, candidate):
        if state is ReplicaState.SUSPECT and not was_not_found(tx, scan_id, replica_id):
            add_audit(
                tx, "tomovault", "replica missing", {"replica": replica_id, "reason": NOT_FOUND}, now, scan=scan_id
            )
        elif state in _THERE:
            record_missing(tx, replica_id, NOT_FOUND, now)
    follow_lost(tx, candidate_hash(area, candidate), now)
    record_copies_vanished(tx, area, candidate, now)
    drop_vanished(tx, area, [candidate])


def confirm_missing(tx: Tx, area: str, candidate: Candidate, by: str, now: datetime) -> None:
    """A person says that a candidate is gone for good: its absence stops nothing. Its copies stay as they are."""
    record_vanished(tx, area, candidate, now)
    table = tables.candidate
    tx.run(
        update(table)
        .where(table.c.key_hash == candidate_hash(area, candidate))
        .values(inspected_snapshot=None, inspected_settled=False, problem=CONFIRMED + by)
    )
    add_audit(tx, by, "absence confirmed", {"area": area, "folder": candidate.folder, "key": candidate.key}, now)


def confirmed_missing(tx: Tx, area: str) -> frozenset[Candidate]:
    """Candidates that a person said are gone, and that were not seen since."""
    table = tables.candidate
    confirmed = (table.c.inspected_snapshot.is_(None), table.c.problem.like(f"{CONFIRMED}%"))
    return frozenset(_candidate(row) for row in tx.rows(_candidates(area, *confirmed)))


def list_removable(
    tx: Tx, area: str, form: Form, *, kind: ProductKind = ProductKind.ORIGINAL, largest_first: bool = False
) -> list[str]:
    """Scans of an area that have a good copy of a product in it, in that form; oldest acquisition first, or largest."""
    scan, replica = tables.scan, tables.replica
    acquired_at = func.coalesce(scan.c.acquired_at, scan.c.first_seen_at)
    # Found by their replicas, not by their area: rows of scans are large, and most scans of an old area have left.
    found = with_good_copy(area, form, kind)
    query = select(scan.c.id, scan.c.area)
    if largest_first:
        sized = found.add_columns(func.max(replica.c.bytes).label("bytes")).group_by(replica.c.scan_id).subquery()
        query = query.join(sized, sized.c.scan_id == scan.c.id).order_by(sized.c.bytes.desc())
    else:
        query = query.where(scan.c.id.in_(found))
    query = query.order_by(acquired_at, scan.c.id)
    return [row.id for row in tx.rows(query) if row.area == area]


def with_good_copy(tier: str, form: Form, kind: ProductKind) -> Select[Any]:
    """The ids of scans that have a good copy of a product on a tier, in that form."""
    replica, product = tables.replica, tables.product
    return (
        select(replica.c.scan_id)
        .join(product, product.c.id == replica.c.product_id)
        .where(
            replica.c.tier == tier,
            replica.c.form == form.value,
            replica.c.state.in_([ReplicaState.VERIFIED.value, ReplicaState.PRESENT.value]),
            product.c.kind == kind.value,
        )
    )


def list_granted(tx: Tx, place: str, *, of_tier: bool = False) -> list[tuple[str, int, int]]:
    """(rule, bytes, files) of every permit of an area's scans, or for a copy on a tier, whose removal has not been
    carried out yet.
    """
    scan, replica, permit = tables.scan, tables.replica, tables.permit
    at = replica.c.tier if of_tier else scan.c.area
    query = (
        select(at.label("place"), permit.c.rule, permit.c.bytes, permit.c.files)
        .select_from(permit)
        .join(replica, replica.c.id == permit.c.replica_id)
        .join(scan, scan.c.id == permit.c.scan_id)
        .where(tables.IS_OPEN, permit.c.phase == RemovalPhase.GRANTED.value)
    )
    return [(row.rule, int(row.bytes), int(row.files)) for row in tx.rows(query) if row.place == place]


def list_overdue(
    tx: Tx,
    area: str,
    within: Mapping[TierClass, timedelta],
    now: datetime,
    *,
    limit: int,
    skip: Collection[str] = (),
    after: Late | None = None,
) -> list[Late]:
    """Packages of an area's scans that were re-read too long ago, oldest first, those up to `after` left out; one whose
    date lies in the future counts for nothing until it is re-read, and is overdue, too. Replicas to skip are left out.

    Of scans of a fast area their files in other areas, too: law 4 lets the fast disk rely on them.
    """
    scan, replica, tier = tables.scan, tables.replica, tables.tier
    home = tier.alias()
    late = or_(
        replica.c.verified_at > now,  # a date in the future is not believed
        *(
            (tier.c.tier_class == kind.value) & (replica.c.verified_at < now - period)
            for kind, period in within.items()
        ),
    )
    query = (
        select(replica.c.scan_id, replica.c.id, replica.c.verified_at)
        .join(scan, scan.c.id == replica.c.scan_id)
        .join(tier, tier.c.name == replica.c.tier)
        .join(home, home.c.name == scan.c.area)
        .where(
            scan.c.area == area,
            replica.c.state == ReplicaState.VERIFIED.value,
            or_(
                replica.c.form == Form.PACKAGE.value,
                (home.c.tier_class == TierClass.FAST.value) & (replica.c.tier != scan.c.area),
            ),
            late,
        )
        .order_by(replica.c.verified_at, replica.c.id)
        .limit(limit + len(skip))
    )
    if after is not None:
        query = query.where(tuple_(replica.c.verified_at, replica.c.id) > (after.verified_at, after.replica))
    return [Late(r.scan_id, r.id, r.verified_at) for r in tx.rows(query) if r.id not in skip][:limit]


def asked_since(tx: Tx, action: str, rule: str, since: datetime) -> frozenset[str]:
    """Replicas that jobs of an action name which are not over yet, whoever asked, or which that rule queued since then;
    a job that names none is about all of its scan.
    """
    job, replica = tables.job, tables.replica
    of_rule = select(job.c.scan_id, job.c.order).where(
        job.c.action == action, job.c.rule == rule, job.c.queued_at >= since
    )
    unfinished = select(job.c.scan_id, job.c.order).where(job.c.action == action, tables.IS_UNFINISHED)
    rows = [*tx.rows(of_rule), *tx.rows(unfinished)]
    whole = sorted({row.scan_id for row in rows if row.scan_id is not None and not row.order.get("replicas")})
    found = {name for row in rows for name in row.order.get("replicas", ())}
    for batch in chunks(whole):
        found.update(row.id for row in tx.rows(select(replica.c.id).where(replica.c.scan_id.in_(batch))))
    return frozenset(found)


def unfinished_by_place(tx: Tx, action: str, rule: str) -> Counter[str]:
    """How many jobs of an action and a rule are not over yet, by the area or tier that they are for."""
    job = tables.job
    query = select(job.c.place, func.count().label("number")).where(
        job.c.action == action, job.c.rule == rule, tables.IS_UNFINISHED
    )
    return Counter({row.place: int(row.number) for row in tx.rows(query.group_by(job.c.place))})


def shared_paths(tx: Tx, scan_id: str) -> frozenset[str]:
    """Paths of a scan, relative to its root, that another scan needs whose files are still where they were written.

    Their roots may differ: a scan whose flats lie in another folder has the root of both.

    Of a neighbour that is not packed the paths are known only if its format lists them; else all of ours that may be
    shared are kept.
    """
    scan = tables.scan
    root: str | None = tx.value(select(scan.c.root).where(scan.c.id == scan_id))
    mine = _roles(tx, scan_id)
    if root is None or not mine:
        return frozenset()
    places = {_join(root, path): path for path in mine}
    keep: set[str] = set()
    columns = (scan.c.id, scan.c.root, scan.c["metadata"])
    others = select(*columns).where(scan.c.id != scan_id, scan.c.superseded_by.is_(None), _overlaps(root))
    for other in tx.rows(others):
        packed = _roles(tx, other.id)
        theirs = listed_files(other.metadata) if packed is None else packed.keys()
        if theirs is None:
            keep.update(path for path, role in mine.items() if role not in _OWN_ROLES)
        elif packed is None or _files_there(tx, other.id):
            needed = {_join(other.root, path) for path in theirs}
            keep.update(path for place, path in places.items() if place in needed)
    return frozenset(keep)


def _join(root: str, path: str) -> str:
    return f"{root.rstrip('/')}/{path}"


def _overlaps(root: str) -> ColumnElement[bool]:
    """Scans whose root is that folder, in it or above it: all that a scan needs is below its root."""
    scan = tables.scan
    folder = root.rstrip("/")
    parts = folder.split("/")
    above = [text for end in range(1, len(parts) + 1) for text in ("/".join(parts[:end]), "/".join(parts[:end]) + "/")]
    below = (scan.c.root >= f"{folder}/") & (scan.c.root < f"{folder}0")  # in the order of bytes, 0 comes after /
    return or_(scan.c.root_hash.in_([place_hash(path) for path in above]), below)


def _files_there(tx: Tx, scan_id: str) -> bool:
    replica = tables.replica
    query = select(replica.c.id).where(
        replica.c.scan_id == scan_id,
        replica.c.form == Form.FILES.value,
        replica.c.state.in_([s.value for s in _THERE]),
    )
    return tx.first(query.limit(1)) is not None


def _roles(tx: Tx, scan_id: str) -> dict[str, str] | None:
    files = original_files(tx, scan_id)
    return None if files is None else {entry_path(f): f.get("role", FileRole.SIDE.value) for f in files}


def reasons_of(tx: Tx, scan_id: str) -> dict[str, str]:
    """For each replica of a scan that was found bad, what was last found wrong with it."""
    audit = tables.audit
    query = (
        select(audit.c.body)
        .where(audit.c.scan_id == scan_id, audit.c.op.in_(("replica suspect", "replica missing")))
        .order_by(audit.c.seq)
    )
    reasons = {}
    for row in tx.rows(query):
        body = json.loads(row.body)
        told = body.get("checked", body)
        reasons[told["replica"]] = told["reason"]
    return reasons
