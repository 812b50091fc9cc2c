"""A cartridge in a real drive: where its tape files are, and how many.

A tape file's number is counted by filemarks from the beginning of the tape; the driver's own idea of it is compared
behind every move. Where the tape ends is found by a read that finds nothing, never believed from a record of ours.
"""

from __future__ import annotations

import errno

from tomovault.core.errors import IntegrityError, Transient
from tomovault.tiers.cartridge import RECORD, CartridgeHeader
from tomovault.tiers.library import Shelved
from tomovault.tiers.st import Operation, TapeDevice, speaking_to, told


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
