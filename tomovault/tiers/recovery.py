"""What a cartridge says of itself: used where the library's state is behind it or lost."""

from __future__ import annotations

from dataclasses import replace

from tomovault.core.errors import IntegrityError, Transient
from tomovault.core.ports import Parcel, Placed
from tomovault.tiers.address import Place, placed_at
from tomovault.tiers.bundle import (
    Bundle,
    BundlePackage,
    check_bundle,
    package_key,
    read_manifest,
    read_text,
    read_trailer,
)
from tomovault.tiers.free import FREE
from tomovault.tiers.label import read_label
from tomovault.tiers.library import CartridgeState, HeldBundle, Shelved, mark_suspect
from tomovault.tiers.mounted import MountedDrive


def held_bundle(drive: MountedDrive, bundle: Bundle, number: int) -> HeldBundle:
    """What the library's state keeps of a finished bundle, which is a tape file of the mounted cartridge."""
    keys = tuple(package_key(package) for package in bundle.packages)
    return HeldBundle(number, bundle.bundle, bundle.job, keys, span=drive.cartridge.span(number))


def state_of(drive: MountedDrive) -> CartridgeState:
    """The state of a sound cartridge with a label."""
    if drive.cartridge.early_warning:
        return CartridgeState.FULL
    return CartridgeState.FILLING if drive.cartridge.files > 1 else CartridgeState.LABELLED


def finished_bundle(drive: MountedDrive, number: int) -> Bundle | None:
    """The bundle that a tape file is, every byte of it read; None where it is not whole or cannot be read."""
    try:
        with drive.read_file(number) as reader:
            return check_bundle(reader, FREE)
    except (IntegrityError, Transient):
        return None


def catch_up(drive: MountedDrive, shelved: Shelved) -> Shelved:
    """The entry with what was written after it was last kept; SUSPECT where less is there than was written."""
    files = drive.cartridge.files
    if files < shelved.files:
        return mark_suspect(shelved, f"{shelved.files} tape files were written, {files} are there")
    if files == shelved.files:
        return shelved
    found = ((number, finished_bundle(drive, number)) for number in range(max(shelved.files, 1), files))
    added = tuple(held_bundle(drive, bundle, number) for number, bundle in found if bundle is not None)
    return replace(shelved, files=files, bundles=(*shelved.bundles, *added), state=state_of(drive))


def look_at(drive: MountedDrive, blank: Shelved) -> Shelved:
    """The entry of a cartridge as it can be known from the cartridge alone. Raises IntegrityError.

    One with something behind its last filemark is SUSPECT: that may be a bundle whose filemark is damaged, and
    the next append would cut it.
    """
    if not drive.cartridge.files:
        return mark_suspect(blank, "its label is not whole") if drive.cartridge.tail else blank
    with drive.read_file(0) as reader:
        label = read_label(reader)
    entry = replace(blank, pool=str(label.get("pool", blank.pool)), generation=drive.cartridge.header.generation)
    entry = catch_up(drive, entry)
    return mark_suspect(entry, "its last tape file is not closed") if drive.cartridge.tail else entry


def read_out(drive: MountedDrive, tier: str) -> list[tuple[Parcel, Placed]]:
    """The packages of every finished bundle of a cartridge by manifests and trailers, their bytes not read.

    A bundle whose manifests or trailer cannot be read is left out, and one of another tier.
    """
    found: list[tuple[Parcel, Placed]] = []
    for number in range(1, drive.cartridge.files):
        try:
            found += _read_out_file(drive, Place(drive.cartridge.header.barcode, number), tier)
        except (IntegrityError, Transient):
            continue
    return found


def parcel_of(package: BundlePackage, placed: Placed, manifest: bytes) -> Parcel:
    """A package of a bundle as it was given to be put there."""
    return Parcel(
        scan=package.scan,
        scan_name=package.scan_name,
        product=package.product,
        digest=package.digest,
        files=placed.files,
        manifest=manifest.decode("utf-8", "surrogateescape"),
        group=package.group,
    )


def _read_out_file(drive: MountedDrive, place: Place, tier: str) -> list[tuple[Parcel, Placed]]:
    found = []
    with drive.read_file(place.file) as reader:
        bundle = read_manifest(reader)
        for package in bundle.packages if bundle.tier == tier else ():
            text = read_text(reader, package.manifest)
            placed = placed_at(place, tier, bundle.pool, package)
            found.append((parcel_of(package, placed, text), placed))
        read_trailer(reader, bundle)
    return found
