"""Experimental conditions out of HDF5 files, converted by the units that the file states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import h5py

from tomovault.core.scan import CONDITION_UNITS, Condition
from tomovault.formats.hdf5_values import Quantity, item_of, quantity_of, text_of, unit_of, value_of
from tomovault.formats.quantities import FACTORS, factor_of, is_known, split_quantity

#: Kept in the metadata, so many leaves of a group at most.
_MOST_LEAVES = 500


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
        return Condition(quantity.value * FACTORS[unit][taken.lower()], unit, f"{source} ({told})")
    factor = factor_of(quantity.unit, unit)
    return None if factor is None else Condition(quantity.value * factor, unit, source)


def read_first(
    file: Any, places: Mapping[str, Sequence[str]], name: str, assumed: Mapping[str, str] | None = None
) -> dict[str, Condition]:
    """For each condition what stands at the first of its places that knows it; none of them can be negative."""
    found: dict[str, Condition] = {}
    for condition, paths in places.items():
        for path in paths:
            value = convert(file, path, condition, name, (assumed or {}).get(condition))
            if value is not None and is_known(condition, value.value):
                found[condition] = value
                break
    return found


def _number_in_text(file: Any, place: str) -> Quantity | None:
    found = split_quantity(text_of(file, place))
    return None if found is None else Quantity(found[0], found[1] or unit_of(item_of(file, place)))


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
