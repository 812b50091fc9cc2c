"""A cartridge as one real sequential file: a header, then records of one size and filemarks, each framed.

    header    512 bytes: magic, a line of JSON (barcode, uuid, generation, capacity, record size), zeros, crc32
    frame     36 bytes, then for a record 262144 bytes of payload
              marker (b"TV" and six bytes of the cartridge's uuid), type 1 record or 2 filemark, two zeros,
              payload length, crc32 of the payload, tape file number, for a record its number within the tape
              file and for a filemark the offset of the filemark before it (0: none), crc32 of the frame so far

Little endian. Positions are file numbers. Nothing can be written but at the end of data, which is behind the last
filemark: what lies after it was never synced.
"""

from __future__ import annotations

import json
import os
import re
import struct
import uuid
import zlib
from dataclasses import asdict, dataclass
from typing import Self

from tomovault.core.errors import IntegrityError, Transient
from tomovault.core.wire import from_plain
from tomovault.tiers.blocks import BLOCK, drop_cache, sync_folder, translating, write_all
from tomovault.tiers.faults import Faults

MAGIC = b"TOMOVAULT TAPE1\n"
HEADER = 512
RECORD = 256 * 1024
_FRAME = struct.Struct("<8sBBHIIIQI")
FRAME = _FRAME.size
_RECORD_TYPE = 1
_FILEMARK_TYPE = 2
#: The early warning comes this share of the capacity, and at least this many records, before the end.
_EARLY_SHARE = 0.01
_EARLY_RECORDS = 2
_UUID = re.compile(r"[0-9a-f]{32}")
#: No file is larger.
_LARGEST = (1 << 63) - 1


class EndOfMedium(Exception):
    """No room for another record and the filemark behind it; nothing of the record was written."""


class BadRecord(IntegrityError):
    """A record is missing, short, or not what was written."""


@dataclass(frozen=True)
class CartridgeHeader:
    """What the first bytes of a cartridge say. `capacity` is in bytes of the whole medium."""

    barcode: str
    uuid: str
    generation: str
    capacity: int
    record: int = RECORD

    @property
    def marker(self) -> bytes:
        """First bytes of every frame of this cartridge and of no other."""
        return b"TV" + bytes.fromhex(self.uuid)[:6]


@dataclass(frozen=True)
class _Frame:
    kind: int
    length: int
    crc: int
    file: int
    value: int


def create_cartridge(path: str, barcode: str, generation: str, capacity: int) -> CartridgeHeader:
    """A blank cartridge lies at `path`, or nothing does. Raises Transient where one is there already, NoSpace.

    The caller sees to it that nobody else makes this one now.
    """
    header = CartridgeHeader(barcode, uuid.uuid4().hex, generation, capacity)
    body = MAGIC + json.dumps(asdict(header)).encode("ascii")
    body = body.ljust(HEADER - 4, b"\0")
    temporary = f"{path}.tmp"
    with translating(f"cartridge {barcode}"):
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        try:
            write_all(fd, body + struct.pack("<I", zlib.crc32(body)))
            os.fsync(fd)
            os.link(temporary, path)
        finally:
            os.close(fd)
            os.unlink(temporary)
        sync_folder(os.path.dirname(path))
    return header


def medium_bytes(*sizes: int) -> int:
    """Bytes of the medium that tape files of these sizes take on a blank cartridge."""
    return HEADER + sum(-(-size // RECORD) * (FRAME + RECORD) + FRAME for size in sizes)


class Cartridge:
    """A mounted cartridge: the index of its tape files, and what can be done with them.

    `spans` are offsets of the first frame and of the end of each closed tape file. They are found by reading
    frames: backwards over the chain of filemarks, or from the beginning where that is broken.
    """

    def __init__(self, fd: int, header: CartridgeHeader, faults: Faults) -> None:
        self.header = header
        self._fd = fd
        self._faults = faults
        size = os.fstat(fd).st_size
        chained = self._chained(size) if size > HEADER else []
        self.spans, self.end_of_data = (chained, size) if chained is not None else self._scanned(size)
        self.tail = size - self.end_of_data

    @classmethod
    def open(cls, path: str, faults: Faults, *, write: bool = False) -> Self:
        """A cartridge to read, or to append to. Raises IntegrityError where it is none, Transient."""
        barcode = os.path.basename(path)
        with translating(f"cartridge {barcode}"):
            fd = os.open(path, (os.O_RDWR if write else os.O_RDONLY) | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                return cls(fd, _read_header(fd, barcode), faults)
            except BaseException:
                os.close(fd)
                raise

    def close(self) -> None:
        """The cartridge is out of reach."""
        os.close(self._fd)

    @property
    def files(self) -> int:
        """Number of closed tape files, the label among them."""
        return len(self.spans)

    @property
    def data_bytes(self) -> int:
        """Bytes of all records of closed tape files."""
        return sum((end - start) // (FRAME + RECORD) * RECORD for start, end in self.spans)

    def span(self, number: int) -> tuple[int, ...]:
        """The bytes of the medium at which a closed tape file begins and ends."""
        return self.spans[number]

    def marks_are_whole(self) -> bool:
        """Whether the filemarks lead from the end of data to the label, without a search for what lies between."""
        return self.end_of_data == HEADER or self._chained(self.end_of_data) is not None

    @property
    def early_warning(self) -> bool:
        """The end of the medium is near: no new tape file should be begun."""
        margin = max(int(self.header.capacity * _EARLY_SHARE), _EARLY_RECORDS * RECORD)
        return self.end_of_data + margin >= self.header.capacity

    def drop_cache(self) -> None:
        """What is read next comes from the disk."""
        with translating(f"cartridge {self.header.barcode}"):
            drop_cache(self._fd)

    def begin(self) -> TapeWriter:
        """A writer of the next tape file, at the end of data. Whatever lay behind it is gone."""
        os.ftruncate(self._fd, self.end_of_data)
        self.tail = 0
        os.lseek(self._fd, self.end_of_data, os.SEEK_SET)
        return TapeWriter(self, self._fd, self._faults)

    def read_file(self, number: int) -> TapeReader:
        """A reader of a closed tape file. Raises IntegrityError where there is none of that number."""
        if not 0 <= number < self.files:
            raise IntegrityError(
                f"{self.header.barcode}#{number}: the cartridge has {self.files} tape files",
                hint="use another copy and look at the cartridge",
            )
        return TapeReader(self, self._fd, self._faults, number)

    def frame_at(self, offset: int) -> _Frame | None:
        """The frame whose head lies at an offset, None where there is no undamaged one."""
        head = os.pread(self._fd, FRAME, offset)
        if len(head) < FRAME or not head.startswith(self.header.marker):
            return None
        _, kind, _, _, length, crc, file, value, own = _FRAME.unpack(head)
        if own != zlib.crc32(head[:-4]) or (kind, length) not in ((_RECORD_TYPE, RECORD), (_FILEMARK_TYPE, 0)):
            return None
        return _Frame(kind, length, crc, file, value)

    def _chained(self, size: int) -> list[tuple[int, int]] | None:
        spans: list[tuple[int, int]] = []
        mark, number = size - FRAME, -1
        while True:
            frame = self.frame_at(mark) if mark >= HEADER else None
            if frame is None or frame.kind != _FILEMARK_TYPE or frame.value >= mark:
                return None
            if number not in (-1, frame.file + 1):
                return None
            start = frame.value + FRAME if frame.value else HEADER
            if (mark - start) % (FRAME + RECORD):
                return None
            spans.append((start, mark))
            mark, number = frame.value, frame.file
            if not mark:
                return spans[::-1] if number == 0 else None

    def _scanned(self, size: int) -> tuple[list[tuple[int, int]], int]:
        """Spans and end of data by reading every frame from the beginning; damage inside costs no tape file."""
        spans: list[tuple[int, int]] = []
        offset = start = end = HEADER
        while True:
            frame = self.frame_at(offset)
            if frame is None or not _follows(frame, offset - start, len(spans)):
                found = self._resync(offset + 1, size, start, len(spans))
                if found is None:
                    return spans, end
                offset = found
                continue
            while len(spans) < frame.file:  # the filemark between was lost to damage
                spans.append((start, offset))
                start = end = offset
            if frame.kind == _FILEMARK_TYPE:
                spans.append((start, offset))
                start = end = offset + FRAME
            offset += FRAME + frame.length
            if offset > size:
                return spans, end

    def _resync(self, offset: int, size: int, start: int, file: int) -> int | None:
        """Offset of the next undamaged frame of tape file `file`, which begins at `start`, or of a later one."""
        marker = self.header.marker
        while offset < size:
            window = os.pread(self._fd, BLOCK, offset)
            at = window.find(marker)
            while at >= 0:
                frame = self.frame_at(offset + at)
                if frame is not None and _follows(frame, offset + at - start, file):
                    return offset + at
                at = window.find(marker, at + 1)
            if len(window) < BLOCK:
                return None
            offset += BLOCK - len(marker) + 1
        return None


def _follows(frame: _Frame, passed: int, file: int) -> bool:
    """Whether a frame can stand so many bytes behind the beginning of tape file `file`.

    It belongs to that one, or to a later one if there was room for those between: each has a record and a filemark.
    """
    return 0 <= frame.file - file <= 1 + passed // (FRAME + RECORD)


def _read_header(fd: int, barcode: str) -> CartridgeHeader:
    head = os.pread(fd, HEADER, 0)
    if len(head) < HEADER or not head.startswith(MAGIC) or struct.unpack("<I", head[-4:])[0] != zlib.crc32(head[:-4]):
        raise IntegrityError(
            f"cartridge {barcode}: its header is damaged", hint="it must be looked at; use other copies"
        )
    try:
        header = from_plain(CartridgeHeader, json.loads(head[len(MAGIC) : -4].rstrip(b"\0")))
        if not _UUID.fullmatch(header.uuid) or not 0 < header.capacity <= _LARGEST:
            raise ValueError(f"a uuid {header.uuid!r} and a capacity of {header.capacity} bytes cannot be")
    except (ValueError, TypeError, RecursionError) as problem:
        raise IntegrityError(
            f"cartridge {barcode}: its header cannot be understood: {problem}", hint="see which tomovault wrote it"
        ) from problem
    if header.barcode != barcode:
        raise IntegrityError(
            f"cartridge {barcode} says that it is {header.barcode}",
            hint="put each cartridge back under its own barcode",
        )
    if header.record != RECORD:
        raise Transient(
            f"cartridge {barcode} has records of {header.record} bytes", hint="use the tomovault that wrote it"
        )
    return header


class TapeWriter:
    """One tape file being written; it exists once `close` has returned."""

    def __init__(self, cartridge: Cartridge, fd: int, faults: Faults) -> None:
        self._cartridge = cartridge
        self._fd = fd
        self._faults = faults
        self._buffer = bytearray()
        self._start = self._offset = cartridge.end_of_data
        self.file = cartridge.files
        self._record = 0

    @property
    def written(self) -> int:
        """Bytes on the medium so far."""
        return self._offset - self._start

    def write(self, data: bytes) -> None:
        """Take bytes of any number. Raises EndOfMedium, OSError."""
        self._buffer += data
        if len(self._buffer) < RECORD:
            return
        with memoryview(self._buffer) as view:
            whole = len(view) - len(view) % RECORD
            for at in range(0, whole, RECORD):
                self._put_record(view[at : at + RECORD])
        del self._buffer[:whole]

    def close(self) -> int:
        """The tape file is closed by a filemark and synced; returns its number. Raises EndOfMedium, OSError."""
        if self._buffer:
            self._put_record(self._buffer.ljust(RECORD, b"\0"))
        header, cartridge = self._cartridge.header, self._cartridge
        self._faults.marking(header.barcode, self.file)
        before = cartridge.end_of_data - FRAME if cartridge.spans else 0
        self._put_frame(_FILEMARK_TYPE, b"", before)
        self._faults.syncing(header.barcode, self._fd)
        cartridge.spans.append((self._start, self._offset - FRAME))
        cartridge.end_of_data = self._offset
        return self.file

    def abandon(self) -> None:
        """What was written of this tape file is cut off again."""
        os.ftruncate(self._fd, self._start)
        os.fsync(self._fd)

    def _put_record(self, payload: bytes | bytearray | memoryview) -> None:
        if self._offset + FRAME + RECORD + FRAME > self._cartridge.header.capacity:
            raise EndOfMedium
        self._faults.writing(self._cartridge.header.barcode, self.file, self._record)
        self._put_frame(_RECORD_TYPE, payload, self._record)
        self._record += 1

    def _put_frame(self, kind: int, payload: bytes | bytearray | memoryview, value: int) -> None:
        marker = self._cartridge.header.marker
        head = _FRAME.pack(marker, kind, 0, 0, len(payload), zlib.crc32(payload), self.file, value, 0)[:-4]
        write_all(self._fd, head + struct.pack("<I", zlib.crc32(head)))
        write_all(self._fd, payload)
        self._offset += FRAME + len(payload)


class TapeReader:
    """One closed tape file, read forward; `skip` passes over whole records without reading them."""

    def __init__(self, cartridge: Cartridge, fd: int, faults: Faults, number: int) -> None:
        self._cartridge = cartridge
        self._fd = fd
        self._faults = faults
        self.file = number
        self._start, self._end = cartridge.spans[number]
        self.size = (self._end - self._start) // (FRAME + RECORD) * RECORD
        self.position = 0
        self.moved = 0
        self._loaded = -1
        self._payload = b""

    def read(self, count: int) -> bytes:
        """The next bytes, fewer at the end of the tape file. Raises BadRecord, and Transient for a read error."""
        parts = []
        while count > 0 and self.position < self.size:
            record, at = divmod(self.position, RECORD)
            self._load(record)
            part = self._payload[at : at + count]
            parts.append(part)
            self.position += len(part)
            count -= len(part)
        return b"".join(parts)

    def skip_to(self, position: int) -> None:
        """Go forward. Raises BadRecord where the tape file is shorter, and for a way back."""
        if position < self.position:
            raise BadRecord(f"{self._name} is read forward from {self.position}, wanted is {position}")
        if position > self.size:
            raise BadRecord(f"{self._name} ends at {self.size}, wanted is {position}", hint="use another copy")
        self.position = position

    @property
    def _name(self) -> str:
        return f"{self._cartridge.header.barcode}#{self.file}"

    def _load(self, record: int) -> None:
        if record == self._loaded:
            return
        barcode, where = self._cartridge.header.barcode, f"record {record} of {self._name}"
        offset = self._start + record * (FRAME + RECORD)
        with translating(f"read error at {where}"):
            self._faults.reading(barcode, self.file, record)
            payload = os.pread(self._fd, RECORD, offset + FRAME)
            payload = self._faults.read(barcode, self.file, record, payload)
            frame = self._cartridge.frame_at(offset)
        self.moved += len(payload)
        if frame is None or (frame.kind, frame.file, frame.value) != (_RECORD_TYPE, self.file, record):
            raise BadRecord(f"{where} has a damaged frame", hint="use another copy")
        if len(payload) != RECORD:
            raise BadRecord(f"{where} is short: {len(payload)} of {RECORD} bytes", hint="use another copy")
        if zlib.crc32(payload) != frame.crc:
            raise BadRecord(f"{where} is damaged (crc32)", hint="use another copy")
        self._payload, self._loaded = payload, record
