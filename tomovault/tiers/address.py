"""Locations on a library: `BARCODE#FILE` is a bundle, `BARCODE#FILE/MEMBER` a file of a package in it."""

from __future__ import annotations

from dataclasses import dataclass

from tomovault.core.errors import IntegrityError, UserError
from tomovault.core.ports import Placed
from tomovault.core.replica import StoredFile
from tomovault.tiers.bundle import Bundle, BundlePackage
from tomovault.tiers.library import Stock


@dataclass(frozen=True, order=True)
class Place:
    """A tape file of a cartridge; in the order in which it is best read."""

    barcode: str
    file: int

    def __str__(self) -> str:
        return f"{self.barcode}#{self.file}"


def read_place(location: str) -> Place:
    """A location taken apart. Raises UserError."""
    barcode, mark, file = location.partition("#")
    if not mark or not file.isascii() or not file.isdigit() or not (barcode.isascii() and barcode.isalnum()):
        raise UserError(f"{location!r} is no location on a tape library", hint="one looks like A00001L9#3")
    return Place(barcode, int(file))


def placed_at(place: Place, tier: str, pool: str, package: BundlePackage) -> Placed:
    """Where a package of a bundle is."""
    files = tuple(StoredFile(f"{place}/{f.member}", f.size, f.sha256) for f in package.files)
    return Placed(str(place), f"{tier}:{pool}", files)


def package_numbers(placed: Placed) -> set[int]:
    """Numbers (from 1) of the packages that an item's files are in; 0 stands for what is no package's file."""
    start = f"{placed.location}/packages/"
    names = [f.location[len(start) :].partition("/")[0] if f.location.startswith(start) else "" for f in placed.files]
    return {int(name) if name.isascii() and name.isdigit() else 0 for name in names}


def package_of(bundle: Bundle, placed: Placed) -> BundlePackage:
    """The package that an item is, all of whose files are as the bundle's manifest says. Raises IntegrityError."""
    members = [f.location.removeprefix(f"{placed.location}/") for f in placed.files]
    for package in bundle.packages:
        known = {f.member: f for f in package.files}
        if not members or not set(members) <= set(known):
            continue
        for name, file in zip(members, placed.files, strict=True):
            if (known[name].size, known[name].sha256) != (file.size, file.sha256.lower()):
                raise IntegrityError(f"{file.location!r} has another digest than recorded", hint="use another copy")
        return package
    raise IntegrityError(f"the recorded files are not in the bundle at {placed.location}", hint="use another copy")


def staged_state(stock: Stock, present: set[str], place: Place) -> str:
    """'ready', or 'failed: why', of a tape file."""
    entry = stock.cartridge(place.barcode)
    held = entry.bundle_at(place.file) if entry else None
    if place.barcode not in present:
        return f"failed: cartridge {place.barcode} is not in the library"
    if held is None:
        return f"failed: no finished bundle is known at {place}"
    if len(held.removed) == len(held.packages):
        return f"failed: everything at {place} was removed"
    return "ready"


def unlike(bundle: Bundle, placed: Placed) -> str:
    """What is wrong with an item as the bundle's manifest has it; '' where nothing is."""
    try:
        package_of(bundle, placed)
    except IntegrityError as problem:
        return problem.message
    return ""
