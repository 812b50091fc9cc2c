"""Bytes and counts as a person reads them."""

from __future__ import annotations

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def show_bytes(count: int | float) -> str:
    """Decimal units, three significant digits: 16.8 MB."""
    size = float(count)
    for unit in _UNITS:
        if abs(size) < 1000 or unit == _UNITS[-1]:
            return f"{size:.0f} {unit}" if unit == "B" or abs(size) >= 100 else f"{size:.3g} {unit}"
        size /= 1000
    raise AssertionError("unreachable")


def counted(number: int, noun: str, many: str = "") -> str:
    """'1 file', '2 files'; `many` is a plural that has more than an s."""
    return f"{number} {noun}" if number == 1 else f"{number} {many or noun + 's'}"
