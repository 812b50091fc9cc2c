"""A tape library whose cartridges are files: sequential media, drives, an arm, end of medium, and their cost in time.

    <path>/cartridges/<barcode>    one file a cartridge (see `cartridge`)
    <path>/library.json            pools, states, which bundle is where; rebuilt from the cartridges if lost
    <path>/stage/<ticket>.json     what was asked to be read, in the order in which it is best read
    <path>/log.jsonl               every move with the seconds that a real library would have taken
    <path>/drives, <path>/locks    what is in which drive; who uses what

Every copy has a pool of cartridges of its own, and each pool is a failure domain.
"""

from __future__ import annotations

import contextlib
import os
import string
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, ClassVar

from tomovault.core.errors import NoRoomYet, UserError
from tomovault.core.ports import DriveTier
from tomovault.core.replica import TierClass
from tomovault.tiers.blocks import translating
from tomovault.tiers.bundle import Bundle, bundle_size
from tomovault.tiers.cartridge import RECORD, create_cartridge, medium_bytes
from tomovault.tiers.cartridge_library import CartridgeLibrary
from tomovault.tiers.drive import Drive, Robot
from tomovault.tiers.faults import Faults
from tomovault.tiers.folders import free_on
from tomovault.tiers.library import CartridgeState, Shelf, Shelved, is_barcode
from tomovault.tiers.mounted import MountedDrive
from tomovault.tiers.options import (
    TIMING_OPTIONS,
    count_option,
    folder_option,
    number_option,
    size_option,
    text_option,
    timing_option,
)

_CAPACITY = 18 * 10**12

#: Kept free on the library's disk, which a simulated site shares with its catalogue.
_KEPT_FREE = 1 << 20
_WAIT_S = 600.0


class EmulatedLibrary(CartridgeLibrary):
    """The tier of kind `emulated_library`. Options: path, copies, capacity, slots, drives, generation, wait_s, and
    the coefficients of `recall.timing.Timing`. `faults` may be replaced by a test.
    """

    OPTIONS: ClassVar[frozenset[str]] = TIMING_OPTIONS | {
        *("path", "copies", "capacity", "slots", "drives", "generation", "wait_s")
    }
    TIER_CLASS: ClassVar[TierClass] = TierClass.ARCHIVE
    MARKED: ClassVar[bool] = True

    def __init__(self, name: str, options: Mapping[str, Any], *, now: Callable[[], datetime]) -> None:
        path = folder_option(name, options)
        copies = count_option(name, options, "copies", 2, most=len(string.ascii_uppercase))
        capacity = size_option(name, options, "capacity", _CAPACITY)
        wait_s = number_option(name, options, "wait_s", _WAIT_S)
        self.faults = Faults()
        self._generation = text_option(name, options, "generation", "L9")
        if not (self._generation.isascii() and self._generation.isalnum()):
            raise UserError(f"tier {name}: generation must be letters and digits, not {self._generation!r}")
        drives = count_option(name, options, "drives", 2, most=64)
        slots = count_option(name, options, "slots", 1000, most=99_999)
        self._robot = Robot(path, drives, timing_option(name, options), capacity, wait_s, now)
        shelf = Shelf(path, slots, wait_s)
        super().__init__(
            name,
            options,
            pools=string.ascii_uppercase[:copies],
            capacity=capacity,
            machinery=self._robot,
            shelf=shelf,
            wait_s=wait_s,
            now=now,
        )

    def hold_to(self, may_continue: Callable[[], bool]) -> None:
        """As `ClaimedTier.hold_to`."""
        super().hold_to(may_continue)
        self._robot.may_move = may_continue

    def _mount(
        self, barcode: str, *, write: bool = False, fresh: bool = False
    ) -> contextlib.AbstractContextManager[Drive]:
        return self._robot.mount(barcode, self.faults, write=write, fresh=fresh)

    def _check_room(self, plan: Bundle) -> None:
        """Raises UserError for a bundle that no cartridge can hold, NoRoomYet where the library's disk is too full."""
        need = medium_bytes(RECORD, bundle_size(plan))
        if need > self._capacity:
            raise UserError(
                f"tier {self.name}: a bundle of {bundle_size(plan)} bytes does not fit on a blank cartridge"
                f" of {self._capacity} bytes",
                hint="archive fewer scans at once, make smaller packages or use larger cartridges",
            )
        with translating(f"tier {self.name}"):
            folder = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                free = free_on(folder)
            finally:
                os.close(folder)
        if free is not None and free - need < _KEPT_FREE:
            raise NoRoomYet(
                f"tier {self.name}: {need} more of the {free} bytes free in {self._path} would leave less than"
                f" {_KEPT_FREE}",
                hint="it goes on by itself when there is room",
            )

    def _writable(self, pool: str) -> str:
        """The barcode of a cartridge of the pool with room, a new one where there is none."""
        shelved = self._stock().writable(pool) or self._shelf.allot(pool, self._generation)
        path = self._robot.cartridge_path(shelved.barcode)
        if shelved.state is CartridgeState.BLANK and not os.path.lexists(path):
            create_cartridge(path, shelved.barcode, self._generation, self._capacity)
        return shelved.barcode

    def _needs_look(self, shelved: Shelved) -> bool:
        """Of a new one there is no file yet."""
        made = os.path.lexists(self._robot.cartridge_path(shelved.barcode))
        return shelved.state is not CartridgeState.BLANK or made

    def _ended_early(self, drive: MountedDrive) -> bool:
        return drive.cartridge.files <= 1 and drive.cartridge.header.capacity >= self._capacity

    def _newcomer(self, barcode: str) -> Shelved:
        return Shelved(barcode, barcode[:1], self._generation)

    def _stand(self, barcode: str) -> str:
        return os.path.join(self._path, "cartridges", barcode)

    def _sizes(self) -> Mapping[str, int]:
        folder = os.path.join(self._path, "cartridges")
        with translating(f"tier {self.name}"):
            return {name: _size_of(os.path.join(folder, name)) for name in os.listdir(folder) if is_barcode(name)}


def _size_of(path: str) -> int:
    """Bytes of a cartridge; none where that cannot be told, which its mount will say."""
    with contextlib.suppress(OSError):
        return os.lstat(path).st_size
    return 0


PLUGIN: type[DriveTier] = EmulatedLibrary
