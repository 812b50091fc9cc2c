"""The order that brings the files of a scan into another area: which of its files, into which folder, and when not."""

from __future__ import annotations

import os
from typing import Any

from tomovault.core.errors import NoRoomYet, Refused, UserError
from tomovault.core.known import JobStatus
from tomovault.core.replica import Form, ProductKind, Replica, ReplicaState
from tomovault.core.wire import to_plain
from tomovault.policy.address import fill, one_part, unknown_fields
from tomovault.policy.matching import Move
from tomovault.tiers.arrival import ARRIVING
from tomovault.tiers.ground import OWN_FOLDER
from tomovault.vault.requests import Moot, Request
from tomovault.vault.site_settings import Area
from tomovault.vault.sizes import show_bytes


def order_move(request: Request, move: Move) -> dict[str, Any]:
    """The files of the scan, as they were packed, are to stand in the area that a rule names.

    Moot where they are not where they were written any more; UserError where the area or a part of the path is not
    known; NoRoomYet while the area is, or would be, above its high mark.
    """
    vault, scan = request.vault, request.scan
    area = vault.site.areas.get(move.to)
    if area is None:
        raise UserError(
            f"the rule {move.rule.name!r} wants files in {move.to!r}, and there is no such area",
            hint=f"the areas are: {', '.join(vault.site.areas)}",
        )
    source = _files_at_home(request)
    product = scan.product(ProductKind.ORIGINAL)
    if scan.candidate is None or product is None:
        raise Moot("the scan's place is not known")
    _require_room(request, area, source)
    return {
        "scan": scan.id,
        "scan_name": scan.name,
        "digest": source.digest,
        "manifest": vault.catalogue.manifest_path(source.digest),
        "root": source.location,
        "source": _area(request, vault.area(scan.area)),
        "target": _area(request, area),
        "domain": vault.domain_of(area.name, area.path),
        "folder": folder_of(request, move, area),
        "key": scan.candidate.key,
        "key_folder": _below(scan.candidate.folder, source.location),
        "bytes": product.bytes,
        "floor_bytes": area.floor,
        "stale": _stale(request, area),
    }


def _files_at_home(request: Request) -> Replica:
    scan = request.scan
    there = (ReplicaState.VERIFIED, ReplicaState.PRESENT)
    for replica in scan.replicas_of(ProductKind.ORIGINAL, Form.FILES):
        if not scan.is_elsewhere(replica) and replica.state in there:
            return replica
    raise Moot("its files are not where they were written any more")


def _area(request: Request, area: Area) -> dict[str, Any]:
    identity = request.vault.identity_of(request.tx, area.name)
    if identity.uuid is None:
        raise Refused(
            f"area {area.name} has no marker, so nothing is written or removed there",
            by="law 3",
            hint="tomovault doctor shows what may be done there",
        )
    return {"name": area.name, "path": str(area.path), "identity": to_plain(identity)}


def _require_room(request: Request, area: Area, source: Replica) -> None:
    """Raises NoRoomYet where the copy would bring the area above its high mark; what is in quarantine is there yet."""
    facts = request.vault.area_facts(request.tx, area.name, request.now)
    after = facts.used_bytes + source.bytes
    if facts.quota_bytes and after > facts.high * facts.quota_bytes:
        raise NoRoomYet(
            f"area {area.name} is {facts.used_fraction:.0%} full; {show_bytes(source.bytes)} more would bring it above"
            f" its high mark of {facts.high:.0%}",
            hint="it goes on by itself when there is room",
        )


def folder_of(request: Request, move: Move, area: Area) -> str:
    """Where the files are to stand: under the name of the scan's own folder, below the path that the rule says, or at
    the place that it has below its area. Raises UserError where a part of the path is not known.
    """
    scan = request.scan
    root = _data_folder(request)
    if move.path is None:
        below = _below(root, str(request.vault.area(scan.area).path))
        return os.path.join(str(area.path), below or one_part(scan.name))
    if unknown := unknown_fields(move.path, scan):
        raise UserError(
            f"the {unknown[0]} of {scan.name} is not known, and {move.path!r} needs it",
            hint="give its area a `template`, or let the rule name a path without it",
        )
    path = fill(move.path, scan)
    return os.path.join(str(area.path), path, os.path.basename(root.rstrip("/")))


def _data_folder(request: Request) -> str:
    """The folder that the scan is known by: its root, or of a split scan the folder of its data."""
    scan = request.scan
    if scan.candidate is not None and scan.candidate.metadata_folder is not None:
        return os.path.normpath(scan.candidate.folder)
    return scan.root


def _below(path: str, folder: str) -> str:
    """The path relative to the folder; '' for the folder itself and for what is outside of it."""
    below = os.path.relpath(path, folder)
    return "" if below == "." or below.startswith("..") else below


def _stale(request: Request, area: Area) -> list[str]:
    """Jobs that left something where files arrive and are over."""
    try:
        names = os.listdir(os.path.join(str(area.path), OWN_FOLDER, ARRIVING))
    except OSError:
        return []
    over = []
    for name in names:
        try:
            status = request.vault.catalogue.read_job(request.tx, name).status
        except UserError:
            continue  # no job of this catalogue: not ours to judge
        if status not in (JobStatus.TODO, JobStatus.DOING):
            over.append(name)
    return over
