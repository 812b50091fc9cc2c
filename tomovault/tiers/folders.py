"""Folders below a root that others can write to: through descriptors, no link followed."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterable, Iterator, Sequence

from tomovault.core.errors import Refused, Transient
from tomovault.core.ports import Throttle
from tomovault.core.replica import StoredFile
from tomovault.tiers.blocks import drop_cache, hash_rest, open_regular, shown, write_all
from tomovault.tiers.place import Place, check_place

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@contextlib.contextmanager
def tier_folder(tier: str, path: str, place: Place | None) -> Iterator[int]:
    """A descriptor of the folder of a tier. Raises Transient where it is not there, or has not its marker."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as problem:
        raise Transient(
            f"tier {tier}: {shown(path)}: {problem.strerror}",
            hint=f"mount or make {shown(path)}, or correct the path of tier {tier}",
        ) from problem
    try:
        if place is not None:
            check_place(place, fd)
        yield fd
    finally:
        os.close(fd)


def names_below(tier: str, path: str, location: str) -> tuple[str, ...]:
    """Names from the folder of a tier down to a location. Raises Refused for one that is not below it."""
    start = path.rstrip("/") + "/"
    parts = tuple(location[len(start) :].split("/")) if location.startswith(start) else ()
    if not parts or any(part in ("", ".", "..") for part in parts):
        raise Refused(f"{shown(location)} is not on tier {tier}", by="law 5", hint="nothing was touched")
    return parts


def take_lock(fd: int) -> bool | None:
    """Whether the lock of a folder or file is ours until the descriptor is closed; None where the file system has no
    such locks.
    """
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


@contextlib.contextmanager
def folder_below(root: int, parts: Sequence[str], *, create: bool = False) -> Iterator[int]:
    """A descriptor of a folder below another, no link followed. Raises OSError."""
    fd = os.dup(root)
    try:
        for part in parts:
            if create:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, 0o755, dir_fd=fd)
                    os.fsync(fd)
            below = os.open(part, _FOLDER, dir_fd=fd)
            os.close(fd)
            fd = below
        yield fd
    finally:
        os.close(fd)


def exists_in(folder: int, name: str) -> bool:
    """Whether a folder has anything of that name."""
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def size_in(folder: int, name: str) -> int:
    """The size of what has that name in a folder, -1 where nothing has."""
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False).st_size
    except FileNotFoundError:
        return -1


def write_new(folder: int, name: str, blocks: Iterable[bytes]) -> None:
    """A new file of these bytes, synced. Raises OSError."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(name, flags, 0o644, dir_fd=folder)
    try:
        for block in blocks:
            write_all(fd, block)
        os.fsync(fd)
    finally:
        os.close(fd)


def problem_of(folder: int, name: str, stored: StoredFile, throttle: Throttle) -> str:
    """What is wrong with a file on the disk itself, '' when every byte is right."""
    try:
        fd = open_regular(name, dir_fd=folder)
        try:
            drop_cache(fd)
            if (size := os.fstat(fd).st_size) != stored.size:
                return f"{shown(name)} has {size} bytes, recorded are {stored.size}"
            sha256 = hash_rest(fd, throttle)
        finally:
            os.close(fd)
    except OSError as problem:
        return f"{shown(name)}: {problem.strerror}"
    return "" if sha256 == stored.sha256.lower() else f"{shown(name)} is damaged: sha256 {sha256}"


def free_on(fd: int) -> int | None:
    """Bytes that an ordinary user may take; None where the numbers cannot be."""
    room = os.fstatvfs(fd)
    if not room.f_blocks or room.f_bavail > room.f_blocks:
        return None
    return room.f_bavail * room.f_frsize
