"""The mark of a restore in a watched area: written before the data, found again from any folder below."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Iterator, Sequence

from tomovault.core.errors import UserError
from tomovault.core.mark import MARK, MOST_BYTES, Marked, MarkedFile, add_marked, files_by_path, read_mark, write_mark
from tomovault.core.ports import Checkpoint, Throttle
from tomovault.core.record import RestoredHere
from tomovault.core.scan import FileState, ScanReport
from tomovault.tiers.ground import OWN_FOLDER, Ground, hash_below, parts_below, split

_BLOCK = 1 << 20
_NO_MARK = (errno.ENOENT, errno.ENOTDIR)


def leave_mark(below: str, folder: str, new: Marked, checkpoint: Checkpoint) -> None:
    """The folder, made where it is missing, carries a mark on disk that lists these files too.

    A mark that is there and cannot be understood is replaced: it excused nothing. No link is followed below `below`.
    Raises UserError where a link or a file is in the way, or the mark cannot be written.
    """
    temporary = f"{MARK}.{new.job}"
    try:
        with (
            Ground(below) as ground,
            ground.folder(parts_below(below, folder), create=0o777) as fd,
            _alone(fd),
        ):
            try:
                before = read_mark(_read(fd) or b"")
            except UserError:
                before = ()
            text = write_mark(add_marked(before, new))
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=fd)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            try:
                with os.fdopen(os.open(temporary, flags, 0o644, dir_fd=fd), "wb") as file:
                    file.write(text)
                    file.flush()
                    os.fsync(file.fileno())
                checkpoint("restore.mark")
                os.rename(temporary, MARK, src_dir_fd=fd, dst_dir_fd=fd)
            except BaseException:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(temporary, dir_fd=fd)
                raise
            os.fsync(fd)
    except OSError as problem:
        if problem.errno in (errno.ELOOP, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.EISDIR):
            raise UserError(
                f"{folder} cannot be marked as restored: {problem.strerror}",
                hint="choose another folder; none on the way to it may be a link",
            ) from problem
        raise


def find_mark(folder: str) -> tuple[str, tuple[Marked, ...]] | None:
    """(folder of the mark, what it says) of the nearest mark in `folder` or above it in its area, or None.

    Raises UserError for a mark that cannot be read or understood.
    """
    at = folder
    while True:
        try:
            fd = os.open(at, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            text = _read(fd)
            top = stat_of(fd, OWN_FOLDER) is not None
        finally:
            os.close(fd)
        if text is not None:
            return at, read_mark(text)
        above = os.path.dirname(at)
        if top or above == at:
            return None
        at = above


def match_report(
    report: ScanReport, base: str, restored: Sequence[Marked], throttle: Throttle, *, settled: bool
) -> RestoredHere | None:
    """What a mark in the folder `base` says of a report, if every file of it is as the mark says; else None.

    Size and time must be equal; where only the time differs the bytes are read and their digest is compared, once
    they have settled.
    """
    by_path = files_by_path(tuple(restored))
    inner = os.path.relpath(report.root, base)
    hashed: dict[str, str] = {}
    unread: list[str] = []
    for file in report.files:
        path = os.path.normpath(os.path.join(inner, file.state.path))
        alike = [m for m in by_path.get(path, ()) if _alike(m, file.state)]
        if not alike:
            return None
        if file.state.link_target is not None or any(m.mtime_ns == file.state.mtime_ns for m in alike):
            continue
        if settled:
            digest = _digest_of(base, path, throttle)
            if not digest or (all(m.size >= 0 for m in alike) and digest not in {m.sha256 for m in alike}):
                return None
            hashed[path] = digest
        else:
            unread.append(path)
    if not report.files:
        return None
    digests = tuple(sorted({one.digest for one in restored}))
    jobs = tuple(sorted({one.job for one in restored}))
    return RestoredHere(report.root, report.entry, base, digests, hashed, jobs, tuple(unread))


def _alike(marked: MarkedFile, state: FileState) -> bool:
    return marked.link_target == state.link_target and (
        state.link_target is not None or marked.size in (state.size, -1)
    )


def _digest_of(base: str, path: str, throttle: Throttle) -> str:
    try:
        parts, name = split(path)
        with Ground(base) as ground, ground.folder(parts) as fd:
            return hash_below(fd, name, throttle)[0]
    except (OSError, UserError):
        return ""


def _read(fd: int) -> bytes | None:
    """The bytes of the mark in an open folder, None where there is none. Raises UserError where it is no plain file."""
    try:
        file = os.open(MARK, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=fd)
    except OSError as problem:
        if problem.errno in _NO_MARK:
            return None
        raise UserError(f"the mark {MARK} cannot be read: {problem.strerror}") from problem
    try:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode) or found.st_size > MOST_BYTES:
            raise UserError(f"the mark {MARK} is no file, or too large to be one of ours")
        return b"".join(iter(lambda: os.read(file, _BLOCK), b""))[:MOST_BYTES]
    except OSError as problem:
        raise UserError(f"the mark {MARK} cannot be read: {problem.strerror}") from problem
    finally:
        os.close(file)


def stat_of(fd: int, name: str) -> os.stat_result | None:
    """The state of an entry of an open folder, None where there is none."""
    try:
        return os.stat(name, dir_fd=fd, follow_symlinks=False)
    except OSError:
        return None


@contextlib.contextmanager
def _alone(fd: int) -> Iterator[None]:
    """Two restores into one folder write its mark one after the other, where the file system knows such locks."""
    with contextlib.suppress(OSError):
        fcntl.flock(fd, fcntl.LOCK_EX)
    yield
