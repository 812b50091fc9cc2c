"""Scans, products and replicas that are recorded from what media tell, where the catalogue was lost."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, insert, select, update
from sqlalchemy.exc import DatabaseError, OperationalError

from tomovault.catalog import tables
from tomovault.catalog.audit import add_audit
from tomovault.catalog.candidates import CONFIRMED, candidate_hash
from tomovault.catalog.homecoming import expect_files
from tomovault.catalog.inspections import bounded, set_id_of, write_conditions
from tomovault.catalog.manifests import read_manifest, write_manifest
from tomovault.catalog.records import ACTOR, record_checked, record_made, record_stored
from tomovault.catalog.taped import list_copies_at, list_readings
from tomovault.catalog.transaction import Tx, place_hash
from tomovault.catalog.usage import accounted
from tomovault.core.errors import IntegrityError, Refused, TomovaultError
from tomovault.core.record import Checked, Made, Stored
from tomovault.core.replica import Form, ReplicaState
from tomovault.core.scan import Verdict
from tomovault.core.told import ScanTold

_REBUILT = "scan rebuilt"
_OVER = (Verdict.COMPLETE, Verdict.ABORTED)
#: A copy that is suspect already stays so without another word in the audit log.
_STANDING = (ReplicaState.ARRIVING, ReplicaState.PRESENT, ReplicaState.VERIFIED, ReplicaState.LEAVING)
#: So many scans are named where a catalogue is refused.
_MOST_NAMED = 3
#: So much is shown of what the database says, or of an id that is none.
_MOST_SHOWN = 200
_LONGEST_ID = 32


@dataclass(frozen=True)
class Found:
    """A package on a medium. `problem` is what is wrong with its bytes; `files_domain` is the failure domain of the
    scan's own place, `master` the path of its master file, `newest_mtime_ns` of the files that define the scan.
    """

    told: ScanTold
    made: Made
    stored: Stored
    files_domain: str
    master: str | None
    newest_mtime_ns: int | None
    problem: str = ""


@dataclass(frozen=True)
class Added:
    """How many rows came by one package."""

    scans: int = 0
    products: int = 0
    replicas: int = 0


@dataclass(frozen=True)
class Spoilt:
    """A place of a tier that is read as bad: one location, or with `within` all that lies in it; `files` are locations
    of the files of the one copy there that is meant, none where every copy is.
    """

    tier: str
    location: str
    problem: str
    within: bool = False
    files: frozenset[str] = frozenset()


def list_strangers(tx: Tx) -> dict[str, str]:
    """Names of the scans that no rebuild recorded, by their ids."""
    scan, audit = tables.scan, tables.audit
    rebuilt = select(audit.c.scan_id).where(audit.c.op == _REBUILT, audit.c.scan_id.is_not(None))
    return {row.id: row.name for row in tx.rows(select(scan.c.id, scan.c.name).where(scan.c.id.not_in(rebuilt)))}


def list_held(tx: Tx, tier: str) -> frozenset[str]:
    """Scans of which the catalogue has a copy on a tier, whatever its bytes are now."""
    replica = tables.replica
    here = (replica.c.tier == tier, replica.c.form == Form.PACKAGE.value, replica.c.state != ReplicaState.GONE.value)
    return frozenset(row.scan_id for row in tx.rows(select(replica.c.scan_id).where(*here).distinct()))


def refuse_strangers(strangers: Mapping[str, str], on_media: Collection[str]) -> None:
    """Raises Refused where the catalogue has scans that the media do not have: they would be there twice."""
    others = sorted(name for scan, name in strangers.items() if scan not in on_media)
    if others:
        named = ", ".join(others[:_MOST_NAMED]) + (" ..." if len(others) > _MOST_NAMED else "")
        raise Refused(
            f"the catalogue has scans that are not on the tier ({len(others)}: {named})",
            by="a rebuild is for an empty catalogue",
            hint="name a new catalogue in tomovault.yaml, and rebuild into that before any daemon runs",
        )


def record_found(tx: Tx, found: Found, now: datetime) -> Added:
    """The package, its product and its scan are in the catalogue: the package is present, or suspect where its bytes
    are not right, never verified. What is there already stays as it is, but for a copy that was read as bad: that is
    suspect. Where an error is raised nothing is changed.

    Raises Refused where a scan that was not rebuilt stands at the place of this one, IntegrityError where another
    scan's package is known at its location, or where the database cannot hold what is told.
    """
    try:
        with tx.conn.begin_nested():
            return _record(tx, found, now)
    except (OperationalError, TomovaultError):
        raise
    except Exception as problem:
        if type(problem) is DatabaseError:  # the database itself is damaged
            raise
        why = f"{type(problem).__name__}: {str(problem).partition(chr(10))[0][:_MOST_SHOWN]}"
        raise IntegrityError(f"what it tells of its scan cannot be recorded: {why}") from problem


def record_missed(tx: Tx, tier: str, scan: str, reason: str, now: datetime) -> int:
    """The copies of a scan that the catalogue has on a tier are suspect; returns how many became so."""
    replica = tables.replica
    here = (replica.c.scan_id == scan, replica.c.tier == tier, replica.c.form == Form.PACKAGE.value)
    standing = replica.c.state.in_([state.value for state in _STANDING])
    found = tx.rows(select(replica.c.id).where(*here, standing).order_by(replica.c.id))
    for row in found:
        record_checked(tx, Checked(row.id, ok=False, at=now, reason=reason), now)
    return len(found)


def record_spoilt(tx: Tx, spoilt: Spoilt, now: datetime) -> list[str]:
    """Every copy that the catalogue has at a place that is read as bad is suspect; returns the scan of each that became
    so. One that is leaving keeps that state.
    """
    locations = _known_within(tx, spoilt) if spoilt.within else [spoilt.location]
    bad = [copy for copy in list_copies_at(tx, spoilt.tier, locations) if copy.state in _STANDING]
    if spoilt.files:
        bad = [copy for copy in bad if not spoilt.files.isdisjoint(file.location for file in copy.files)]
    for copy in bad:
        record_checked(tx, Checked(copy.replica, ok=False, at=now, reason=spoilt.problem), now)
    return [copy.scan for copy in bad]


def _known_within(tx: Tx, spoilt: Spoilt) -> list[str]:
    """Locations of a tier inside of a cartridge or a folder."""
    inside = tuple(spoilt.location + mark for mark in "#/")
    return [one.location for one in list_readings(tx, spoilt.tier) if one.location.startswith(inside)]


def _record(tx: Tx, found: Found, now: datetime) -> Added:
    told, stored = found.told, found.stored
    scan, product, replica = tables.scan, tables.product, tables.replica
    if not 0 < len(told.id) <= _LONGEST_ID:
        raise IntegrityError(f"{told.id[:_MOST_SHOWN]!r} is no id of a scan")
    known = tx.first(select(scan).where(scan.c.id == told.id).with_for_update())
    if known is not None and known.format != told.format:
        raise IntegrityError(f"scan {told.id} is known as another one, of format {known.format}")
    with accounted(tx, told.id):
        if known is None:
            _insert(tx, found, now)
        elif told.changed_at is not None and told.changed_at > known.changed_at:
            tx.run(update(scan).where(scan.c.id == told.id).values(**_values(tx, found, now)))
            write_conditions(tx, told.id, told.conditions)
        same = (product.c.kind == stored.kind.value, product.c.digest == stored.digest)
        old = tx.value(select(product.c.id).where(product.c.scan_id == told.id, *same))
        product_id = old or record_made(tx, told.id, found.made, now)
        if old is None:  # the newest original is that of the latest look, whichever was read last
            packed_at = told.changed_at or stored.written_at or now
            tx.run(update(product).where(product.c.id == product_id).values(created_at=packed_at))
        elif read_manifest(tx.manifests, stored.digest) is None:  # a backup of the catalogue holds no manifests
            write_manifest(tx.manifests, stored.digest, found.made.manifest)
        expect_files(tx, told.id, product_id, area=told.area, root=told.root, domain=found.files_domain)
        at = (replica.c.tier == stored.tier, replica.c.location_hash == place_hash(stored.location))
        here = tx.first(
            select(replica.c.id).where(*at, replica.c.product_id == product_id, replica.c.form == Form.PACKAGE.value)
        )
        if here is None:
            replica_id = record_stored(tx, told.id, stored, now)
        else:
            replica_id = here.id
        if found.problem:
            record_checked(tx, Checked(replica_id, ok=False, at=now, reason=found.problem), now)
    return Added(int(known is None), int(old is None), int(here is None))


def _insert(tx: Tx, found: Found, now: datetime) -> None:
    told, scan = found.told, tables.scan
    place = _place(told)
    first_seen = told.first_seen_at or told.acquired_at or now
    _note_candidate(tx, told, now)
    tx.run(
        insert(scan).values(
            id=told.id,
            area=told.area,
            format=told.format,
            root=told.root,
            root_hash=place_hash(told.root),
            entry=told.entry,
            place_hash=place,
            candidate=None if told.candidate is None else candidate_hash(told.area, told.candidate),
            first_seen_at=first_seen,
            superseded_by=_make_way(tx, told.id, place, first_seen),
            facts_seq=1,
            next_due_at=now,
            **_values(tx, found, now),
        )
    )
    write_conditions(tx, told.id, told.conditions)
    body = {"tier": found.stored.tier, "root": told.root, "area": told.area, "name": told.name}
    add_audit(tx, ACTOR, _REBUILT, body, now, scan=told.id)


def _make_way(tx: Tx, scan_id: str, place: str, first_seen: datetime) -> str | None:
    """By which scan one is superseded at its place: of several that were written there the last stands there now."""
    scan = tables.scan
    current: Row[Any] | None = tx.first(select(scan).where(scan.c.place_hash == place, scan.c.superseded_by.is_(None)))
    if current is None:
        return None
    if current.id in list_strangers(tx):
        refuse_strangers({current.id: current.name}, ())
    if first_seen < current.first_seen_at:
        return str(current.id)
    tx.run(update(scan).where(scan.c.id == current.id).values(superseded_by=scan_id))
    return None


def _place(told: ScanTold) -> str:
    if told.candidate is None:
        return place_hash("its package does not tell its place", told.id)
    return place_hash(candidate_hash(told.area, told.candidate), told.entry)


def _note_candidate(tx: Tx, told: ScanTold, now: datetime) -> None:
    """The place is known, and not missed if nothing is there: nobody has seen it since the catalogue was lost."""
    table = tables.candidate
    if told.candidate is None:
        return
    key = candidate_hash(told.area, told.candidate)
    if tx.first(select(table.c.key_hash).where(table.c.key_hash == key)) is not None:
        return
    tx.run(
        insert(table).values(
            key_hash=key,
            area=told.area,
            format=told.candidate.format,
            folder=told.candidate.folder,
            key=told.candidate.key,
            metadata_folder=told.candidate.metadata_folder,
            snapshot="",
            settled=False,
            inspected_snapshot=None,
            inspected_settled=False,
            inspected_at=None,
            first_seen_at=told.first_seen_at or now,
            changed_at=now,
            problem=f"{CONFIRMED}{ACTOR}: the catalogue was rebuilt",
        )
    )


def _values(tx: Tx, found: Found, now: datetime) -> dict[str, Any]:
    """The columns that a later state of the scan writes anew."""
    told, declared = found.told, found.told.declared
    verdict = declared.verdict if declared is not None else told.certificate.verdict
    return {
        "name": bounded(told.name),
        "identity": told.identity,
        "master": found.master,
        "master_hash": None if found.master is None else place_hash(found.master),
        "verdict": told.certificate.verdict.value,
        "certificate": told.certificate,
        "settled": True,
        "ever_complete": verdict in _OVER,
        "newest_mtime_ns": found.newest_mtime_ns,
        "changed_at": told.changed_at or now,
        "bytes": found.made.bytes,
        "files": found.made.files,
        "acquired_at": told.acquired_at,
        "beamline": told.beamline,
        "proposal": told.proposal,
        "sample": told.sample,
        "owner": told.owner,
        "sources": dict(told.sources),
        "set_id": set_id_of(tx, told.area, told.set, told.set_size),
        "declared_verdict": declared.verdict.value if declared is not None else None,
        "declared_by": declared.by if declared is not None else None,
        "declared_reason": declared.reason if declared is not None else None,
        "declared_at": declared.at if declared is not None else None,
        "metadata": dict(told.metadata),
    }
