"""From a claimed job to the order that its process carries out, built from facts read now.

Each builder returns the action's plain order, or raises: `Moot` where the step is not due any more, Refused where
a law or a pin forbids it, Transient where it cannot be done now.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tomovault.catalog.joins import list_twins
from tomovault.core.errors import Refused, Transient, UserError
from tomovault.core.known import CODED_FRAMES, frames_lacking, let_go_from
from tomovault.core.life import REMOVALS, Stage, Status
from tomovault.core.ports import Parcel, Placed
from tomovault.core.replica import (
    LEAST_COPIES,
    Form,
    ProductKind,
    Replica,
    ReplicaState,
    TierClass,
    good_domains,
)
from tomovault.core.scan import has_slices
from tomovault.core.told import tell
from tomovault.core.wire import to_plain
from tomovault.policy.matching import Asks
from tomovault.vault.domains import domain_now
from tomovault.vault.move_orders import order_move
from tomovault.vault.places import find_absence, place_of, require_place
from tomovault.vault.reconstruct_orders import preset_by_rule, wanted_of
from tomovault.vault.removal_orders import (
    find_permit,
    order_destroy,
    order_empty_quarantine,
    order_prune,
    order_undo_prune,
)
from tomovault.vault.requests import Moot, Request, disk_package, stored_files
from tomovault.vault.restore_orders import order_restore
from tomovault.vault.stems import own_locations, stem_of
from tomovault.vault.transfer_orders import order_export

#: Actions under a permit.
_BY_PERMIT = REMOVALS | {"undo_prune"}


def build_order(action: str, request: Request) -> dict[str, Any]:
    """The plain order of an action for one scan."""
    if action not in _BUILDERS:
        raise UserError(f"no order can be made for {action!r}")
    if "stage" in request.wish:
        _require_due(Stage(request.wish["stage"]), request)
    try:
        if action in _BY_PERMIT:
            _require_place_of_removal(request)
        return _BUILDERS[action](request)
    except OSError as problem:
        raise Transient(f"{problem.filename}: {problem.strerror}") from problem


def _require_due(stage: Stage, request: Request) -> None:
    """A step that a rule asked for is looked at once more: facts may have changed since it was queued."""
    vault = request.vault
    view = vault.view(request.scan, vault.area_facts(request.tx, request.scan.area, request.now), request.now)
    standing = view.standings[stage]
    if standing.status is not Status.DUE:
        raise Moot(f"{stage} is {standing.status} now: {standing.reason}".rstrip(": "))


# --- copies ------------------------------------------------------------------------------------------


def _need_package(request: Request) -> Replica:
    replica = disk_package(request.vault, request.scan)
    if replica is None:
        raise Moot("there is no package on disk to work from")
    require_place(request.vault, request.tx, replica.tier)
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
    require_place(vault, request.tx, scan.area)
    folder = vault.vault_folder(scan)
    folder.mkdir(parents=True, exist_ok=True)
    return {
        "area": scan.area,
        "folder": str(folder),
        "stem": stem_of(scan, vault, request.tx),
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
        "scan": tell(scan),
        "files_domain": vault.domain_of(scan.area, area.path),
        "part_bytes": vault.site.package.part_bytes,
        "floor_bytes": area.floor,
        "threads": vault.site.jobs.cpus,
        "twins": [to_plain(twin) for twin in list_twins(request.tx, scan.id)],
    }


def _frames(request: Request) -> dict[str, Any]:
    """A package on disk that has the frames, and the files; those that were taken away are not looked for."""
    scan = request.scan
    original, candidate = scan.product(ProductKind.ORIGINAL), scan.candidate if scan.files_on_disk else None
    coded = original is not None and bool(original.details.get(CODED_FRAMES))
    package = disk_package(request.vault, scan) if not coded else None
    if package is None and candidate is None:
        raise Moot(frames_lacking(scan) or "neither its files nor a package of it are on disk")
    if package is not None:
        require_place(request.vault, request.tx, package.tier)
    return {
        "candidate": to_plain(candidate) if candidate is not None else None,
        "entry": scan.entry,
        "identity": scan.identity,
        "package": package.location if package else None,
        "replica": package.id if package else "",
        "files": to_plain(stored_files(request, package)) if package else [],
        "digest": original.digest if original else "",
    }


def _preview(request: Request) -> dict[str, Any]:
    parameters, told = preset_by_rule(request, "preview")
    return {
        "frames": _frames(request),
        **_place(request),
        "whose": {"scan": request.scan.id, "locations": own_locations(request.scan)},
        "parameters": dict(parameters),
        "told": dict(told),
        "of_slices": has_slices(request.scan.metadata),
        "floor_bytes": request.vault.area(request.scan.area).floor,
    }


def _reconstruct(request: Request) -> dict[str, Any]:
    vault, wanted = request.vault, wanted_of(request)
    return {
        "frames": _frames(request),
        **_place(request),
        "threads": vault.site.jobs.cpus,
        "memory_bytes": vault.site.jobs.memory_bytes,
        "whose": {"scan": request.scan.id, "locations": own_locations(request.scan)},
        "parameters": dict(wanted.parameters),
        "resolved": dict(wanted.resolved) if wanted.resolved is not None else None,
        "told": dict(wanted.told),
        "floor_bytes": vault.area(request.scan.area).floor,
        "dtype": wanted.dtype,
    }


def _asks(request: Request) -> Asks:
    area = request.vault.area_facts(request.tx, request.scan.area, request.now)
    return request.vault.asks(request.scan, area, request.now)


def _archive(request: Request) -> dict[str, Any]:
    from tomovault.vault.workbench import open_tier

    vault, scan = request.vault, request.scan
    package = disk_package(vault, scan) or _archived_package(request)
    require_place(vault, request.tx, package.tier)
    facts = vault.area_facts(request.tx, scan.area, request.now)
    tiers = vault.archive_tiers(vault.asks(scan, facts, request.now).archive_tiers)
    if not tiers:
        raise Refused(
            "the site has no archive tier for it", by="tomovault.yaml", hint="add one under `tiers:`, or name it right"
        )
    view = vault.view(scan, facts, request.now)
    lacking = max(view.facts.archive_wanted, LEAST_COPIES) - view.facts.archive_copies
    if lacking <= 0:
        raise Moot("every copy is there")
    copies = (replace(r, domain=domain_now(vault, request.tx, r)) for r in scan.replicas_of(ProductKind.ORIGINAL))
    held = good_domains(copies, TierClass.ARCHIVE)
    absences = {name: find_absence(vault, request.tx, name) for name in tiers}
    there = [name for name in tiers if absences[name] is None]
    free = {name: [d for d in open_tier(vault.site, name).domains() if d not in held] for name in there}
    left = {d for domains in free.values() for d in domains}
    absent = next((problem for problem in absences.values() if problem is not None), None)
    if absent is not None and not left:
        raise absent
    if len(left) < lacking and absent is None:
        raise Refused(
            f"{', '.join(tiers)}: {len(left)} failure domains left, {lacking} more copies are wanted",
            by="law 4: copies in one failure domain count once",
            hint="raise `copies` of the tier, or add another archive tier",
        )
    # An order is for one tier: what it does not hold of the copies is due again once these are recorded.
    tier_name = next(name for name in there if free[name])
    return {
        "tier": tier_name,
        "domains": sorted(free[tier_name], key=lambda domain: domain != request.begins)[:lacking],
        "parcels": [to_plain(_parcel(request, package))],
        "source_place": scan.area,
        "source": package.id,
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
        "replica": package.id,
    }


def _replicate(request: Request) -> dict[str, Any]:
    asks = _asks(request)
    good = [r for r in request.scan.replicas_of(ProductKind.ORIGINAL) if r.state is ReplicaState.VERIFIED]
    lacking = sorted(frozenset(asks.tiers) - {r.tier for r in good} - let_go_from(request.scan))
    files_in = {r.tier for r in good if r.form is Form.FILES}
    moves = [move for move in asks.moves if move.to not in files_in]
    if not lacking and not moves:
        raise Moot("every wanted tier has it")
    if not lacking:
        return order_move(request, moves[0])
    package = _need_package(request)
    require_place(request.vault, request.tx, lacking[0])
    return {
        "tier": lacking[0],
        "parcels": [to_plain(_parcel(request, package))],
        "source_place": package.tier,
        "source": package.id,
    }


def _verify(request: Request) -> dict[str, Any]:
    vault = request.vault
    wanted = set(request.wish.get("replicas", ()))
    targets = []
    for replica in request.scan.replicas:
        live = replica.state in (ReplicaState.VERIFIED, ReplicaState.PRESENT, ReplicaState.SUSPECT)
        if not live or (wanted and replica.id not in wanted):
            continue
        original = replica.product is ProductKind.ORIGINAL
        absent = find_absence(vault, request.tx, replica.tier) if replica.form is Form.PACKAGE else None
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
                "absent": {"message": absent.message, "hint": absent.hint} if absent is not None else None,
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
    vault = place_of(request.vault, area.name)
    return {"name": area.name, "path": str(area.path), "identity": to_plain(identity), "vault": to_plain(vault)}


def _require_place_of_removal(request: Request) -> None:
    """Raises PlaceAbsent where a package would be moved in a vault that is not there."""
    _, replica = find_permit(request)
    if replica.form is Form.PACKAGE:
        require_place(request.vault, request.tx, replica.tier)


_BUILDERS: Mapping[str, Callable[[Request], dict[str, Any]]] = {
    "pack": _pack,
    "preview": _preview,
    "reconstruct": _reconstruct,
    "archive": _archive,
    "replicate": _replicate,
    "verify": _verify,
    "prune": order_prune,
    "empty_quarantine": order_empty_quarantine,
    "undo_prune": order_undo_prune,
    "destroy": order_destroy,
    "restore": order_restore,
    "export": order_export,
}
