"""A library of cartridges in pools, each a failure domain: what it is whatever moves and reads the cartridges.

<path>/library.json            pools, states, which bundle is where; rebuilt from the cartridges if lost
<path>/stage/<ticket>.json     what was asked to be read, in the order in which it is best read
<path>/locks                   who uses what
"""

from __future__ import annotations

import abc
import contextlib
import functools
import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from tomovault.core.errors import IntegrityError, Refused, TomovaultError, Transient, UserError
from tomovault.core.ports import (
    CartridgeRead,
    Checkpoint,
    DriveState,
    Health,
    Parcel,
    Placed,
    Progress,
    Stretch,
    Surveyed,
    Throttle,
)
from tomovault.core.replica import StoredFile
from tomovault.tiers.address import Place, package_numbers, package_of, placed_at, read_place, staged_state
from tomovault.tiers.blocks import deliver, holding, translating
from tomovault.tiers.bundle import (
    Bundle,
    check_bundle,
    member_blocks,
    package_key,
    parcel_key,
    plan_bundle,
    read_manifest,
    write_bundle,
)
from tomovault.tiers.cartridge import EndOfMedium
from tomovault.tiers.claim import require_claim
from tomovault.tiers.label import write_label
from tomovault.tiers.library import (
    CartridgeState,
    Shelf,
    Shelved,
    Stock,
    cartridge_line,
    health_of,
    mark_read_only,
    mark_removed,
    mark_suspect,
)
from tomovault.tiers.lying import end_of_pool, lay_out
from tomovault.tiers.mounted import Machinery, MountedDrive, WriteProtected
from tomovault.tiers.options import folder_option, place_option
from tomovault.tiers.place import check_place
from tomovault.tiers.reading_order import reading_order
from tomovault.tiers.recovery import catch_up, held_bundle, look_at, read_out, state_of
from tomovault.tiers.rereading import read_whole, verify_file
from tomovault.tiers.survey import survey_library
from tomovault.tiers.tickets import Tickets

_FOLDERS = ("cartridges", "stage", "drives", "locks")


class CartridgeLibrary(abc.ABC):
    """All that a library is but its machinery, which a plug-in gives by the abstract methods."""

    def __init__(
        self,
        name: str,
        options: Mapping[str, Any],
        *,
        pools: str,
        capacity: int,
        machinery: Machinery,
        shelf: Shelf,
        wait_s: float,
        now: Callable[[], datetime],
    ) -> None:
        self.name = name
        self._path = folder_option(name, options)
        self._place = place_option(name, options)
        self._pools = pools
        self._capacity = capacity
        self._machinery = machinery
        self._shelf = shelf
        self._wait_s = wait_s
        self._now = now
        self._may_continue: Callable[[], bool] = lambda: True
        self._tickets = Tickets(os.path.join(self._path, "stage"), name)

    # --- what a plug-in gives -----------------------------------------------------------------------

    @abc.abstractmethod
    def _mount(
        self, barcode: str, *, write: bool = False, fresh: bool = False
    ) -> contextlib.AbstractContextManager[MountedDrive]:
        """The cartridge is in a drive of ours inside; with `fresh` after it was taken out of one and brought again.

        Raises Transient where drive or cartridge cannot be had, WriteProtected, and IntegrityError for a cartridge that
        is not what it should be.
        """

    @abc.abstractmethod
    def _check_room(self, plan: Bundle) -> None:
        """Raises UserError for a bundle that no cartridge can hold, NoRoomYet where there is no room for it now."""

    @abc.abstractmethod
    def _writable(self, pool: str) -> str:
        """The barcode of a cartridge of the pool with room, a new one where there is none. Raises NoRoomYet."""

    @abc.abstractmethod
    def _needs_look(self, shelved: Shelved) -> bool:
        """Whether a cartridge that is to be written has to be looked at first."""

    @abc.abstractmethod
    def _ended_early(self, drive: MountedDrive) -> bool:
        """Whether a cartridge on which the medium ended should have had room."""

    @abc.abstractmethod
    def _newcomer(self, barcode: str) -> Shelved:
        """The entry of a cartridge of which nothing is known but its barcode."""

    @abc.abstractmethod
    def _stand(self, barcode: str) -> str:
        """Where a person finds a cartridge."""

    @abc.abstractmethod
    def _sizes(self) -> Mapping[str, int]:
        """Every cartridge here and how much there is to read on it, as far as that is known."""

    def domains(self) -> Sequence[str]:
        """One domain a pool."""
        return tuple(f"{self.name}:{pool}" for pool in self._pools)

    def cartridges(self) -> Sequence[Mapping[str, Any]]:
        """Every cartridge as the library knows it: barcode, pool, generation, state, reason, path."""
        stock = self._shelf.read() or Stock()
        return [cartridge_line(c, self._stand(c.barcode)) for c in stock.cartridges]

    def hold_to(self, may_continue: Callable[[], bool]) -> None:
        """As `ClaimedTier.hold_to`."""
        self._may_continue = may_continue

    def drives(self) -> Sequence[DriveState]:
        """Every drive as it was last left."""
        self._usable()
        return self._machinery.drives()

    def prefer(self, drive: int) -> None:
        """As `DriveTier.prefer`."""
        self._machinery.preferred = drive

    def lay(self, locations: Sequence[str]) -> Mapping[str, Stretch]:
        """Where each of these lies that is in the library."""
        self._usable()
        return lay_out(locations, self._shelf.read() or Stock(), self._present(), self._capacity)

    def writes_to(self, domain: str) -> Stretch | None:
        """Behind the last bundle of the pool; None where a new cartridge will be taken."""
        self._usable()
        return end_of_pool(self._pool_of(domain), self._shelf.read() or Stock(), self._present(), self._capacity)

    # --- writing ---------------------------------------------------------------------------------

    def put(
        self, parcels: Sequence[Parcel], domain: str, *, job: str, throttle: Throttle, checkpoint: Checkpoint
    ) -> Sequence[Placed]:
        """The parcels are on cartridges of one pool, all that were not there already in one new bundle, synced.

        A package that the pool holds is read whole before it is taken for a copy. Raises as `Tier.put`.
        """
        pool = self._pool_of(domain)
        keys = [parcel_key(parcel) for parcel in parcels]
        self._stock()
        self._present()
        with holding(os.path.join(self._path, "locks", f"pool-{pool}"), f"pool {domain}", self._wait_s):
            require_claim(self._may_continue, "written")
            self._recover(pool)
            found = self._found(pool, keys, throttle)
            missing = list({key: p for p, key in zip(parcels, keys, strict=True) if key not in found}.values())
            if missing:
                bundle, place = self._append(pool, missing, job, throttle, checkpoint)
                found.update({package_key(p): placed_at(place, self.name, bundle.pool, p) for p in bundle.packages})
        return tuple(found[key] for key in keys)

    def _pool_of(self, domain: str) -> str:
        tier, _, pool = domain.rpartition(":")
        if tier != self.name or len(pool) != 1 or pool not in self._pools:
            raise UserError(f"{domain!r} is no pool of tier {self.name}", hint=f"pools: {', '.join(self.domains())}")
        return pool

    def _recover(self, pool: str) -> None:
        """What the pool's next bundle would follow is known: bundles finished but not noted are noted."""
        while (shelved := self._stock().writable(pool)) is not None:
            if not self._needs_look(shelved):
                return
            try:
                with self._mounted(shelved.barcode) as drive:
                    known = catch_up(drive, shelved)
            except IntegrityError as damage:
                known = mark_suspect(shelved, damage.message)
            if known != shelved:
                self._shelf.keep(known)
            if known.state in (CartridgeState.FILLING, CartridgeState.LABELLED, CartridgeState.BLANK):
                return

    def _found(self, pool: str, keys: Sequence[str], throttle: Throttle) -> dict[str, Placed]:
        """Packages that the pool has already, every byte of their bundles re-read."""
        found: dict[str, Placed] = {}
        for key in keys:
            for barcode, file in self._stock().holding(pool, key) if key not in found else ():
                try:
                    with self._mount(barcode) as drive, drive.read_file(file) as reader:
                        bundle = check_bundle(reader, throttle)
                except (IntegrityError, Transient):
                    require_claim(self._may_continue, "written")
                    continue  # not a copy to count on, so a new one is written
                place = Place(barcode, file)
                found.update({package_key(p): placed_at(place, self.name, bundle.pool, p) for p in bundle.packages})
                break
        return {key: placed for key, placed in found.items() if key in keys}

    def _append(
        self, pool: str, parcels: Sequence[Parcel], job: str, throttle: Throttle, checkpoint: Checkpoint
    ) -> tuple[Bundle, Place]:
        copy = self._pools.index(pool) + 1
        plan = plan_bundle(
            parcels, bundle=uuid.uuid4().hex, job=job, tier=self.name, pool=pool, copy=copy, now=self._now()
        )
        self._check_room(plan)
        while True:
            barcode = self._writable(pool)
            try:
                number = self._append_to(barcode, plan, parcels, throttle, checkpoint)
            except WriteProtected as protected:
                self._shelf.edit(barcode, functools.partial(mark_read_only, reason=protected.message))
                continue
            if number is not None:
                return plan, Place(barcode, number)

    def _append_to(
        self, barcode: str, plan: Bundle, parcels: Sequence[Parcel], throttle: Throttle, checkpoint: Checkpoint
    ) -> int | None:
        """The bundle's tape file on this cartridge; None where another is to be taken: the medium ended before it, and
        it is full now, or less is on it than was written, and it is suspect.
        """
        with self._mount(barcode, write=True) as drive:
            checkpoint("archive.mounted")
            if self._has_less_than_written(drive):
                return None
            try:
                if not drive.cartridge.files:
                    self._label(drive, plan)
                    checkpoint("archive.labelled")
                with drive.append() as writer:
                    write_bundle(plan, parcels, writer.write, throttle, checkpoint)
                    number = writer.close()
            except EndOfMedium:
                if self._ended_early(drive):
                    raise IntegrityError(f"cartridge {barcode} ended before the bytes that a blank one holds") from None
                self._shelf.edit(barcode, lambda c: replace(c, state=CartridgeState.FULL))
                return None
            checkpoint("archive.synced")
            state, held = state_of(drive), held_bundle(drive, plan, number)
            self._shelf.edit(barcode, lambda c: replace(c, files=number + 1, bundles=(*c.bundles, held), state=state))
            return number

    def _has_less_than_written(self, drive: MountedDrive) -> bool:
        """Whether fewer tape files are found than are known, which would be written over: then it is suspect."""
        barcode, found = drive.cartridge.header.barcode, drive.cartridge.files
        entry = (self._shelf.read() or Stock()).cartridge(barcode)
        if entry is None or found >= entry.files:
            return False
        reason = f"{entry.files} tape files were written, {found} are there"
        self._shelf.edit(barcode, functools.partial(mark_suspect, reason=reason))
        return True

    def _label(self, drive: MountedDrive, plan: Bundle) -> None:
        header = drive.cartridge.header
        with drive.append() as writer:
            write_label(header, tier=self.name, pool=plan.pool, copy=plan.copy, now=self._now(), write=writer.write)
            writer.close()
        self._shelf.edit(header.barcode, lambda c: replace(c, files=1, state=CartridgeState.LABELLED))

    # --- reading ---------------------------------------------------------------------------------

    def verify(self, placed: Sequence[Placed], *, throttle: Throttle) -> Sequence[str]:
        """Each bundle is read whole after a remount, with the cache dropped: records, members, trailer.

        Where a bundle is damaged, an item whose own bytes are all right is still right.
        """
        self._usable()
        answers = [""] * len(placed)
        wanted: dict[str, dict[int, list[int]]] = {}
        for index, item in enumerate(placed):
            place = read_place(item.location)
            wanted.setdefault(place.barcode, {}).setdefault(place.file, []).append(index)
        for barcode in sorted(wanted):
            indices = [index for file in sorted(wanted[barcode]) for index in wanted[barcode][file]]
            try:
                with self._mounted(barcode, fresh=True) as drive:
                    for file in sorted(wanted[barcode]):
                        items = {index: placed[index] for index in wanted[barcode][file]}
                        for index, answer in verify_file(drive, file, items, throttle).items():
                            answers[index] = answer
            except IntegrityError as problem:
                for index in indices:
                    answers[index] = problem.message
        if any(answers):
            self._usable()  # what was unmounted meanwhile is not damaged
        return tuple(answers)

    def read_cartridge(
        self, barcode: str, placed: Sequence[Placed], *, throttle: Throttle, progress: Progress
    ) -> CartridgeRead:
        """As `DriveTier.read_cartridge`; the cartridge's bytes are read from the disk, not from its cache."""
        self._usable()
        try:
            with self._mounted(barcode, fresh=True) as drive:
                entry = (self._shelf.read() or Stock()).cartridge(barcode)
                found = read_whole(drive, entry, placed, throttle, progress)
        except IntegrityError as problem:
            found = CartridgeRead((), (problem.message,) * len(placed), problem.message)
        if any(found.answers) or found.problem or any(file.problem for file in found.files):
            self._usable()  # what was unmounted meanwhile is not damaged
            self._present()
        return found

    @contextlib.contextmanager
    def _mounted(self, barcode: str, *, fresh: bool = False) -> Iterator[MountedDrive]:
        """As `_mount`; a cartridge that is not in the library is an IntegrityError of its own."""
        if barcode not in self._present():
            raise IntegrityError(f"cartridge {barcode} is not in the library", hint="put it back, or use another copy")
        with self._mount(barcode, fresh=fresh) as drive:
            yield drive

    def stage(self, locations: Sequence[str]) -> str:
        """The ticket of a list in the cheapest order of reading; `poll` and fetches follow that order.

        The same list has the same ticket, so that who asks again after a crash leaves nothing behind.
        """
        self._usable()
        places = sorted({read_place(location) for location in locations})
        order = reading_order(places, self._stock(), self._machinery.heads(), self._machinery.timing, self._capacity)
        return self._tickets.write(places, order, self._now())

    def poll(self, ticket: str) -> Mapping[str, str]:
        """Each location of a ticket in the best order of reading: 'ready', or 'failed: why'. Raises UserError."""
        self._usable()
        locations, stock, present = self._tickets.read(ticket), self._stock(), self._present()
        return {location: staged_state(stock, present, read_place(location)) for location in locations}

    def release(self, ticket: str) -> None:
        """The ticket is forgotten."""
        self._tickets.forget(ticket)

    def fetch(
        self, placed: Placed, destination: str, *, throttle: Throttle, progress: Progress
    ) -> Sequence[StoredFile]:
        """The item's files are in `destination`. Only its own members are read. Raises as `deliver`."""
        self._usable()
        place = read_place(placed.location)
        entry = self._stock().cartridge(place.barcode)
        held = entry.bundle_at(place.file) if entry else None
        total, done = sum(f.size for f in placed.files), 0
        fetched: dict[str, StoredFile] = {}

        def moved(count: int) -> None:
            nonlocal done
            done += count
            progress(done, total)

        with self._mounted(place.barcode) as drive, drive.read_file(place.file) as reader:
            bundle = read_manifest(reader)
            package = package_of(bundle, placed)
            if held is not None and bundle.packages.index(package) + 1 in held.removed:
                raise IntegrityError(f"{placed.location}: this package was removed", hint="use another copy")
            wanted = {f.location: f for f in placed.files}
            for member in package.files:
                location = f"{place}/{member.member}"
                if location in wanted:
                    blocks = member_blocks(reader, member, throttle)
                    fetched[location] = deliver(wanted[location], member.name, destination, blocks, moved)
        return tuple(fetched[f.location] for f in placed.files)

    # --- keeping ---------------------------------------------------------------------------------

    def remove(self, placed: Placed, *, as_it_is: bool = False) -> None:
        """The package is marked as removed: it is not given out any more, though a tape cannot erase it.

        Raises Refused for what this library does not hold.
        """
        self._usable()
        place = read_place(placed.location)
        entry = self._stock().cartridge(place.barcode)
        held = entry.bundle_at(place.file) if entry else None
        numbers = package_numbers(placed)
        known = range(1, len(held.packages) + 1) if held else range(0)
        if len(numbers) != 1 or not numbers <= set(known):
            raise Refused(
                f"tier {self.name} knows no package at {placed.location!r}",
                by="law 5",
                hint="nothing was removed; look at `tomovault tape list`",
            )

        def mark(cartridge: Shelved) -> Shelved:
            require_claim(self._may_continue, "removed")
            return mark_removed(cartridge, place.file, numbers)

        self._shelf.edit(place.barcode, mark)

    def inventory(self) -> Iterable[tuple[Parcel, Placed]]:
        """Every package of every finished bundle, by what the cartridges say; not yet verified.

        A cartridge or bundle that cannot be read is left out.
        """
        self._usable()
        for barcode in self._shelf.present():
            found: list[tuple[Parcel, Placed]] = []
            with contextlib.suppress(IntegrityError), self._mounted(barcode) as drive:
                found = read_out(drive, self.name)
            yield from found  # the drive is free again while the caller works

    def survey(self, progress: Progress) -> Iterator[Surveyed]:
        """See `SurveyedTier`; packages that library.json says were removed are left out."""
        self._usable()
        for one in survey_library(self._sizes(), self._shelf, self.name, self._mounted, progress):
            if one.problem:  # what was unmounted meanwhile is not damaged
                self._present()
                self._usable()
            yield one
        self._usable()

    def free_bytes(self) -> int | None:
        """Not known: cartridges can be added."""
        return None

    def health(self) -> Health:
        """Whether the folder is there and can be written, and how many cartridges are in which state."""
        try:
            self._usable()
            return health_of(self._shelf, self._pools)
        except TomovaultError as problem:
            return Health(False, problem.message, problem.hint)

    def _usable(self) -> None:
        """The folder is there, is the one that was marked, and has its subfolders. Raises Transient."""
        hint = f"mount or make {self._path}, or correct the path of tier {self.name}"
        if not os.path.isdir(self._path):
            raise Transient(f"tier {self.name}: {self._path} is not a folder", hint=hint)
        if not os.access(self._path, os.R_OK | os.W_OK | os.X_OK):
            raise Transient(f"tier {self.name}: {self._path} cannot be written", hint=hint)
        if self._place is not None:
            check_place(self._place)
        with translating(f"tier {self.name}"):
            for folder in _FOLDERS:
                os.makedirs(os.path.join(self._path, folder), exist_ok=True)

    def _present(self) -> set[str]:
        """Barcodes of the cartridges that are here. Raises Transient where every known one is away at once."""
        present = set(self._shelf.present())
        known = [c.barcode for c in (self._shelf.read() or Stock()).cartridges if c.files]
        if known and not present.intersection(known):
            raise Transient(
                f"tier {self.name}: none of its {len(known)} cartridges is in {self._path}",
                hint="mount what they are on, or put them back; nothing is read as lost",
            )
        return present

    def _stock(self) -> Stock:
        """What is where; read out of the cartridges where library.json is lost."""
        self._usable()
        known = self._shelf.read()
        if known is not None:
            return known
        stock = Stock()
        for barcode in self._shelf.present():
            stock = stock.with_cartridge(self._look_at(barcode))
        return self._shelf.begin(stock)

    def _look_at(self, barcode: str) -> Shelved:
        blank = self._newcomer(barcode)
        try:
            with self._mounted(barcode) as drive:
                return look_at(drive, blank)
        except IntegrityError as problem:
            return mark_suspect(blank, problem.message)
