"""Putting a package on a tier and believing it only after it was read back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from tomovault.core.errors import IntegrityError
from tomovault.core.ports import Checkpoint, Parcel, Placed, Throttle, Tier
from tomovault.core.record import Stored
from tomovault.core.replica import Form, ProductKind
from tomovault.tiers.claim import require_claim


@dataclass(frozen=True)
class Delivered:
    """Where a parcel is, and when it was written and re-read there."""

    placed: Placed
    written_at: datetime
    verified_at: datetime


def deliver(
    tier: Tier,
    parcels: Sequence[Parcel],
    domain: str,
    *,
    job: str,
    now: Callable[[], datetime],
    may_continue: Callable[[], bool],
    throttle: Throttle,
    checkpoint: Checkpoint,
) -> list[Stored]:
    """The parcels, which are products of scans, as copies of these. See `bring`."""
    delivered = bring(
        tier,
        parcels,
        domain,
        job=job,
        now=now,
        may_continue=may_continue,
        throttle=throttle,
        checkpoint=checkpoint,
    )
    return [
        Stored(
            kind=ProductKind(parcel.product),
            digest=parcel.digest,
            form=Form.PACKAGE,
            tier=tier.name,
            domain=one.placed.domain,
            location=one.placed.location,
            files=tuple(one.placed.files),
            bytes=sum(f.size for f in one.placed.files),
            sha256=one.placed.files[0].sha256,
            written_at=one.written_at,
            verified_at=one.verified_at,
        )
        for parcel, one in zip(parcels, delivered, strict=True)
    ]


def bring(
    tier: Tier,
    parcels: Sequence[Parcel],
    domain: str,
    *,
    job: str,
    now: Callable[[], datetime],
    may_continue: Callable[[], bool],
    throttle: Throttle,
    checkpoint: Checkpoint,
) -> list[Delivered]:
    """Every parcel is on the tier in `domain` and was re-read there to its digests.

    Raises IntegrityError naming the first parcel whose stored bytes are wrong, and Transient where the claim on the job
    was lost; nothing counts then.
    """
    require_claim(may_continue, "written")
    placed = tier.put(parcels, domain, job=job, throttle=throttle, checkpoint=checkpoint)
    written_at = now()
    checkpoint("deliver.placed")
    require_claim(may_continue, "re-read")
    problems = tier.verify(placed, throttle=throttle)
    for parcel, place, problem in zip(parcels, placed, problems, strict=True):
        if problem:
            raise IntegrityError(f"{parcel.scan_name} on {tier.name} at {place.location}: {problem}")
    verified_at = now()
    checkpoint("deliver.verified")
    return [Delivered(place, written_at, verified_at) for place in placed]
