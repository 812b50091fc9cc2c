"""Single values out of foreign HDF5, where any item may be missing, of another kind, or damaged."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import h5py
import numpy as np

from tomovault.formats.origin import clean

#: Larger arrays are no metadata.
MOST_VALUES = 1_000_000
#: What h5py raises on damaged or unexpected items.
DAMAGE = (OSError, KeyError, RuntimeError, TypeError, ValueError, AttributeError, OverflowError, UnicodeError)


@dataclass(frozen=True)
class Quantity:
    """A number with the unit that its `units` attribute states, None where there is none."""

    value: float
    unit: str | None


def item_of(group: Any, path: str) -> Any:
    """The group or dataset at a path of the same file, None where there is none; external links are not followed."""
    here = group
    for part in path.split("/"):
        if not isinstance(here, h5py.Group):
            return None
        try:
            link = here.get(part, getlink=True)
            if link is None or isinstance(link, h5py.ExternalLink):
                return None
            here = here.get(part)
        except DAMAGE:
            return None
    return here


def value_of(group: Any, path: str) -> Any:
    """The value of a small dataset as plain Python (text, numbers, lists); None where there is none."""
    dataset = item_of(group, path)
    if not isinstance(dataset, h5py.Dataset):
        return None
    try:
        if dataset.is_virtual or dataset.size is None or dataset.size > MOST_VALUES:
            return None
        return plain(dataset[()])
    except DAMAGE:
        return None


def plain(value: Any) -> Any:
    """numpy values and bytes as plain Python."""
    if isinstance(value, bytes):
        return clean(value.decode("utf-8", "replace"))
    if isinstance(value, np.ndarray):
        return [plain(v) for v in value.tolist()]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, list):
        return [plain(v) for v in value]
    if isinstance(value, (str, int, float, bool)):
        return clean(value)
    return None


def text_of(group: Any, path: str) -> str | None:
    """A text, stripped; the first of an array of texts; None where there is none."""
    value = value_of(group, path)
    if isinstance(value, list) and value:
        value = value[0]
    return value.strip() or None if isinstance(value, str) else None


def texts_of(group: Any, path: str) -> tuple[str, ...]:
    """Every text of an array, or the one text."""
    value = value_of(group, path)
    listed = value if isinstance(value, list) else [value]
    return tuple(v for v in listed if isinstance(v, str) and v)


def quantity_of(group: Any, path: str) -> Quantity | None:
    """A finite number (the first of an array) with its unit."""
    value = value_of(group, path)
    while isinstance(value, list):
        value = value[0] if value else None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return Quantity(float(value), unit_of(item_of(group, path)))


def unit_of(dataset: Any) -> str | None:
    """The `units` attribute as text."""
    try:
        unit = plain(dataset.attrs.get("units"))
    except DAMAGE:
        return None
    return unit.strip() or None if isinstance(unit, str) else None


def count_of(group: Any, path: str) -> int | None:
    """A whole number that is not negative."""
    found = quantity_of(group, path)
    if found is None or found.value < 0 or found.value != int(found.value):
        return None
    return int(found.value)


def time_of(text: str | None) -> datetime | None:
    """An ISO 8601 time with its zone as aware UTC; None where it has none, since it could be any."""
    try:
        parsed = datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
    return parsed.astimezone(UTC) if parsed is not None and parsed.tzinfo is not None else None
