"""Orders of removals: into quarantine, out of it again, and for good; and the text left in a pruned scan's folder."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from tomovault.catalog.links import links_to_copy
from tomovault.catalog.removals import list_removed_from
from tomovault.catalog.transaction import Tx
from tomovault.catalog.work import shared_paths
from tomovault.core.errors import Refused, Transient
from tomovault.core.known import JobStatus, KnownScan, Permit, RemovalPhase
from tomovault.core.ports import Placed
from tomovault.core.replica import Form, ProductKind, Replica
from tomovault.core.wire import to_plain
from tomovault.tiers.blocks import shown
from tomovault.tiers.note import OPENING
from tomovault.vault.places import place_of
from tomovault.vault.removals import area_of_removal, regrant
from tomovault.vault.requests import Moot, Request, stored_files

#: So many links are named in the text that is left in a folder.
_LINKS = 20


def order_prune(request: Request) -> dict[str, Any]:
    """Phase one under a permit. Moot where it would not be granted now, or another scan stands in the place."""
    permit, replica = find_permit(request)
    vault, scan = request.vault, request.scan
    of_files = replica.form is Form.FILES
    if of_files and scan.superseded_by:
        raise Moot(f"another scan stands in the place of {scan.name} now")
    _ask_again(request, permit, RemovalPhase.GRANTED)
    return {
        "permit": permit.id,
        "form": replica.form.value,
        "area": area_of_removal(vault, scan, permit),
        **_removal(request, permit, replica),
        "manifest": vault.catalogue.manifest_path(replica.digest),
        "files": to_plain(stored_files(request, replica)),
        "as_it_is": _goes_as_it_is(permit, replica),
        "keep": sorted(shared_paths(request.tx, scan.id)) if of_files else [],
        "within": _within(request, replica) if of_files else "",
        "readme": note_about(request.tx, [*pruned_beside(request, replica.location), (scan, replica)], request.now)
        if of_files
        else "",
    }


def find_permit(request: Request) -> tuple[Permit, Replica]:
    """The permit that a removal job was queued under, and its replica."""
    for permit in request.scan.permits:
        if permit.id == request.wish["permit"]:
            return permit, next(r for r in request.scan.replicas if r.id == permit.replica)
    raise Moot("its permit is not known any more")


def _ask_again(request: Request, permit: Permit, phase: RemovalPhase) -> None:
    """The permit is in that phase, and names the copies that its removal relies on now.

    A job may have waited for days since it was queued: what was true then is asked once more, in the transaction that
    records the intent. Raises Moot where the law, a pin, the policy or a switch says no now; nothing is changed then.
    """
    if permit.phase is not phase:
        raise Moot(f"its permit is {permit.phase}")
    try:
        regrant(request.vault, request.tx, request.scan, permit, request.now)
    except Refused as refusal:
        raise Moot(f"not permitted any more: {refusal.message} ({refusal.by})") from refusal


def _removal(request: Request, permit: Permit, replica: Replica) -> dict[str, Any]:
    """Where a removal happens, and by what the area is recognised there. Refused where it has no marker."""
    vault = request.vault
    if replica.tier not in vault.site.areas:
        return _removal_from_tier(request, permit, replica)
    area = vault.site.areas[replica.tier]
    identity = vault.identity_of(request.tx, area.name)
    if identity.uuid is None:
        raise Refused(
            f"area {area.name} has no marker, so it is archive-only",
            by="law 3",
            hint="tomovault doctor shows what may be done there",
        )
    of_files = replica.form is Form.FILES
    below = str(area.path if of_files else area.vault)
    return {
        "area_path": str(area.path),
        "identity": to_plain(identity),
        "place": {
            "below": below,
            "root": os.path.join(replica.location, _within(request, replica)).rstrip("/")
            if of_files
            else str(Path(replica.location).parent),
            "quarantine": vault.quarantine_of(below, permit.id),
        },
    }


def _removal_from_tier(request: Request, permit: Permit, replica: Replica) -> dict[str, Any]:
    """As `_removal`, for a package on a tier: its folder there, and a quarantine below that of the tier."""
    vault = request.vault
    marker = place_of(vault, replica.tier)
    if marker is None:
        raise Refused(
            f"the tier {replica.tier} has no folder to move anything in",
            by="law 5: same file system",
            hint=f"an operator may: tomovault destroy {request.scan.id} --product original --tier {replica.tier}",
        )
    place = {
        "below": marker.folder,
        "root": replica.location,
        "quarantine": vault.quarantine_of(marker.folder, permit.id),
    }
    return {"area_path": marker.folder, "identity": None, "tier": to_plain(marker), "place": place}


def _within(request: Request, replica: Replica) -> str:
    """The folder, below the root of a replica, that a removal is confined to: that of the data of a split scan, whose
    texts are outside of its area; '' for the whole of any other.
    """
    scan, area = request.scan, str(request.vault.site.areas[request.scan.area].path)
    outside = os.path.commonpath([area, replica.location]) != os.path.normpath(area)
    if not outside or scan.candidate is None:
        return ""
    return os.path.relpath(scan.candidate.folder, replica.location)


def _at_work(scan: KnownScan, action: str, permit: str, *statuses: JobStatus) -> bool:
    return any(j.action == action and j.order.get("permit") == permit and j.status in statuses for j in scan.jobs)


def order_empty_quarantine(request: Request) -> dict[str, Any]:
    """Phase two, under a permit that was granted again. Moot where it would not be granted now."""
    permit, replica = find_permit(request)
    _ask_again(request, permit, RemovalPhase.LEAVING)
    area = area_of_removal(request.vault, request.scan, permit)
    order = {"permit": permit.id, "area": area, **_removal(request, permit, replica)}
    if replica.tier in request.vault.site.areas:
        return order
    placed = Placed(replica.location, replica.domain, stored_files(request, replica))
    return {**order, "placed": to_plain(placed), "tier_name": replica.tier}


def order_destroy(request: Request) -> dict[str, Any]:
    """A copy on a tier that is no area goes, on an order that was looked at again after its hold."""
    permit, replica = find_permit(request)
    _ask_again(request, permit, RemovalPhase.LEAVING)
    placed = Placed(replica.location, replica.domain, stored_files(request, replica))
    as_it_is = _goes_as_it_is(permit, replica)
    return {"permit": permit.id, "tier": replica.tier, "placed": to_plain(placed), "as_it_is": as_it_is}


def _goes_as_it_is(permit: Permit, replica: Replica) -> bool:
    """Whether a copy goes though its bytes are not those that were put there: a person ordered it of one of ours that
    is known to be bad. What stands in place of a user's files is never ours to take.
    """
    return bool(permit.ordered_by) and permit.of_suspect and replica.form is Form.PACKAGE


def order_undo_prune(request: Request) -> dict[str, Any]:
    """Taking back what a permit moved, also half-way. Refused or Transient while the other phase runs."""
    permit, replica = find_permit(request)
    scan = request.scan
    if permit.phase in (RemovalPhase.UNDONE, RemovalPhase.GONE):
        raise Moot(f"its permit is {permit.phase}")
    if _at_work(scan, "empty_quarantine", permit.id, JobStatus.DOING):
        raise Refused(f"{scan.name} is being removed right now", by="law 5", hint="tomovault restore gives it back")
    if _at_work(scan, "prune", permit.id, JobStatus.DOING):
        raise Transient(f"{scan.name} is being moved into quarantine right now", hint="ask again when it is over")
    of_files = replica.form is Form.FILES
    return {
        "permit": permit.id,
        **_removal(request, permit, replica),
        "note": of_files,
        "readme": note_about(request.tx, pruned_beside(request, replica.location), request.now) if of_files else "",
        "moved": list(permit.moved) if permit.phase is RemovalPhase.LEAVING else [],
        "moved_bytes": permit.bytes,
    }


def pruned_beside(request: Request, location: str) -> list[tuple[KnownScan, Replica]]:
    """Other scans whose files were pruned at that place: one text file speaks of them all."""
    found = [pair for pair in list_removed_from(request.tx, location) if pair[0] != request.scan.id]
    others = request.vault.catalogue.known_many(request.tx, list(dict.fromkeys(scan for scan, _ in found)))
    return [(o, r) for o in others for r in o.replicas if (o.id, r.id) in found and not o.superseded_by]


def note_about(tx: Tx, pruned: Sequence[tuple[KnownScan, Replica]], now: datetime) -> str:
    """The text left in the folder of pruned scans, with the links that led to their files; '' for none."""
    return "\n----\n\n".join(_note(scan, copy, now) + _links_to(tx, scan, copy) for scan, copy in pruned)


def _links_to(tx: Tx, scan: KnownScan, copy: Replica) -> str:
    links = links_to_copy(tx, copy)
    if not links:
        return ""
    lines = [f"  {shown(link.path)}" for link in links[:_LINKS]]
    if len(links) > _LINKS:
        lines.append(f"  and {len(links) - _LINKS} more: tomovault explain {scan.id} --json")
    return "\nThese links lead to files that are not here any more:\n\n" + "\n".join(lines) + "\n"


def _note(scan: KnownScan, replica: Replica, now: datetime) -> str:
    permit = next((p for p in reversed(scan.permits) if p.replica == replica.id and p.ordered_by), None)
    if permit is not None and permit.phase is not RemovalPhase.UNDONE:
        return _note_of_order(scan, replica, permit, now)
    return (
        f"{OPENING}{scan.name} were moved out of this folder (told on {now:%Y-%m-%d}).\n\n"
        f"Nothing is lost: verified copies were kept here on that day:\n{_copies(scan, replica)}\n\n"
        + _how_back(scan, replica)
    )


def _note_of_order(scan: KnownScan, replica: Replica, permit: Permit, now: datetime) -> str:
    copies = _copies(scan, replica)
    kept = f"Verified copies were kept here on that day:\n{copies}\n\n" + _how_back(scan, replica)
    return (
        f"{OPENING}{scan.name} were destroyed here by a person's order (told on {now:%Y-%m-%d}).\n\n"
        f"By {permit.ordered_by}: {permit.reason}\n\n"
        + (
            f"Until {permit.hold_until:%Y-%m-%d %H:%M} UTC: tomovault prune undo {scan.id}\n\n"
            if permit.hold_until
            else ""
        )
        + (kept if copies else "No other verified copy was kept.\n")
    )


def _copies(scan: KnownScan, replica: Replica) -> str:
    return "\n".join(
        f"  {r.form} on {r.tier}: {r.location} (re-read {r.verified_at:%Y-%m-%d})"
        for r in scan.replicas_of(ProductKind.ORIGINAL)
        if r.id != replica.id and r.good and r.verified_at is not None
    )


def _how_back(scan: KnownScan, replica: Replica) -> str:
    return (
        f"Where they are now: tomovault scan show {scan.id}\n\n"
        "To get the files back, bit for bit, as they were:\n\n"
        f"  tomovault restore {scan.id} --to {shlex.quote(replica.location)} --wait\n\n"
        "or to another folder, or only some of them (--files, --frames, --flats, --darks).\n"
    )
