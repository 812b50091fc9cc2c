"""An operator's order to destroy one product of a scan on one tier: what it would do, and giving it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from tomovault.core.destruction import copies_left, victims_of
from tomovault.core.errors import Refused, UserError
from tomovault.core.known import KnownScan, Permit
from tomovault.core.replica import ProductKind, Replica
from tomovault.policy.yaml_text import nearest
from tomovault.vault.removals import queue_removal
from tomovault.vault.vault import Vault


@dataclass(frozen=True)
class Destruction:
    """What an order would take, and what would be left of the product: good lossless copies, wherever they are."""

    scan: KnownScan
    product: ProductKind
    tier: str
    victims: tuple[Replica, ...]
    left: tuple[Replica, ...]
    hold_until: datetime

    @property
    def last(self) -> bool:
        """Whether nothing good is left of the product."""
        return not self.left


def require_operator(folder: Path) -> None:
    """Raises Refused for everyone but the owner of the site's folder and root: they alone destroy."""
    owner = os.stat(folder).st_uid
    if os.geteuid() not in (0, owner):
        raise Refused(
            "only an operator destroys: the owner of the site's folder, or root",
            by="law 4",
            hint="ask the operator of the site; `tomovault unpin` lets a policy prune what is kept elsewhere",
        )


def plan_destruction(vault: Vault, scan: KnownScan, product: ProductKind, tier: str, now: datetime) -> Destruction:
    """What an order would do; nothing is changed. Raises UserError where there is nothing to destroy there."""
    known = {*vault.site.areas, *vault.site.tiers}
    if tier not in known:
        raise UserError(f"there is no tier {tier!r}{nearest(tier, known)}")
    victims = victims_of(scan, product, tier)
    if not victims and any(r.tier == tier and r.live and scan.is_elsewhere(r) for r in scan.replicas_of(product)):
        raise UserError(
            f"the files of {scan.name} in {tier} are a copy that a rule or a person put there",
            hint="whoever needs it no longer removes it by hand, with `rm`",
        )
    if not victims:
        elsewhere = sorted({f"{r.product} on {r.tier}" for r in scan.replicas if victims_of(scan, r.product, r.tier)})
        raise UserError(
            f"{scan.name} has no {product} on {tier} that can be destroyed",
            hint="it has " + (", ".join(elsewhere) or "no copies that are known by their digests: it was never packed"),
        )
    hold = timedelta(seconds=vault.site.quarantine.hold_s)
    return Destruction(scan, product, tier, victims, copies_left(scan, product, victims), now + hold)


def order_destruction(vault: Vault, planned: Destruction, *, by: str, reason: str, now: datetime) -> list[Permit]:
    """The permits are written, and what has to move into quarantine is queued.

    Raises Refused where a pin stands against it or what was to stay does not any more, and Transient while work that
    needs the copies is under way.
    """
    scan, in_area = planned.scan, planned.tier in vault.site.areas
    with vault.catalogue.writing() as tx:
        permits: list[Permit] = vault.catalogue.grant_destruction(
            tx,
            scan.id,
            [victim.id for victim in planned.victims],
            by=by,
            reason=reason,
            hold_until=planned.hold_until,
            last=planned.last,
            moves=in_area,
            now=now,
        )
        for permit in permits if in_area else ():
            queue_removal(vault, tx, scan, permit, now)
    return permits
