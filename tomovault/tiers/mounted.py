"""The seam between a library and its machinery: cartridges in drives, tape files that are read forward and appended.

What is above it (bundles, labels, recovery, surveys) is one for every library; below it are cartridges that are files,
and those of a changer behind the kernel's tape driver.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from tomovault.core.errors import Transient
from tomovault.core.ports import DriveState
from tomovault.recall.timing import Timing
from tomovault.tiers.bundle import Source
from tomovault.tiers.cartridge import CartridgeHeader


class WriteProtected(Transient):
    """The cartridge's tab, or the drive, forbids to write; nothing was written."""


class Writer(Protocol):
    """One tape file being written; it exists once `close` has returned."""

    def write(self, data: bytes) -> None:
        """Take bytes of any number. Raises EndOfMedium, WriteProtected, OSError."""

    def close(self) -> int:
        """The tape file is closed by a filemark and on the medium; returns its number. Raises as `write`."""


class MountedCartridge(Protocol):
    """A cartridge in a drive of ours."""

    @property
    def header(self) -> CartridgeHeader:
        """By what it is known. The uuid of a blank one is that which its label will have."""

    @property
    def files(self) -> int:
        """Number of closed tape files, the label among them."""

    @property
    def tail(self) -> int:
        """Not 0 where something lies behind the last filemark."""

    @property
    def early_warning(self) -> bool:
        """The end of the medium is near: no new tape file should be begun."""

    @property
    def data_bytes(self) -> int:
        """Bytes of all records of closed tape files, as far as that is known without reading them."""

    def span(self, number: int) -> tuple[int, ...]:
        """The bytes of the medium at which a tape file begins and ends; empty where that is not known."""

    def marks_are_whole(self) -> bool:
        """Whether no filemark is known to be damaged."""


class MountedDrive(Protocol):
    """A drive that is ours, with one cartridge in it."""

    @property
    def cartridge(self) -> MountedCartridge:
        """The cartridge."""

    def read_file(self, number: int) -> AbstractContextManager[Source]:
        """A reader at the beginning of a tape file. Raises IntegrityError where there is none of that number."""

    def append(self) -> AbstractContextManager[Writer]:
        """A writer behind the last closed tape file; whatever lay there is gone. Left by an Exception, what it wrote
        exists no more, or is a tape file without a trailer.
        """


class Machinery(Protocol):
    """The drives of a library and what moves cartridges between them."""

    preferred: int | None

    @property
    def timing(self) -> Timing:
        """What moves cost."""

    def drives(self) -> Sequence[DriveState]:
        """Every drive with its cartridge and its head."""

    def heads(self) -> Mapping[str, float]:
        """Where the head stands on each cartridge that is in a drive, as a share of the capacity."""
