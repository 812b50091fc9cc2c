"""What a drive says of itself: its serial number by the kernel, its TapeAlert flags by `sg_logs` if that is there."""

from __future__ import annotations

import contextlib
import glob
import os
import re
from collections.abc import Callable, Sequence

import structlog

from tomovault.core.errors import TomovaultError
from tomovault.tiers.program import Program

log = structlog.get_logger(__name__)

#: The page of TapeAlert flags (SSC-3, log page 2Eh).
_PAGE = "0x2e"
_FLAG = re.compile(r"^\s*(.+?):\s*1\s*$")
_ALLOWED_S = 60.0

#: As `TapeRobot.note`.
Note = Callable[..., None]


class Inspector:
    """Asks the drives of one library. What cannot be asked is said once, and hinders nothing."""

    def __init__(self, tier: str, devices: Sequence[str], program: str) -> None:
        self._tier = tier
        self._devices = tuple(devices)
        self._program = program
        self._mute: set[int] = set()

    def serial(self, drive: int, barcode: str, note: Note) -> None:
        """The serial number of a drive is in the log, '' where the kernel does not know it."""
        note(drive, barcode, "drive", serial=serial_of(self._devices[drive]), device=self._devices[drive])

    def alerts(self, drive: int, barcode: str, note: Note) -> None:
        """The flags that are set are in the log, and a person is told."""
        if drive in self._mute:
            return
        try:
            generic = generic_of(self._devices[drive])
            if not generic or not os.access(self._program, os.X_OK):
                raise FileNotFoundError(self._program if generic else "no generic SCSI device of it is known")
            words = (self._program, "-p", _PAGE, generic)
            printed = Program(self._tier, "sg_logs", words, _ALLOWED_S).run({})
        except (TomovaultError, OSError) as problem:
            self._mute.add(drive)
            log.info("a drive cannot be asked for TapeAlert", tier=self._tier, drive=drive, reason=str(problem))
            note(drive, barcode, "no_tape_alert", reason=str(problem))
            return
        flags = [match[1] for line in printed.splitlines() if (match := _FLAG.match(line))]
        if flags:
            log.warning("a drive tells of trouble", tier=self._tier, drive=drive, cartridge=barcode, flags=flags)
            note(drive, barcode, "tape_alert", flags=flags)


def serial_of(device: str) -> str:
    """The serial number (vital product data, page 80h) that the kernel read of a drive; '' where it has none."""
    with contextlib.suppress(OSError), open(os.path.join(_of_kernel(device), "vpd_pg80"), "rb") as stream:
        return stream.read()[4:].decode("ascii", "replace").strip()
    return ""


def generic_of(device: str) -> str:
    """The generic SCSI device of a drive; '' where the kernel knows none."""
    found = glob.glob(os.path.join(glob.escape(_of_kernel(device)), "scsi_generic", "*"))
    return f"/dev/{os.path.basename(found[0])}" if found else ""


def _of_kernel(device: str) -> str:
    """The folder of the kernel about a drive, by its name behind every link."""
    return os.path.join("/sys/class/scsi_tape", os.path.basename(os.path.realpath(device)), "device")
