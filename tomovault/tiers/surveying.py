"""What the surveys of media of any kind have in common."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from tomovault.core.ports import Harm, Progress, Surveyed

#: Below the folder of a tier: files of removals that are under way, a folder for each.
_QUARANTINE = os.path.join(".tomovault", "quarantine")
#: What stands there beside the files.
_FILES = "files"


def of_another_tier(what: str, found: str, tier: str) -> str:
    """What is wrong with something on a medium that says of itself to be of the tier `found`; '' if that is `tier`."""
    if found == tier:
        return ""
    return f"it is {what} of tier {found!r} and not of {tier!r}: rebuild from a tier of that name"


@dataclass
class Told:
    """A throttle that slows nothing down and tells how far the reading is: `done` bytes before what is read now."""

    progress: Progress
    total: int
    done: int = 0
    here: int = 0

    def __post_init__(self) -> None:
        self.progress(0, self.total)

    def passed(self, size: int) -> None:
        """So many more bytes are over, whatever was read of them."""
        self.done, self.here = self.done + size, 0
        self.progress(self.done, self.total)

    def at(self, offset: int) -> None:
        """What follows is read from this offset on."""
        self.here = offset
        self.progress(min(self.done + offset, self.total), self.total)

    def spend(self, count: int) -> None:
        """As `Throttle.spend`."""
        self.at(self.here + count)


def survey_quarantines(folder: str) -> Iterator[Surveyed]:
    """Each quarantine of a tier's folder that files are in: none is a copy any more, and nobody may know of them."""
    quarantine = os.path.join(folder, _QUARANTINE)
    try:
        removals = sorted(os.listdir(quarantine))
    except OSError:
        return
    for removal in removals:
        count, size = _files_in(os.path.join(quarantine, removal, _FILES))
        if count:
            why = f"{count} file(s) of {size} bytes are in quarantine, of a removal under way: none is taken in"
            yield Surveyed(os.path.join(quarantine, removal), problem=why, harm=Harm.NOTICE)


def _files_in(folder: str) -> tuple[int, int]:
    """How many files are below a folder, and their bytes; those that cannot be seen are left out."""
    count = size = 0
    if not os.path.isdir(folder):
        return 0, 0
    for _, _, names, inside in os.fwalk(folder):
        for name in names:
            try:
                size += os.stat(name, dir_fd=inside, follow_symlinks=False).st_size
            except OSError:
                continue
            count += 1
    return count, size
