"""Folders read through descriptors: names and states only, no link followed, no mount crossed."""

from __future__ import annotations

import errno
import fnmatch
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType

from tomovault.core.mark import MARK
from tomovault.core.scan import FileState

#: Names that are never looked at: our own, the file system's, and those of files that an NFS client keeps
#: for a process that still has them open.
ALWAYS_IGNORED = (".tomovault", f"{MARK}*", "TOMOVAULT-README.txt", "lost+found", ".snapshot", ".nfs0*")

_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_LEVELS = 64

#: The bits of a mode that say what kind of thing it is (inode(7)).
_KIND = 0o170000
_FILE, _LINK = stat.S_IFREG, stat.S_IFLNK


class FileStates(Mapping[str, FileState]):
    """States by name, made when asked for from what lstat said at the time of the listing."""

    __slots__ = ("_links", "_stats")

    def __init__(self, stats: Mapping[str, os.stat_result], links: Mapping[str, str]) -> None:
        self._stats = stats
        self._links = links

    def __getitem__(self, name: str) -> FileState:
        seen = self._stats[name]
        return FileState(
            path=name,
            size=seen.st_size,
            mtime_ns=seen.st_mtime_ns,
            ctime_ns=seen.st_ctime_ns,
            inode=seen.st_ino,
            device=seen.st_dev,
            mode=seen.st_mode,
            uid=seen.st_uid,
            gid=seen.st_gid,
            link_target=self._links.get(name),
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self._stats)

    def __len__(self) -> int:
        return len(self._stats)

    def __contains__(self, name: object) -> bool:
        return name in self._stats


@dataclass(frozen=True)
class FolderListing:
    """A folder as it was read: implements `core.ports.Listing`."""

    folder: str
    files: Mapping[str, FileState]
    folders: tuple[str, ...]
    links: Mapping[str, str] = field(default_factory=dict)


#: What lstat said, by name, of a folder's files and links.
Stats = dict[str, os.stat_result]


_IGNORED = re.compile("|".join(map(fnmatch.translate, ALWAYS_IGNORED)))
#: Most names are told by their first letter.
_IGNORED_BEGIN = frozenset(glob[0] for glob in ALWAYS_IGNORED)


def skip(name: str) -> bool:
    """Whether a name is one of those that are always ignored."""
    return name[0] in _IGNORED_BEGIN and _IGNORED.match(name) is not None


def read_folder(descriptor: int, folder: str) -> tuple[FolderListing, Stats]:
    """List an open folder. Files that go away meanwhile are left out; any other failure raises OSError.

    Neither files nor folders: sockets, pipes and devices.
    """
    stats: Stats = {}
    links: dict[str, str] = {}
    folders: list[str] = []
    with os.scandir(descriptor) as entries:
        for entry in entries:
            name = entry.name
            if name[0] in _IGNORED_BEGIN and skip(name):
                continue
            if entry.is_dir(follow_symlinks=False):
                folders.append(name)
                continue
            try:
                found = entry.stat(follow_symlinks=False)
                kind = found.st_mode & _KIND
                if kind != _FILE:
                    if kind != _LINK:
                        continue
                    links[name] = os.readlink(name, dir_fd=descriptor)
            except FileNotFoundError:
                continue
            stats[name] = found
    folders.sort()
    return FolderListing(folder, FileStates(stats, links), tuple(folders), links), stats


def key_of(folder: os.stat_result) -> tuple[int, int, int]:
    """(mtime_ns, ctime_ns, inode): equal, no name came to the folder or left it, as far as its times can tell."""
    return folder.st_mtime_ns, folder.st_ctime_ns, folder.st_ino


def list_folder(path: str) -> FolderListing:
    """List one folder by its path, which may not be a link. Raises OSError."""
    descriptor = os.open(path, _FOLDER_FLAGS)
    try:
        return read_folder(descriptor, os.path.abspath(path))[0]
    finally:
        os.close(descriptor)


class Descent:
    """Holds a root folder open and opens folders below it one part at a time.

    The folders down to the last one are kept open, at most 64 of them, so that a walk in depth first order
    opens each folder once however deep the tree is.
    """

    def __init__(self, root: str, *, below: int | None = None) -> None:
        """Opens `root`, which may be a link (it is named by the site's owner); a relative one is looked for in the
        open folder `below`. Raises OSError.
        """
        self._open: list[int | None] = [os.open(root, _FOLDER_FLAGS & ~os.O_NOFOLLOW, dir_fd=below)]
        self._own = [os.fstat(self._held(0))]
        self._parts: list[str] = []
        self._entered: str | None = None
        self.device = self._own[0].st_dev

    def another(self) -> Descent:
        """One more over the very same root, for another thread. Raises OSError."""
        return Descent(".", below=self._held(0))

    def __enter__(self) -> Descent:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._leave(0)
        os.close(self._held(0))

    def enter(self, relative: str) -> int:
        """A descriptor of the folder `relative` ('' is the root), valid until the next call.

        Raises OSError: ELOOP or ENOTDIR where a part is a link or no folder, EXDEV on another file system.
        """
        if relative == self._entered:
            return self._held(-1)
        self._entered = None
        parts = relative.split("/") if relative else []
        kept = 0
        for mine, asked in zip(self._parts, parts, strict=False):
            if mine != asked:
                break
            kept += 1
        self._leave(kept)
        level = kept
        while self._open[level] is None:
            level -= 1
        while level < len(parts):
            opened, own = self.open_below(self._held(level), parts[level])
            level += 1
            self._keep(level, parts[level - 1], opened, own)
        self._entered = relative
        return self._held(-1)

    @property
    def own(self) -> os.stat_result:
        """What fstat said of the folder entered last, when it was opened."""
        return self._own[-1]

    def open_below(self, parent: int, name: str) -> tuple[int, os.stat_result]:
        """Open the folder `name` of an open folder; the caller closes it. Also what fstat says of it.

        Raises OSError as `enter`.
        """
        opened = os.open(name, _FOLDER_FLAGS, dir_fd=parent)
        own = os.fstat(opened)
        if own.st_dev != self.device:
            os.close(opened)
            raise OSError(errno.EXDEV, "another file system is mounted here", name)
        return opened, own

    def _held(self, level: int) -> int:
        descriptor = self._open[level]
        if descriptor is None:
            raise ValueError(f"level {level} is not open")
        return descriptor

    def _keep(self, level: int, name: str, opened: int, own: os.stat_result) -> None:
        if level < len(self._open):
            self._open[level] = opened
            self._own[level] = own
        else:
            self._open.append(opened)
            self._own.append(own)
            self._parts.append(name)
        old = level - _OPEN_LEVELS
        if old > 0 and (descriptor := self._open[old]) is not None:
            os.close(descriptor)
            self._open[old] = None

    def _leave(self, level: int) -> None:
        while len(self._open) > level + 1:
            descriptor = self._open.pop()
            self._own.pop()
            self._parts.pop()
            if descriptor is not None:
                os.close(descriptor)
