"""Options of a tier as the site file gives them: checked, with the tier's name in every complaint."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from tomovault.core.errors import UserError
from tomovault.recall.timing import Timing
from tomovault.tiers.place import Place

_UNITS = {
    "": 1,
    "B": 1,
    **{f"{letter}B": 1000**power for power, letter in enumerate("KMGTP", start=1)},
    **{f"{letter}IB": 1024**power for power, letter in enumerate("KMGTP", start=1)},
}
#: The coefficients of `Timing`, by their names.
TIMING_OPTIONS = frozenset(f.name for f in fields(Timing))

_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*")


def folder_option(tier: str, options: Mapping[str, Any], key: str = "path") -> str:
    """The absolute path of the tier's folder, without '..' or a trailing slash. Raises UserError."""
    value = options.get(key)
    if not isinstance(value, (str, os.PathLike)) or not os.path.isabs(value):
        raise UserError(
            f"tier {tier}: {key} must be an absolute path, not {value!r}", hint=f"set {key} of tier {tier} in the site"
        )
    return os.path.normpath(os.fspath(value))


def place_option(tier: str, options: Mapping[str, Any]) -> Place | None:
    """By what the tier's folder is recognised; None where nobody recorded that."""
    record = options.get("record")
    return None if record is None else Place(f"tier {tier}", folder_option(tier, options), str(record))


def size_option(tier: str, options: Mapping[str, Any], key: str, default: int) -> int:
    """Bytes, from a number or a text such as '18TB' or '64 MiB'. Raises UserError."""
    value = options.get(key, default)
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None or match[2].upper() not in _UNITS:
        raise UserError(f"tier {tier}: {key} is not a size: {value!r}", hint="a size is written as 8TB, 500GB or 64MiB")
    return int(float(match[1]) * _UNITS[match[2].upper()])


def count_option(tier: str, options: Mapping[str, Any], key: str, default: int, *, most: int) -> int:
    """A whole number from 1 to `most`. Raises UserError."""
    value = options.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise UserError(f"tier {tier}: {key} must be a whole number from 1 to {most}, not {value!r}")
    return value


def number_option(tier: str, options: Mapping[str, Any], key: str, default: float) -> float:
    """A finite number, not negative unless its default is. Raises UserError."""
    value = options.get(key, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise UserError(f"tier {tier}: {key} must be a number, not {value!r}")
    if value < 0 <= default:
        raise UserError(f"tier {tier}: {key} must not be negative, it is {value!r}")
    return float(value)


def text_option(tier: str, options: Mapping[str, Any], key: str, default: str) -> str:
    """A text that is not empty unless its default is. Raises UserError."""
    value = options.get(key, default)
    if not isinstance(value, str) or (default and not value):
        raise UserError(f"tier {tier}: {key} must be a text, not {value!r}")
    return value


def timing_option(tier: str, options: Mapping[str, Any]) -> Timing:
    """The timing with the coefficients that the options name instead of the published ones. Raises UserError."""
    known = Timing()
    timing = replace(
        known, **{f.name: number_option(tier, options, f.name, getattr(known, f.name)) for f in fields(known)}
    )
    if min(timing.stream_rate, timing.wraps, timing.bands, timing.last_position - timing.first_position) <= 0:
        raise UserError(f"tier {tier}: stream_rate, wraps, bands and the length of a wrap must be more than 0")
    return timing
