"""The value of every term of a sentence for one scan. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from tomovault.core.known import KnownScan
from tomovault.core.replica import LEAST_COPIES, Form, ProductKind, ReplicaState, TierClass, good_domains
from tomovault.core.scan import Verdict as ScanVerdict
from tomovault.policy.area_facts import AreaFacts
from tomovault.policy.expression import CHEAPER, VOLUME_ACCEPTED
from tomovault.policy.prices import costs_of_volume

#: A count among the conditions of a scan is whole and at most this; another number is a damaged header, and not known.
MOST_COUNTED = 2**31


def values_of(scan: KnownScan, area: AreaFacts, now: datetime, *, copies: int = LEAST_COPIES) -> Mapping[str, Any]:
    """The value of every term of a sentence for one scan; None where it is not known.

    Age counts since the acquisition, else since the scan was first seen; one from the future is not known.
    """
    originals = scan.replicas_of(ProductKind.ORIGINAL)
    start = scan.acquired_at or scan.first_seen_at
    age = now - start
    width, height = (_whole(scan, key) for key in ("frame_width", "frame_height"))

    def count(tier: str, within: timedelta | None) -> int:
        chosen = [r for r in originals if tier in (r.tier, r.tier_class.value) and r.lossless]
        return len({r.domain for r in chosen if (r.good if within is None else r.read_within(within, now))})

    costs = costs_of_volume(scan, area.prices)
    return {
        "complete": scan.complete,
        "aborted": scan.verdict is ScanVerdict.ABORTED,
        "packed": any(r.form is Form.PACKAGE and r.state is ReplicaState.VERIFIED for r in originals),
        "archived": len(good_domains(originals, TierClass.ARCHIVE)) >= copies,
        "previewed": _made(scan, ProductKind.PREVIEW),
        "volume": _made(scan, ProductKind.VOLUME),
        CHEAPER: None if costs is None else costs[1] < costs[0],
        f"{CHEAPER}, told": None if costs is None else f"{costs[1]:.3g} to make it again, {costs[0]:.3g} to keep it",
        VOLUME_ACCEPTED: scan.accepted_by is not None,
        "area": scan.area,
        "format": scan.format,
        "beamline": scan.beamline,
        "proposal": scan.proposal,
        "owner": scan.owner,
        "sample": scan.sample,
        "now": now,
        "start": start,
        "age": age if age >= timedelta(0) else None,
        "size": scan.bytes,
        "files": scan.files,
        "width": width,
        "height": height,
        "pixels": None if width is None or height is None else width * height,
        "n_projections": _whole(scan, "n_projections"),
        "usage": area.usage,
        "high": area.mark,
        "low": area.low,
        "replicas": count,
    }


def _made(scan: KnownScan, kind: ProductKind) -> bool:
    return any(r.state is ReplicaState.VERIFIED for r in scan.replicas_of(kind))


def _whole(scan: KnownScan, key: str) -> int | None:
    condition = scan.conditions.get(key)
    value = None if condition is None else condition.value
    if value is None or isinstance(value, (str, bool)) or not 0 <= value <= MOST_COUNTED or value != int(value):
        return None
    return int(value)
