"""Experimental conditions out of HDF5 files, converted by the units that the file states."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import h5py

from tomovault.core.scan import CONDITION_UNITS, Condition
from tomovault.formats.hdf5_values import Quantity, item_of, quantity_of, text_of, unit_of, value_of

#: Factor from a unit to the one of CONDITION_UNITS.
_FACTORS: Mapping[str, Mapping[str, float]] = {
    "keV": {"kev": 1.0, "ev": 1e-3, "mev": 1e3},
    "mm": {"mm": 1.0, "m": 1e3, "cm": 10.0, "um": 1e-3, "µm": 1e-3, "micron": 1e-3, "microns": 1e-3},
    "um": {
        "um": 1.0,
        "µm": 1.0,
        "μm": 1.0,
        "micron": 1.0,
        "microns": 1.0,
        "micrometer": 1.0,
        "mm": 1e3,
        "m": 1e6,
        "nm": 1e-3,
    },
    "s": {"s": 1.0, "sec": 1.0, "seconds": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "min": 60.0},
    "deg": {"deg": 1.0, "degree": 1.0, "degrees": 1.0, "rad": 57.29577951308232},
    "mA": {"ma": 1.0, "a": 1e3, "ua": 1e-3},
}
#: Kept in the metadata, so many leaves of a group at most.
_MOST_LEAVES = 500
#: A number in a text, and its unit if there is one.
_NUMBER = re.compile(r"^\s*(?P<value>[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?)\s*(?P<unit>[A-Za-zµμ]*)\s*$")


def convert(file: Any, place: str, condition: str, name: str, assumed: str | None = None) -> Condition | None:
    """The condition at a path of the file `name`, in the unit of CONDITION_UNITS; None where there is none.

    A number without a unit is taken in the unit `assumed`, by default ours, and it is said. Some writers store
    numbers as text.
    """
    quantity = quantity_of(file, place) or _number_in_text(file, place)
    if quantity is None:
        return None
    return made(quantity, condition, f"{name}:{place}", assumed)


def made(quantity: Quantity, condition: str, source: str, assumed: str | None = None) -> Condition | None:
    """A number with a unit as a condition; None where its unit is not one of that condition."""
    unit = CONDITION_UNITS[condition]
    if unit is None:
        whole = quantity.value == int(quantity.value)
        return Condition(int(quantity.value) if whole else quantity.value, None, source)
    if quantity.unit is None:
        taken = assumed or unit
        told = "no unit stated" if taken == unit else f"no unit stated, taken as {taken}"
        return Condition(quantity.value * _FACTORS[unit][taken.lower()], unit, f"{source} ({told})")
    factor = _FACTORS[unit].get(quantity.unit.lower())
    return None if factor is None else Condition(quantity.value * factor, unit, source)


def read_first(
    file: Any, places: Mapping[str, Sequence[str]], name: str, assumed: Mapping[str, str] | None = None
) -> dict[str, Condition]:
    """For each condition what stands at the first of its places that has it; none of them can be negative."""
    found: dict[str, Condition] = {}
    for condition, paths in places.items():
        for path in paths:
            value = convert(file, path, condition, name, (assumed or {}).get(condition))
            # -1 stands for unknown in the files of several writers.
            if value is not None and (not isinstance(value.value, (int, float)) or value.value >= 0):
                found[condition] = value
                break
    return found


def _number_in_text(file: Any, place: str) -> Quantity | None:
    match = _NUMBER.match(text_of(file, place) or "")
    if match is None or not math.isfinite(float(match["value"])):
        return None
    return Quantity(float(match["value"]), match["unit"] or unit_of(item_of(file, place)))


def leaves_of(group: Any, prefix: str = "", room: int = _MOST_LEAVES) -> dict[str, Any]:
    """Small values below a group by their paths, for the metadata."""
    leaves: dict[str, Any] = {}
    if not isinstance(group, h5py.Group) or prefix.count("/") > 5:
        return leaves
    for key in group:
        if len(leaves) >= room:
            break
        item = item_of(group, key)
        if isinstance(item, h5py.Group):
            leaves |= leaves_of(item, f"{prefix}{key}/", room - len(leaves))
        elif isinstance(item, h5py.Dataset) and item.size is not None and item.size <= 64:
            value = value_of(group, key)
            if value is not None:
                leaves[f"{prefix}{key}"] = value
    return leaves
