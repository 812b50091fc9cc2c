"""What an inspection found becomes scan rows: new ones, updates, and rescans in place."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, delete, func, insert, select, update

from tomovault.catalog import tables
from tomovault.catalog.audit import add_audit
from tomovault.catalog.candidates import NO_SCAN, is_outdated, note_inspected
from tomovault.catalog.elsewhere import find_known_copy, give_up_copies, newest_mtime_ns
from tomovault.catalog.homecoming import tie_files
from tomovault.catalog.manifests import entry_path, legible_files, original_digest
from tomovault.catalog.scans import certificate_of, touch
from tomovault.catalog.transaction import Tx, new_id, place_hash
from tomovault.catalog.usage import accounted
from tomovault.core.known import RemovalPhase
from tomovault.core.record import Inspected, RestoredHere
from tomovault.core.replica import Form, ProductKind, ReplicaState
from tomovault.core.scan import Certificate, Condition, FileRole, ScanReport, Verdict

#: Gives (value, source) of 'owner', 'proposal', 'sample' and 'beamline' from a scan's path and file owner;
#: what it leaves out is taken from the metadata.
Whose = Callable[[ScanReport], Mapping[str, tuple[str, str]]]

WHOSE_FIELDS = ("owner", "proposal", "sample", "beamline")

#: A name is for people; a longer one is cut and told apart by a digest.
_LONGEST_NAME = 200

#: What is said of a whole scan that was packed, and stays said where a file of it goes.
_KEPT = ("verdict", "settled", "bytes", "files", "newest_mtime_ns")

_OVER = frozenset({Verdict.COMPLETE, Verdict.ABORTED})


@dataclass(frozen=True)
class _Context:
    area: str
    candidate: str
    folder: str
    key: str
    settled: bool
    now: datetime
    whose: Whose | None


def record_inspected(tx: Tx, area: str, inspected: Inspected, now: datetime, whose: Whose | None = None) -> list[str]:
    """Record the scans of one candidate; returns their ids in the order of the reports.

    A report of a new place makes a scan; one of the same identity updates it; another identity at the place
    of a scan that was once complete, or has a product, is a rescan: a new scan that supersedes the old one,
    whose `files` replica is gone then and whose package is left alone. A scan never complete is updated in
    place. What a prune left of a scan, or has left so far, is neither a rescan nor a loss: the scan stays as it
    was. Where the candidate could not be read, or has settled as no scan any more, the reason is kept and its scans
    become unreadable. An inspection of an earlier state than one that is recorded is dropped. A report whose every
    file is a known scan's, as that was restored there or found there before, makes no scan: the id of the known scan
    stands for it.
    """
    candidate = inspected.candidate
    if is_outdated(tx, area, candidate, inspected.snapshot, inspected.settled):
        return []
    told = inspected.problem or (f"{NO_SCAN}{inspected.no_scan}" if inspected.no_scan else "")
    hashed = note_inspected(tx, area, candidate, inspected.snapshot, inspected.settled, told, now)
    if inspected.no_scan:
        return _mark_unreadable(tx, hashed, inspected.no_scan, now) if inspected.settled else []
    if inspected.problem:
        return _mark_unreadable(tx, hashed, inspected.problem, now)
    context = _Context(area, hashed, candidate.folder, candidate.key, inspected.settled, now, whose)
    restored = {(r.root, r.entry): r for r in inspected.restored}
    return [_record_report(tx, context, r, restored.get((r.root, r.entry))) for r in inspected.reports]


def _record_report(tx: Tx, context: _Context, report: ScanReport, restored: RestoredHere | None) -> str:
    scan = tables.scan
    # Several candidates may stand in one folder and have entries of the same name.
    place = place_hash(context.candidate, report.entry)
    old = tx.first(select(scan).where(scan.c.place_hash == place, scan.c.superseded_by.is_(None)).with_for_update())
    if old is None:
        copy_of = find_known_copy(tx, context.area, report, restored, context.now, settled=context.settled)
        if copy_of is not None:
            return copy_of
        give_up_copies(tx, context.area, report, context.now)
        return _insert(tx, context, report, place)
    if _is_remains(tx, old, report):
        return str(old.id)
    if old.identity == report.identity or _never_over(tx, old):
        return _update(tx, context, report, old)
    return _supersede(tx, context, report, place, old)


def _never_over(tx: Tx, old: Row[Any]) -> bool:
    return not old.ever_complete and not _has_original(tx, old.id)


def _has_original(tx: Tx, scan_id: str) -> bool:
    product = tables.product
    query = select(product.c.id).where(product.c.scan_id == scan_id, product.c.kind == ProductKind.ORIGINAL.value)
    return tx.first(query) is not None


def _is_remains(tx: Tx, old: Row[Any], report: ScanReport) -> bool:
    """A prune of the old scan's files is under way or over, and what is there is of it: no file but those that
    were packed, with their sizes and dates. An older acquisition copied there has others. A master is known by its
    name alone: it stays while a later scan needs it, and has grown by that one.
    """
    if not _is_pruned(tx, old.id):
        return False
    if old.identity == report.identity:
        return True
    packed = _packed_files(tx, old.id)
    names = {path for path, _, _ in packed}
    return all(
        f.state.path in names if f.role is FileRole.MASTER else (f.state.path, f.state.size, f.state.mtime_ns) in packed
        for f in report.files
        if f.role is not FileRole.SIDE
    )


def _packed_files(tx: Tx, scan_id: str) -> set[tuple[str, int, int]]:
    """(path, size, mtime_ns) of each original file that was packed last; empty where no manifest tells."""
    digest = original_digest(tx, scan_id)
    entries = (legible_files(tx.manifests, digest) if digest else None) or []
    return {(entry_path(e), e["size"], e["mtime_ns"]) for e in entries if "size" in e and "mtime_ns" in e}


def _is_pruned(tx: Tx, scan_id: str) -> bool:
    """Whether the files where the scan was written are being moved away by us, or were."""
    permit, replica = tables.permit, tables.replica
    query = (
        select(permit.c.id)
        .join(replica, replica.c.id == permit.c.replica_id)
        .where(
            permit.c.scan_id == scan_id,
            permit.c.phase != RemovalPhase.UNDONE.value,
            replica.c.form == Form.FILES.value,
            replica.c.state.in_([ReplicaState.LEAVING.value, ReplicaState.GONE.value]),
            *_at_home(scan_id),
        )
    )
    return tx.first(query) is not None


def _insert(tx: Tx, context: _Context, report: ScanReport, place: str) -> str:
    scan = tables.scan
    earlier = tx.value(select(func.count()).select_from(scan).where(scan.c.place_hash == place)) or 0
    scan_id = new_id("s")
    with accounted(tx, scan_id):
        values = _values(tx, context, report)
        if earlier:
            values["name"] = f"{values['name']}_{earlier + 1}"
        tx.run(
            insert(scan).values(
                id=scan_id,
                area=context.area,
                format=report.format,
                root=report.root,
                entry=report.entry,
                place_hash=place,
                root_hash=place_hash(report.root),
                first_seen_at=context.now,
                changed_at=context.now,
                facts_seq=1,
                next_due_at=context.now,
                ever_complete=context.settled and report.certificate.verdict in _OVER,
                **values,
            )
        )
        write_conditions(tx, scan_id, report.conditions)
    return scan_id


def _update(tx: Tx, context: _Context, report: ScanReport, old: Row[Any]) -> str:
    scan = tables.scan
    values = _values(tx, context, report)
    lacks = _lacks(tx, context, report, old)
    if lacks:
        values |= {name: getattr(old, name) for name in _KEPT} | {"certificate": certificate_of(old.certificate)}
    if old.root != report.root and not _has_original(tx, old.id):
        values |= {"root": report.root, "root_hash": place_hash(report.root)}
    if old.name.startswith(values["name"] + "_"):
        values["name"] = old.name
    if old.identity != report.identity:
        values |= dict.fromkeys(("declared_verdict", "declared_by", "declared_reason", "declared_at"))
        values |= {"accepted_by": None, "accepted_digest": None}
        declared = None
    else:
        declared = old.declared_verdict
    verdict = Verdict(declared) if declared else Verdict(values["verdict"])
    values["ever_complete"] = old.ever_complete or (context.settled and verdict in _OVER)
    changed = _fingerprint(old.certificate, old.bytes, old.identity, old.settled) != _fingerprint(
        values["certificate"], values["bytes"], report.identity, values["settled"]
    )
    if changed:
        values["changed_at"] = context.now
    with accounted(tx, old.id):
        tx.run(update(scan).where(scan.c.id == old.id).values(**values))
        write_conditions(tx, old.id, report.conditions)
    if changed:
        touch(tx, old.id, context.now, new_fact=True)
    if lacks and context.settled:
        _files_suspect(tx, old.id, lacks, context.now)
    elif context.settled:
        tie_files(tx, old.id, report, context.now)
    return str(old.id)


def _lacks(tx: Tx, context: _Context, report: ScanReport, old: Row[Any]) -> str:
    """What is not there any more of a scan that was packed when it was whole; '' for one that has all, or is another.

    That it was complete is a fact about what was packed: a file that goes later is the trouble of one copy.
    """
    whole = context.settled and report.certificate.verdict in _OVER
    was_whole = old.settled and Verdict(old.verdict) in _OVER and old.identity == report.identity
    if whole or not was_whole or not _has_original(tx, old.id):
        return ""
    return "; ".join(report.certificate.problems) or f"its files are {report.certificate.verdict} now"


def _files_suspect(tx: Tx, scan_id: str, reason: str, now: datetime) -> None:
    replica, good = tables.replica, (ReplicaState.PRESENT.value, ReplicaState.VERIFIED.value)
    rows = tx.rows(_files_at_home(scan_id).where(replica.c.state.in_(good)))
    for row in rows:
        tx.run(update(replica).where(replica.c.id == row.id).values(state=ReplicaState.SUSPECT.value))
        add_audit(tx, "tomovault", "replica missing", {"replica": row.id, "reason": reason}, now, scan=scan_id)
    if rows:
        touch(tx, scan_id, now, new_fact=True)


def _at_home(scan_id: str) -> tuple[ColumnElement[bool], ...]:
    """Only replicas where the scan itself is: copies at other places do not change with it."""
    scan, replica = tables.scan, tables.replica
    place = select(scan.c.id).where(
        scan.c.id == scan_id, scan.c.root_hash == replica.c.location_hash, scan.c.area == replica.c.tier
    )
    return (place.exists(),)


def _fingerprint(certificate: Any, size: int, identity: str, settled: bool) -> tuple[Any, ...]:
    made = certificate_of(certificate)
    return made.verdict, made.found, size, identity, settled


def _supersede(tx: Tx, context: _Context, report: ScanReport, place: str, old: Row[Any]) -> str:
    """Insert the new scan, then make the old one point to it. The old row leaves its place first, since one
    scan at a time holds a place; the reference is checked at commit.
    """
    scan = tables.scan
    with accounted(tx, old.id):
        tx.run(update(scan).where(scan.c.id == old.id).values(superseded_by=old.id))
        new = _insert(tx, context, report, place)
        tx.run(update(scan).where(scan.c.id == old.id).values(superseded_by=new))
        _files_gone(tx, old.id)
    touch(tx, old.id, context.now, new_fact=True)
    add_audit(tx, "tomovault", "scan superseded", {"by": new, "root": report.root}, context.now, scan=old.id)
    return new


def _files_at_home(scan_id: str) -> Select[Any]:
    """The ids of the copies of a scan's files where they were written."""
    replica, product = tables.replica, tables.product
    return (
        select(replica.c.id)
        .join(product, product.c.id == replica.c.product_id)
        .where(
            replica.c.scan_id == scan_id,
            product.c.kind == ProductKind.ORIGINAL.value,
            replica.c.form == Form.FILES.value,
            *_at_home(scan_id),
        )
    )


def _files_gone(tx: Tx, scan_id: str) -> None:
    """The bytes where the scan was written are another scan's now; what is in quarantine stays accounted.

    A removal that has not got that far may have moved files: its permit stays open until they are back, and then the
    copy is gone, too.
    """
    replica, permit = tables.replica, tables.permit
    rows = tx.rows(_files_at_home(scan_id))
    kept = (RemovalPhase.QUARANTINED.value, RemovalPhase.LEAVING.value)
    for row in rows:
        held = select(permit.c.id).where(permit.c.replica_id == row.id, permit.c.phase.in_(kept))
        if tx.first(held) is not None:
            continue
        begun = tx.changed(
            update(permit)
            .where(permit.c.replica_id == row.id, permit.c.phase == RemovalPhase.GRANTED.value)
            .values(state_before=ReplicaState.GONE.value)
        )
        if not begun:
            tx.run(update(replica).where(replica.c.id == row.id).values(state=ReplicaState.GONE.value))


def _mark_unreadable(tx: Tx, candidate: str, problem: str, now: datetime) -> list[str]:
    scan = tables.scan
    query = select(scan).where(scan.c.candidate == candidate, scan.c.superseded_by.is_(None)).with_for_update()
    marked = []
    pruned = False
    for row in tx.rows(query.order_by(scan.c.entry)):
        if _is_pruned(tx, row.id):
            pruned = True
            continue
        old = certificate_of(row.certificate)
        new: Certificate = replace(old, verdict=Verdict.UNREADABLE, problems=(problem,))
        marked.append(str(row.id))
        if old == new:
            continue
        values: dict[str, Any] = {"certificate": new, "verdict": new.verdict.value}
        if old.verdict is not Verdict.UNREADABLE:
            values["changed_at"] = now
        tx.run(update(scan).where(scan.c.id == row.id).values(**values))
        touch(tx, row.id, now, new_fact=True)
    if pruned and not marked:  # nobody needs to be told that what we took away is not there
        tx.run(update(tables.candidate).where(tables.candidate.c.key_hash == candidate).values(problem=""))
    return marked


def _values(tx: Tx, context: _Context, report: ScanReport) -> dict[str, Any]:
    """The columns that every inspection writes anew."""
    whose, sources = _whose(report, context.whose)
    master = _master(context, report)
    return {
        "name": bounded(report.name),
        "identity": report.identity,
        "candidate": context.candidate,
        "master": master,
        "master_hash": None if master is None else place_hash(master),
        "verdict": report.certificate.verdict.value,
        "certificate": report.certificate,
        "settled": context.settled,
        "newest_mtime_ns": newest_mtime_ns(report.files),
        "bytes": report.size,
        "files": len(report.files),
        "acquired_at": report.acquired_at,
        "sources": sources,
        "set_id": set_id_of(tx, context.area, report.set_name, report.set_size),
        "metadata": dict(report.metadata),
        **whose,
    }


def _whose(report: ScanReport, given_by: Whose | None) -> tuple[dict[str, str | None], dict[str, str]]:
    given = given_by(report) if given_by is not None else {}
    values: dict[str, str | None] = {}
    sources: dict[str, str] = {}
    for name in WHOSE_FIELDS:
        from_metadata = getattr(report, name)
        if name in given:
            values[name], sources[name] = given[name]
        elif from_metadata is not None:
            values[name], sources[name] = from_metadata, "metadata"
        else:
            values[name] = None
    return values, sources


def _master(context: _Context, report: ScanReport) -> str | None:
    if context.key:
        return f"{context.folder.rstrip('/')}/{context.key}"
    for file in report.files:
        if file.role is FileRole.MASTER:
            return f"{report.root.rstrip('/')}/{file.state.path}"
    return None


def bounded(name: str) -> str:
    """A name of a length for people."""
    if len(name) <= _LONGEST_NAME:
        return name
    return name[:_LONGEST_NAME] + "~" + hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]


def set_id_of(tx: Tx, area: str, set_name: str | None, set_size: int | None) -> str | None:
    """The id of an area's set of that name, of the size that was told last; None without a name."""
    if set_name is None:
        return None
    table = tables.scan_set
    name = bounded(set_name)
    row = tx.first(select(table).where(table.c.area == area, table.c.name == name))
    if row is None:
        set_id = new_id("t")
        tx.run(insert(table).values(id=set_id, area=area, name=name, size=set_size))
        return set_id
    if set_size is not None and set_size != row.size:
        tx.run(update(table).where(table.c.id == row.id).values(size=set_size))
    return str(row.id)


def write_conditions(tx: Tx, scan_id: str, conditions: Mapping[str, Condition]) -> None:
    """A scan has these conditions and no others."""
    table = tables.condition
    tx.run(delete(table).where(table.c.scan_id == scan_id))
    rows = [_condition_row(scan_id, name, condition) for name, condition in conditions.items()]
    if rows:
        tx.run(insert(table), rows)


def _condition_row(scan_id: str, name: str, condition: Condition) -> dict[str, Any]:
    value = condition.value
    number: float | None = None
    text: str | None = None
    if value is None:
        kind = "none"
    elif isinstance(value, str):
        kind, text = "text", value
    elif isinstance(value, int):
        # A whole number may be too large for the column of numbers, which is there to be compared.
        kind, text = "int", str(int(value))
        number = float(value) if abs(value) < 2**1000 else None
    else:
        kind, text, number = "float", repr(float(value)), float(value)
    return {
        "scan_id": scan_id,
        "name": name,
        "value_type": kind,
        "value_number": number,
        "value_text": text,
        "unit": condition.unit,
        "source": condition.source,
    }
