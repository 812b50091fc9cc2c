"""A tape library behind Linux's tape driver `st` and the changer program `mtx`.

    <path>/library.json            pools, states, which bundle is where; rebuilt from the cartridges if lost
    <path>/stage/<ticket>.json     what was asked to be read, in the order in which it is best read
    <path>/log.jsonl               every mount with the drive's serial number, what was read and written, TapeAlert
    <path>/locks                   who uses what

Cartridges are known by the barcode that the changer reads and by the label on the tape, which must agree. Each pool of
cartridges is a failure domain; a cartridge is of the pool whose pattern its barcode matches, and one that matches none
is never touched.
"""

from __future__ import annotations

import contextlib
import fnmatch
import os
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, ClassVar

from tomovault.core.errors import NoRoomYet, TomovaultError, UserError
from tomovault.core.ports import DriveTier, Health
from tomovault.core.replica import TierClass
from tomovault.tiers.bundle import Bundle, bundle_size
from tomovault.tiers.cartridge_library import CartridgeLibrary
from tomovault.tiers.changer import Changer
from tomovault.tiers.library import CartridgeState, Shelf, Shelved, Stock
from tomovault.tiers.mounted import MountedDrive
from tomovault.tiers.options import TIMING_OPTIONS, folder_option, number_option, size_option, timing_option
from tomovault.tiers.tape_alert import Inspector
from tomovault.tiers.tape_drive import TapeDrive
from tomovault.tiers.tape_robot import TapeRobot, generation_of

_WAIT_S = 600.0
#: A move of the changer takes a minute, a load a quarter of one.
_MOVE_S = 600.0
_READY_S = 600.0
_CAPACITY = 18 * 10**12
_MTX = "/usr/sbin/mtx"
_SG_LOGS = "/usr/bin/sg_logs"


class ChangerShelf(Shelf):
    """The shelf of a library whose changer says which cartridges are there."""

    def __init__(self, path: str, wait_s: float, present: Callable[[], list[str]]) -> None:
        super().__init__(path, 0, wait_s)
        self._present = present

    def present(self) -> list[str]:
        """Barcodes of the cartridges of our pools in the library, in order. Raises Transient."""
        return self._present()

    def take_in(self, entry: Shelved) -> None:
        """A cartridge that was not known is."""
        self.change(lambda stock: stock if stock.cartridge(entry.barcode) else stock.with_cartridge(entry))


class TapeLibrary(CartridgeLibrary):
    """The tier of kind `tape_library`. Options: path, changer, devices, pools, capacity, mtx, sg_logs, wait_s, move_s,
    ready_s, and the coefficients of `recall.timing.Timing`.
    """

    OPTIONS: ClassVar[frozenset[str]] = TIMING_OPTIONS | {
        *("path", "changer", "devices", "pools", "capacity", "mtx", "sg_logs", "wait_s", "move_s", "ready_s")
    }
    TIER_CLASS: ClassVar[TierClass] = TierClass.ARCHIVE
    MARKED: ClassVar[bool] = True
    COPIES_IN_FOLDER: ClassVar[bool] = False

    def __init__(self, name: str, options: Mapping[str, Any], *, now: Callable[[], datetime]) -> None:
        path = folder_option(name, options)
        self._patterns = _patterns(name, options)
        capacity = size_option(name, options, "capacity", _CAPACITY)
        wait_s = number_option(name, options, "wait_s", _WAIT_S)
        devices = _devices(name, options)
        changer = Changer(
            name,
            folder_option(name, {"mtx": _MTX, **options}, "mtx"),
            folder_option(name, options, "changer"),
            number_option(name, options, "move_s", _MOVE_S),
        )
        self._robot = TapeRobot(
            name,
            path,
            changer,
            devices,
            Inspector(name, devices, folder_option(name, {"sg_logs": _SG_LOGS, **options}, "sg_logs")),
            timing_option(name, options),
            wait_s=wait_s,
            ready_s=number_option(name, options, "ready_s", _READY_S),
            now=now,
        )
        self._changer_shelf = ChangerShelf(path, wait_s, self._ours)
        super().__init__(
            name,
            options,
            pools="".join(self._patterns),
            capacity=capacity,
            machinery=self._robot,
            shelf=self._changer_shelf,
            wait_s=wait_s,
            now=now,
        )

    def hold_to(self, may_continue: Callable[[], bool]) -> None:
        """As `ClaimedTier.hold_to`."""
        super().hold_to(may_continue)
        self._robot.may_move = may_continue

    def health(self) -> Health:
        """As in any library; and whether changer and drives answer, and which cartridges have no barcode."""
        found = super().health()
        if not found.ok:
            return found
        try:
            contents = self._robot.contents()
        except TomovaultError as problem:
            return Health(False, problem.message, problem.hint)
        missing = [n for n in range(len(self._robot.devices)) if n not in contents.drives]
        if missing:
            told = f"the changer knows drives {sorted(contents.drives)}, and `devices` names {len(self._robot.devices)}"
            return Health(False, told, "give each drive of the changer its device, in the changer's order")
        for device in self._robot.devices:
            if not os.access(device, os.R_OK | os.W_OK):
                return Health(
                    False, f"{device} cannot be read and written", "is it there? is the account in group tape?"
                )
        nameless = contents.nameless()
        if not os.path.lexists(self._shelf.path):
            told = f"{len(self._ours())} cartridges of its pools are there; the next job looks at each of them, as"
            return Health(True, f"{told} {self._shelf.path} is not there")
        return Health(True, found.detail + (f"; {nameless} cartridge(s) without a barcode" if nameless else ""))

    @contextlib.contextmanager
    def _mount(self, barcode: str, *, write: bool = False, fresh: bool = False) -> Iterator[TapeDrive]:
        known = (self._shelf.read() or Stock()).cartridge(barcode)
        with self._robot.mount(barcode, known, write=write, fresh=fresh) as drive:
            if known is not None and known.state is CartridgeState.READ_ONLY and not drive.write_protected:
                self._shelf.edit(barcode, _writable_again)
            yield drive

    def _check_room(self, plan: Bundle) -> None:
        """Raises UserError for a bundle that no cartridge can hold by the tier's `capacity`."""
        if bundle_size(plan) > self._capacity:
            raise UserError(
                f"tier {self.name}: a bundle of {bundle_size(plan)} bytes does not fit on a cartridge"
                f" of {self._capacity} bytes",
                hint="archive fewer scans at once, make smaller packages or use larger cartridges",
            )

    def _writable(self, pool: str) -> str:
        """The barcode of a cartridge of the pool with room, one that was never used where there is none."""
        stock, present = self._stock(), self._present()
        here = Stock(tuple(c for c in stock.cartridges if c.barcode in present))
        if (shelved := here.writable(pool)) is not None:
            return shelved.barcode
        new = [b for b in sorted(present) if stock.cartridge(b) is None and self._pool_at(b) == pool]
        if not new:
            raise NoRoomYet(
                f"tier {self.name}: no cartridge of pool {pool} has room",
                hint=f"put blank cartridges with barcodes like {self._patterns[pool]} into the library",
            )
        self._changer_shelf.take_in(self._newcomer(new[0]))
        return new[0]

    def _needs_look(self, shelved: Shelved) -> bool:
        return shelved.state is not CartridgeState.BLANK

    def _ended_early(self, drive: MountedDrive) -> bool:
        """Where it has no bundle yet: the cartridge is bad, or smaller than `capacity` says."""
        entry = (self._shelf.read() or Stock()).cartridge(drive.cartridge.header.barcode)
        return entry is not None and not entry.bundles

    def _newcomer(self, barcode: str) -> Shelved:
        return Shelved(barcode, self._pool_at(barcode) or "", generation_of(barcode))

    def _stand(self, barcode: str) -> str:
        return f"{self._robot.changer}: {barcode}"

    def _sizes(self) -> Mapping[str, int]:
        stock = self._shelf.read() or Stock()
        return {barcode: _noted(stock.cartridge(barcode)) for barcode in self._ours()}

    def _ours(self) -> list[str]:
        return [b for b in self._robot.contents().barcodes() if self._pool_at(b) is not None]

    def _pool_at(self, barcode: str) -> str | None:
        return next((pool for pool, like in self._patterns.items() if fnmatch.fnmatchcase(barcode, like)), None)


def _writable_again(entry: Shelved) -> Shelved:
    """The entry of a cartridge whose tab was slid back."""
    by_files = {0: CartridgeState.BLANK, 1: CartridgeState.LABELLED}
    return Shelved(
        entry.barcode,
        entry.pool,
        entry.generation,
        by_files.get(entry.files, CartridgeState.FILLING),
        entry.files,
        entry.bundles,
    )


def _noted(entry: Shelved | None) -> int:
    return max((b.span[1] for b in entry.bundles if b.span), default=0) if entry is not None else 0


def _patterns(name: str, options: Mapping[str, Any]) -> dict[str, str]:
    """The pattern of barcodes of each pool, by the pool's letter in order. Raises UserError."""
    pools = options.get("pools")
    if (
        not isinstance(pools, Mapping)
        or not pools
        or not all(isinstance(p, str) and re.fullmatch("[A-Z]", p) for p in pools)
        or not all(isinstance(like, str) and re.fullmatch(r"[A-Za-z0-9*?\[\]-]+", like) for like in pools.values())
    ):
        raise UserError(
            f"tier {name}: pools must give each pool, a capital letter, a pattern of barcodes, not {pools!r}",
            hint='such as {A: "TA*", B: "TB*"}: one pool for each copy',
        )
    return dict(sorted(pools.items()))


def _devices(name: str, options: Mapping[str, Any]) -> tuple[str, ...]:
    """The no-rewind devices of the drives in the changer's order. Raises UserError."""
    devices = options.get("devices")
    if not isinstance(devices, (list, tuple)) or not devices or len(set(map(str, devices))) != len(devices):
        raise UserError(
            f"tier {name}: devices must be a list of no-rewind devices, not {devices!r}",
            hint="such as [/dev/tape/by-id/scsi-XYZ-nst], in the order of the changer's drives",
        )
    paths = tuple(folder_option(name, {"devices": device}, "devices") for device in devices)
    rewinding = [p for p in paths if re.fullmatch(r"/dev/st\d+[alm]?", p)]
    if rewinding:
        raise UserError(
            f"tier {name}: {rewinding[0]} rewinds whenever it is closed",
            hint="name the device whose name begins with nst",
        )
    return paths


PLUGIN: type[DriveTier] = TapeLibrary
