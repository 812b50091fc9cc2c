"""Copies of known scans at another place than their own: restored there by us, or found to be the same by digest.

They are `files` replicas whose location is not the root of their scan. What stands there makes no new scan while it
is as it was; anything new or changed there does.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, select, update

from tomovault.catalog import tables
from tomovault.catalog.audit import add_audit
from tomovault.catalog.joins import MISSING, was_missing
from tomovault.catalog.manifests import entry_path, legible_files
from tomovault.catalog.scans import touch
from tomovault.catalog.transaction import Tx, place_hash
from tomovault.catalog.usage import accounted
from tomovault.core.known import JobStatus
from tomovault.core.manifest import names_together
from tomovault.core.record import RestoredHere
from tomovault.core.replica import Form, ProductKind, ReplicaState
from tomovault.core.scan import Candidate, FileRole, FileState, ScanFile, ScanReport

_UNFINISHED = (JobStatus.TODO.value, JobStatus.DOING.value)

#: Formats whose candidates' keys are the area's word, and not a part of the scan.
_KEY_OF_AREA = frozenset({"folder"})

#: In the year 2262.
_FARTHEST_NS = (1 << 63) - 1

_Manifest = Mapping[str, Mapping[str, Any]]


def find_known_copy(
    tx: Tx, area: str, report: ScanReport, restored: RestoredHere | None, now: datetime, *, settled: bool
) -> str | None:
    """The id of the scan that a report at a place without a scan is a copy of, or of a part of; None for anything else.

    `restored` is what the inspection found of a mark; it is believed only as far as every file has path, size and time
    of a file on the manifest of a known original, or was read and has its digest or that of a file that the restore
    made. What has not settled is believed without being read, and all of it while the restore goes on: it is looked
    at again. A copy that is whole
    again is present again, one that lacks files is suspect.
    """
    if not report.files:
        return None
    base = restored.base if restored is not None else report.root
    copies = [c for place in {report.root, base} for c in _copies_at(tx, area, place)]
    digests = {c.digest for c in copies} | set(restored.digests if restored is not None else ())
    manifests = _known_manifests(tx, digests)
    inner = os.path.relpath(report.root, base)
    found = {os.path.normpath(os.path.join(inner, file.state.path)): file.state for file in report.files}
    hashed = restored.hashed if restored is not None else {}
    unread = restored.unread if restored is not None and not settled else ()
    jobs = _restores(tx, restored.jobs) if restored is not None else []
    under_way = next((j.scan_id for j in jobs if j.status in _UNFINISHED), None)
    if under_way is not None and not settled:
        return str(under_way)
    made = [(str(job.scan_id), _made_by(job)) for job in jobs]
    owner: str | None = None
    for path, state in found.items():
        of = [scan for scan, manifest in (*manifests, *made) if _is_on(manifest, path, state, hashed, unread)]
        if not of:
            return _as_joined(tx, area, report, now)
        owner = of[0]
    for copy in copies if not unread else ():  # what nobody has read says nothing of a copy
        if (copy.format, copy.entry, copy.location) == (report.format, report.entry, base):
            forms = [m for scan, m in _known_manifests(tx, {copy.digest}) if scan == copy.scan_id]
            whole = not forms or any(m.keys() <= found.keys() for m in forms)
            _set_state(tx, copy, ReplicaState.PRESENT if whole else ReplicaState.SUSPECT, now)
    return owner


def give_up_copies(tx: Tx, area: str, report: ScanReport, now: datetime) -> None:
    """Files of a copy are a new scan's now: the copy is gone, its scan and the other copies are left alone."""
    paths = {f.state.path for f in report.files if f.role is not FileRole.SIDE}
    for copy in _copies_at(tx, area, report.root):
        manifests = [m for scan, m in _known_manifests(tx, {copy.digest}) if scan == copy.scan_id]
        if any(paths & m.keys() for m in manifests):
            _set_state(tx, copy, ReplicaState.GONE, now, "its files are another scan now")


def record_copies_vanished(tx: Tx, area: str, candidate: Candidate, now: datetime) -> None:
    """Several sweeps could read the place of a candidate and did not find it: the copies there are gone.

    A copy stands at its root, which may lie above the folder of the candidate: as far as the scan's own root does.
    """
    above = [candidate.folder]
    while (further := os.path.dirname(above[-1])) != above[-1]:
        above.append(further)
    for copy in _copies_at(tx, area, *above):
        if copy.format == candidate.format and _is_candidate_of(tx, copy, candidate):
            _set_state(tx, copy, ReplicaState.GONE, now, "it is not found in its place")


def _is_candidate_of(tx: Tx, copy: Row[Any], candidate: Candidate) -> bool:
    """Whether the candidate is at the copy what the scan's own candidate is at its root."""
    table = tables.candidate
    own = tx.first(select(table).where(table.c.key_hash == copy.candidate))
    # The key of a folder is what its area says of the end of a scan, which another area may say otherwise.
    if own is None or (own.key != candidate.key and own.format not in _KEY_OF_AREA):
        return False
    inner = {os.path.relpath(own.folder, copy.root)}
    if own.metadata_folder is not None:  # data and texts of a split scan may stand together in its copy
        inner.add(".")
    return candidate.folder in {os.path.normpath(os.path.join(copy.location, below)) for below in inner}


def _copies_at(tx: Tx, area: str, *locations: str) -> Sequence[Row[Any]]:
    """Replicas of form files at places that are not their scans' own, gone ones too, with their scan and digest."""
    replica, product, scan = tables.replica, tables.product, tables.scan
    return tx.rows(
        select(
            replica.c.id,
            replica.c.state,
            replica.c.scan_id,
            replica.c.location,
            product.c.digest,
            scan.c.format,
            scan.c.entry,
            scan.c.root,
            scan.c.candidate,
        )
        .join(product, product.c.id == replica.c.product_id)
        .join(scan, scan.c.id == replica.c.scan_id)
        .where(
            replica.c.location_hash.in_([place_hash(location) for location in locations]),
            replica.c.tier == area,
            replica.c.form == Form.FILES.value,
            product.c.kind == ProductKind.ORIGINAL.value,
            (scan.c.root_hash != replica.c.location_hash) | (scan.c.area != replica.c.tier),
        )
        .order_by(replica.c.id)
    )


def _known_manifests(tx: Tx, digests: Collection[str]) -> list[tuple[str, _Manifest]]:
    """(scan, files by path) of every known original with one of these digests; of a split scan also with the paths that
    its files have where they stand together.
    """
    product = tables.product
    query = select(product.c.scan_id, product.c.digest).where(
        product.c.kind == ProductKind.ORIGINAL.value, product.c.digest.in_(sorted(digests))
    )
    found: list[tuple[str, _Manifest]] = []
    for row in tx.rows(query.order_by(product.c.created_at, product.c.id)):
        files = legible_files(tx.manifests, row.digest)
        if files is not None:
            manifest = {entry_path(entry): entry for entry in files}
            found.append((str(row.scan_id), manifest))
            top, names = names_together(manifest)
            if top:
                found.append((str(row.scan_id), {names[path]: entry for path, entry in manifest.items()}))
    return found


def _restores(tx: Tx, jobs: Collection[str]) -> Sequence[Row[Any]]:
    """Those of the jobs that put files of a scan there."""
    job = tables.job
    return tx.rows(
        select(job.c.scan_id, job.c.status, job.c.result)
        .where(job.c.id.in_(sorted(jobs)), job.c.action.in_(("restore", "replicate")), job.c.scan_id.is_not(None))
        .order_by(job.c.queued_at, job.c.id)
    )


def _made_by(job: Row[Any]) -> _Manifest:
    """The files that a restore made, as it recorded them."""
    given = (job.result or {}).get("given_back", [])
    return {made["location"]: made for one in given for made in one.get("made", [])}


def _is_on(
    manifest: _Manifest, path: str, state: FileState, hashed: Mapping[str, str], unread: Collection[str]
) -> bool:
    entry = manifest.get(path)
    if entry is None:
        return False
    link = _link_of(entry)
    if link is not None or state.link_target is not None:
        return link == state.link_target
    if entry.get("size") != state.size:
        return False
    if path in unread or entry.get("mtime_ns") == state.mtime_ns:
        return True
    return path in hashed and entry.get("sha256") == hashed[path]


def _link_of(entry: Mapping[str, Any]) -> str | None:
    if "link_target_b64" in entry:
        return os.fsdecode(base64.b64decode(entry["link_target_b64"]))
    link: str | None = entry.get("link_target")
    return link


def newest_mtime_ns(files: Sequence[ScanFile]) -> int | None:
    """The latest time of the files that define a scan, as far as 64 bits hold it; None where there is none."""
    return latest_ns(f.state.mtime_ns for f in files if f.role is not FileRole.SIDE)


def latest_ns(times: Iterable[int]) -> int | None:
    """The latest of these times, as far as 64 bits hold it; None where there is none."""
    latest = max(times, default=None)
    return None if latest is None else max(-_FARTHEST_NS, min(latest, _FARTHEST_NS))


def _as_joined(tx: Tx, area: str, report: ScanReport, now: datetime) -> str | None:
    """The scan that what stands here was found to be by its digests, if it is as it was then: its times may differ
    from those of the manifest.
    """
    scan = tables.scan
    rows = tx.rows(
        select(scan.c.superseded_by).where(
            scan.c.area == area,
            scan.c.format == report.format,
            scan.c.root_hash == place_hash(report.root),
            scan.c.entry == report.entry,
            scan.c.superseded_by.is_not(None),
            scan.c.identity == report.identity,
            scan.c.bytes == report.size,
            scan.c.files == len(report.files),
            scan.c.newest_mtime_ns == newest_mtime_ns(report.files),
        )
    )
    joined = {row.superseded_by for row in rows}
    for copy in _copies_at(tx, area, report.root):
        if copy.scan_id in joined and copy.state != ReplicaState.LEAVING:
            _set_state(tx, copy, ReplicaState.PRESENT, now)
            return str(copy.scan_id)
    return None


def _set_state(tx: Tx, copy: Row[Any], wanted: ReplicaState, now: datetime, reason: str = "") -> None:
    """A copy that was gone or missed is present again, one that was there is suspect or gone; else as it was.

    One whose bytes did not re-read stays suspect until they do: names and times say nothing of them.
    """
    there = (ReplicaState.PRESENT.value, ReplicaState.VERIFIED.value)
    before = {
        ReplicaState.PRESENT: (ReplicaState.GONE.value, ReplicaState.SUSPECT.value),
        ReplicaState.SUSPECT: there,
        ReplicaState.GONE: (*there, ReplicaState.SUSPECT.value),
    }[wanted]
    if copy.state not in before:
        return
    found = wanted is ReplicaState.PRESENT and copy.state == ReplicaState.SUSPECT
    if found and not was_missing(tx, copy.scan_id, copy.id):
        return
    with accounted(tx, copy.scan_id):
        tx.run(update(tables.replica).where(tables.replica.c.id == copy.id).values(state=wanted.value))
        op = {
            ReplicaState.PRESENT: "replica found again",
            ReplicaState.SUSPECT: MISSING,
            ReplicaState.GONE: "replica gone",
        }[wanted]
        body = {"replica": copy.id, "location": copy.location, "reason": reason or "not all of its files are there"}
        add_audit(tx, "tomovault", op, body, now, scan=copy.scan_id)
    touch(tx, copy.scan_id, now, new_fact=True)
