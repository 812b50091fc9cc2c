"""A real drive that is ours, with a cartridge in it: the tape files that are read there and appended."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Protocol

from tomovault.tiers.tape_cartridge import TapeCartridge
from tomovault.tiers.tape_file import RecordReader, RecordWriter


class Noting(Protocol):
    """Writes a line of the library's log."""

    def __call__(self, event: str, **more: object) -> None:
        """The event is noted with its time, drive and cartridge."""


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
