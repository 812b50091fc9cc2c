"""Drives, the robot's arm and their clock: one cartridge a drive, one move at a time, in every process at once.

A cartridge stays in its drive until the drive is wanted for another. Time is charged, never slept: each drive has
a virtual clock, and every move is a line of `log.jsonl`.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from tomovault.core.errors import IntegrityError, Transient
from tomovault.core.ports import DriveState
from tomovault.recall.timing import Timing
from tomovault.tiers.blocks import holding, replace_file, translating, try_lock, waiting, write_all
from tomovault.tiers.cartridge import HEADER, Cartridge, TapeReader, TapeWriter
from tomovault.tiers.claim import require_claim
from tomovault.tiers.faults import Faults


@dataclass(frozen=True)
class _Slot:
    """What is in a drive, where its head is (bytes on the medium), and the seconds its clock has been charged."""

    barcode: str | None = None
    position: int = HEADER
    clock_s: float = 0.0


class Drive:
    """A drive that is ours, with one cartridge in it."""

    def __init__(self, robot: Robot, number: int, slot: _Slot) -> None:
        self._robot = robot
        self.number = number
        self._slot = slot
        self._cartridge: Cartridge | None = None

    @property
    def cartridge(self) -> Cartridge:
        """The mounted cartridge."""
        if self._cartridge is None:
            raise Transient(f"drive {self.number} is empty")
        return self._cartridge

    @contextlib.contextmanager
    def read_file(self, number: int) -> Iterator[TapeReader]:
        """A reader at the beginning of a tape file; where it ends up is where the head stays."""
        reader = self.cartridge.read_file(number)
        start = self.cartridge.spans[number][0]
        self._locate(start, number)
        try:
            yield reader
        finally:
            self._stream("read", number, reader.moved, start + reader.position)

    @contextlib.contextmanager
    def append(self) -> Iterator[TapeWriter]:
        """A writer at the end of data. Left by an Exception, what it wrote is cut off again."""
        with translating(f"cartridge {self.cartridge.header.barcode}"):
            self._locate(self.cartridge.end_of_data, self.cartridge.files)
            writer = self.cartridge.begin()
            start = self.cartridge.end_of_data
            try:
                yield writer
            except Exception:
                # A drive that is lost cannot cut; the next one to append finds the end of data and does.
                with contextlib.suppress(OSError):
                    writer.abandon()
                raise
            finally:
                self._stream("write", writer.file, writer.written, start + writer.written)

    def _share(self, offset: int) -> float:
        return offset / self.cartridge.header.capacity

    def _locate(self, offset: int, number: int) -> None:
        seconds = self._robot.timing.locate_s(self._share(self._slot.position), self._share(offset))
        self._charge("locate", seconds, file=number)
        self._slot = replace(self._slot, position=offset)

    def _stream(self, event: str, number: int, count: int, position: int) -> None:
        self._charge(event, count / self._robot.timing.stream_rate, file=number, bytes=count)
        self._slot = replace(self._slot, position=position)

    def _charge(self, event: str, seconds: float, **more: Any) -> None:
        self._slot = replace(self._slot, clock_s=self._slot.clock_s + seconds)
        self._robot.note(self.number, self._slot.barcode, event, seconds, **more)

    def load(self, barcode: str, *, write: bool, fresh: bool, faults: Faults) -> None:
        """The cartridge is mounted here, after a real unload if it was in already and `fresh` is asked."""
        if self._slot.barcode is not None and (fresh or self._slot.barcode != barcode):
            self._unload()
        if self._slot.barcode is None:
            with self._robot.arm():
                self._slot = replace(self._slot, barcode=barcode, position=HEADER)
                self._robot.keep_slot(self.number, self._slot)
                self._charge("mount", self._robot.timing.load_s)
        self._cartridge = Cartridge.open(self._robot.cartridge_path(barcode), faults, write=write)
        if fresh:
            self._cartridge.drop_cache()

    def _unload(self) -> None:
        share = self._robot.share_of(self._slot.barcode, self._slot.position)
        self._charge("rewind", self._robot.timing.rewind_from_s(share))
        with self._robot.arm():
            self._charge("unmount", self._robot.timing.unload_s)
            self._slot = replace(self._slot, barcode=None, position=HEADER)
            self._robot.keep_slot(self.number, self._slot)

    def let_go(self) -> None:
        """The drive is free for others; the cartridge stays in it."""
        if self._cartridge is not None:
            self._cartridge.close()
            self._cartridge = None
        self._robot.keep_slot(self.number, self._slot)


class Robot:
    """The drives and the arm of one library folder."""

    def __init__(
        self, path: str, drives: int, timing: Timing, capacity: int, wait_s: float, now: Callable[[], datetime]
    ) -> None:
        self._path = path
        self._drives = drives
        self._capacity = capacity
        self._wait_s = wait_s
        self._now = now
        self.timing = timing
        #: Asked before each move, since the wait for a drive or the arm may be long (law 7).
        self.may_move: Callable[[], bool] = lambda: True
        #: Into which drive the next cartridge goes that is in none.
        self.preferred: int | None = None

    def cartridge_path(self, barcode: str) -> str:
        """Where a cartridge lies. Raises IntegrityError for what cannot be a barcode."""
        if not barcode.isalnum() or not barcode.isascii():
            raise IntegrityError(f"{barcode!r} is no barcode")
        return os.path.join(self._path, "cartridges", barcode)

    def share_of(self, barcode: str | None, position: int) -> float:
        """Position as a share of the capacity of a cartridge that is in a drive."""
        return position / max(self._capacity, position, 1)

    def heads(self) -> dict[str, float]:
        """Where the head stands on each cartridge that is in a drive, as a share of the capacity."""
        return {drive.cartridge: drive.position for drive in self.drives() if drive.cartridge is not None}

    def drives(self) -> list[DriveState]:
        """Every drive with its cartridge and its head."""
        slots = [self._slot(number) for number in range(self._drives)]
        places = [self.share_of(s.barcode, s.position) if s.barcode is not None else 0.0 for s in slots]
        return [DriveState(n, s.barcode, at) for n, (s, at) in enumerate(zip(slots, places, strict=True))]

    @contextlib.contextmanager
    def mount(self, barcode: str, faults: Faults, *, write: bool = False, fresh: bool = False) -> Iterator[Drive]:
        """The cartridge is in a drive of ours inside; nobody else has it or that drive.

        With `fresh` it was unmounted before and the cache dropped. Raises Transient where drive or cartridge stay
        busy or the claim was lost meanwhile, and Transient or IntegrityError where the cartridge cannot be opened.
        """
        with holding(self._lock_path(f"cartridge-{barcode}"), f"cartridge {barcode}", self._wait_s):
            lock, drive = self._seize(barcode)
            try:
                try:
                    require_claim(self.may_move, "mounted")
                    drive.load(barcode, write=write, fresh=fresh, faults=faults)
                    yield drive
                finally:
                    drive.let_go()
            finally:
                os.close(lock)

    def _seize(self, barcode: str) -> tuple[int, Drive]:
        """A locked drive: the one that the cartridge is in, else the preferred one, else an empty one, else any."""
        for _ in waiting("every drive", self._wait_s):
            slots = [self._slot(number) for number in range(self._drives)]
            inside = [n for n, slot in enumerate(slots) if slot.barcode == barcode]
            others = sorted(range(self._drives), key=lambda n: (n != self.preferred, slots[n].barcode is not None))
            for number in inside or others:
                with translating(f"drive {number}"):
                    lock = try_lock(self._lock_path(f"drive-{number}"))
                if lock is not None:
                    self.preferred = None
                    return lock, Drive(self, number, self._slot(number))
        raise Transient("every drive is in use")

    @contextlib.contextmanager
    def arm(self) -> Iterator[None]:
        """The arm is ours inside. Raises Transient where it stays busy, or the claim was lost meanwhile."""
        with holding(self._lock_path("arm"), "the robot's arm", self._wait_s):
            require_claim(self.may_move, "moved")
            yield

    def note(self, drive: int, barcode: str | None, event: str, seconds: float, **more: Any) -> None:
        """One line of the log. A line that the disk has no room for is not worth a failed job, and is left out."""
        line = {"at": self._now().isoformat(), "drive": drive, "barcode": barcode, "event": event}
        text = json.dumps({**line, "seconds": round(seconds, 3), **more}) + "\n"
        with contextlib.suppress(OSError):
            fd = os.open(self._log_path(), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                write_all(fd, text.encode("ascii"))
            finally:
                os.close(fd)

    def keep_slot(self, number: int, slot: _Slot) -> None:
        """What is in a drive is known to other processes. On a full disk they find it empty, which costs a mount."""
        with contextlib.suppress(OSError):
            replace_file(self._slot_path(number), json.dumps(slot.__dict__).encode("ascii"), sync=False)

    def _slot(self, number: int) -> _Slot:
        try:
            with open(self._slot_path(number), "rb") as stream:
                return _Slot(**json.loads(stream.read()))
        except (OSError, ValueError, TypeError):
            return _Slot()

    def _slot_path(self, number: int) -> str:
        return os.path.join(self._path, "drives", f"{number}.json")

    def _lock_path(self, name: str) -> str:
        return os.path.join(self._path, "locks", name)

    def _log_path(self) -> str:
        return os.path.join(self._path, "log.jsonl")
