"""What a caller may ask of the engine, with the engine's own choice where nothing is asked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tomovault.core.errors import UserError

#: What a caller may ask for; everything else is found.
DEFAULTS: Mapping[str, Any] = {
    "rows": None,
    "exclude": (),
    "centre": None,
    "scan_range_deg": None,
    "half_acquisition": None,
    "filter": "shepp-logan",
    "logarithm": True,
    "clip": (1e-4, 10.0),
    "taper": None,
    "eps": 1e-4,
    "upsampling": 1.25,
    "memory_bytes": 1_000_000_000,
    "zingers": None,
    "rings": None,
    "rings_width": 9,
    "delta_beta": None,
    "energy_kev": None,
    "distance_m": None,
    "pixel_m": None,
}

#: How stripes of the sinogram are taken out.
RINGS = ("sorting",)

_POSITIVE = ("zingers", "delta_beta", "energy_kev", "distance_m", "pixel_m")


def read_wishes(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Every wish, with the engine's own where nothing was asked. Raises UserError for one that makes no sense."""
    unknown = sorted(set(parameters) - set(DEFAULTS))
    if unknown:
        raise UserError(
            f"the fourier engine has no parameter {', '.join(unknown)}",
            hint=f"its parameters are {', '.join(sorted(DEFAULTS))}",
        )
    wishes = {**DEFAULTS, **parameters}
    width = wishes["rings_width"]
    checks: dict[str, bool] = {
        "clip": _is_pair(wishes["clip"]) and 0 < wishes["clip"][0] < wishes["clip"][1] < math.inf,
        "centre": wishes["centre"] is None or _is_number(wishes["centre"]),
        "scan_range_deg": wishes["scan_range_deg"] is None
        or (_is_number(wishes["scan_range_deg"]) and wishes["scan_range_deg"] != 0),
        "taper": wishes["taper"] is None or (_is_number(wishes["taper"]) and wishes["taper"] >= 0),
        "eps": _is_number(wishes["eps"]) and 1e-7 < wishes["eps"] < 0.1,
        "upsampling": wishes["upsampling"] in (1.25, 2.0),
        "memory_bytes": _is_number(wishes["memory_bytes"]) and wishes["memory_bytes"] >= 1_000_000,
        "rings": wishes["rings"] is None or wishes["rings"] in RINGS,
        "rings_width": isinstance(width, int) and 3 <= width <= 501 and width % 2 == 1,
    }
    checks |= {name: wishes[name] is None or (_is_number(wishes[name]) and wishes[name] > 0) for name in _POSITIVE}
    for name, right in checks.items():
        if not right:
            raise UserError(f"the fourier engine's parameter {name} cannot be {wishes[name]!r}")
    return wishes


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_pair(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == 2 and all(_is_number(v) for v in value)
