"""Bytes on their way between disks, in blocks of bounded size, hashed as they pass."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterator

from tomovault.core.errors import IntegrityError, InUse, NoSpace, Refused, SourceChanged, Transient
from tomovault.core.manifest import path_bytes
from tomovault.core.ports import Throttle
from tomovault.core.replica import StoredFile

#: Bytes moved, hashed and paid for at a time.
BLOCK = 1 << 20

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_WAIT_STEP_S = 0.02
_NAME_LIMIT = 255


def write_all(fd: int, data: bytes | bytearray | memoryview) -> None:
    """Every byte of `data` is handed to the system. Raises OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


@contextlib.contextmanager
def translating(what: str) -> Iterator[None]:
    """Errors of the system become errors of ours: a full disk NoSpace, anything else Transient."""
    try:
        yield
    except OSError as problem:
        reason = problem.strerror or str(problem)
        if problem.errno in _FULL:
            raise NoSpace(f"{what}: {reason}", hint="free space there, or give the tier more room") from problem
        raise Transient(f"{what}: {reason}", hint="see whether the disk is mounted and healthy") from problem


def shown(path: str) -> str:
    """A path for a message of one line, whatever bytes are in its name."""
    return ascii(path)[1:-1] if not path.isprintable() else path


def is_file_name(name: str) -> bool:
    """Whether this names a file in a folder, none elsewhere, and is short enough for any file system."""
    try:
        raw = path_bytes(name)
    except UnicodeEncodeError:
        return False
    return name not in ("", ".", "..") and not {"/", "\0"} & set(name) and len(raw) <= _NAME_LIMIT


def open_regular(path: str, *, dir_fd: int | None = None) -> int:
    """A descriptor of a regular file, for reading; a link or anything else at the last name is refused (OSError)."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=dir_fd)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "not a regular file")
    return fd


def read_blocks(fd: int, throttle: Throttle | None = None) -> Iterator[bytes]:
    """The bytes of a file from its present position, `BLOCK` at most at a time."""
    while block := os.read(fd, BLOCK):
        if throttle is not None:
            throttle.spend(len(block))
        yield block


def source_blocks(stored: StoredFile, throttle: Throttle) -> Iterator[bytes]:
    """The bytes of a parcel's file, read once; the digest is checked before the end of the iteration.

    Raises IntegrityError where size or digest are not what the parcel says, and SourceChanged where the file
    cannot be opened or read.
    """
    where = shown(stored.location)
    try:
        fd = open_regular(stored.location)
    except OSError as problem:
        raise SourceChanged(
            f"{where}: {problem.strerror}", hint="the package is not where it was; verify its replica"
        ) from problem
    try:
        sha, done = hashlib.sha256(), 0
        if os.fstat(fd).st_size != stored.size:
            raise IntegrityError(f"{where} has {os.fstat(fd).st_size} bytes, recorded are {stored.size}")
        blocks = read_blocks(fd, throttle)
        while True:
            try:
                block = next(blocks, b"")
            except OSError as problem:
                raise SourceChanged(f"{where}: {problem.strerror}", hint="see the health of that disk") from problem
            if not block:
                break
            sha.update(block)
            done += len(block)
            if done > stored.size:
                break
            yield block
        if done != stored.size or sha.hexdigest() != stored.sha256.lower():
            raise IntegrityError(
                f"{where} is not what was recorded: sha256 {sha.hexdigest()}, recorded {stored.sha256 or 'none'}",
                hint="verify this replica and use another copy",
            )
    finally:
        os.close(fd)


def drop_cache(fd: int) -> None:
    """What follows is read from the disk: the file is synced and its pages are given up."""
    try:
        os.fsync(fd)
    except OSError as problem:
        if problem.errno not in (errno.EROFS, errno.EINVAL):
            raise
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


def sync_folder(path: str) -> None:
    """The names in a folder are on the disk."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def replace_file(path: str, data: bytes, *, sync: bool = True, alone: bool = True) -> None:
    """`path` holds `data`, or after a crash what it held before. Raises OSError with no temporary left.

    The caller sees to it that nobody else writes `path` now; so a temporary left by a crash is written over. Where
    others may write it, not `alone`, each has a temporary of its own, which a crash leaves.
    """
    temporary = f"{path}.tmp" if alone else f"{path}.{os.getpid()}-{os.urandom(4).hex()}.tmp"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        try:
            write_all(fd, data)
            if sync:
                os.fsync(fd)
        finally:
            os.close(fd)
        os.replace(temporary, path)
    except Exception:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    if sync:
        sync_folder(os.path.dirname(path))


def deliver(
    stored: StoredFile,
    name: str,
    destination: str,
    blocks: Iterator[bytes],
    moved: Callable[[int], None],
) -> StoredFile:
    """`blocks` become the file `name` in the folder `destination`, synced, under its name only if the digest is right.

    A file of that name with the same bytes is left as it is. Raises IntegrityError, also for a name that may lead out
    of the folder; NoSpace, Transient, and Refused where a different file has that name.
    """
    if not is_file_name(name):
        raise IntegrityError(f"{shown(stored.location)}: {shown(name)!r} is no file's name", hint="use another copy")
    target = os.path.join(destination, name)
    result = StoredFile(target, stored.size, stored.sha256)
    if _holds(target, stored):
        moved(stored.size)
        return result
    temporary = os.path.join(destination, f".{hashlib.sha256(os.fsencode(name)).hexdigest()[:16]}.part")
    with translating(shown(target)):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)  # of a fetch into this folder that was killed
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        try:
            sha, done = hashlib.sha256(), 0
            for block in blocks:
                sha.update(block)
                done += len(block)
                with translating(shown(target)):
                    write_all(fd, block)
                moved(len(block))
            if done != stored.size or sha.hexdigest() != stored.sha256.lower():
                raise IntegrityError(
                    f"{shown(stored.location)} is not what was recorded: {done} bytes, sha256 {sha.hexdigest()}",
                    hint="use another copy",
                )
            with translating(shown(target)):
                os.fsync(fd)
        finally:
            os.close(fd)
        with translating(shown(target)):
            os.rename(temporary, target)
            sync_folder(destination)
    except Exception:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    return result


def _holds(target: str, stored: StoredFile) -> bool:
    """Whether the right bytes are there already. Raises Refused where something else has that name."""
    if not os.path.lexists(target):
        return False
    with translating(shown(target)):
        try:
            fd = open_regular(target)
        except OSError as problem:
            if problem.errno not in (errno.ELOOP, errno.EINVAL, errno.ENXIO):
                raise
            raise _occupied(target) from problem
        try:
            if os.fstat(fd).st_size == stored.size and hash_rest(fd) == stored.sha256.lower():
                return True
        finally:
            os.close(fd)
    raise _occupied(target)


def _occupied(target: str) -> Refused:
    return Refused(
        f"{shown(target)} exists and is something else",
        by="law 5",
        hint="fetch into an empty folder",
    )


def hash_rest(fd: int, throttle: Throttle | None = None) -> str:
    """Hex sha256 of a file from its present position to its end."""
    sha = hashlib.sha256()
    for block in read_blocks(fd, throttle):
        sha.update(block)
    return sha.hexdigest()


def try_lock(path: str) -> int | None:
    """A descriptor that holds the lock file's exclusive lock, or None where another holder lives."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    except BaseException:
        os.close(fd)
        raise
    return fd


@contextlib.contextmanager
def holding(path: str, what: str, wait_s: float) -> Iterator[int]:
    """The lock is ours inside, by the descriptor given. It ends with the process that held it, or the last one that was
    given its descriptor. Raises InUse after `wait_s`.
    """
    with translating(what):
        fd = _lock_in_time(path, what, wait_s)
    try:
        yield fd
    finally:
        os.close(fd)


def _lock_in_time(path: str, what: str, wait_s: float) -> int:
    turns = waiting(what, wait_s)
    while (fd := try_lock(path)) is None:
        next(turns)
    return fd


def waiting(what: str, wait_s: float) -> Iterator[None]:
    """Turns of a loop that waits for another process; after `wait_s` raises InUse."""
    end = time.monotonic() + wait_s
    yield
    while time.monotonic() < end:
        time.sleep(_WAIT_STEP_S)
        yield
    raise InUse(f"{what} is in use by another process", hint="it is tried again later")
