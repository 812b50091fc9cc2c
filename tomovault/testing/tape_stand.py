"""A tape drive as the kernel's driver shows it, without a drive: cartridges are files below one folder.

    <folder>/state.json         what is in which slot and drive: also the `device` of the stand-in for `mtx`
    <folder>/media/<barcode>    records and filemarks, each behind its kind and length
    <folder>/nst0, nst1 ...     the names of the drives

It answers the calls of `tiers.st.System` as Linux does: records of any size, filemarks that are passed by a read, the
driver's filemark behind what was written last, end of data, end of medium, tabs, and drives that are empty or busy.
"""

from __future__ import annotations

import errno
import json
import os
import struct
from collections.abc import Callable, Mapping
from typing import Any

_ENTRY = struct.Struct("<BI")
_RECORD, _MARK = 1, 2
_MTIOCTOP, _MTIOCGET, _MTIOCPOS = 0x40086D01, 0x80306D02, 0x80086D03
_EOF, _BOT, _EOD, _WRITE_PROTECTED, _ONLINE, _NO_TAPE = 1 << 31, 1 << 30, 1 << 27, 1 << 26, 1 << 24, 1 << 18


def make_stand(folder: str, slots: Mapping[int, str], *, drives: int = 2, empty: int = 2) -> None:
    """A library with these cartridges, all blank, in its slots, and some slots that are empty."""
    os.makedirs(os.path.join(folder, "media"))
    last = max(slots, default=0)
    every = {**{str(n): "" for n in range(1, last + empty + 1)}, **{str(n): b for n, b in slots.items()}}
    state = {
        "slots": every,
        "drives": [{"barcode": "", "home": 0, "out": False} for _ in range(drives)],
        "protected": [],
    }
    for number in range(drives):
        with open(os.path.join(folder, f"nst{number}"), "xb"):
            pass
    for barcode in filter(None, every.values()):
        with open(os.path.join(folder, "media", barcode), "xb"):
            pass
    change_stand(folder, lambda _: state)


def change_stand(folder: str, change: Callable[[dict[str, Any]], dict[str, Any] | None]) -> None:
    """The state is what `change` makes of it."""
    path = os.path.join(folder, "state.json")
    state: dict[str, Any] = {}
    if os.path.exists(path):
        with open(path, encoding="ascii") as stream:
            state = json.load(stream)
    state = change(state) or state
    with open(path, "w", encoding="ascii") as stream:
        json.dump(state, stream)


class _Head:
    """A cartridge in a drive: its entries as (kind, offset, length), and where the head is among them."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.at = 0
        self.entries: list[tuple[int, int, int]] = []
        self.dirty = False
        self.beyond = False
        with open(path, "rb") as stream:
            while head := stream.read(_ENTRY.size):
                kind, length = _ENTRY.unpack(head)
                self.entries.append((kind, stream.tell(), length))
                stream.seek(length, os.SEEK_CUR)

    @property
    def used(self) -> int:
        return sum(length for _, _, length in self.entries)

    @property
    def file(self) -> int:
        return sum(kind == _MARK for kind, _, _ in self.entries[: self.at])

    @property
    def record(self) -> int:
        here = 0
        while here < self.at and self.entries[self.at - here - 1][0] == _RECORD:
            here += 1
        return here

    def put(self, kind: int, data: bytes) -> None:
        del self.entries[self.at :]
        end = self.entries[-1][1] + self.entries[-1][2] if self.entries else 0
        with open(self.path, "r+b") as stream:
            stream.truncate(end)
            stream.seek(end)
            stream.write(_ENTRY.pack(kind, len(data)) + data)
        self.entries.append((kind, end + _ENTRY.size, len(data)))
        self.at += 1
        self.dirty = kind == _RECORD

    def settle(self) -> None:
        """As the driver does before the tape moves on, or the device is closed."""
        if self.dirty:
            self.put(_MARK, b"")


class TapeStand:
    """The system's calls on the drives of one folder. `failing` may be replaced to raise OSError before any of them:
    it is told the call, the barcode, and the tape file and record under the head.
    """

    def __init__(self, folder: str, *, capacity: int, tells_block: bool = True) -> None:
        self._folder = folder
        self._capacity = capacity
        self._tells_block = tells_block
        self._heads: dict[int, tuple[str, _Head]] = {}
        self._open: dict[int, tuple[int, bool]] = {}
        self.failing: Callable[[str, str, int, int], None] = lambda *_: None

    def open(self, path: str, flags: int) -> int:
        """As os.open of a no-rewind device."""
        number = int(os.path.basename(path).removeprefix("nst"))
        self.failing("open", self._inside(number), 0, 0)
        if any(drive == number for drive, _ in self._open.values()):
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        barcode, write = self._inside(number), flags & os.O_ACCMODE != os.O_RDONLY
        if not flags & os.O_NONBLOCK and not barcode:
            raise OSError(errno.ENOMEDIUM, os.strerror(errno.ENOMEDIUM))
        if write and barcode in self._state()["protected"]:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        if barcode and self._heads.get(number, ("", None))[0] != barcode:
            self._heads[number] = (barcode, _Head(os.path.join(self._folder, "media", barcode)))
        fd = max(self._open, default=1000) + 1
        self._open[fd] = (number, write)
        return fd

    def close(self, fd: int) -> None:
        """As os.close."""
        number, _ = self._open.pop(fd)
        if number in self._heads:
            self._heads[number][1].settle()

    def read(self, fd: int, count: int) -> bytes:
        """As os.read of a device in variable block mode."""
        head = self._head(fd, "read")
        if head.at >= len(head.entries):
            if head.beyond:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            head.beyond = True
            return b""
        kind, offset, length = head.entries[head.at]
        if kind == _RECORD and length > count:
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
        head.at += 1
        with open(head.path, "rb") as stream:
            stream.seek(offset)
            return stream.read(length)

    def write(self, fd: int, data: bytes | memoryview) -> int:
        """As os.write of a device in variable block mode: one record."""
        head = self._head(fd, "write")
        if not self._open[fd][1]:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        if sum(length for _, _, length in head.entries[: head.at]) + len(data) > self._capacity:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        head.put(_RECORD, bytes(data))
        return len(data)

    def ioctl(self, fd: int, request: int, argument: bytearray) -> int:
        """As fcntl.ioctl of a tape device."""
        if request == _MTIOCTOP:
            operation, count = struct.unpack("@hxxi", argument)
            self._operate(fd, operation, count)
        elif request == _MTIOCGET:
            argument[:] = self._status(fd)
        elif request == _MTIOCPOS and self._tells_block:
            argument[:] = struct.pack("@l", self._head(fd, "position").at)
        else:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return 0

    def _operate(self, fd: int, operation: int, count: int) -> None:
        names = {1: "fsf", 2: "bsf", 3: "fsr", 5: "weof", 6: "rewind", 7: "offline", 20: "setblk"}
        if operation not in names:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        head = self._head(fd, names[operation])
        if operation == 5:
            for _ in range(count):
                head.put(_MARK, b"")
            return
        if operation != 20:
            head.settle()
            head.beyond = False
        if operation == 6:
            head.at = 0
        elif operation == 7:
            number = self._open[fd][0]
            change_stand(self._folder, lambda state: state["drives"][number].update(out=True))
            del self._heads[number]
        elif operation in (1, 3):
            self._forward(head, _MARK if operation == 1 else _RECORD, count)
        elif operation == 2:
            self._back(head, count)

    @staticmethod
    def _forward(head: _Head, kind: int, count: int) -> None:
        while count:
            if head.at >= len(head.entries):
                head.beyond = True
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            found = head.entries[head.at][0]
            head.at += 1
            if kind == _RECORD and found == _MARK:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            count -= found == kind

    @staticmethod
    def _back(head: _Head, count: int) -> None:
        while count:
            if not head.at:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            head.at -= 1
            count -= head.entries[head.at][0] == _MARK

    def _status(self, fd: int) -> bytes:
        number, _ = self._open[fd]
        if number not in self._heads:
            return struct.pack("@lllllii", 0x72, 0, 0, _NO_TAPE, 0, -1, -1)
        barcode, head = self._heads[number]
        bits = _ONLINE | (_BOT if not head.at else 0) | (_EOD if head.beyond else 0)
        bits |= _EOF if head.at and head.entries[head.at - 1][0] == _MARK else 0
        bits |= _WRITE_PROTECTED if barcode in self._state()["protected"] else 0
        return struct.pack("@lllllii", 0x72, 0, 0, bits, 0, head.file, head.record)

    def _head(self, fd: int, call: str) -> _Head:
        number, _ = self._open[fd]
        if number not in self._heads:
            raise OSError(errno.ENOMEDIUM, os.strerror(errno.ENOMEDIUM))
        barcode, head = self._heads[number]
        self.failing(call, barcode, head.file, head.record)
        return head

    def _inside(self, number: int) -> str:
        drive = self._state()["drives"][number]
        return "" if drive["out"] else str(drive["barcode"])

    def _state(self) -> dict[str, Any]:
        with open(os.path.join(self._folder, "state.json"), encoding="ascii") as stream:
            found: dict[str, Any] = json.load(stream)
        return found
