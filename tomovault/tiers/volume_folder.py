"""The folder of an archive tier that is a file system of others: recognised, and read and written one at a time."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator

from tomovault.core.errors import PlaceAbsent
from tomovault.tiers.blocks import shown, translating, waiting
from tomovault.tiers.folders import folder_below, names_below, take_lock, tier_folder
from tomovault.tiers.ltfs_attributes import names_of_volume, volume_of, write_index
from tomovault.tiers.place import Place
from tomovault.tiers.spool import OpenedBundle

#: How names of files and folders begin that are ours and hold no package.
OWN = ".tomovault"
_SUFFIX = ".tar"
#: So long one waits for whoever reads or writes the tape before the job is put back.
_TURN_S = 20.0


class VolumeFolder:
    """The folder at `path` of a tier, on the LTFS volume that is known as `volume`, where that is not ''."""

    def __init__(self, tier: str, path: str, place: Place | None, volume: str) -> None:
        self.path = path
        self._tier = tier
        self._place = place
        self._volume = volume

    @contextlib.contextmanager
    def root(self) -> Iterator[int]:
        """A descriptor of it. Raises PlaceAbsent where it is not this very folder, Transient where it is not there."""
        with tier_folder(self._tier, self.path, self._place) as root:
            if self._volume:
                with translating(f"tier {self._tier}"):
                    found = names_of_volume(self.path)
                if self._volume not in found:
                    told = f"LTFS volume {' '.join(found)}" if found else "no LTFS volume"
                    raise PlaceAbsent(
                        f"tier {self._tier} is absent: {shown(self.path)} is {told}, wanted is {self._volume}",
                        hint=f"mount {self._volume} at {shown(self.path)}",
                    )
            yield root

    @contextlib.contextmanager
    def turn(self, root: int, wait_s: float | None = None) -> Iterator[None]:
        """On an LTFS volume one reads or writes at a time: two would send the tape to and fro for every block.

        Raises InUse, and OSError.
        """
        fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=root)
        try:
            if volume_of(root):
                turns = waiting(f"the LTFS volume of tier {self._tier}", _TURN_S if wait_s is None else wait_s)
                while take_lock(fd) is False:
                    next(turns)
            yield
        finally:
            os.close(fd)

    def opened(self, root: int, location: str, *, from_disk: bool = False) -> OpenedBundle:
        """The file at a location. Raises OSError, and Refused for what is not below the folder."""
        *above, name = self.parts(location)
        with folder_below(root, above) as folder:
            return OpenedBundle(name, dir_fd=folder, from_disk=from_disk)

    def why_closed(self, root: int, location: str) -> str:
        """'' for a file that can be opened, else why it cannot. Raises Refused."""
        try:
            with self.opened(root, location):
                return ""
        except OSError as problem:
            return f"{shown(location)}: {problem.strerror}"

    def parts(self, location: str) -> tuple[str, ...]:
        """See `names_below`."""
        return names_below(self._tier, self.path, location)

    def bundles(self, onerror: Callable[[OSError], None]) -> dict[str, int]:
        """The size of every file that is called as ours, by its path; `onerror` is told of a folder without a list."""
        found: dict[str, int] = {}
        for folder, below, names, inside in os.fwalk(self.path, onerror=onerror):
            below[:] = sorted(name for name in below if not name.startswith(OWN))
            for name in names:
                if name.endswith(_SUFFIX) and not name.startswith("."):
                    with contextlib.suppress(FileNotFoundError):
                        state = os.stat(name, dir_fd=inside, follow_symlinks=False)
                        found[os.path.join(folder, name)] = state.st_size
        return found

    def write_index(self) -> None:
        """See `ltfs_attributes.write_index`. Raises Transient."""
        with translating(f"tier {self._tier}: {shown(self.path)}"):
            write_index(self.path)
