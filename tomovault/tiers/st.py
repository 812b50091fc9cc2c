"""A tape drive behind Linux's `st` driver: the no-rewind device, its ioctls, and records as they are on the tape.

Numbers are those of <linux/mtio.h> (see mtio and st in the kernel's Documentation/scsi/st.rst). The driver is put into
variable block mode, so that each write is one record of its own size, and each read one record. MTEOM is not used: what
the driver then says of the file number is its own sum, and drives were seen that make it wrong.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from tomovault.core.errors import InUse, Transient
from tomovault.tiers.mounted import WriteProtected

_MTIOCTOP = 0x40086D01
_MTIOCGET = 0x80306D02
_MTIOCPOS = 0x80086D03
_OPERATION = struct.Struct("@hxxi")
_STATUS = struct.Struct("@lllllii")
_POSITION = struct.Struct("@l")

_EOT, _EOD, _WRITE_PROTECTED, _ONLINE, _NO_TAPE = 1 << 29, 1 << 27, 1 << 26, 1 << 24, 1 << 18

#: A drive that was lost or switched off, as the driver tells it.
_LOST = (errno.ENXIO, errno.ENODEV, errno.ENOENT)


class NotReady(Transient):
    """No cartridge is ready in the drive, perhaps not yet."""


class Operation(IntEnum):
    """What MTIOCTOP can be asked for."""

    FORWARD_FILES = 1
    BACK_FILES = 2
    FORWARD_RECORDS = 3
    WRITE_FILEMARKS = 5
    REWIND = 6
    OFFLINE = 7
    SET_BLOCK = 20


class System(Protocol):
    """The calls of the operating system that a drive is used by."""

    def open(self, path: str, flags: int) -> int:
        """As os.open."""

    def close(self, fd: int) -> None:
        """As os.close."""

    def read(self, fd: int, count: int) -> bytes:
        """As os.read."""

    def write(self, fd: int, data: bytes | memoryview) -> int:
        """As os.write."""

    def ioctl(self, fd: int, request: int, argument: bytearray) -> int:
        """As fcntl.ioctl with a buffer that is changed."""


class Linux:
    """The system itself."""

    def open(self, path: str, flags: int) -> int:
        """As os.open."""
        return os.open(path, flags)

    def close(self, fd: int) -> None:
        """As os.close."""
        os.close(fd)

    def read(self, fd: int, count: int) -> bytes:
        """As os.read."""
        return os.read(fd, count)

    def write(self, fd: int, data: bytes | memoryview) -> int:
        """As os.write."""
        return os.write(fd, data)

    def ioctl(self, fd: int, request: int, argument: bytearray) -> int:
        """As fcntl.ioctl with a buffer that is changed."""
        return int(fcntl.ioctl(fd, request, argument))


#: Replaced where a test has no drive.
SYSTEM: System = Linux()


@dataclass(frozen=True)
class Status:
    """What MTIOCGET says. `file` and `record` are -1 where the driver does not know."""

    file: int
    record: int
    bits: int

    @property
    def online(self) -> bool:
        """A cartridge is in the drive and ready."""
        return bool(self.bits & _ONLINE) and not self.bits & _NO_TAPE

    @property
    def write_protected(self) -> bool:
        """Nothing can be written to the cartridge."""
        return bool(self.bits & _WRITE_PROTECTED)

    @property
    def end_of_tape(self) -> bool:
        """The end of the tape is near or here, which says nothing of what was read."""
        return bool(self.bits & _EOT)

    @property
    def end_of_data(self) -> bool:
        """Nothing was written where the head is."""
        return bool(self.bits & _EOD)


class TapeDevice:
    """An open no-rewind device. Methods raise OSError where nothing else is said."""

    def __init__(self, path: str, fd: int, system: System) -> None:
        self.path = path
        self._fd = fd
        self._system = system

    @classmethod
    def open(cls, path: str, *, write: bool, wait: bool = True) -> TapeDevice:
        """The device, for one process at a time. Raises InUse, WriteProtected, and Transient where it is lost or empty.

        Without `wait` a drive without a ready cartridge is opened as well.
        """
        flags = (os.O_RDWR if write else os.O_RDONLY) | os.O_CLOEXEC | (0 if wait else os.O_NONBLOCK)
        with speaking_to(path):
            return cls(path, SYSTEM.open(path, flags), SYSTEM)

    def close(self) -> None:
        """The device is free for others. Behind a record that was written last, the driver writes a filemark."""
        self._system.close(self._fd)

    def do(self, operation: Operation, count: int = 1) -> None:
        """The operation has ended; a filemark is on the tape, and every record before it."""
        self._system.ioctl(self._fd, _MTIOCTOP, bytearray(_OPERATION.pack(operation, count)))

    def status(self) -> Status:
        """Where the head is, and what the drive says of that place. Raises Transient."""
        buffer = bytearray(_STATUS.size)
        with speaking_to(self.path):
            self._system.ioctl(self._fd, _MTIOCGET, buffer)
        _, _, _, bits, _, file, record = _STATUS.unpack(buffer)
        return Status(file, record, bits & 0xFFFFFFFF)

    def block(self) -> int | None:
        """The drive's own number of the block under the head: a hint only. None where the drive does not tell."""
        buffer = bytearray(_POSITION.size)
        try:
            self._system.ioctl(self._fd, _MTIOCPOS, buffer)
        except OSError:
            return None
        return int(_POSITION.unpack(buffer)[0])

    def read(self, count: int) -> bytes:
        """The next record; nothing where there is a filemark, which is then passed."""
        return self._system.read(self._fd, count)

    def write(self, record: bytes | memoryview) -> int:
        """The record is handed to the drive; how much of it was taken."""
        return self._system.write(self._fd, record)


@contextlib.contextmanager
def speaking_to(path: str) -> Iterator[None]:
    """Errors of the driver become errors of ours."""
    try:
        yield
    except OSError as problem:
        raise told(path, problem) from problem


def told(path: str, problem: OSError) -> Transient:
    """An error of the driver in our words."""
    reason = problem.strerror or str(problem)
    if problem.errno == errno.EBUSY:
        return InUse(f"{path} is in use by another program", hint="it is tried again; see who has it with `fuser`")
    if problem.errno == errno.EROFS:
        return WriteProtected(f"the cartridge in {path} is write-protected", hint="slide its tab, or leave it so")
    if problem.errno in (errno.EACCES, errno.EPERM):
        hint = "give the daemon's account the group `tape`, and see the device's mode"
        return Transient(f"{path}: {reason}", hint=hint)
    if problem.errno == errno.ENOMEDIUM:
        return NotReady(f"{path}: no cartridge is in it", hint="see the library's panel; nothing is read as lost")
    if problem.errno in _LOST:
        return Transient(f"{path}: the drive is not there: {reason}", hint="see its cable and power, then `lsscsi -g`")
    return NotReady(f"{path}: {reason}", hint="see `dmesg` and the drive's panel; it is tried again")
