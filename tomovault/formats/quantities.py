"""Numbers with units, as people and programs write them in texts."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

#: Factor from a unit to the one of CONDITION_UNITS, or to that of a laboratory source; in lower case but for those that
#: mean something else there.
FACTORS: Mapping[str, Mapping[str, float]] = {
    "keV": {"kev": 1.0, "ev": 1e-3, "mev": 1e3, "meV": 1e-6},
    "mm": {"mm": 1.0, "m": 1e3, "cm": 10.0, "um": 1e-3, "µm": 1e-3, "micron": 1e-3, "microns": 1e-3, "nm": 1e-6},
    "um": {
        "um": 1.0,
        "µm": 1.0,
        "μm": 1.0,
        "micron": 1.0,
        "microns": 1.0,
        "micrometer": 1.0,
        "mm": 1e3,
        "cm": 1e4,
        "m": 1e6,
        "nm": 1e-3,
    },
    "s": {"s": 1.0, "sec": 1.0, "seconds": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "min": 60.0},
    "deg": {"deg": 1.0, "degree": 1.0, "degrees": 1.0, "°": 1.0, "rad": 57.29577951308232},
    "mA": {"ma": 1.0, "a": 1e3, "ua": 1e-3},
    "px": {"px": 1.0, "pixel": 1.0, "pixels": 1.0},
    "kV": {"kv": 1.0, "v": 1e-3},
    "uA": {"ua": 1.0, "µa": 1.0, "ma": 1e3},
}
#: What cannot be 0: a text that says 0 of it does not know it.
_NEVER_ZERO = frozenset({"energy", "pixel_size", "detector_pixel_size", "frame_width", "frame_height"})
_VALUE = re.compile(
    r"(?P<value>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*[\[(]?\s*(?P<unit>[A-Za-zµμ°]*)\s*[\])]?", re.ASCII
)
#: No number with its unit is longer; a longer text is not looked at.
_LONGEST = 200
#: Three digits after a comma may be thousands, but not after a 0.
_COMMA = re.compile(r"^\s*([-+]?(?:0|\d+(?=,(?:\d{1,2}|\d{4,})(?!\d)))),(\d+)(?![\d,.])", re.ASCII)
#: UTF-8 that was read as Latin-1.
_MICRO = (("\xc2\xb5", "µ"), ("\xce\xbc", "μ"), ("\xc2\xb0", "°"))


def split_quantity(text: str | None) -> tuple[float, str | None] | None:
    """The finite number that is the whole text, and the unit that may follow it; None for any other text.

    A comma is taken for a decimal one where it can be nothing else: 20,5 and 0,125, but not 1,500.
    """
    plain = text or ""
    if len(plain) > _LONGEST:
        return None
    for wrong, right in _MICRO:
        plain = plain.replace(wrong, right)
    found = _VALUE.fullmatch(_COMMA.sub(r"\1.\2", plain).strip())
    if found is None or not math.isfinite(float(found["value"])):
        return None
    return float(found["value"]), found["unit"] or None


def measure(text: str | None, unit: str | None, written: str | None = None) -> float | None:
    """The number that is the whole text, in `unit`; None for any other text, and for a unit that is not known.

    Without a unit in the text it is in `written`, by default in `unit`. Where `unit` is None the text may have none.
    """
    found = split_quantity(text)
    if found is None:
        return None
    value, stated = found
    if unit is None:
        return value if stated is None else None
    factor = factor_of(stated or written or unit, unit)
    return None if factor is None or not math.isfinite(value * factor) else value * factor


def factor_of(stated: str, unit: str) -> float | None:
    """What a number in the unit `stated` is multiplied with to be in `unit`; None for a unit that is not known."""
    factors = FACTORS[unit]
    return factors.get(stated, factors.get(stated.lower()))


def is_known(condition: str, value: object) -> bool:
    """Whether a value can be one of a condition that has no sign: 0 and -1 often stand for an unknown one."""
    if not isinstance(value, (int, float)):
        return value is not None
    return math.isfinite(value) and (value > 0 or (value == 0 and condition not in _NEVER_ZERO))
