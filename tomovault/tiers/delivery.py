"""Putting a package on a tier and believing it only after it was read back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from tomovault.core.errors import IntegrityError
from tomovault.core.ports import Checkpoint, Parcel, Throttle, Tier
from tomovault.core.record import Stored
from tomovault.core.replica import Form, ProductKind
from tomovault.tiers.claim import require_claim


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
    return [
        Stored(
            kind=ProductKind(parcel.product),
            digest=parcel.digest,
            form=Form.PACKAGE,
            tier=tier.name,
            domain=place.domain,
            location=place.location,
            files=tuple(place.files),
            bytes=sum(f.size for f in place.files),
            sha256=place.files[0].sha256,
            written_at=written_at,
            verified_at=verified_at,
        )
        for parcel, place in zip(parcels, placed, strict=True)
    ]
