"""Folders of other people, entered one component at a time and never through a link."""

from __future__ import annotations

import errno
import os
import stat
from collections import OrderedDict

from tomovault.core.errors import Refused, SourceChanged, Transient, UserError
from tomovault.core.scan import FileState
from tomovault.package.held import Held

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_KEPT_OPEN = 32


def split_path(path: str) -> tuple[str, ...]:
    """The components of a manifest path; raises UserError for one that is absolute or leaves its root."""
    parts = tuple(path.split("/"))
    if not path or "\0" in path or any(part in ("", ".", "..") for part in parts):
        raise UserError(f"{path!r} is no path below a scan's root", hint="the manifest or the scan's closure is wrong")
    return parts


def shown(path: str) -> str:
    """A path for a message: no newline and no byte that a terminal cannot show."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace").replace("\n", "\\n")


class _Tree(Held):
    def __init__(self, root: str) -> None:
        self.root = root
        try:
            self._top = os.open(root, _FOLDER)
        except OSError as problem:
            raise self._entering(problem, root) from problem
        self._folders: OrderedDict[tuple[str, ...], int] = OrderedDict()

    def close(self) -> None:
        """Let go of every folder."""
        for handle in self._folders.values():
            os.close(handle)
        self._folders.clear()
        if self._top >= 0:
            os.close(self._top)
            self._top = -1

    def folder(self, parts: tuple[str, ...]) -> int:
        """A file descriptor of a folder below the root, owned by the tree and good until a few later calls."""
        if not parts:
            return self._top
        known = self._folders.get(parts)
        if known is not None:
            self._folders.move_to_end(parts)
            return known
        handle = self._enter(self.folder(parts[:-1]), parts)
        self._folders[parts] = handle
        if len(self._folders) > _KEPT_OPEN + len(parts):
            _, oldest = self._folders.popitem(last=False)
            os.close(oldest)
        return handle

    def _enter(self, parent: int, parts: tuple[str, ...]) -> int:
        try:
            return os.open(parts[-1], _FOLDER, dir_fd=parent)
        except OSError as problem:
            raise self._entering(problem, "/".join(parts)) from problem

    def _entering(self, problem: OSError, path: str) -> Exception:
        raise NotImplementedError


class SourceTree(_Tree):
    """A scan's root, for reading. What is not as it was seen raises SourceChanged."""

    def _entering(self, problem: OSError, path: str) -> Exception:
        return source_problem(problem, path)

    def open_file(self, state: FileState) -> int:
        """A read-only descriptor of exactly the file that was seen; the caller closes it."""
        parts = split_path(state.path)
        try:
            handle = os.open(
                parts[-1],
                os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC,
                dir_fd=self.folder(parts[:-1]),
            )
        except OSError as problem:
            raise source_problem(problem, state.path) from problem
        try:
            check_unchanged(os.fstat(handle), state)
        except BaseException:
            os.close(handle)
            raise
        return handle

    def open_path(self, path: str) -> int:
        """A read-only descriptor of a regular file; the caller closes it."""
        parts = split_path(path)
        try:
            handle = os.open(
                parts[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self.folder(parts[:-1])
            )
        except OSError as problem:
            raise source_problem(problem, path) from problem
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            raise SourceChanged(f"{shown(path)} is no regular file any more")
        return handle

    def read_link(self, state: FileState) -> tuple[str, os.stat_result]:
        """Where a link points to, and its own state; raises SourceChanged if that is not what was seen."""
        parts = split_path(state.path)
        folder = self.folder(parts[:-1])
        try:
            target = os.readlink(parts[-1], dir_fd=folder)
            now = os.stat(parts[-1], dir_fd=folder, follow_symlinks=False)
        except OSError as problem:
            raise source_problem(problem, state.path) from problem
        if target != state.link_target:
            raise SourceChanged(f"the link {shown(state.path)} points elsewhere than when the scan was looked at")
        return target, now


class TargetTree(_Tree):
    """A folder to restore into. Folders are made as needed; a link in the way raises Refused."""

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self.touched: set[tuple[str, ...]] = set()

    def _enter(self, parent: int, parts: tuple[str, ...]) -> int:
        try:
            os.mkdir(parts[-1], dir_fd=parent)
            self.touched.add(parts[:-1])
        except FileExistsError:
            pass  # it is opened below, which refuses what is not a real folder
        except OSError as problem:
            raise self._entering(problem, "/".join(parts)) from problem
        return super()._enter(parent, parts)

    def _entering(self, problem: OSError, path: str) -> Exception:
        if problem.errno in (errno.ELOOP, errno.ENOTDIR):
            return Refused(
                f"{shown(path)} in the way of the restore is a link or a file, not a folder",
                by="links are never followed",
                hint="restore into an empty folder",
            )
        if problem.errno == errno.ENOENT:
            return UserError(f"the folder {shown(path)} does not exist", hint="create it first")
        if problem.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            return UserError(f"{shown(path)}: {problem.strerror}", hint="choose a folder that can be written")
        return Transient(f"{shown(path)}: {problem.strerror}")

    def sync(self) -> None:
        """Make every folder that was changed durable."""
        for parts in sorted(self.touched, key=len, reverse=True):
            os.fsync(self.folder(parts))


def check_unchanged(now: os.stat_result, state: FileState) -> None:
    """Raise SourceChanged if a file is not the one that was seen, or was written to since."""
    if not stat.S_ISREG(now.st_mode):
        raise SourceChanged(f"{shown(state.path)} is no regular file any more")
    seen = (state.size, state.mtime_ns, state.ctime_ns, state.inode, state.device)
    if (now.st_size, now.st_mtime_ns, now.st_ctime_ns, now.st_ino, now.st_dev) != seen:
        raise SourceChanged(
            f"{shown(state.path)} was changed or replaced since the scan was looked at",
            hint="it is looked at again once it is quiet",
        )


def source_problem(problem: OSError, path: str) -> Exception:
    """The error of ours for a failure to open or read a user's file."""
    if problem.errno in (errno.ENOENT, errno.ESTALE):
        return SourceChanged(f"{shown(path)} was moved or removed while the scan was read")
    if problem.errno in (errno.ELOOP, errno.ENOTDIR, errno.ENXIO):
        return SourceChanged(f"{shown(path)} was replaced by a link or something else that is not followed")
    if problem.errno in (errno.EACCES, errno.EPERM):
        return UserError(
            f"{shown(path)} cannot be read: {problem.strerror}", hint="give tomovault the right to read it"
        )
    return Transient(f"{shown(path)}: {problem.strerror}")
