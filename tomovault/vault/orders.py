"""From a claimed job to the order that its process carries out, built from facts read now.

Each builder returns the action's plain order, or raises: `Moot` where the step is not due any more, Refused where
a law or a pin forbids it, Transient where it cannot be done now.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from tomovault.catalog.work import shared_paths
from tomovault.core.errors import Refused, TomovaultError, Transient, UserError
from tomovault.core.known import JobStatus, KnownScan, Permit, RemovalPhase
from tomovault.core.life import Stage, Status
from tomovault.core.ports import Parcel, Placed
from tomovault.core.replica import Form, ProductKind, Replica, ReplicaState, StoredFile, TierClass
from tomovault.core.wire import to_plain
from tomovault.vault.vault import Vault


class Moot(TomovaultError):
    """What the job was queued for is done, or not wanted any more."""


@dataclass(frozen=True)
class Request:
    """A claimed job with what is needed to make its order."""

    vault: Vault
    tx: Any
    scan: KnownScan
    wish: Mapping[str, Any]
    now: datetime
    rule: str


def build_order(action: str, request: Request) -> dict[str, Any]:
    """The plain order of an action for one scan."""
    if action not in _BUILDERS:
        raise UserError(f"no order can be made for {action!r}")
    if "stage" in request.wish:
        _require_due(Stage(request.wish["stage"]), request)
    try:
        return _BUILDERS[action](request)
    except OSError as problem:
        raise Transient(f"{problem.filename}: {problem.strerror}") from problem


def _require_due(stage: Stage, request: Request) -> None:
    """A step that a rule asked for is looked at once more: facts may have changed since it was queued."""
    vault = request.vault
    view = vault.view(request.scan, vault.area_facts(request.tx, request.scan.area), request.now)
    standing = view.standings[stage]
    if standing.status is not Status.DUE:
        raise Moot(f"{stage} is {standing.status} now: {standing.reason}".rstrip(": "))


# --- copies ------------------------------------------------------------------------------------------


def disk_package(vault: Vault, scan: KnownScan, kind: ProductKind = ProductKind.ORIGINAL) -> Replica | None:
    """A verified package of a product on an area's disk, its own area first."""
    found = [
        r
        for r in scan.replicas_of(kind, Form.PACKAGE)
        if r.state is ReplicaState.VERIFIED and r.tier in vault.site.areas
    ]
    found.sort(key=lambda r: r.tier != scan.area)
    return found[0] if found else None


def stored_files(request: Request, replica: Replica) -> tuple[StoredFile, ...]:
    """The files of a replica as the catalogue has them."""
    return tuple(request.vault.catalogue.replica_parts(request.tx, replica.id))


def _need_package(request: Request) -> Replica:
    replica = disk_package(request.vault, request.scan)
    if replica is None:
        raise Moot("there is no package on disk to work from")
    return replica


def _parcel(request: Request, replica: Replica) -> Parcel:
    catalogue = request.vault.catalogue
    return Parcel(
        scan=request.scan.id,
        scan_name=request.scan.name,
        product=replica.product,
        digest=replica.digest,
        files=stored_files(request, replica),
        manifest=Path(catalogue.manifest_path(replica.digest)).read_text("utf-8"),
        group=request.scan.proposal or request.scan.area,
    )


# --- builders ----------------------------------------------------------------------------------------


def _place(request: Request) -> dict[str, Any]:
    vault, scan = request.vault, request.scan
    folder = vault.vault_folder(scan)
    folder.mkdir(parents=True, exist_ok=True)
    return {
        "area": scan.area,
        "folder": str(folder),
        "stem": vault.stem_of(scan),
        "domain": vault.domain_of(scan.area, vault.site.areas[scan.area].vault),
    }


def _source(request: Request) -> dict[str, Any]:
    if request.scan.candidate is None:
        raise Moot("the scan's place is not known")
    return {
        "candidate": to_plain(request.scan.candidate),
        "entry": request.scan.entry,
        "identity": request.scan.identity,
    }


def _pack(request: Request) -> dict[str, Any]:
    vault, scan = request.vault, request.scan
    area = vault.site.areas[scan.area]
    return {
        **_source(request),
        **_place(request),
        "scan": scan_facts(scan),
        "files_domain": vault.domain_of(scan.area, area.path),
        "part_bytes": vault.site.package.part_bytes,
        "floor_bytes": area.floor,
        "threads": vault.site.jobs.cpus,
    }


def scan_facts(scan: KnownScan) -> dict[str, Any]:
    """What a package tells of its scan, enough to rebuild the catalogue from the medium alone."""
    plain: dict[str, Any] = to_plain(
        {
            "id": scan.id,
            "name": scan.name,
            "root": scan.root,
            "area": scan.area,
            "format": scan.format,
            "entry": scan.entry,
            "identity": scan.identity,
            "acquired_at": scan.acquired_at,
            "beamline": scan.beamline,
            "proposal": scan.proposal,
            "sample": scan.sample,
            "owner": scan.owner,
            "set": scan.set_name,
            "certificate": scan.certificate,
            "declared": scan.declared,
            "conditions": scan.conditions,
        }
    )
    return plain


def _preview(request: Request) -> dict[str, Any]:
    package = disk_package(request.vault, request.scan)
    return {
        **_source(request),
        **_place(request),
        "package": package.location if package else None,
        "digest": package.digest if package else "",
        "parameters": {},
    }


def _reconstruct(request: Request) -> dict[str, Any]:
    vault = request.vault
    preset = dict(vault.policy_of(request.scan.area).parameters_of(Stage.RECONSTRUCTED))
    return {
        **_place(request),
        "package": _need_package(request).location,
        "threads": vault.site.jobs.cpus,
        "parameters": {**preset, **request.wish.get("parameters", {})},
    }


def _archive(request: Request) -> dict[str, Any]:
    from tomovault.vault.workbench import open_tier

    vault, scan = request.vault, request.scan
    package = disk_package(vault, scan) or _archived_package(request)
    tier_name = str(request.wish.get("tier") or next(iter(vault.archive_tiers()), ""))
    if not tier_name:
        raise Refused("the site has no archive tier", by="tomovault.yaml", hint="add one under `tiers:`")
    held = {
        r.domain
        for r in scan.replicas_of(ProductKind.ORIGINAL)
        if r.tier_class is TierClass.ARCHIVE and r.state is ReplicaState.VERIFIED
    }
    lacking = vault.copies_wanted(scan.area) - len(held)
    free = [d for d in open_tier(vault.site, tier_name).domains() if d not in held]
    if lacking <= 0:
        raise Moot("every copy is there")
    if len(free) < lacking:
        raise Refused(
            f"{tier_name} has {len(free)} failure domains left, {lacking} more copies are wanted",
            by="law 4: copies in one failure domain count once",
            hint="raise `copies` of the tier, or add another archive tier",
        )
    return {
        "tier": tier_name,
        "domains": free[:lacking],
        "parcels": [to_plain(_parcel(request, package))],
        "source_place": scan.area,
        "recall": _recall_for_archive(request, package),
    }


def _archived_package(request: Request) -> Replica:
    """A good copy on an archive tier, where none is on disk: what one cartridge lost the other gives."""
    for replica in request.scan.replicas_of(ProductKind.ORIGINAL, Form.PACKAGE):
        if replica.good and replica.tier_class is TierClass.ARCHIVE and replica.tier in request.vault.site.tiers:
            return replica
    raise Moot("there is no good package to work from")


def _recall_for_archive(request: Request, package: Replica) -> dict[str, Any] | None:
    if package.tier in request.vault.site.areas:
        return None
    return {
        "tier": package.tier,
        "placed": to_plain(Placed(package.location, package.domain, stored_files(request, package))),
        "folder": _place(request)["folder"],
        "floor_bytes": request.vault.site.areas[request.scan.area].floor,
    }


def _replicate(request: Request) -> dict[str, Any]:
    wanted = request.vault.policy_of(request.scan.area).wanted_tiers()
    have = {r.tier for r in request.scan.replicas_of(ProductKind.ORIGINAL) if r.state is ReplicaState.VERIFIED}
    lacking = sorted(wanted - have)
    if not lacking:
        raise Moot("every wanted tier has it")
    package = _need_package(request)
    return {"tier": lacking[0], "parcels": [to_plain(_parcel(request, package))], "source_place": package.tier}


def _verify(request: Request) -> dict[str, Any]:
    vault = request.vault
    wanted = set(request.wish.get("replicas", ()))
    targets = []
    for replica in request.scan.replicas:
        live = replica.state in (ReplicaState.VERIFIED, ReplicaState.PRESENT, ReplicaState.SUSPECT)
        if not live or (wanted and replica.id not in wanted):
            continue
        original = replica.product is ProductKind.ORIGINAL
        targets.append(
            {
                "replica": replica.id,
                "product": replica.product.value,
                "form": replica.form.value,
                "tier": replica.tier,
                "area": _area_of(request, replica),
                "location": replica.location,
                "domain": replica.domain,
                "digest": replica.digest,
                "files": to_plain(stored_files(request, replica)),
                "manifest": vault.catalogue.manifest_path(replica.digest) if original else "",
            }
        )
    if not targets:
        raise Moot("it has no replica to re-read")
    return {"targets": targets, "threads": vault.site.jobs.cpus}


def _area_of(request: Request, replica: Replica) -> dict[str, Any] | None:
    area = request.vault.site.areas.get(replica.tier)
    if area is None:
        return None
    identity = request.vault.identity_of(request.tx, area.name)
    return {"name": area.name, "path": str(area.path), "identity": to_plain(identity)}


def _prune(request: Request) -> dict[str, Any]:
    permit, replica = find_permit(request)
    vault, scan = request.vault, request.scan
    if permit.phase is not RemovalPhase.GRANTED:
        raise Moot(f"its permit is {permit.phase}")
    if pin := scan.pinned_by(request.now):
        raise Moot(f"pinned by {pin} since it was permitted")
    if not vault.site.areas[scan.area].prune:
        raise Moot(f"prune is off for area {scan.area} since it was permitted")
    of_files = replica.form is Form.FILES
    return {
        "permit": permit.id,
        "form": replica.form.value,
        "area": scan.area,
        **_removal(request, permit, replica),
        "manifest": vault.catalogue.manifest_path(replica.digest),
        "files": to_plain(stored_files(request, replica)),
        "keep": sorted(shared_paths(request.tx, scan.id)) if of_files else [],
        "readme": note_about([*_pruned_beside(request), (scan, replica)], request.now) if of_files else "",
    }


def find_permit(request: Request) -> tuple[Permit, Replica]:
    """The permit that a removal job was queued under, and its replica."""
    for permit in request.scan.permits:
        if permit.id == request.wish["permit"]:
            return permit, next(r for r in request.scan.replicas if r.id == permit.replica)
    raise Moot("its permit is not known any more")


def _removal(request: Request, permit: Permit, replica: Replica) -> dict[str, Any]:
    """Where a removal happens, and by what the area is recognised there. Refused where it has no marker."""
    vault = request.vault
    area = vault.site.areas[request.scan.area]
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
            "root": replica.location if of_files else str(Path(replica.location).parent),
            "quarantine": vault.quarantine_of(below, permit.id),
        },
    }


def _at_work(scan: KnownScan, action: str, permit: str, *statuses: JobStatus) -> bool:
    return any(j.action == action and j.order.get("permit") == permit and j.status in statuses for j in scan.jobs)


def _empty_quarantine(request: Request) -> dict[str, Any]:
    permit, replica = find_permit(request)
    if permit.phase is not RemovalPhase.LEAVING:
        raise Moot(f"its permit is {permit.phase}")
    if pin := request.scan.pinned_by(request.now):
        raise Moot(f"pinned by {pin} since the second look")
    return {"permit": permit.id, "area": request.scan.area, **_removal(request, permit, replica)}


def _undo_prune(request: Request) -> dict[str, Any]:
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
        "readme": note_about(_pruned_beside(request), request.now),
    }


def _pruned_beside(request: Request) -> list[tuple[KnownScan, Replica]]:
    """Other scans with the same root whose files were pruned: one text file speaks of them all."""
    catalogue, scan = request.vault.catalogue, request.scan
    ids = [found.id for found in catalogue.find_scans(request.tx, scan.root) if found.id != scan.id]
    pruned = []
    for other in catalogue.known_many(request.tx, ids):
        for replica in other.replicas:
            away = replica.state in (ReplicaState.GONE, ReplicaState.LEAVING)
            if replica.form is Form.FILES and away and replica.location == scan.root and not other.superseded_by:
                pruned.append((other, replica))
    return pruned


def note_about(pruned: Sequence[tuple[KnownScan, Replica]], now: datetime) -> str:
    """The text left in the folder of pruned scans; '' for none."""
    return "\n----\n\n".join(_note(scan, replica, now) for scan, replica in pruned)


def _note(scan: KnownScan, replica: Replica, now: datetime) -> str:
    copies = "\n".join(
        f"  {r.form} on {r.tier}: {r.location} (re-read {r.verified_at:%Y-%m-%d})"
        for r in scan.replicas_of(ProductKind.ORIGINAL)
        if r.id != replica.id and r.good and r.verified_at is not None
    )
    return (
        f"The original files of the scan {scan.name} were moved out of this folder (told on {now:%Y-%m-%d}).\n\n"
        f"Nothing is lost: verified copies are kept here:\n{copies}\n\n"
        "To get the files back, bit for bit, as they were:\n\n"
        f"  tomovault restore {scan.id} --to {shlex.quote(scan.root)} --wait\n\n"
        "or to another folder, or only some of them (--files, --frames, --flats, --darks).\n"
    )


def _restore(request: Request) -> dict[str, Any]:
    vault, scan, wish = request.vault, request.scan, request.wish
    kind = ProductKind(wish.get("product", "original"))
    product = scan.product(kind)
    if product is None:
        raise UserError(
            f"{scan.name} has no {kind} yet",
            hint=f"its files are in {scan.root}; `tomovault explain {scan.id}` says what it waits for",
        )
    good = [r for r in scan.replicas_of(kind, Form.PACKAGE) if r.state is ReplicaState.VERIFIED]
    only = wish.get("from")
    if only is not None:
        if only not in vault.site.areas and only not in vault.site.tiers:
            raise UserError(f"there is no tier {only!r}")
        good = [r for r in good if r.tier == only]
    if not good:
        where = f" on {only}" if only else ""
        raise UserError(f"{scan.name}: no good copy of its {kind}{where} is known")
    good.sort(key=lambda r: (r.tier_class is TierClass.ARCHIVE, r.tier != scan.area))
    place = _place(request)
    sources = [
        {
            "tier": r.tier,
            "tier_class": r.tier_class.value,
            "domain": r.domain,
            "location": r.location,
            "files": to_plain(stored_files(request, r)),
            "on_disk": r.tier_class is not TierClass.ARCHIVE,
        }
        for r in good
    ]
    frames = wish.get("frames")
    return {
        "scan_name": scan.name,
        "root": scan.root,
        "product": kind.value,
        "digest": product.digest,
        "sources": sources,
        "target": wish["to"],
        "recall": {
            "area": scan.area,
            "domain": place["domain"],
            "folder": place["folder"],
            "floor_bytes": vault.site.areas[scan.area].floor,
            "pinned_until": to_plain(request.now + timedelta(seconds=vault.site.restore.pin_s)),
            "keep": disk_package(vault, scan, kind) is None,
        },
        "files": list(wish.get("files", ())),
        "frames": list(frames) if frames else None,
        "kind": wish.get("kind"),
        "overwrite": bool(wish.get("overwrite", False)),
    }


_BUILDERS: Mapping[str, Callable[[Request], dict[str, Any]]] = {
    "pack": _pack,
    "preview": _preview,
    "reconstruct": _reconstruct,
    "archive": _archive,
    "replicate": _replicate,
    "verify": _verify,
    "prune": _prune,
    "empty_quarantine": _empty_quarantine,
    "undo_prune": _undo_prune,
    "restore": _restore,
}
