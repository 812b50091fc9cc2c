"""Drives, the robot's arm and their clock: one cartridge a drive, one move at a time, in every process at once.

A cartridge stays in its drive until the drive is wanted for another. Time is charged, never slept: each drive has
a virtual clock, and every move is a line of `log.jsonl`.

Locate costs are the heuristic that CERN published for CTA (taped/rao/CTACostHeuristic.cpp, coefficients for
LTO-7M media); load and unload times are those of IBM's TS2290 drives (user manual, LTO-8 half height).
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any

from tomovault.core.errors import IntegrityError, Transient, UserError
from tomovault.tiers.blocks import holding, replace_file, translating, try_lock, waiting, write_all
from tomovault.tiers.cartridge import HEADER, Cartridge, TapeReader, TapeWriter
from tomovault.tiers.faults import Faults
from tomovault.tiers.options import number_option


@dataclass(frozen=True)
class Timing:
    """Seconds of a drive's moves, bytes per second of its streaming, and the layout of wraps on the medium.

    `rewind_s` is the mean over the tape. Longitudinal positions are in the drive's units.
    """

    load_s: float = 15.0
    unload_s: float = 24.0
    rewind_s: float = 59.0
    stream_rate: float = 360e6
    locate_base_s: float = 4.29
    wrap_change_s: float = 6.69
    band_change_s: float = 3.2
    landing_zone_change_s: float = -6.04
    direction_change_s: float = 5.22
    step_back_s: float = 11.32
    per_position_s: float = 0.0006192
    least_locate_s: float = 1.0
    wraps: float = 112
    bands: float = 4
    first_position: float = 2696
    last_position: float = 171097

    def place(self, share: float) -> tuple[int, float]:
        """Wrap and longitudinal position of a share (0 to 1) of the capacity; odd wraps run backwards."""
        wrap, within = divmod(min(max(share, 0.0), 0.999999999) * self.wraps, 1.0)
        length = self.last_position - self.first_position
        return int(wrap), self.first_position + length * (1 - within if int(wrap) % 2 else within)

    def locate_s(self, here: float, there: float) -> float:
        """Seconds from one share of the capacity to another."""
        if here == there:
            return 0.0
        (wrap, at), (to_wrap, to) = self.place(here), self.place(there)
        middle = (self.first_position + self.last_position) / 2
        per_band = self.wraps / self.bands
        cost = self.locate_base_s + abs(to - at) * self.per_position_s
        cost += self.wrap_change_s * (wrap != to_wrap)
        cost += self.band_change_s * (wrap // per_band != to_wrap // per_band)
        cost += self.landing_zone_change_s * ((at < middle) != (to < middle))
        cost += self.direction_change_s * (wrap % 2 != to_wrap % 2)
        cost += self.step_back_s * (wrap == to_wrap and there < here)
        return max(cost, self.least_locate_s)

    def rewind_from_s(self, here: float) -> float:
        """Seconds back to the load point; its mean over the tape is `rewind_s`."""
        length = self.last_position - self.first_position
        return 2 * self.rewind_s * (self.place(here)[1] - self.first_position) / length if here > 0 else 0.0


def timing_of(tier: str, options: Mapping[str, Any]) -> Timing:
    """The timing with the coefficients that a tier's options name instead of the published ones. Raises UserError."""
    known = Timing()
    timing = replace(
        known, **{f.name: number_option(tier, options, f.name, getattr(known, f.name)) for f in fields(known)}
    )
    if min(timing.stream_rate, timing.wraps, timing.bands, timing.last_position - timing.first_position) <= 0:
        raise UserError(f"tier {tier}: stream_rate, wraps, bands and the length of a wrap must be more than 0")
    return timing


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

    def cartridge_path(self, barcode: str) -> str:
        """Where a cartridge lies. Raises IntegrityError for what cannot be a barcode."""
        if not barcode.isalnum() or not barcode.isascii():
            raise IntegrityError(f"{barcode!r} is no barcode")
        return os.path.join(self._path, "cartridges", barcode)

    def share_of(self, barcode: str | None, position: int) -> float:
        """Position as a share of the capacity of a cartridge that is in a drive."""
        return position / max(self._capacity, position, 1)

    @contextlib.contextmanager
    def mount(self, barcode: str, faults: Faults, *, write: bool = False, fresh: bool = False) -> Iterator[Drive]:
        """The cartridge is in a drive of ours inside; nobody else has it or that drive.

        With `fresh` it was unmounted before and the cache dropped. Raises Transient where drive or cartridge stay
        busy, and Transient or IntegrityError where the cartridge cannot be opened.
        """
        with holding(self._lock_path(f"cartridge-{barcode}"), f"cartridge {barcode}", self._wait_s):
            lock, drive = self._seize(barcode)
            try:
                try:
                    drive.load(barcode, write=write, fresh=fresh, faults=faults)
                    yield drive
                finally:
                    drive.let_go()
            finally:
                os.close(lock)

    def _seize(self, barcode: str) -> tuple[int, Drive]:
        """A locked drive: the one that the cartridge is in, else an empty one, else any."""
        for _ in waiting("every drive", self._wait_s):
            slots = [self._slot(number) for number in range(self._drives)]
            inside = [n for n, slot in enumerate(slots) if slot.barcode == barcode]
            for number in inside or sorted(range(self._drives), key=lambda n: slots[n].barcode is not None):
                with translating(f"drive {number}"):
                    lock = try_lock(self._lock_path(f"drive-{number}"))
                if lock is not None:
                    return lock, Drive(self, number, self._slot(number))
        raise Transient("every drive is in use")

    @contextlib.contextmanager
    def arm(self) -> Iterator[None]:
        """The arm is ours inside."""
        with holding(self._lock_path("arm"), "the robot's arm", self._wait_s):
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
