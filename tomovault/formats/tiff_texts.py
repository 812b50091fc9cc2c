"""The texts that scanners write beside TIFF projections: logs of SLS TOMCAT and SkyScan, Nikon's `.xtekct`, ALS's
`.sct`, SPEC's `.info`. Read tolerantly, as `key: value` or `key = value`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from tomovault.core.scan import CONDITION_UNITS, Condition
from tomovault.formats.quantities import measure
from tomovault.formats.spec_text import whole

#: A text with more keys is a table, not a description.
_MOST_KEYS = 2000
_SPACES = re.compile(r"\s+")

#: Endings of texts that may describe a stack, the best first.
ENDINGS = (".log", ".xtekct", ".sct", ".info")

_PROJECTIONS = ("number of projections", "number of files", "projections", "-nangles", "tomo_n")
_FLATS = ("number of flats", "ref_n")
_DARKS = ("number of darks", "dark_n")
_STEPS = ("angular step [deg]", "rotation step (deg)", "angularstep")
_STARTS = ("rot y min position [deg]", "initialangle")

#: Condition, key, and the unit of a number that states none; the first that stands in the text counts.
_CONDITIONS: tuple[tuple[str, str, str | None], ...] = (
    ("energy", "beam energy [kev]", "keV"),
    ("energy", "-senergy", "eV"),
    ("energy", "energy", "keV"),
    ("pixel_size", "actual pixel size [um]", "um"),
    ("pixel_size", "image pixel size (um)", "um"),
    ("pixel_size", "voxelsizex", "mm"),
    ("pixel_size", "pixelsize", "um"),
    ("detector_pixel_size", "camera pixel size (um)", "um"),
    ("detector_pixel_size", "detectorpixelsizex", "mm"),
    ("exposure", "exposure time [ms]", "ms"),
    ("exposure", "exposure (ms)", "ms"),
    ("exposure", "exposure", "ms"),
    ("exposure", "count_time", "s"),
    ("source_distance", "object to source (mm)", "mm"),
    ("source_distance", "srctoobject", "mm"),
    ("source_distance", "source_distance", "mm"),
    ("distance", "distance", "mm"),
    ("scan_range", "-arange", "deg"),
    ("scan_range", "scanrange", "deg"),
    ("current", "ring current [ma]", "mA"),
    ("current", "srcurrent", "mA"),
    ("flat_interval", "flat frequency", None),
    ("flat_interval", "ref_on", None),
)
#: Of laboratory sources, in units of their own.
_OWN: tuple[tuple[str, str, str], ...] = (
    ("voltage", "source voltage (kv)", "kV"),
    ("voltage", "xraykv", "kV"),
    ("tube_current", "source current (ua)", "uA"),
    ("tube_current", "xrayua", "uA"),
)
_TO_DETECTOR = ("camera to source (mm)", "srctodetector")


@dataclass(frozen=True)
class StackText:
    """What a text says. Numbers are None where it does not; `in_one_series` that darks, flats and projections are
    numbered through in this order, as TOMCAT does, the first with index 1.
    """

    name: str
    keys: Mapping[str, str] = field(default_factory=dict)
    projections: int | None = None
    flats: int | None = None
    darks: int | None = None
    inter_flats: int = 0
    in_one_series: bool = False
    step_deg: float | None = None
    start_deg: float = 0.0

    def angle_deg(self, position: int) -> float | None:
        """The angle of the projection at a position, counted from 0."""
        angle = math.inf if self.step_deg is None else self.start_deg + position * self.step_deg
        return angle if math.isfinite(angle) else None


def parse_text(name: str, raw: bytes) -> StackText:
    """Read a text of any of the known kinds; one that says nothing known has `projections` None."""
    keys = _keys(raw)
    projections = _first(keys, _PROJECTIONS)
    step = next((v for key in _STEPS if (v := measure(keys.get(key), "deg")) is not None), None)
    start = next((v for key in _STARTS if (v := measure(keys.get(key), "deg")) is not None), 0.0)
    span = _range(keys, step, projections)
    if step is None and span is not None and projections:
        step = span / projections
    return StackText(
        name=name,
        keys=keys,
        projections=projections,
        flats=_first(keys, _FLATS),
        darks=_first(keys, _DARKS),
        inter_flats=whole(keys.get("number of inter-flats")) or 0,
        in_one_series="number of projections" in keys,
        step_deg=step,
        start_deg=start,
    )


def conditions_of(text: StackText) -> dict[str, Condition]:
    """Every condition that the text states, with the key that it was read from."""
    found: dict[str, Condition] = {}
    for name, key, written in _CONDITIONS:
        value = measure(text.keys.get(key), CONDITION_UNITS[name], written)
        if name not in found and value is not None and value > 0:
            found[name] = Condition(value, CONDITION_UNITS[name], f"{text.name}:{key}")
    for name, key, unit in _OWN:
        value = measure(text.keys.get(key), unit)
        if name not in found and value is not None and value > 0:
            found[name] = Condition(value, unit, f"{text.name}:{key}")
    _geometry(text, found)
    span = _range(text.keys, text.step_deg, text.projections)
    if "scan_range" not in found and span is not None and math.isfinite(span):
        found["scan_range"] = Condition(span, CONDITION_UNITS["scan_range"], f"{text.name}:angles")
    for name, count in (("n_projections", text.projections), ("n_flats", text.flats), ("n_darks", text.darks)):
        if count is not None:
            found[name] = Condition(count, None, text.name)
    return found


def _geometry(text: StackText, found: dict[str, Condition]) -> None:
    """Sample to detector, where the text gives both distances from the source."""
    source = found.get("source_distance")
    for key in _TO_DETECTOR:
        value = measure(text.keys.get(key), "mm")
        if "distance" not in found and source is not None and value is not None:
            distance = value - float(source.value or 0)
            if 0 <= distance < math.inf:
                found["distance"] = Condition(distance, CONDITION_UNITS["distance"], f"{text.name}:{key}")


def _range(keys: Mapping[str, str], step: float | None, projections: int | None) -> float | None:
    low, high = (measure(keys.get(f"rot y {end} position [deg]"), "deg") for end in ("min", "max"))
    if low is not None and high is not None:
        return high - low
    for key in ("-arange", "scanrange"):
        if (stated := measure(keys.get(key), "deg")) is not None:
            return stated
    if keys.get("use 360 rotation", "").lower() == "yes":
        return 360.0
    return None if step is None or projections is None else step * projections


def _keys(raw: bytes) -> dict[str, str]:
    """Keys in lower case with single spaces; the first ':' or '=' separates, in an `.sct` the first space."""
    found: dict[str, str] = {}
    for line in raw.decode("latin-1").replace("\0", " ").splitlines():
        text = line.strip()
        if text.startswith("-") and not text.startswith("--"):
            key, _, value = text.partition(" ")
        else:
            at = min((i for i in (text.find(":"), text.find("=")) if i > 0), default=-1)
            if at < 0:
                continue
            key, value = text[:at], text[at + 1 :]
        if len(found) < _MOST_KEYS:
            found.setdefault(_SPACES.sub(" ", key.strip().lower())[:200], value.strip()[:1000])
    return found


def _first(keys: Mapping[str, str], names: tuple[str, ...]) -> int | None:
    return next((v for name in names if (v := whole(keys.get(name))) is not None), None)
