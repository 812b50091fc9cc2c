"""Real drives and a real changer: one cartridge a drive, one move at a time, each behind a lock of the system.

What is in which drive is asked of the changer, never remembered. A mount ends with the label read: the barcode that the
changer saw and the one that stands on the tape must be one.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime

from tomovault.core.errors import IntegrityError, InUse, NotYet, Transient
from tomovault.core.ports import DriveState
from tomovault.recall.timing import Timing
from tomovault.tiers.blocks import holding, translating, try_lock, waiting, write_all
from tomovault.tiers.cartridge import CartridgeHeader
from tomovault.tiers.changer import Changer, Contents
from tomovault.tiers.claim import require_claim
from tomovault.tiers.label import read_label
from tomovault.tiers.library import Shelved
from tomovault.tiers.mounted import WriteProtected
from tomovault.tiers.st import NotReady, Operation, TapeDevice, speaking_to, told
from tomovault.tiers.tape_alert import Inspector
from tomovault.tiers.tape_cartridge import TapeCartridge
from tomovault.tiers.tape_drive import TapeDrive
from tomovault.tiers.tape_file import RecordReader

_READY_STEP_S = 1.0
_SEIZE_STEP_S = 0.5
_BELIEVED_S = 5.0
#: Bytes that a cartridge is said to hold where nobody knows: those of no real one.
_UNKNOWN = (1 << 63) - 1


class TapeRobot:
    """The drives and the changer of one library, for all processes of this machine."""

    def __init__(
        self,
        tier: str,
        path: str,
        changer: Changer,
        devices: Sequence[str],
        inspector: Inspector,
        timing: Timing,
        *,
        wait_s: float,
        ready_s: float,
        now: Callable[[], datetime],
    ) -> None:
        self.timing = timing
        #: Asked before each move, since the wait for a drive or the changer may be long (law 7).
        self.may_move: Callable[[], bool] = lambda: True
        #: Into which drive the next cartridge goes that is in none.
        self.preferred: int | None = None
        self._tier = tier
        self._path = path
        self._changer = changer
        self.changer = changer.device
        self.devices = tuple(devices)
        self._inspector = inspector
        self._wait_s = wait_s
        self._seen: tuple[float, Contents] | None = None
        self._ready_s = ready_s
        self._now = now

    def contents(self) -> Contents:
        """What was where a moment ago: what must be known now is asked again before it is moved. Raises Transient."""
        if self._seen is not None and time.monotonic() - self._seen[0] < _BELIEVED_S:
            return self._seen[1]
        with self._arm():
            return self._look()

    def _look(self) -> Contents:
        found = self._changer.contents()
        self._seen = (time.monotonic(), found)
        return found

    def drives(self) -> list[DriveState]:
        """Every drive of ours with its cartridge; where its head is stands nowhere."""
        inside = self.contents().drives
        return [
            DriveState(n, inside[n].barcode or None if n in inside else None, 0.0) for n in range(len(self.devices))
        ]

    def heads(self) -> Mapping[str, float]:
        """The cartridges that are in a drive, each taken to be rewound, as a mount leaves it."""
        return {drive.cartridge: 0.0 for drive in self.drives() if drive.cartridge is not None}

    @contextlib.contextmanager
    def mount(
        self, barcode: str, known: Shelved | None, *, write: bool = False, fresh: bool = False
    ) -> Iterator[TapeDrive]:
        """The cartridge is in a drive of ours inside, its label read; nobody else has it or that drive.

        With `fresh` it was taken out of the drive and brought again. Raises Transient where drive, changer or cartridge
        cannot be had or the claim was lost meanwhile; WriteProtected; IntegrityError where the label is not that of the
        cartridge with the barcode.
        """
        with holding(self._lock_path(f"cartridge-{barcode}"), f"cartridge {barcode}", self._wait_s):
            lock, number = self._seize(barcode)
            try:
                require_claim(self.may_move, "mounted")
                self._bring(barcode, number, fresh=fresh)
                device = self._ready(number, barcode, write=write)
                try:
                    yield TapeDrive(number, self._identified(device, barcode, known), self._noting(number, barcode))
                finally:
                    device.close()
                    self._inspector.alerts(number, barcode, self.note)
            finally:
                os.close(lock)

    def _seize(self, barcode: str) -> tuple[int, int]:
        """Lock and number of a drive: the one that the cartridge is in, else the preferred one, an empty one, any."""
        for _ in waiting("every drive", self._wait_s):
            inside = self.contents().drives
            ours = [n for n in range(len(self.devices)) if n in inside]
            if not ours:
                raise Transient(
                    f"tier {self._tier}: the changer knows none of its drives", hint="see `drives` of the tier"
                )
            there = [n for n in ours if inside[n].barcode == barcode]
            for number in there or sorted(ours, key=lambda n: (n != self.preferred, inside[n].full)):
                with translating(f"drive {number}"):
                    lock = try_lock(self._lock_path(f"drive-{number}"))
                if lock is not None:
                    self.preferred = None
                    return lock, number
            self._seen = None
            time.sleep(_SEIZE_STEP_S)  # the changer is not to be asked all the time
        raise InUse("every drive is in use")

    # --- moving ---------------------------------------------------------------------------------

    def _bring(self, barcode: str, number: int, *, fresh: bool) -> None:
        """The cartridge is in the drive, says the changer behind the move."""
        with self._arm():
            contents = self._look()
            inside = contents.drives[number]
            if inside.full and (fresh or inside.barcode != barcode):
                self._put_back(contents, number)
                contents = self._look()
            if contents.drives[number].barcode == barcode:
                return
            slot = contents.slot_of(barcode)
            if slot is None:
                where = contents.drive_of(barcode)
                if where is not None:
                    raise InUse(f"cartridge {barcode} is in drive {where}, which is not to be had now")
                raise NotYet(f"cartridge {barcode} is not in the library any more", hint="put it back")
            require_claim(self.may_move, "moved")
            began = time.monotonic()
            self._changer.load(slot, number)
            found = self._look().drives[number]
            if found.barcode != barcode:
                raise Transient(
                    f"{found.barcode or 'nothing'} is in drive {number} where {barcode} was brought from slot {slot}",
                    hint="let the library take its inventory, and look at the barcodes; nothing was read or written",
                )
            self.note(number, barcode, "mount", seconds=round(time.monotonic() - began, 3), slot=slot)
        self._inspector.serial(number, barcode, self.note)

    def _put_back(self, contents: Contents, number: int) -> None:
        """The drive is empty: the tape rewound and ejected, the cartridge in a slot."""
        inside = contents.drives[number]
        slot = contents.free_slot(inside.home)
        if slot is None:
            raise Transient(
                f"tier {self._tier}: no slot is empty for the cartridge in drive {number}", hint="empty one"
            )
        require_claim(self.may_move, "moved")
        began = time.monotonic()
        device = TapeDevice.open(self.devices[number], write=False, wait=False)
        try:
            device.do(Operation.OFFLINE)
        except OSError as problem:
            if problem.errno not in (errno.EIO, errno.ENOMEDIUM):  # where it is out already there is nothing to eject
                raise told(device.path, problem) from problem
        finally:
            device.close()
        self._changer.unload(slot, number)
        if self._look().drives[number].full:
            raise Transient(
                f"drive {number} still has {inside.barcode or 'a cartridge'} after mtx unloaded it",
                hint="see the library's panel: the move is stuck",
            )
        self.note(number, inside.barcode or None, "unmount", seconds=round(time.monotonic() - began, 3), slot=slot)

    def _ready(self, number: int, barcode: str, *, write: bool) -> TapeDevice:
        """The open device, the cartridge threaded and the driver set to records of any size."""
        path, end = self.devices[number], time.monotonic() + self._ready_s
        while True:
            try:
                device = TapeDevice.open(path, write=write)
                break
            except WriteProtected as problem:
                raise WriteProtected(f"cartridge {barcode} is write-protected", hint=problem.hint) from problem
            except NotReady:
                if time.monotonic() >= end:
                    raise
                time.sleep(_READY_STEP_S)
        try:
            with speaking_to(path):
                device.do(Operation.SET_BLOCK, 0)
                device.do(Operation.REWIND)
            if write:
                require_claim(self.may_move, "written")
        except BaseException:
            device.close()
            raise
        return device

    def _identified(self, device: TapeDevice, barcode: str, known: Shelved | None) -> TapeCartridge:
        """The cartridge, whose label says that it has this barcode, or on which nothing was ever written."""
        generation = generation_of(barcode)
        new = CartridgeHeader(barcode, uuid.uuid4().hex, generation, _UNKNOWN)
        blank = TapeCartridge(device, new, known, blank=True)
        try:
            label = read_label(RecordReader(blank, 0))
        except IntegrityError as problem:
            if not blank.is_blank():
                raise IntegrityError(
                    f"cartridge {barcode} holds something that tomovault did not write, or its label is damaged",
                    hint="nothing is written to it; only if nobody needs it: mt rewind, then mt weof",
                ) from problem
            if known is not None and known.files:
                raise IntegrityError(
                    f"cartridge {barcode} is blank, and {known.files} tape files were written to it",
                    hint="it was erased, or another cartridge has its barcode",
                ) from problem
            return blank
        if label.get("barcode") != barcode:
            raise IntegrityError(
                f"cartridge {barcode} says that it is {label.get('barcode')}",
                hint="put each cartridge back under its own barcode, and let the library take its inventory",
            )
        header = CartridgeHeader(barcode, str(label.get("uuid")), str(label.get("generation", generation)), _UNKNOWN)
        return TapeCartridge(device, header, known, blank=False)

    # --- locks and log --------------------------------------------------------------------------

    @contextlib.contextmanager
    def _arm(self) -> Iterator[None]:
        """The changer is ours inside."""
        with holding(self._lock_path("arm"), "the library's changer", self._wait_s):
            yield

    def _noting(self, number: int, barcode: str) -> Callable[..., None]:
        def note(event: str, **more: object) -> None:
            self.note(number, barcode, event, **more)

        return note

    def note(self, drive: int, barcode: str | None, event: str, **more: object) -> None:
        """One line of the log. A line that the disk has no room for is not worth a failed job, and is left out."""
        line = {"at": self._now().isoformat(), "drive": drive, "barcode": barcode, "event": event}
        with contextlib.suppress(OSError):
            fd = os.open(
                os.path.join(self._path, "log.jsonl"), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644
            )
            try:
                write_all(fd, (json.dumps({**line, **more}) + "\n").encode("ascii"))
            finally:
                os.close(fd)

    def _lock_path(self, name: str) -> str:
        return os.path.join(self._path, "locks", name)


def generation_of(barcode: str) -> str:
    """The medium's code at the end of a barcode of eight characters, as LTO has it ('L9'); '' where there is none."""
    return barcode[6:] if len(barcode) == 8 else ""
