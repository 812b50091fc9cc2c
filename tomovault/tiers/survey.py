"""Everything that the cartridges of a library say of themselves, read whole, with what of it is damaged."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace

from tomovault.core.errors import IntegrityError, Transient
from tomovault.core.ports import Harm, Progress, Surveyed
from tomovault.tiers.address import Place, placed_at
from tomovault.tiers.bundle import (
    Bundle,
    BundlePackage,
    check_bundle,
    check_file,
    read_manifest,
    read_text,
    read_trailer,
)
from tomovault.tiers.free import FREE
from tomovault.tiers.label import read_label
from tomovault.tiers.library import LOST, Shelf, Shelved, Stock
from tomovault.tiers.mounted import MountedDrive
from tomovault.tiers.recovery import parcel_of
from tomovault.tiers.surveying import Told, of_another_tier

#: Mounts the cartridge of a barcode.
Mount = Callable[[str], AbstractContextManager[MountedDrive]]


def survey_library(
    sizes: Mapping[str, int], shelf: Shelf, tier: str, mount: Mount, progress: Progress
) -> Iterator[Surveyed]:
    """What is on each cartridge that `sizes` names, by barcode; of those that the shelf knows also what is lacking."""
    if shelf.is_lost():
        yield Surveyed(shelf.path, problem=LOST, harm=Harm.NOTICE)
    stock = shelf.read() or Stock()
    told = Told(progress, sum(sizes.values()))
    for barcode in sorted(sizes.keys() | {c.barcode for c in stock.cartridges if c.bundles}):
        known = stock.cartridge(barcode) or Shelved(barcode, "", "")
        if barcode not in sizes:
            yield Surveyed(barcode, problem="the cartridge is not in the library", harm=Harm.ALL)
            continue
        try:
            with mount(barcode) as drive:
                yield from _survey_cartridge(drive, barcode, tier, known, told)
        except IntegrityError as damage:
            yield Surveyed(barcode, problem=damage.message, harm=Harm.ALL)
        except Transient as away:
            yield Surveyed(barcode, problem=away.message, harm=Harm.UNREACHED)
        told.passed(sizes[barcode])


def _survey_cartridge(drive: MountedDrive, barcode: str, tier: str, known: Shelved, told: Told) -> Iterator[Surveyed]:
    """Its bundles in order; nothing of one whose label is of another tier."""
    owner, damage = _label_of(drive, tier)
    if foreign := of_another_tier("a cartridge", owner, tier):
        yield Surveyed(barcode, problem=foreign, harm=Harm.ALL)
        return
    if damage:
        yield Surveyed(barcode, problem=f"label: {damage}", harm=Harm.NONE)
    for number in range(1, drive.cartridge.files):
        if span := drive.cartridge.span(number):
            told.at(span[0])
        yield from _survey_file(drive, Place(barcode, number), tier, known, told)
    yield from _lacking(drive, known)


def _label_of(drive: MountedDrive, tier: str) -> tuple[str, str]:
    """Of which tier the label is, and what is wrong with it; `tier` where it does not tell."""
    if not drive.cartridge.files:
        return tier, ""
    try:
        with drive.read_file(0) as reader:
            return str(read_label(reader).get("tier", tier)), ""
    except (IntegrityError, Transient) as damage:
        return tier, damage.message


def _survey_file(drive: MountedDrive, place: Place, tier: str, known: Shelved, told: Told) -> Iterator[Surveyed]:
    held = known.bundle_at(place.file)
    removed = held.removed if held is not None else ()
    try:
        bundle, damage = _read_bundle(drive, place, told)
    except (IntegrityError, Transient) as problem:
        yield Surveyed(str(place), problem=problem.message)
        return
    if foreign := of_another_tier("a bundle", bundle.tier, tier):
        yield Surveyed(str(place), problem=foreign)
        return
    own_damage = False
    for number, package in enumerate(bundle.packages, start=1):
        if number in removed:
            continue
        one = _survey_package(drive, place, tier, bundle, package, check=bool(damage))
        if len(bundle.packages) == 1 and not one.problem:
            one = replace(one, problem=damage)  # what is damaged belongs to nobody else, as a verify has it
        own_damage = own_damage or bool(one.problem)
        yield one
    if damage and not own_damage:
        yield Surveyed(str(place), problem=damage, harm=Harm.NONE)


def _read_bundle(drive: MountedDrive, place: Place, told: Told) -> tuple[Bundle, str]:
    """The bundle, every byte of it read, and what is damaged in it, '' if nothing is.

    Raises IntegrityError or Transient where its manifest or its trailer cannot be read: it does not exist then.
    """
    try:
        with drive.read_file(place.file) as reader:
            return check_bundle(reader, told), ""
    except (IntegrityError, Transient) as problem:
        damage = problem.message
    with drive.read_file(place.file) as reader:
        bundle = read_manifest(reader)
        read_trailer(reader, bundle)
    return bundle, damage


def _survey_package(
    drive: MountedDrive, place: Place, tier: str, bundle: Bundle, package: BundlePackage, *, check: bool
) -> Surveyed:
    """A package of a bundle; its own files are read again only if `check` says so."""
    placed = placed_at(place, tier, bundle.pool, package)
    try:
        with drive.read_file(place.file) as reader:
            text = read_text(reader, package.manifest)
    except (IntegrityError, Transient) as damage:
        problem = f"the list of the files of {package.scan_name} cannot be read: {damage.message}"
        return Surveyed(f"{place}/{package.manifest.member}", placed=placed, problem=problem)
    parcel = parcel_of(package, placed, text)
    for member in package.files if check else ():
        try:
            with drive.read_file(place.file) as reader:
                check_file(reader, member, FREE)
        except (IntegrityError, Transient) as damage:
            return Surveyed(f"{place}/{member.member}", parcel, placed, bundle.written_at, damage.message)
    return Surveyed(str(place), parcel, placed, bundle.written_at)


def _lacking(drive: MountedDrive, known: Shelved) -> Iterator[Surveyed]:
    """Tape files that the library knows and the cartridge has not, and what stands behind its last filemark."""
    cartridge = drive.cartridge
    lost = [held for held in known.bundles if held.file >= cartridge.files]
    for held in lost:
        where = f"{known.barcode}#{held.file}"
        yield Surveyed(
            where, problem=f"the cartridge ends before the end of this bundle of {len(held.packages)} package(s)"
        )
    if cartridge.tail and not any(held.file == cartridge.files for held in lost):
        where = f"{cartridge.header.barcode}#{cartridge.files}"
        yield Surveyed(
            where, problem="the tape file is not closed: it was never finished, or the cartridge was cut there"
        )
