"""A stored file copied out of a tier into a folder of other people, by descriptors and under a name of its own."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path
from typing import BinaryIO

from tomovault.core.errors import IntegrityError
from tomovault.core.ports import Throttle
from tomovault.core.replica import StoredFile
from tomovault.tiers.ground import move


def copy_stored(file: StoredFile, folder: int, name: str, *, overwrite: bool, throttle: Throttle, job: str) -> None:
    """The file stands under `name` in the open folder, synced, with the digest that it was stored with.

    Neither the name nor the temporary one is followed where it is a link. Raises IntegrityError for another digest,
    FileExistsError rather than replace what is there, unless `overwrite`; what was written is removed again then.
    """
    temporary = f".{name}.{job}"
    digest = hashlib.sha256()
    _remove(temporary, folder)
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with (
            _source(file.location) as read,
            os.fdopen(os.open(temporary, flags, 0o666, dir_fd=folder), "wb") as write,
        ):
            while block := read.read(1 << 20):
                throttle.spend(len(block))
                digest.update(block)
                write.write(block)
            write.flush()
            os.fsync(write.fileno())
        if digest.hexdigest() != file.sha256:
            raise IntegrityError(f"{file.location} does not have the digest it was stored with")
        if overwrite:
            os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
        else:
            move(folder, folder, temporary, name)
    except BaseException:
        _remove(temporary, folder)
        raise


def _source(path: str) -> BinaryIO:
    """A file of ours to read. Raises IntegrityError where it is not there."""
    try:
        return Path(path).open("rb")
    except FileNotFoundError as missing:
        raise IntegrityError(f"{path} is not there") from missing


def _remove(name: str, folder: int) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)
