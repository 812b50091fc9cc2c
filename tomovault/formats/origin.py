"""What an ESRF path says of a scan's origin, and what an NXtomo view needs beside frames."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tomovault.core.scan import Condition, ScanReport

_VISITOR = re.compile(
    r"/(?:data/)?visitor/(?P<proposal>[a-z]{1,4}[-_]?\d+)/(?P<beamline>(?:id|bm)\d+[a-z]?)(?:/|$)", re.I
)
_INHOUSE = re.compile(
    r"/data/(?P<beamline>(?:id|bm)\d+[a-z]?)(?:/inhouse(?:/(?P<proposal>(?:id|bm|blc)\w*?\d{4,})(?=/|$))?|/|$)", re.I
)


@dataclass(frozen=True)
class Origin:
    """Beamline (upper case) and proposal (lower case), each None where the path does not say."""

    beamline: str | None = None
    proposal: str | None = None


def origin_of(path: str | None) -> Origin:
    """Read the ESRF conventions `/data/visitor/PROPOSAL/BEAMLINE/` and `/data/BEAMLINE/inhouse[/PROPOSAL]/`."""
    match = (_VISITOR.search(path) or _INHOUSE.search(path)) if path else None
    if match is None:
        return Origin()
    proposal = match["proposal"]
    return Origin(match["beamline"].upper(), proposal.lower() if proposal else None)


def clean(value: Any) -> Any:
    """Plain JSON without what databases refuse: NUL characters, non-finite numbers, text beyond 4096 characters."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, str):
        return value.replace("\0", "")[:4096].encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, Mapping):
        return {clean(str(k)): clean(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [clean(v) for v in value]
    return value


def nx_facts(report: ScanReport) -> dict[str, Any]:
    """The facts of `Layout.nx` in NXtomo's units; a fact that is not known is absent."""
    facts: dict[str, Any] = {
        "energy_kev": _scaled(report.conditions, "energy", 1.0),
        "distance_m": _scaled(report.conditions, "distance", 1e-3),
        "x_pixel_m": _scaled(report.conditions, "pixel_size", 1e-6),
        "y_pixel_m": _scaled(report.conditions, "pixel_size", 1e-6),
        "exposure_s": _scaled(report.conditions, "exposure", 1.0),
        "title": report.metadata.get("title") or report.name,
        "field_of_view": report.metadata.get("field_of_view"),
        "start_time": report.metadata.get("start_time"),
        "end_time": report.metadata.get("end_time"),
        "sample": report.sample,
        "instrument": report.metadata.get("instrument") or report.beamline,
    }
    if facts["start_time"] is None and report.acquired_at is not None:
        facts["start_time"] = report.acquired_at.isoformat()
    return {key: value for key, value in facts.items() if value is not None}


def _scaled(conditions: Mapping[str, Condition], name: str, factor: float) -> float | None:
    condition = conditions.get(name)
    if condition is None or not isinstance(condition.value, (int, float)):
        return None
    return condition.value * factor
