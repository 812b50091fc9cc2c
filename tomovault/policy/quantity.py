"""Durations, sizes, percents and on/off words as people write them, to exact values and back."""

from __future__ import annotations

import math
import re
from datetime import timedelta
from fractions import Fraction

#: Seconds of each unit of time. A month or a year has no fixed length, so neither is a unit.
SECONDS: dict[str, Fraction] = {
    "ms": Fraction(1, 1000),
    "s": Fraction(1),
    "m": Fraction(60),
    "min": Fraction(60),
    "h": Fraction(3600),
    "d": Fraction(86400),
    "w": Fraction(604800),
}

#: Bytes of each unit of size: decimal as disks and tapes are sold, or binary with an 'i' (IEC 80000-13).
BYTES: dict[str, int] = {
    "b": 1,
    **{f"{letter}b": 1000**power for power, letter in enumerate("kmgtp", start=1)},
    **{f"{letter}ib": 1024**power for power, letter in enumerate("kmgtp", start=1)},
}

_NUMBER = r"\d+(?:\.\d+)?"
_DURATION = re.compile(rf"(?:{_NUMBER}\s*(?:ms|min|[smhdw])\s*)+", re.ASCII)
_DURATION_PART = re.compile(rf"({_NUMBER})\s*(ms|min|[smhdw])")
_SIZE = re.compile(rf"({_NUMBER})\s*([kmgtp]?i?b)", re.IGNORECASE | re.ASCII)
_PERCENT = re.compile(rf"({_NUMBER})\s*%", re.ASCII)
_PLAIN = re.compile(_NUMBER, re.ASCII)

_LONGEST_S = Fraction(100 * 366 * 86400)


def parse_duration(value: object) -> timedelta:
    """'7d', '30s', '0.5s', '1h30m' or a plain number of seconds. Raises ValueError that says what is legal."""
    if isinstance(value, timedelta):
        return value
    wrong = ValueError(f"{show_found(value)} is not a duration; write it as 30s, 5m, 1h30m, 7d or 2w")
    if isinstance(value, str):
        text = value.strip()
        if _PLAIN.fullmatch(text):
            total = Fraction(text)
        elif _DURATION.fullmatch(text):
            total = sum((Fraction(n) * SECONDS[unit] for n, unit in _DURATION_PART.findall(text)), Fraction(0))
        else:
            raise wrong
    else:
        number = _finite(value)
        if number is None or number < 0:
            raise wrong
        total = number
    if total > _LONGEST_S:
        raise ValueError(f"{show_found(value)} is longer than a hundred years")
    return timedelta(microseconds=round(total * 1_000_000))


def parse_size(value: object) -> int:
    """'8TB', '64MB', '1.5GiB' or a whole number of bytes, as bytes. Raises ValueError that says what is legal."""
    wrong = ValueError(f"{show_found(value)} is not a size; write it as 64MB, 1.5GiB, 8TB or as a number of bytes")
    if isinstance(value, str):
        text = value.strip()
        found = _SIZE.fullmatch(text)
        if found:
            return round(Fraction(found[1]) * BYTES[found[2].lower()])
        if not (text.isascii() and text.isdecimal()):
            raise wrong
        return int(text)
    number = _finite(value)
    if number is None or number < 0 or number.denominator != 1:
        raise wrong
    return int(number)


def parse_percent(value: object) -> float:
    """'85%' or 0.85, as a fraction from 0 to 1. Raises ValueError that says what is legal."""
    wrong = ValueError(f"{show_found(value)} is not a share; write it as 85% or 0.85")
    if isinstance(value, str):
        text = value.strip()
        found = _PERCENT.fullmatch(text)
        if found:
            number = Fraction(found[1]) / 100
        elif _PLAIN.fullmatch(text):
            number = Fraction(text)
        else:
            raise wrong
    else:
        given = _finite(value)
        if given is None:
            raise wrong
        number = given
    if not 0 <= number <= 1:
        raise wrong
    return float(number)


def parse_switch(value: object) -> bool:
    """on or off as words, or true and false. Raises ValueError that says what is legal."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in ("on", "off", "true", "false"):
        return value.strip().lower() in ("on", "true")
    raise ValueError(f"{show_found(value)} is neither on nor off")


def show_duration(value: timedelta) -> str:
    """The shortest usual reading: '12 d', '3.5 h', '40 s'."""
    seconds = value.total_seconds()
    for unit in ("d", "h", "min"):
        size = float(SECONDS["min" if unit == "min" else unit])
        if abs(seconds) >= size:
            return f"{_short(seconds / size)} {unit}"
    return f"{_short(seconds)} s"


def show_size(value: int) -> str:
    """The usual decimal reading: '16.1 GB'."""
    for unit, size in (("PB", 10**15), ("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if abs(value) >= size:
            return f"{_short(value / size)} {unit}"
    return f"{value} B"


def show_percent(value: float) -> str:
    """A fraction as '85 %'."""
    return f"{_short(value * 100)} %"


def show_found(value: object) -> str:
    """A value as a person wrote it in YAML, cut short."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _short(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _finite(value: object) -> Fraction | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return Fraction(str(value))
