"""A bundle as a file in a folder: written under a name of the job, synced, and only then called as what it is."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

from tomovault.core.errors import IntegrityError
from tomovault.core.ports import Checkpoint, Parcel, Throttle
from tomovault.tiers.blocks import write_all
from tomovault.tiers.bundle import Bundle, BundlePackage, check_bundle, package_key, write_bundle
from tomovault.tiers.folders import take_lock
from tomovault.tiers.free import FREE
from tomovault.tiers.ground import move
from tomovault.tiers.one_bundle import plain_word
from tomovault.tiers.spool import OpenedBundle

_PART = ".tomovault-part."
_KEY_DIGITS = 16
_NAME_LIMIT = 255


def part_name(job: str, key: str) -> str:
    """What the file is called while a job writes the package with this `parcel_key`."""
    return f"{_PART}{key[:_KEY_DIGITS]}.{plain_word(job, 'job')}"[:_NAME_LIMIT]


def write_file(
    folder: int,
    name: str,
    part: str,
    bundle: Bundle,
    parcel: Parcel,
    *,
    room: Callable[[int], None],
    throttle: Throttle,
    checkpoint: Checkpoint,
) -> bool:
    """The file `name` is this bundle, synced; False, with nothing left, where another process took the name meanwhile.

    `room` is asked before so many bytes are written. Raises as `write_bundle`, OSError, and what `room` raises, and
    leaves nothing.
    """
    fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644, dir_fd=folder)

    def write(data: bytes) -> None:
        room(len(data))
        write_all(fd, data)

    try:
        take_lock(fd)
        write_bundle(bundle, [parcel], write, throttle, checkpoint)
        os.fsync(fd)
        move(folder, folder, part, name)
    except Exception as problem:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(part, dir_fd=folder)
        if isinstance(problem, FileExistsError):
            return False
        raise
    finally:
        os.close(fd)
    os.fsync(folder)
    checkpoint("archive.synced")
    return True


def whole_package(folder: int, name: str, key: str) -> BundlePackage | None:
    """The package in a file, if that is the one with this `parcel_key` and every byte of it was read."""
    try:
        with OpenedBundle(name, dir_fd=folder, from_disk=True) as source:
            packages = check_bundle(source, FREE).packages
    except (OSError, IntegrityError):
        return None
    return packages[0] if [package_key(package) for package in packages] == [key] else None


def sweep_parts(folder: int, key: str, job: str) -> None:
    """What dead jobs, and this job before, left of this package is gone; a live writer keeps its own."""
    own = part_name(job, key)
    for name in os.listdir(folder):
        if not name.startswith(own[: len(_PART) + _KEY_DIGITS]):
            continue
        with contextlib.suppress(FileNotFoundError):
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
            try:
                locked = take_lock(fd)
            finally:
                os.close(fd)
            if locked or (locked is None and name == own):
                os.unlink(name, dir_fd=folder)
