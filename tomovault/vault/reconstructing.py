"""A person's request for a volume: what is put into the queue, and what is told of it when it is there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tomovault.catalog.runs import find_run
from tomovault.core.errors import Transient, UserError
from tomovault.core.known import JobStatus, KnownScan, run_of
from tomovault.core.replica import ProductKind, ReplicaState
from tomovault.policy.yaml_text import nearest
from tomovault.vault.reconstruct_orders import anew_for


@dataclass(frozen=True)
class Wish:
    """What the job carries, and which parameters of a run of another scan are not taken over, each with the reason."""

    plain: Mapping[str, Any]
    anew: Mapping[str, str] = field(default_factory=dict)


def wish_for(tx: Any, scan: KnownScan, preset: str | None, like: str | None) -> Wish:
    """The wish of a person. Raises UserError for a run that is not known, with the nearest one of the scan, and
    Transient while a volume of the scan is being made: both would be written to one place.
    """
    doing = [j for j in scan.jobs if j.action == "reconstruct" and j.status is JobStatus.DOING]
    if doing:
        raise Transient(f"a volume of {scan.name} is being made, by {doing[0].id}", hint="ask again when it is there")
    if like is None:
        return Wish({"preset": preset} if preset is not None else {})
    run = find_run(tx, like)
    if run is None:
        ids = [key for key, _run in scan.processings]
        raise UserError(
            f"no processing is known as {like!r}{nearest(like, ids)}",
            hint=f"tomovault scan show {scan.id} lists those of {scan.name}",
        )
    return Wish({"like": like}, anew_for(scan, run))


def last_run(scan: KnownScan) -> dict[str, Any]:
    """The newest volume of a scan, where it stands, and what the run that made it found and could not take over."""
    product = scan.product(ProductKind.VOLUME)
    if product is None:
        raise UserError(f"{scan.name} has no volume")
    key = run_of(scan, product.digest)
    parameters = dict(scan.processings).get(key or "")
    told: Mapping[str, Any] = parameters.parameters if parameters is not None else {}
    here = [r for r in scan.replicas_of(ProductKind.VOLUME) if r.state is ReplicaState.VERIFIED]
    return {
        "processing": key,
        "digest": product.digest,
        "bytes": product.bytes,
        "location": here[0].location if here else "",
        "found": {name: told.get(name) for name in ("centre", "centre_method", "centre_spread")},
        "preset": told.get("preset"),
        "like": told.get("like"),
        "anew": dict(told.get("anew") or {}),
        "warnings": list(told.get("warnings") or ()),
        "accepted_by": scan.accepted_by,
    }


def what_to_look_at(scan: KnownScan) -> dict[str, Any]:
    """Where the preview and the newest volume of a scan stand, '' for neither, and what the volume's run found.

    Of the preview it is the picture, which is beside its numbers and made by a run of its own.
    """
    if scan.product(ProductKind.VOLUME) is None:
        return {"preview": "", "volume": "", "found": {}, "preset": None, "warnings": []}
    run = last_run(scan)
    previews = [r for r in scan.replicas_of(ProductKind.PREVIEW) if r.state is ReplicaState.VERIFIED]
    return {
        "preview": previews[0].location.removesuffix(".h5") + ".png" if previews else "",
        "volume": run["location"],
        "found": run["found"],
        "preset": run["preset"],
        "warnings": run["warnings"],
    }
