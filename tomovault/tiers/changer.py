"""The changer of a tape library, by the program `mtx`: what is where, and one move at a time.

What `mtx` prints is the truth of what is in which drive, as far as the changer's own scanner read the barcodes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from tomovault.core.errors import Transient
from tomovault.tiers.library import is_barcode
from tomovault.tiers.program import Program

_DRIVE = re.compile(
    r"Data Transfer Element (\d+):(Empty|Full)(?: \((?:Storage Element (\d+)|Unknown Storage Element) Loaded\))?"
    r"(?:\s*:VolumeTag\s*=\s*(\S*))?"
)
_SLOT = re.compile(r"Storage Element (\d+)( IMPORT/EXPORT)?\s*:(Empty|Full)\s*(?::VolumeTag\s*=\s*(\S*))?")


@dataclass(frozen=True)
class Element:
    """A drive or a slot. `barcode` is '' where it is empty, or no barcode could be read; `home`: the slot that the
    cartridge in a drive came from, where the changer knows; `door`: whether it is a mail slot.
    """

    number: int
    full: bool = False
    barcode: str = ""
    home: int | None = None
    door: bool = False


@dataclass(frozen=True)
class Contents:
    """What is in a library."""

    drives: Mapping[int, Element]
    slots: Mapping[int, Element]

    def slot_of(self, barcode: str) -> int | None:
        """The slot in which a cartridge stands; None where it stands in none."""
        return next((s.number for s in self.slots.values() if s.barcode == barcode), None)

    def drive_of(self, barcode: str) -> int | None:
        """The drive that a cartridge is in; None where it is in none."""
        return next((d.number for d in self.drives.values() if d.barcode == barcode), None)

    def barcodes(self) -> list[str]:
        """Of every cartridge that has one, in order. Those in the mail slots are on their way out, and left out."""
        inside = (*self.drives.values(), *(slot for slot in self.slots.values() if not slot.door))
        return sorted(e.barcode for e in inside if is_barcode(e.barcode))

    def nameless(self) -> int:
        """How many cartridges have no barcode that can be read."""
        return sum(e.full and not is_barcode(e.barcode) for e in (*self.drives.values(), *self.slots.values()))

    def free_slot(self, home: int | None) -> int | None:
        """An empty slot, `home` where that is one; None where all are taken."""
        empty = [s.number for s in self.slots.values() if not s.full and not s.door]
        return home if home in empty else min(empty, default=None)


def read_contents(printed: str) -> Contents:
    """What `mtx status` printed. Raises ValueError where no drive is in it."""
    drives, slots = {}, {}
    for line in printed.splitlines():
        if match := _DRIVE.search(line):
            number, state, home, tag = match.groups()
            drives[int(number)] = Element(int(number), state == "Full", tag or "", int(home) if home else None)
        elif match := _SLOT.search(line):
            number, door, state, tag = match.groups()
            slots[int(number)] = Element(int(number), state == "Full", tag or "", door=bool(door))
    if not drives:
        raise ValueError("it names no drive")
    return Contents(drives, slots)


class Changer:
    """The changer behind one generic SCSI device."""

    def __init__(self, tier: str, program: str, device: str, timeout_s: float) -> None:
        self.device = device
        self._tier = tier
        self._program = program
        self._timeout_s = timeout_s

    def contents(self) -> Contents:
        """What is where now. Raises Transient, UserError where mtx is not there."""
        printed = self._run("status")
        try:
            return read_contents(printed)
        except ValueError as problem:
            raise Transient(
                f"tier {self._tier}: what mtx says of {self.device} cannot be understood: {problem}",
                hint=f"look at `mtx -f {self.device} status`",
            ) from problem

    def load(self, slot: int, drive: int) -> None:
        """The move has ended, says the changer. Raises Transient where it is stuck or refused."""
        self._run("load", str(slot), str(drive))

    def unload(self, slot: int, drive: int) -> None:
        """As `load`, the other way."""
        self._run("unload", str(slot), str(drive))

    def _run(self, *words: str) -> str:
        verb = f"mtx {words[0]}"
        return Program(self._tier, verb, (self._program, "-f", self.device, *words), self._timeout_s).run({})
