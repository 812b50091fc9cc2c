"""Where on its cartridges a library's tape files lie."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from tomovault.core.errors import UserError
from tomovault.core.ports import Stretch
from tomovault.tiers.address import read_place
from tomovault.tiers.library import CartridgeState, Stock

#: Where nobody noted it, a tape file is taken to lie in the middle: never far off.
_MIDDLE = 0.5


def lay_out(locations: Iterable[str], stock: Stock, present: Collection[str], capacity: int) -> dict[str, Stretch]:
    """The stretch of each location whose bundle is known and whose cartridge is here."""
    found: dict[str, Stretch] = {}
    for location in locations:
        try:
            place = read_place(location)
        except UserError:
            continue
        entry = stock.cartridge(place.barcode)
        held = entry.bundle_at(place.file) if entry is not None else None
        if held is None or place.barcode not in present:
            continue
        start, end = held.span or (_MIDDLE * capacity, _MIDDLE * capacity)
        found[location] = Stretch(place.barcode, min(start / capacity, 1.0), min(end / capacity, 1.0))
    return found


def end_of_pool(pool: str, stock: Stock, present: Collection[str], capacity: int) -> Stretch | None:
    """Behind the last bundle of the cartridge that the pool's next one goes to; None where there is none with data."""
    entry = stock.writable(pool)
    if entry is None or entry.state is CartridgeState.BLANK or entry.barcode not in present:
        return None
    end = max((bundle.span[1] for bundle in entry.bundles if bundle.span), default=0) / capacity
    return Stretch(entry.barcode, min(end, 1.0), min(end, 1.0))
