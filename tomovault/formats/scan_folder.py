"""A user's folder, read without following links and without trusting anything in it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from tomovault.core.errors import UserError
from tomovault.core.scan import FileState

_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

#: A file whose samples are all zero is read to its end in pieces of this size.
_PIECE = 1 << 20
_SAMPLE = 4096


def state_of(path: str, found: os.stat_result, link_target: str | None = None) -> FileState:
    """The state of a directory entry under the name `path`."""
    return FileState(
        path=path,
        size=found.st_size,
        mtime_ns=found.st_mtime_ns,
        ctime_ns=found.st_ctime_ns,
        inode=found.st_ino,
        device=found.st_dev,
        mode=found.st_mode,
        uid=found.st_uid,
        gid=found.st_gid,
        link_target=link_target,
    )


class ScanFolder:
    """An open folder: its regular files and links by name, and files opened relative to it.

    Raises UserError where it is missing, not readable, or a link instead of a folder.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            self._descriptor = os.open(path, _FOLDER_FLAGS)
        except OSError as error:
            raise UserError(
                f"{path}: the scan's folder cannot be opened: {error.strerror}",
                hint="it was moved, removed, replaced by a link, or may not be read by this account",
            ) from error
        self.states: dict[str, FileState] = {}
        self.folders: list[str] = []
        self._list()

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._descriptor)

    def __enter__(self) -> ScanFolder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _list(self) -> None:
        try:
            with os.scandir(self._descriptor) as entries:
                names = sorted(entry.name for entry in entries)
        except OSError as error:
            raise UserError(f"{self.path}: the folder cannot be listed: {error.strerror}") from error
        for name in names:
            try:
                found = os.lstat(name, dir_fd=self._descriptor)
                link = os.readlink(name, dir_fd=self._descriptor) if stat.S_ISLNK(found.st_mode) else None
            except OSError:
                continue  # it went away between listing and looking
            if stat.S_ISDIR(found.st_mode):
                self.folders.append(name)
            elif stat.S_ISREG(found.st_mode) or link is not None:
                self.states[name] = state_of(name, found, link)

    @contextmanager
    def open_file(self, name: str) -> Iterator[int]:
        """A descriptor of a regular file of this folder; never follows a link. Raises OSError."""
        descriptor = os.open(name, _FILE_FLAGS, dir_fd=self._descriptor)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(f"{name} is not a regular file")
            yield descriptor
        finally:
            os.close(descriptor)

    def read_text(self, name: str, limit: int) -> bytes:
        """The first `limit` bytes of a file. Raises OSError."""
        with self.open_file(name) as descriptor:
            return os.pread(descriptor, limit, 0)

    def link_goes_to(self, name: str) -> str | None:
        """The name of the regular file of this same folder that a link leads to in one step, None if elsewhere."""
        target = self.states[name].link_target
        if target is None or os.path.isabs(target):
            return None
        target = os.path.normpath(target)
        reached = self.states.get(target)
        return target if reached is not None and reached.link_target is None else None


def is_all_zero(descriptor: int, offset: int, length: int, *, whole: bool = True) -> bool:
    """True if the bytes [offset, offset + length) are all zero; three samples are read first, and all if they are.

    With `whole` False the samples decide. Raises OSError.
    """
    if length <= 0:
        return False
    for at in (offset, offset + length // 2, offset + max(0, length - _SAMPLE)):
        if any(os.pread(descriptor, min(_SAMPLE, offset + length - at), at)):
            return False
    if not whole:
        return True
    end = offset + length
    while offset < end:
        piece = os.pread(descriptor, min(_PIECE, end - offset), offset)
        if not piece:
            break
        if piece.count(0) != len(piece):
            return False
        offset += len(piece)
    return True
