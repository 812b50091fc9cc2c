"""The members of a candidate, in its folder and one level below, and a digest of their states."""

from __future__ import annotations

import hashlib
import marshal
import os
from collections.abc import Sequence

from tomovault.core.ports import Format
from tomovault.core.scan import Candidate
from tomovault.watch.listing import Descent, FolderListing, Stats, key_of, read_folder

#: Names are bytes to the file system.
_BYTES = ("utf-8", "surrogateescape")


class Members:
    """Collects lstat results of a folder's candidates, reading each member folder once."""

    def __init__(self, listing: FolderListing, stats: Stats, descriptor: int, descent: Descent) -> None:
        self._listing = listing
        self._here = stats
        self._descriptor = descriptor
        self._descent = descent
        self._below: dict[str, Stats] = {}
        self._keys: dict[str, tuple[str, int, int, int]] = {}
        self.stats = 0

    def collect(self, files: Sequence[str], folders: Sequence[str]) -> Stats:
        """By name, '/' between parts, what lstat said of these files and of all files in these subfolders.

        What is not in the listing is left out. Raises OSError if a subfolder cannot be read.
        """
        found = {name: self._here[name] for name in files if name in self._here}
        present = frozenset(self._listing.folders) if folders else frozenset()
        for folder in folders:
            if folder in present:
                found.update((f"{folder}/{name}", state) for name, state in self._read(folder).items())
        return found

    def keys(self) -> tuple[tuple[str, int, int, int], ...]:
        """(name, mtime_ns, ctime_ns, inode) of each member folder that was read, taken before it was listed."""
        return tuple(self._keys[name] for name in sorted(self._keys))

    def _read(self, folder: str) -> Stats:
        if folder not in self._below:
            opened, own = self._descent.open_below(self._descriptor, folder)
            try:
                _, stats = read_folder(opened, os.path.join(self._listing.folder, folder))
            finally:
                os.close(opened)
            self.stats += 1 + len(stats)
            self._below[folder] = stats
            self._keys[folder] = (folder, *key_of(own))
        return self._below[folder]


def snapshot_of(stats: Stats) -> tuple[str, int, int]:
    """Hex sha256 over (name, size, mtime_ns, inode) in the order of names, the sum of the sizes, and the
    latest mtime_ns (0 if there is none).
    """
    size = sum(found.st_size for found in stats.values())
    newest = max((found.st_mtime_ns for found in stats.values()), default=0)
    # A name holds any byte but NUL.
    rows = [f"{name}\0{s.st_size} {s.st_mtime_ns} {s.st_ino}\0" for name, s in sorted(stats.items())]
    return hashlib.sha256("".join(rows).encode(*_BYTES)).hexdigest(), size, newest


def digest_of(listing: FolderListing, stats: Stats) -> bytes:
    """A digest of all that a listing says, links included, in the order in which the folder was read: equal,
    nothing in the folder itself has changed. For this process alone; not to be stored.
    """
    states = stats.values()
    # A time may be any number of years from now, more than 64 bits hold in ns. Version 0 writes equal values as
    # equal bytes; later ones look at how the values are held in memory, too.
    written = marshal.dumps(
        (
            listing.folders,
            sorted(listing.links.items()),
            list(stats),
            [s.st_mtime_ns for s in states],
            [s.st_size for s in states],
            [s.st_ino for s in states],
        ),
        0,
    )
    return hashlib.sha256(written).digest()


def snapshot_now(candidate: Candidate, kind: Format) -> str:
    """The snapshot that a sweep would see of a candidate at this moment. Raises OSError where it cannot be read."""
    with Descent(candidate.folder) as descent:
        descriptor = descent.enter("")
        listing, stats = read_folder(descriptor, os.path.abspath(candidate.folder))
        files, folders = kind.members(candidate, listing)
        return snapshot_of(Members(listing, stats, descriptor, descent).collect(files, folders))[0]
