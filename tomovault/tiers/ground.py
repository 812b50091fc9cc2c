"""Hostile ground: a folder opened once, below which everything is reached by descriptors and no link is followed."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import hashlib
import os
from collections.abc import Iterator, Sequence
from types import TracebackType

from tomovault.core.errors import AreaAbsent, Transient, UserError
from tomovault.core.ports import Throttle

#: Where everything of ours lies below an area's root or a vault; the watcher never enters it.
OWN_FOLDER = ".tomovault"

#: The file system does not answer as it should: nothing is decided by such an answer, and all work there stops.
NOT_NOW = frozenset(
    {
        errno.EIO,
        errno.ESTALE,
        errno.ENODEV,
        errno.ENXIO,
        errno.ENOTCONN,
        errno.ETIMEDOUT,
        errno.EROFS,
        errno.ENOSPC,
        errno.EDQUOT,
    }
)

_BLOCK = 1 << 20
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_RENAME_NOREPLACE = 1  # renameat2(2)
#: A file that cannot be written needs no sync.
_NOTHING_TO_SYNC = (errno.EROFS, errno.EINVAL, errno.EOPNOTSUPP)
_NO_SUCH_CALL = (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP)


class Ground:
    """A folder that stays the same one for as long as it is open, whatever happens to its path."""

    def __init__(self, root: str) -> None:
        """Raises AreaAbsent if the folder is not there."""
        self.root = root
        try:
            self._fd = os.open(root, _FOLDER)
        except OSError as problem:
            raise AreaAbsent(f"{root}: {problem.strerror}", hint="is its file system mounted?") from problem

    def __enter__(self) -> Ground:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._fd)

    @contextlib.contextmanager
    def folder(self, parts: Sequence[str], *, create: int | None = None) -> Iterator[int]:
        """A descriptor of the folder `parts` below; missing ones are made with the mode `create`, if one is given.

        Raises FileNotFoundError where a part is missing, another OSError where one is a link or no folder.
        """
        fd = os.dup(self._fd)
        try:
            for part in parts:
                _check(part)
                if create is not None:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(part, create, dir_fd=fd)
                deeper = os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=fd)
                os.close(fd)
                fd = deeper
            yield fd
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """No other process removes or puts back anything here; waits for one that does (law 7)."""
        with self.folder((OWN_FOLDER,), create=0o755) as own:
            lock = os.open("removals.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=own)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
            except OSError as problem:
                raise Transient(f"{self.root} cannot be locked: {problem.strerror}") from problem
            yield
        finally:
            os.close(lock)

    def sync(self, parts: Sequence[str]) -> None:
        """The names in a folder survive a power cut; one that is not there any more needs nothing."""
        with contextlib.suppress(FileNotFoundError), self.folder(parts) as fd:
            os.fsync(fd)


def split(path: str) -> tuple[list[str], str]:
    """Folder parts and name of a relative path. Raises UserError for one that leads anywhere else."""
    *parts, name = path.split("/")
    for part in (*parts, name):
        _check(part)
    return parts, name


def _check(part: str) -> None:
    if part in ("", ".", "..") or "/" in part or "\0" in part:
        raise UserError(f"a path has the part {part!r}, which is not allowed")


def parts_below(root: str, path: str) -> list[str]:
    """The parts that lead from the folder `root` down to `path`. Raises UserError if it is not below."""
    root_parts = [p for p in root.split("/") if p]
    parts = [p for p in path.split("/") if p]
    if parts[: len(root_parts)] != root_parts:
        raise UserError(f"{path} is not below {root}")
    return parts[len(root_parts) :]


def exists(fd: int, name: str) -> bool:
    """Whether the folder has an entry of that name, a dangling link included."""
    try:
        os.stat(name, dir_fd=fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def move(source: int, target: int, name: str, as_name: str = "") -> None:
    """The entry is in the folder `target` now, under its name or another one.

    Raises FileExistsError rather than replace what is there.

    renameat2(2) decides that in one step. Where the file system lacks it (NFS), a look comes before the rename;
    a hard link would not do, since the kernel refuses one to a file of another owner.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    final = as_name or name
    if libc.renameat2(source, os.fsencode(name), target, os.fsencode(final), _RENAME_NOREPLACE) == 0:
        return
    code = ctypes.get_errno()
    if code not in _NO_SUCH_CALL:
        raise OSError(code, os.strerror(code), name)
    if exists(target, final):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), final)
    os.rename(name, final, src_dir_fd=source, dst_dir_fd=target)


def hash_below(
    fd: int, name: str, throttle: Throttle, *, length: int | None = None, from_disk: bool = False
) -> tuple[str, os.stat_result]:
    """(hex sha256, state) of a regular file in the folder `fd`, or of its first `length` bytes.

    The digest is '' if the file changed while it was read. `from_disk` is for what is to count as verified (law 2):
    what the memory of this machine holds of the file is dropped first.
    """
    file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=fd)
    try:
        if from_disk:
            _drop_cache(file)
        before = os.fstat(file)
        digest = hashlib.sha256()
        left = before.st_size + 1 if length is None else length
        while left > 0 and (block := os.read(file, min(_BLOCK, left))):
            throttle.spend(len(block))
            digest.update(block)
            left -= len(block)
        after = os.fstat(file)
    finally:
        os.close(file)
    same = all(getattr(before, k) == getattr(after, k) for k in ("st_size", "st_mtime_ns", "st_ctime_ns"))
    return digest.hexdigest() if same else "", after


def _drop_cache(file: int) -> None:
    """What is read next comes from the disk. Pages that are not there yet cannot be dropped: they are synced first."""
    try:
        os.fsync(file)
    except OSError as problem:
        if problem.errno not in _NOTHING_TO_SYNC:
            raise
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
