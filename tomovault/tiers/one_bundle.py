"""Archives in which each package is a bundle of its own: how that object is called, and how its package comes out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from tomovault.core.ports import Parcel, Placed, Progress, Throttle
from tomovault.core.replica import StoredFile
from tomovault.tiers.address import package_of
from tomovault.tiers.blocks import deliver
from tomovault.tiers.bundle import BundlePackage, Source, member_blocks, read_manifest

_NAME_LIMIT = 80
_KEY_DIGITS = 32
#: So many objects of one package may be bad before a person has to look.
MOST_FORMS = 100


def plain_word(text: str, otherwise: str) -> str:
    """A text as one word that any program and file system takes, as far as it is plain."""
    return re.sub(r"[^A-Za-z0-9_.]+", "_", text)[:_NAME_LIMIT].strip("._") or otherwise


def object_names(parcel: Parcel, key: str) -> Iterator[str]:
    """Names for the object of a package with this `parcel_key`, the first free one to be taken."""
    start = f"{plain_word(parcel.scan_name, 'scan')}.{key[:_KEY_DIGITS]}"
    yield f"{start}.tar"
    for number in range(2, MOST_FORMS):
        yield f"{start}.{number}.tar"


def member_of(placed: Placed, stored: StoredFile) -> str:
    """The name within its bundle of an item's file."""
    return stored.location.removeprefix(f"{placed.location}/")


def placed_in(location: str, domain: str, package: BundlePackage) -> Placed:
    """Where a package is whose bundle is at a location."""
    files = tuple(StoredFile(f"{location}/{f.member}", f.size, f.sha256) for f in package.files)
    return Placed(location, domain, files)


def fetch_package(
    source: Source, placed: Placed, destination: str, throttle: Throttle, progress: Progress
) -> Sequence[StoredFile]:
    """As `Tier.fetch`, from the open bundle that the item is in; its files are read in the order in which they lie."""
    total, done = sum(f.size for f in placed.files), 0

    def moved(count: int) -> None:
        nonlocal done
        done += count
        progress(done, total)

    package = package_of(read_manifest(source), placed)
    files = {f.member: f for f in package.files}
    fetched = {}
    for stored in sorted(placed.files, key=lambda f: files[member_of(placed, f)].offset):
        file = files[member_of(placed, stored)]
        blocks = member_blocks(source, file, throttle)
        fetched[stored.location] = deliver(stored, file.name, destination, blocks, moved)
    return tuple(fetched[stored.location] for stored in placed.files)
