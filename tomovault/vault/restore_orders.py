"""The order of a restore: which copies to read from, in which order, and what becomes of what comes back."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from tomovault.catalog.foreign_volumes import VOLUME_FORMATS
from tomovault.catalog.manifests import entry_path, legible_files
from tomovault.core.errors import Refused, UserError
from tomovault.core.known import Product, RemovalPhase, let_go, run_of
from tomovault.core.replica import Form, ProductKind, Replica, ReplicaState, TierClass
from tomovault.core.wire import to_plain
from tomovault.vault.places import find_absence
from tomovault.vault.removal_orders import note_about, pruned_beside
from tomovault.vault.requests import Request, disk_package, stored_files
from tomovault.vault.stems import own_locations
from tomovault.watch.area import OWN_FOLDER


def order_restore(request: Request) -> dict[str, Any]:
    """The good copies of a product, the nearest first. UserError where there is none, or the wish is wrong."""
    vault, scan, wish = request.vault, request.scan, request.wish
    kind = ProductKind(wish.get("product", "original"))
    product = scan.product(kind)
    if product is None and kind is ProductKind.VOLUME and scan.format in VOLUME_FORMATS:
        raise UserError(
            f"{scan.name} is a volume itself, made by others: its files are its original",
            hint="leave out --product volume",
        )
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
        raise _no_copy(request, kind)
    good.sort(key=lambda r: (r.tier_class is TierClass.ARCHIVE, r.tier != scan.area, r.location != request.begins))
    _refuse_target(request, kind)
    good = _there(request, good)
    sources = [
        {
            "replica": r.id,
            "tier": r.tier,
            "tier_class": r.tier_class.value,
            "domain": r.domain,
            "location": r.location,
            "files": to_plain(stored_files(request, r)),
            "on_disk": r.tier_class is not TierClass.ARCHIVE,
        }
        for r in good
    ]
    _refuse_unmatched(request, product)
    frames = wish.get("frames")
    watched = _watched(request)
    return {
        "scan_name": scan.name,
        "root": scan.root,
        "product": kind.value,
        "digest": product.digest,
        "sources": sources,
        "target": _target(request, watched),
        "recall": {
            "area": scan.area,
            "domain": vault.domain_of(scan.area, _existing(vault.site.areas[scan.area].vault)),
            "folder": str(vault.vault_folder(scan)),
            "floor_bytes": vault.site.areas[scan.area].floor,
            "pinned_until": to_plain(request.now + timedelta(seconds=vault.site.restore.pin_s)),
            "own": own_locations(scan),
            "keep": disk_package(vault, scan, kind) is None,
        },
        "watched": watched,
        "home": _home(request, product),
        "elsewhere": _elsewhere(request, product) if watched else None,
        "files": list(wish.get("files", ())),
        "frames": list(frames) if frames else None,
        "kind": wish.get("kind"),
        "overwrite": bool(wish.get("overwrite", False)),
        "floor_bytes": _floor_at(request, str(wish["to"])),
    }


def _refuse_unmatched(request: Request, product: Product) -> None:
    """Raises UserError where files or frames are asked for of which there are none: the queue would tell nobody."""
    asked = str(request.wish.get("kind") or "")
    if asked and getattr(request.scan.certificate.found, asked) == 0:
        raise UserError(f"{request.scan.name} has no {asked}")
    globs: Sequence[str] = request.wish.get("files") or ()
    files = legible_files(request.tx.manifests, product.digest) if globs else None
    if files is None or any(fnmatch.fnmatchcase(entry_path(file), glob) for file in files for glob in globs):
        return
    raise UserError(
        f"no file of {request.scan.name} matches {' '.join(globs)}",
        hint="patterns are compared with the whole path below the scan's folder, such as 'scan0004/*'",
    )


def _there(request: Request, good: list[Replica]) -> list[Replica]:
    """The copies whose place is there now, and without the vault no copy that would be recalled through it.

    Raises PlaceAbsent where none is left.
    """
    places = {r.tier for r in good} | {request.scan.area}
    absent = {name: find_absence(request.vault, request.tx, name) for name in sorted(places)}
    own = absent[request.scan.area]
    left = [r for r in good if absent[r.tier] is None and (r.tier_class is not TierClass.ARCHIVE or own is None)]
    if not left:
        raise next(problem for problem in (own, *absent.values()) if problem is not None)
    return left


def _no_copy(request: Request, kind: ProductKind) -> UserError:
    """Why nothing can be given back, and where its files stand, if they do."""
    scan, only = request.scan, request.wish.get("from")
    if (permit := let_go(scan, kind)) is not None and (product := scan.product(kind)) is not None:
        if permit.phase is not RemovalPhase.GONE:
            return UserError(f"the {kind} of {scan.name} is in quarantine", hint=f"tomovault prune undo {scan.id}")
        run = run_of(scan, product.digest)
        return UserError(
            f"the {kind} of {scan.name} was removed by {permit.rule}, since it can be made again",
            hint=f"its package (tomovault restore {scan.id} --to DIR) and the parameters of run {run}, which are in"
            f" `tomovault scan show {scan.id}`, are kept: tomovault reconstruct {scan.id} --like {run}",
        )
    where = f" on {only}" if only else ""
    standing = (ReplicaState.PRESENT, ReplicaState.VERIFIED)
    files = [r for r in scan.replicas_of(kind, Form.FILES) if r.state in standing and only in (None, r.tier)]
    there = f"; its files are in {files[0].location}" if files else ""
    packages = scan.replicas_of(kind, Form.PACKAGE)
    if any(r.state is ReplicaState.PRESENT and only in (None, r.tier) for r in packages):
        return UserError(
            f"{scan.name}: no package of its {kind}{where} was re-read yet{there}",
            hint=f"tomovault verify {scan.id}",
        )
    elsewhere = any(r.state is ReplicaState.VERIFIED for r in packages)
    return UserError(
        f"{scan.name}: no good package of its {kind}{where} is known{there}",
        hint="without --from the nearest good copy is taken" if elsewhere else f"tomovault scan show {scan.id}",
    )


def _floor_at(request: Request, target: str) -> int:
    """The most that an area on the file system of the target keeps free; nothing where no area is on it."""
    here = os.stat(_existing(os.path.realpath(target))).st_dev
    floors = [0]
    for area in request.vault.site.areas.values():
        for place in (area.path, area.vault) if area.name not in request.vault.silent else ():
            if os.stat(_existing(place)).st_dev == here:
                floors.append(area.floor)
    return max(floors)


def _refuse_target(request: Request, kind: ProductKind) -> None:
    """Raises UserError for what cannot be given back so, or there."""
    wish, site = request.wish, request.vault.site
    if kind is not ProductKind.ORIGINAL and any(wish.get(k) for k in ("files", "frames", "kind")):
        raise UserError(f"a {kind} is given back whole", hint="leave out --files, --frames, --flats and --darks")
    target = os.path.realpath(str(wish["to"]))
    if os.path.lexists(target) and not os.path.isdir(target):
        raise UserError(f"{target} is not a folder")
    ours = [str(a.vault) for a in site.areas.values()]
    ours += [os.path.join(place, OWN_FOLDER) for a in site.areas.values() for place in (str(a.path), str(a.vault))]
    ours += [str(t.options["path"]) for t in site.tiers.values() if "path" in t.options]
    for place in ours:
        place = os.path.realpath(place)
        if os.path.commonpath([place, target]) == place:
            raise UserError(f"{target} is kept by tomovault itself", hint="choose a folder outside of " + place)


def _home(request: Request, product: Product) -> dict[str, Any] | None:
    """What makes the restored files a replica again, where all of them go where they were written."""
    vault, scan, wish = request.vault, request.scan, request.wish
    partly = any(wish.get(key) for key in ("files", "frames", "kind"))
    area = vault.site.areas[scan.area]
    away = scan.superseded_by is not None or product.kind is not ProductKind.ORIGINAL
    if partly or away or os.path.realpath(str(wish["to"])) != os.path.realpath(scan.root):
        return None
    if os.path.commonpath([str(area.path), scan.root]) != str(area.path):
        return None
    leaving = [r for r in scan.replicas_of(ProductKind.ORIGINAL, Form.FILES) if r.state is ReplicaState.LEAVING]
    if leaving:
        raise Refused(
            f"the files of {scan.name} are in quarantine",
            by="law 5",
            hint=f"tomovault prune undo {scan.id} puts them back",
        )
    return {
        "bytes": product.bytes,
        "pinned_until": to_plain(request.now + timedelta(seconds=vault.site.restore.pin_s)),
        "readme": note_about(request.tx, pruned_beside(request, scan.root), request.now),
    }


def _watched(request: Request) -> dict[str, Any] | None:
    """The watched area that the target is in, and by what it is recognised; the scan's own one goes first."""
    vault, target = request.vault, os.path.realpath(str(request.wish["to"]))
    for area in sorted(vault.site.areas.values(), key=lambda area: area.name != request.scan.area):
        watched = os.path.realpath(str(area.path))
        if os.path.commonpath([watched, target]) == watched:
            return {
                "area": area.name,
                "path": str(area.path),
                "identity": to_plain(vault.identity_of(request.tx, area.name)),
                "domain": vault.domain_of(area.name, area.path),
            }
    return None


def _elsewhere(request: Request, product: Product) -> dict[str, Any] | None:
    """What is put into a watched area, where that is not the scan's own place."""
    scan, wish = request.scan, request.wish
    if os.path.realpath(str(wish["to"])) == os.path.realpath(scan.root):
        return None
    partly = any(wish.get(key) for key in ("files", "frames", "kind"))
    return {
        "scan": scan.id,
        "bytes": product.bytes,
        "whole": product.kind is ProductKind.ORIGINAL and not partly,
    }


def _target(request: Request, watched: dict[str, Any] | None) -> str:
    """The target; in an area it is below the area's path as that is configured, with no link on the way."""
    target = str(request.wish["to"])
    if watched is None:
        return target
    area = watched["path"]
    return os.path.normpath(os.path.join(area, os.path.relpath(os.path.realpath(target), os.path.realpath(area))))


def _existing(path: str) -> str:
    """The folder, or the nearest one above it that is there."""
    while not os.path.isdir(path) and os.path.dirname(path) != path:
        path = os.path.dirname(path)
    return path
