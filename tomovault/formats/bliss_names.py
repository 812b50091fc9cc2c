"""What names say of a BLISS dataset. Names only: nothing is opened here."""

from __future__ import annotations

import re
from collections.abc import Iterable

FORMAT = "bliss"

_SCAN_FOLDER = re.compile(r"^scan\d{4,}$")


def scan_folders(names: Iterable[str]) -> list[str]:
    """The folders that cameras write into, sorted."""
    return sorted(name for name in names if _SCAN_FOLDER.match(name))


def scan_folder_name(entry_number: int) -> str:
    """The folder of the camera files of entry `N.1`."""
    return f"scan{entry_number:04d}"


def stem_of(master: str) -> str:
    """The dataset's name, from the master's file name."""
    return master.removesuffix(".h5")
