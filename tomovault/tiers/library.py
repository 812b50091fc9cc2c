"""What a library knows of its cartridges: `library.json`, written atomically, rebuilt from the cartridges if lost."""

from __future__ import annotations

import enum
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from tomovault.core.errors import NoRoomYet, Transient
from tomovault.core.ports import Health
from tomovault.core.wire import from_plain, to_plain
from tomovault.tiers.blocks import holding, replace_file, translating

_KIND = "tomovault-library"
_NUMBERS = 100_000

#: What it means that the state is not there, though cartridges are.
LOST = (
    "it is lost or damaged: packages that were removed from the library count again, bundles that a cartridge lacks are"
    " not missed, and whoever uses the library next waits until every cartridge was read once more"
)


def is_barcode(name: str) -> bool:
    """Whether a cartridge can be known by this: letters and digits."""
    return name.isalnum() and name.isascii()


class CartridgeState(enum.StrEnum):
    """The life of a cartridge. Nothing is written to a FULL, a READ_ONLY or a SUSPECT one; all are read."""

    BLANK = "blank"
    LABELLED = "labelled"
    FILLING = "filling"
    FULL = "full"
    READ_ONLY = "read-only"
    SUSPECT = "suspect"


@dataclass(frozen=True)
class HeldBundle:
    """A finished bundle on a cartridge. `packages` are the keys of its packages in order (see `package_key`);
    `removed` are the numbers (from 1) of packages that were removed, whose bytes stay on the tape. `span`: the bytes
    of the medium at which it begins and ends; empty where nobody noted them.
    """

    file: int
    bundle: str
    job: str
    packages: tuple[str, ...]
    removed: tuple[int, ...] = ()
    span: tuple[int, ...] = ()

    def has(self, key: str) -> bool:
        """Whether a package of that key is here and not removed."""
        return any(k == key and n not in self.removed for n, k in enumerate(self.packages, start=1))


@dataclass(frozen=True)
class Shelved:
    """A cartridge. `files` counts the tape files known to be closed on it, label and unfinished bundles included."""

    barcode: str
    pool: str
    generation: str
    state: CartridgeState = CartridgeState.BLANK
    files: int = 0
    bundles: tuple[HeldBundle, ...] = ()
    reason: str = ""

    def bundle_at(self, file: int) -> HeldBundle | None:
        """The finished bundle that is tape file `file`."""
        return next((b for b in self.bundles if b.file == file), None)


@dataclass(frozen=True)
class Stock:
    """All cartridges of a library."""

    cartridges: tuple[Shelved, ...] = ()

    def cartridge(self, barcode: str) -> Shelved | None:
        """The cartridge with a barcode."""
        return next((c for c in self.cartridges if c.barcode == barcode), None)

    def writable(self, pool: str) -> Shelved | None:
        """The cartridge that the pool's next bundle goes to, unless a new one is needed."""
        states = (CartridgeState.FILLING, CartridgeState.LABELLED, CartridgeState.BLANK)
        found = [c for c in self.cartridges if c.pool == pool and c.state in states]
        return min(found, key=lambda c: states.index(c.state)) if found else None

    def holding(self, pool: str, key: str) -> list[tuple[str, int]]:
        """Barcode and tape file of each bundle of the pool with a package of that key, not removed, newest first."""
        found = [(c.barcode, b.file) for c in self.cartridges if c.pool == pool for b in c.bundles if b.has(key)]
        return found[::-1]

    def with_cartridge(self, cartridge: Shelved) -> Stock:
        """The stock with one cartridge added or changed."""
        others = tuple(c for c in self.cartridges if c.barcode != cartridge.barcode)
        return Stock(tuple(sorted((*others, cartridge), key=lambda c: c.barcode)))


class Shelf:
    """The state file of one library folder, changed under a lock."""

    def __init__(self, path: str, slots: int, wait_s: float) -> None:
        self._path = path
        self._slots = slots
        self._wait_s = wait_s

    def read(self) -> Stock | None:
        """What the file says; None where it is lost, empty or damaged."""
        try:
            with open(self.path, "rb") as stream:
                plain = json.loads(stream.read())
            if plain.pop(_KIND) != 1 or "cartridges" not in plain:
                return None
            return from_plain(Stock, plain)
        except (FileNotFoundError, ValueError, TypeError, KeyError, AttributeError):
            return None

    def change(self, edit: Callable[[Stock], Stock]) -> Stock:
        """The file holds what `edit` makes of it; other processes wait meanwhile. Raises NoSpace, Transient."""
        with holding(os.path.join(self._path, "locks", "library"), "the library's state", self._wait_s):
            before = self.read()
            if before is None and self.present():
                raise Transient("library.json was lost just now", hint="it is rebuilt from the cartridges first")
            after = edit(before or Stock())
            if after != before:
                self._write(after)
        return after

    def begin(self, rebuilt: Stock) -> Stock:
        """The file holds what was rebuilt, unless another process has written it meanwhile."""
        with holding(os.path.join(self._path, "locks", "library"), "the library's state", self._wait_s):
            known = self.read()
            if known is None:
                self._write(rebuilt)
        return known or rebuilt

    def _write(self, stock: Stock) -> None:
        text = json.dumps({_KIND: 1, **to_plain(stock)}, indent=1)
        with translating("library.json"):
            replace_file(self.path, text.encode("ascii"))

    def edit(self, barcode: str, change: Callable[[Shelved], Shelved]) -> None:
        """One cartridge's entry is changed, if there is one."""

        def apply(stock: Stock) -> Stock:
            found = stock.cartridge(barcode)
            return stock if found is None else stock.with_cartridge(change(found))

        self.change(apply)

    def keep(self, entry: Shelved) -> None:
        """The entry of its cartridge is as given, but for removals that were marked meanwhile."""

        def kept(present: Shelved) -> Shelved:
            removed = {b.file: b.removed for b in present.bundles}
            bundles = tuple(replace(b, removed=removed.get(b.file, b.removed)) for b in entry.bundles)
            return replace(entry, bundles=bundles)

        self.edit(entry.barcode, kept)

    def allot(self, pool: str, generation: str) -> Shelved:
        """A new entry of a pool with a barcode that no cartridge has. Raises NoRoomYet when all slots are taken."""
        chosen: list[Shelved] = []

        def apply(stock: Stock) -> Stock:
            known = {c.barcode for c in stock.cartridges} | set(self.present())
            if len(known) >= self._slots:
                raise NoRoomYet(
                    f"all {self._slots} slots of the library have a cartridge",
                    hint="raise the tier's slots, or take out full cartridges",
                )
            free = (f"{pool}{number:05d}{generation}" for number in range(1, _NUMBERS))
            chosen.append(Shelved(next(b for b in free if b not in known), pool, generation))
            return stock.with_cartridge(chosen[0])

        self.change(apply)
        return chosen[0]

    def present(self) -> list[str]:
        """Barcodes of the cartridges that are in the library, in order. Raises Transient."""
        with translating("the library's cartridges"):
            names = os.listdir(os.path.join(self._path, "cartridges"))
        return sorted(filter(is_barcode, names))

    def is_lost(self) -> bool:
        """Whether there are cartridges of which no state is known. Raises Transient."""
        return self.read() is None and bool(self.present())

    @property
    def path(self) -> str:
        """Of the state file."""
        return os.path.join(self._path, "library.json")


def mark_removed(cartridge: Shelved, file: int, numbers: set[int]) -> Shelved:
    """The entry of a cartridge that gives these packages of a tape file out no more."""
    bundles = tuple(
        replace(b, removed=tuple(sorted({*b.removed, *numbers}))) if b.file == file else b for b in cartridge.bundles
    )
    return replace(cartridge, bundles=bundles)


def mark_suspect(cartridge: Shelved, reason: str) -> Shelved:
    """The entry of a cartridge that nothing more is written to."""
    return replace(cartridge, state=CartridgeState.SUSPECT, reason=reason)


def mark_read_only(cartridge: Shelved, *, reason: str) -> Shelved:
    """The entry of a cartridge whose tab forbids to write."""
    return replace(cartridge, state=CartridgeState.READ_ONLY, reason=reason)


def health_of(shelf: Shelf, pools: str) -> Health:
    """How many cartridges are in which state. Raises Transient."""
    stock, present = shelf.read() or Stock(), set(shelf.present())
    if shelf.is_lost():
        return Health(True, f"{shelf.path}: {LOST}")
    lost = [c.barcode for c in stock.cartridges if c.files and c.barcode not in present]
    if lost:
        return Health(False, f"missing: {', '.join(lost)}", "put the cartridges back; nothing is read as lost")
    suspect = [c.barcode for c in stock.cartridges if c.state is CartridgeState.SUSPECT]
    counts = ", ".join(f"{sum(c.pool == pool for c in stock.cartridges)} cartridges in pool {pool}" for pool in pools)
    protected = [c.barcode for c in stock.cartridges if c.state is CartridgeState.READ_ONLY]
    named = (("suspect", suspect), ("write-protected", protected))
    return Health(True, "; ".join((counts, *(f"{what}: {', '.join(which)}" for what, which in named if which))))


def cartridge_line(cartridge: Shelved, path: str) -> dict[str, Any]:
    """A cartridge as people are told of it."""
    return {
        "barcode": cartridge.barcode,
        "pool": cartridge.pool,
        "generation": cartridge.generation,
        "state": cartridge.state.value,
        "reason": cartridge.reason,
        "path": path,
    }
