"""One tape file of a real drive: its records read forward, or written and closed by a filemark."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator

from tomovault.core.errors import Transient
from tomovault.tiers.cartridge import RECORD, BadRecord, EndOfMedium
from tomovault.tiers.mounted import WriteProtected
from tomovault.tiers.st import Operation, told
from tomovault.tiers.tape_cartridge import TapeCartridge

#: Nearer than so many records, the tape is read on rather than moved.
_NEAR = 64
_PROTECTED = (errno.EROFS, errno.EACCES, errno.EPERM)


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
