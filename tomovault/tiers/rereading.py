"""Reading again what lies on a mounted cartridge, to tell what of it is still as it was written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tomovault.core.errors import IntegrityError, Transient
from tomovault.core.ports import CartridgeRead, Placed, Progress, TapedPackage, TapeFile, Throttle
from tomovault.tiers.address import package_of, read_place, unlike
from tomovault.tiers.bundle import (
    Bundle,
    NoTrailer,
    check_bundle,
    check_file,
    read_manifest,
    read_text,
    read_trailer,
)
from tomovault.tiers.label import read_label
from tomovault.tiers.library import Shelved
from tomovault.tiers.mounted import MountedDrive


def verify_file(drive: MountedDrive, file: int, items: Mapping[int, Placed], throttle: Throttle) -> dict[int, str]:
    """For each item of a tape file '' where it is right, else what is wrong. The file was read whole."""
    return _judged(drive, file, items, throttle)[1]


def read_whole(
    drive: MountedDrive, entry: Shelved | None, placed: Sequence[Placed], throttle: Throttle, progress: Progress
) -> CartridgeRead:
    """As `DriveTier.read_cartridge`, of a mounted cartridge and what the library knows of it."""
    cartridge = drive.cartridge
    wanted: dict[int, dict[int, Placed]] = {}
    for index, item in enumerate(placed):
        wanted.setdefault(read_place(item.location).file, {})[index] = item
    told = _Told(throttle, progress, cartridge.data_bytes)
    problems = [_label_problem(drive, told)]
    if not cartridge.marks_are_whole():
        problems.append("a filemark is damaged")
    answers = [""] * len(placed)
    files = []
    for number in range(1, cartridge.files):
        bundle, found = _judged(drive, number, wanted.pop(number, {}), told)
        for index, answer in found.items():
            answers[index] = answer
        files.append(_taped(number, bundle, entry) if isinstance(bundle, Bundle) else _bad(number, bundle))
    there = f"the cartridge has {cartridge.files} tape files"
    for items in wanted.values():
        for index in items:
            answers[index] = f"{placed[index].location}: {there}"
    files += [TapeFile(number, problem=there) for number in _lost(entry, cartridge.files)]
    if cartridge.tail and not _lost(entry, cartridge.files):
        files.append(TapeFile(cartridge.files, problem="it is not closed", finished=False))
    told.end()
    return CartridgeRead(tuple(files), tuple(answers), "; ".join(filter(None, problems)), told.done)


class _Told:
    """A throttle that tells how far the reading of a cartridge is."""

    def __init__(self, throttle: Throttle, progress: Progress, total: int) -> None:
        self._throttle = throttle
        self._progress = progress
        self._total = total
        self.done = 0

    def spend(self, count: int) -> None:
        """As `Throttle.spend`."""
        self._throttle.spend(count)
        self.done += count
        self._progress(self.done, max(self.done, self._total))

    def end(self) -> None:
        """All was read that there is."""
        if self.done != self._total:
            self._progress(self.done, self.done)


def _judged(
    drive: MountedDrive, file: int, items: Mapping[int, Placed], throttle: Throttle
) -> tuple[Bundle | IntegrityError | Transient, dict[int, str]]:
    """The bundle, or what is wrong with it, and what is wrong with each item.

    Where a bundle is damaged, an item whose own bytes are all right is still right.
    """
    try:
        with drive.read_file(file) as reader:
            bundle = check_bundle(reader, throttle)
        return bundle, {index: unlike(bundle, item) for index, item in items.items()}
    except (IntegrityError, Transient) as damage:
        problem = damage
    return problem, {i: _alone(drive, file, item, throttle, problem.message) for i, item in items.items()}


def _alone(drive: MountedDrive, file: int, item: Placed, throttle: Throttle, problem: str) -> str:
    """'' if this item's own bytes, the manifest and the trailer are there and right, else what is wrong."""
    try:
        with drive.read_file(file) as reader:
            bundle = read_manifest(reader)
            package = package_of(bundle, item)
            read_text(reader, package.manifest)
            for member in package.files:
                check_file(reader, member, throttle)
            read_trailer(reader, bundle)
    except (IntegrityError, Transient) as own:
        return own.message
    return "" if len(bundle.packages) > 1 else problem


def _label_problem(drive: MountedDrive, throttle: Throttle) -> str:
    """What is wrong with tape file 0; '' on a blank cartridge."""
    if not drive.cartridge.files:
        return ""
    header = drive.cartridge.header
    try:
        with drive.read_file(0) as reader:
            label = read_label(reader)
            throttle.spend(reader.position)
    except (IntegrityError, Transient) as problem:
        return f"label: {problem.message}"
    if (label.get("barcode"), label.get("uuid")) != (header.barcode, header.uuid):
        return f"its label is that of {label.get('barcode')}"
    return ""


def _taped(number: int, bundle: Bundle, entry: Shelved | None) -> TapeFile:
    held = entry.bundle_at(number) if entry else None
    removed = held.removed if held else ()
    packages = (
        TapedPackage(p.scan, p.scan_name, p.product, p.digest, place in removed)
        for place, p in enumerate(bundle.packages, start=1)
    )
    return TapeFile(number, tuple(packages))


def _bad(number: int, problem: IntegrityError | Transient) -> TapeFile:
    return TapeFile(number, problem=problem.message, finished=not isinstance(problem, NoTrailer))


def _lost(entry: Shelved | None, files: int) -> list[int]:
    """Tape files that the library wrote and that are not there, but for those of which nothing is wanted."""
    bundles = entry.bundles if entry else ()
    return [b.file for b in bundles if b.file >= files and len(b.removed) < len(b.packages)]
