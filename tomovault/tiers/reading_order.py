"""In which order the tape files of a batch are read: cartridge by cartridge, and on each by the cheapest tour."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tomovault.recall.timing import Timing
from tomovault.recall.tour import Span, plan_tour
from tomovault.tiers.address import Place
from tomovault.tiers.library import HeldBundle, Stock


def reading_order(
    places: Iterable[Place], stock: Stock, heads: Mapping[str, float], timing: Timing, capacity: int
) -> list[Place]:
    """Each place once. Cartridges that are in a drive come first; `heads` says where their heads stand, as shares of
    the capacity. Tape files whose place on the medium is not known are read by number, after those where it is.
    """
    by_cartridge: dict[str, list[Place]] = {}
    for place in dict.fromkeys(places):
        by_cartridge.setdefault(place.barcode, []).append(place)
    order: list[Place] = []
    for barcode in sorted(by_cartridge, key=lambda b: (b not in heads, b)):
        entry = stock.cartridge(barcode)
        held = {} if entry is None else {bundle.file: bundle for bundle in entry.bundles if bundle.span}
        spans = {p: _span(held[p.file], capacity) for p in by_cartridge[barcode] if p.file in held}
        known = list(spans)
        tour = plan_tour(timing, heads.get(barcode, 0.0), list(spans.values()))
        order += [known[index] for index in tour.order]
        order += sorted(place for place in by_cartridge[barcode] if place not in spans)
    return order


def _span(bundle: HeldBundle, capacity: int) -> Span:
    start, end = bundle.span
    return Span(start / capacity, end / capacity)
