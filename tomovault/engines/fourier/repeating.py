"""An earlier run once more: of the same scan to the last bit, of another with what does not depend on the scan."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version as installed_version
from typing import Any

import numpy as np

from tomovault.core.ports import FrameSource, Repeated
from tomovault.engines.fourier.resolving import cpu_model, resolve

#: Parameters that are of the way and not of the scan.
_KEPT = ("filter", "logarithm", "clip", "eps", "upsampling", "memory_bytes", "zingers", "rings", "rings_width")

#: What is found in each scan, and why it cannot be another's.
_OF_THE_SCAN: Mapping[str, str] = {
    "centre": "the axis is found anew: it moves whenever a sample is mounted or the stage is",
    "projections": "this scan's own frames are used, and none is left out",
    "angles_deg": "the angles are this scan's own",
    "flats": "the flats are this scan's own",
    "darks": "the darks are this scan's own",
    "rows": "every row is made",
    "taper": "whether the object leaves the field is looked at anew",
}

#: Such as the preview of a scan that was not packed yet.
_UNKNOWN = "it is found anew: of which bytes that run was is not recorded"


def repeat(source: FrameSource, earlier: Mapping[str, Any], algorithm: int) -> Repeated:
    """See `Engine.repeat`. `algorithm`: the number of the one that runs now."""
    digest = source.facts().get("digest")
    same_scan = bool(digest) and earlier.get("source_digest") == digest
    if same_scan and earlier.get("algorithm") == algorithm:
        rows = earlier.get("rows")
        every = list(range(source.frame_shape[0]))
        anew = {} if rows is not None else {"rows": "a preview has one row, a volume has all"}
        now = bits_of_this_run()
        anew |= {
            name: f"then {earlier[name]}, now {now[name]}: the last bits may differ"
            for name in now
            if name in earlier and earlier[name] != now[name]
        }
        return Repeated({**earlier, "rows": every if rows is None else rows, **now}, anew)
    wishes = {key: earlier[key] for key in _KEPT if key in earlier and earlier[key] is not None}
    phase = earlier.get("phase")
    anew = dict(_OF_THE_SCAN if earlier.get("source_digest") else dict.fromkeys(_OF_THE_SCAN, _UNKNOWN))
    if same_scan:
        anew = {"algorithm": f"then {earlier.get('algorithm')}, now {algorithm}: the same numbers cannot be made"}
        wishes |= {"centre": earlier["centre"], "rows": earlier.get("rows"), "taper": earlier["taper"]}
        used = {index for start, stop in earlier["projections"] for index in range(start, stop)}
        wishes["exclude"] = [i for i in range(_end(earlier)) if i not in used]
    if phase is not None:
        own = () if not same_scan else ("energy_kev", "distance_m", "pixel_m")
        wishes |= {key: phase[key] for key in ("delta_beta", *own)}
        if not same_scan:
            anew["phase"] = "energy, distance and pixel size are this scan's own; the ratio delta/beta is kept"
    return Repeated({**resolve(source, wishes), "algorithm": algorithm}, anew)


def _end(earlier: Mapping[str, Any]) -> int:
    return max((stop for _start, stop in earlier["projections"]), default=0)


def bits_of_this_run() -> dict[str, Any]:
    """The libraries and the processor that the last bits depend on."""
    return {"numpy": np.__version__, "finufft": installed_version("finufft"), "cpu": cpu_model()}
