"""A cartridge in a real drive: tape files found by their numbers, read forward, and appended behind the last filemark.

A tape file's number is counted by filemarks from the beginning of the tape; the driver's own idea of it is compared
behind every move. Where the tape ends is found by a read that finds nothing, never believed from a record of ours.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from typing import Protocol

from tomovault.core.errors import IntegrityError, Transient
from tomovault.tiers.cartridge import RECORD, BadRecord, CartridgeHeader, EndOfMedium
from tomovault.tiers.library import Shelved
from tomovault.tiers.mounted import WriteProtected
from tomovault.tiers.st import Operation, TapeDevice, speaking_to, told

#: Nearer than so many records, the tape is read on rather than moved.
_NEAR = 64
_PROTECTED = (errno.EROFS, errno.EACCES, errno.EPERM)


class Noting(Protocol):
    """Writes a line of the library's log."""

    def __call__(self, event: str, **more: object) -> None:
        """The event is noted with its time, drive and cartridge."""


class TapeCartridge:
    """The cartridge that a device has, with its head anywhere; `known` is what the library noted of it."""

    def __init__(self, device: TapeDevice, header: CartridgeHeader, known: Shelved | None, *, blank: bool) -> None:
        self.header = header
        self.device = device
        self.blank = blank
        self._known = known.files if known is not None else 0
        self._spans = {b.file: b.span for b in known.bundles} if known is not None else {}
        self._files: int | None = 0 if blank else None
        self._tail = 0

    @property
    def files(self) -> int:
        """Number of closed tape files; found by going behind the last one that is known, and on to the end of data."""
        if self._files is None:
            self._files, self._tail = self._counted()
        return self._files

    @property
    def tail(self) -> int:
        """Not 0 where records stand behind the last filemark."""
        return self._tail if self.files >= 0 else 0

    @property
    def early_warning(self) -> bool:
        """Never known before the drive says so by ending a write."""
        return False

    @property
    def data_bytes(self) -> int:
        """Of the tape files that the library noted."""
        return sum(span[1] - span[0] for span in self._spans.values() if span)

    def span(self, number: int) -> tuple[int, ...]:
        """Bytes of records before a tape file and up to its end; empty where nobody noted it."""
        return self._spans.get(number, ())

    def marks_are_whole(self) -> bool:
        """A filemark that cannot be read is a tape file that is missing, or two that became one."""
        return True

    def noted(self, number: int, span: tuple[int, ...]) -> None:
        """A tape file was closed behind all others."""
        self._files, self._tail, self.blank = number + 1, 0, False
        self._spans[number] = span

    def forget_end(self) -> None:
        """Where the tape ends has to be found anew."""
        self._files = None
        self._known = 0 if self.blank else max(1, self._known)

    def locate(self, number: int) -> None:
        """The head is at the beginning of tape file `number`. Raises IntegrityError where the tape ends before it."""
        device, name = self.device, f"{self.header.barcode}#{number}"
        with speaking_to(device.path):
            here = device.status()
        try:
            if number == 0:
                device.do(Operation.REWIND)
            elif here.file < 0 or here.file - number + 1 > number:
                device.do(Operation.REWIND)
                device.do(Operation.FORWARD_FILES, number)
            elif number > here.file:
                device.do(Operation.FORWARD_FILES, number - here.file)
            else:
                device.do(Operation.BACK_FILES, here.file - number + 1)
                device.do(Operation.FORWARD_FILES)
        except OSError as problem:
            if problem.errno != errno.EIO:
                raise told(device.path, problem) from problem
            raise IntegrityError(
                f"{name}: the cartridge ends before it, or cannot be read there", hint="use another copy and scrub it"
            ) from problem
        with speaking_to(device.path):
            there = device.status()
        if there.file != number or there.record not in (0, -1):
            raise Transient(
                f"{device.path}: the driver says file {there.file}, record {there.record} where {name} was wanted",
                hint="it is tried again; if it stays, use another drive",
            )

    def _counted(self) -> tuple[int, int]:
        """How many tape files are closed, and whether records follow the last filemark."""
        number = self._known
        try:
            self.locate(number)
        except IntegrityError:
            number = 0  # there are fewer than were written
            self.locate(0)
        while (record := self._look()) is not None:
            if record and (closed := self._passed()) is not True:
                return (number, 1) if closed is False else self._read_through()
            number += 1
        return number, 0

    def _passed(self) -> bool | None:
        """Whether the tape file under the head is closed, which is then passed; None where the drive does not tell."""
        try:
            self.device.do(Operation.FORWARD_FILES)
        except OSError as problem:
            if problem.errno != errno.EIO:
                raise told(self.device.path, problem) from problem
            return False if self.device.status().end_of_data else None
        return True

    def _read_through(self) -> tuple[int, int]:
        """As `_counted`, by every record: some drives give one error for the end of data and for any other trouble."""
        self.locate(0)
        number = inside = 0
        while (record := self._look()) is not None:
            number, inside = (number, 1) if record else (number + 1, 0)
        return number, inside

    def is_blank(self) -> bool:
        """Whether nothing is on it, or only the filemark that `mt weof` writes to erase what was there.

        Some drives hand over zeros of a blank cartridge, and say that its first record is at the end of the tape.
        """
        with speaking_to(self.device.path):
            self.device.do(Operation.REWIND)
        found = self._look()
        if found:
            with speaking_to(self.device.path):
                at_end = self.device.status().end_of_tape
                self.device.do(Operation.REWIND)
                return at_end and not self.device.read(RECORD).strip(b"\0")
        return found is None or self._look() is None

    def _look(self) -> int | None:
        """Bytes of the record under the head, 0 for a filemark; None where nothing was written."""
        try:
            size = len(self.device.read(RECORD))
        except OSError as problem:
            if problem.errno == errno.ENOMEM:
                return RECORD + 1  # a record larger than ours: not ours
            if not self.device.status().end_of_data:
                raise told(self.device.path, problem) from problem
            return None
        return None if self.device.status().end_of_data else size


class RecordReader:
    """One tape file, read forward; `skip_to` passes over whole records without reading them."""

    def __init__(self, cartridge: TapeCartridge, number: int) -> None:
        self._device = cartridge.device
        self._name = f"{cartridge.header.barcode}#{number}"
        self.position = 0
        self.moved = 0
        self._next = 0
        self._payload = b""
        self._ended = False

    def read(self, count: int) -> bytes:
        """The next bytes, fewer at the end of the tape file. Raises BadRecord, and Transient for a read error."""
        parts = []
        while count > 0:
            record, at = divmod(self.position, RECORD)
            if not self._load(record):
                break
            part = self._payload[at : at + count]
            parts.append(part)
            self.position += len(part)
            count -= len(part)
        return b"".join(parts)

    def skip_to(self, position: int) -> None:
        """Go forward. Raises BadRecord for a way back."""
        if position < self.position:
            raise BadRecord(f"{self._name} is read forward from {self.position}, wanted is {position}")
        self.position = position

    def _load(self, record: int) -> bool:
        """Whether the record is there; it is in memory then."""
        if record == self._next - 1:
            return True
        if record - self._next >= _NEAR:
            self._pass(record - self._next)
        while not self._ended and self._next <= record:
            self._payload = self._record()
            self._ended = not self._payload
            self._next += not self._ended
        return not self._ended

    def _pass(self, count: int) -> None:
        try:
            self._device.do(Operation.FORWARD_RECORDS, count)
        except OSError as problem:
            where = f"record {self._next + count}"
            raise BadRecord(
                f"{self._name} ends, or cannot be read, before {where}", hint="use another copy"
            ) from problem
        self._next += count

    def _record(self) -> bytes:
        where = f"record {self._next} of {self._name}"
        try:
            data = self._device.read(RECORD)
        except OSError as problem:
            if problem.errno == errno.ENOMEM:
                raise BadRecord(f"{where} is longer than {RECORD} bytes", hint="use another copy") from problem
            if problem.errno == errno.EIO and self._device.status().end_of_data:
                return b""
            raise Transient(
                f"read error at {where}: {problem.strerror}", hint="see `dmesg`; use another copy"
            ) from problem
        if self._device.status().end_of_data:
            return b""
        self.moved += len(data)
        if data and len(data) != RECORD:
            raise BadRecord(f"{where} is short: {len(data)} of {RECORD} bytes", hint="use another copy")
        return data


class RecordWriter:
    """One tape file being written; it exists once `close` has returned."""

    def __init__(self, cartridge: TapeCartridge, number: int) -> None:
        self._cartridge = cartridge
        self._device = cartridge.device
        self._buffer = bytearray()
        self.file = number
        self.written = 0
        before = cartridge.span(number - 1)
        self._start = before[1] if before else 0

    def write(self, data: bytes) -> None:
        """Take bytes of any number. Raises EndOfMedium, WriteProtected, OSError."""
        self._buffer += data
        whole = len(self._buffer) - len(self._buffer) % RECORD
        if not whole:
            return
        with memoryview(self._buffer) as view:
            for at in range(0, whole, RECORD):
                self._put(view[at : at + RECORD])
        del self._buffer[:whole]

    def close(self) -> int:
        """The last record is filled up, a filemark written and the drive's buffer with it: the drive said so."""
        if self._buffer:
            self._put(bytes(self._buffer.ljust(RECORD, b"\0")))
        with self._judging():
            self._device.do(Operation.WRITE_FILEMARKS)
        there = self._device.status()
        if there.file != self.file + 1:
            raise Transient(f"{self._device.path}: the driver says file {there.file} behind tape file {self.file}")
        self._cartridge.noted(self.file, (self._start, self._start + self.written))
        return self.file

    def _put(self, record: bytes | memoryview) -> None:
        with self._judging():
            taken = self._device.write(record)
        if taken != RECORD:
            raise EndOfMedium
        self.written += taken

    @contextlib.contextmanager
    def _judging(self) -> Iterator[None]:
        try:
            yield
        except OSError as problem:
            if problem.errno == errno.ENOSPC:
                raise EndOfMedium from problem
            if problem.errno in _PROTECTED:
                barcode = self._cartridge.header.barcode
                raise WriteProtected(f"cartridge {barcode} is write-protected", hint="slide its tab") from problem
            raise told(self._device.path, problem) from problem


class TapeDrive:
    """A real drive of ours with one cartridge in it."""

    def __init__(self, number: int, cartridge: TapeCartridge, note: Noting) -> None:
        self.number = number
        self.cartridge = cartridge
        self._note = note

    @property
    def write_protected(self) -> bool:
        """Whether the cartridge's tab forbids to write."""
        return self.cartridge.device.status().write_protected

    @contextlib.contextmanager
    def read_file(self, number: int) -> Iterator[RecordReader]:
        """A reader at the beginning of a tape file. Raises IntegrityError where the tape ends before it."""
        self.cartridge.locate(number)
        reader = RecordReader(self.cartridge, number)
        try:
            yield reader
        finally:
            self._note("read", file=number, bytes=reader.moved, block=None)

    @contextlib.contextmanager
    def append(self) -> Iterator[RecordWriter]:
        """A writer behind the last filemark. Left by an Exception, what it wrote is a tape file without a trailer."""
        cartridge = self.cartridge
        number = cartridge.files
        cartridge.locate(number)
        block = cartridge.device.block()
        writer = RecordWriter(cartridge, number)
        try:
            yield writer
        except BaseException:
            cartridge.forget_end()
            raise
        finally:
            self._note("write", file=number, bytes=writer.written, block=block)
