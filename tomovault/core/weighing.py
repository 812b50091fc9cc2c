"""Law 4 over what is known of a scan: which copies stay when one replica goes, and which of them count."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from tomovault.core.known import KnownScan, Product, run_of
from tomovault.core.life import Removal
from tomovault.core.replica import LEAST_COPIES, ProductKind, Replica, TierClass


@dataclass(frozen=True)
class Weighed:
    """What law 4 is asked about a removal, and the copies that were counted: one a failure domain."""

    removal: Removal
    relied_on: tuple[Replica, ...]


def weigh_removal(
    scan: KnownScan,
    victim: Replica,
    *,
    enabled: bool,
    copies_asked: int,
    period: Callable[[TierClass], timedelta],
    archiving_hopeful: bool,
    now: datetime,
) -> Weighed:
    """Count the copies that stay when the replica `victim` goes, each re-read no longer ago than its tier's `period`.

    A copy whose failure domain is not known ('') is not counted, nor any as being in another one than a victim of
    which it is not known.

    Of what we made the copies of the original are counted, since it can be made again from them, and beside them its
    own copies in other failure domains.
    """
    product = _product_of(scan, victim)
    made_by_us = product.made_by_us if product is not None else victim.product is not ProductKind.ORIGINAL
    as_original = victim.product is ProductKind.ORIGINAL or not made_by_us
    original = scan.product(ProductKind.ORIGINAL)
    digest = victim.digest if as_original else original.digest if original is not None else ""

    def counted(
        digest: str, *tier_classes: TierClass, lossless: bool, without_domain: str | None = None
    ) -> list[Replica]:
        best: dict[str, Replica] = {}
        for replica in scan.replicas:
            if replica.digest != digest or replica.tier_class not in tier_classes or replica.id == victim.id:
                continue
            if not replica.domain or without_domain in (replica.domain, "") or (lossless and not replica.lossless):
                continue
            if not replica.verified_within(period(replica.tier_class), now):
                continue
            held = best.get(replica.domain)
            if held is None or (replica.verified_at or now) > (held.verified_at or now):
                best[replica.domain] = replica
        return list(best.values())

    archive = counted(digest, TierClass.ARCHIVE, lossless=True)
    server = counted(digest, TierClass.SERVER, lossless=True, without_domain=victim.domain)
    same = counted(victim.digest, *TierClass, lossless=False, without_domain=victim.domain)
    removal = Removal(
        product=victim.product,
        form=victim.form,
        tier_class=victim.tier_class,
        complete=scan.complete,
        enabled=enabled,
        pinned_by=scan.pinned_by(now),
        made_by_us=made_by_us,
        archive_copies_elsewhere=len(archive),
        server_copies_elsewhere=len(server),
        archiving_hopeful=archiving_hopeful,
        good_copies_elsewhere=len(same),
        reproducible=len(archive) >= max(copies_asked, LEAST_COPIES) and run_of(scan, victim.digest) is not None,
        copies_asked=copies_asked,
    )
    counting = {r.id: r for r in [*archive, *server, *([] if as_original else same)]}
    return Weighed(removal, tuple(counting.values()))


def _product_of(scan: KnownScan, victim: Replica) -> Product | None:
    found = (p for p in scan.products if p.digest == victim.digest and p.kind is victim.product)
    return next(found, None)
