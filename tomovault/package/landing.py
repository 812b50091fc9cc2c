"""How a file of ours comes to stand under its name: written aside, synced, renamed, read back from the disk."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tomovault.core.replica import StoredFile
from tomovault.package.container import write_problems

_STEP = 4 << 20


def temporary_path(final: Path, job: str) -> Path:
    """Where a file is written before it is whole: beside its place, hidden, with the job's id in its name."""
    return final.with_name(f".{final.name}.{job}.tmp")


def publish(temporary: Path, final: Path) -> None:
    """The file is on disk under its final name, and so is the name. Raises NoSpace or Transient."""
    with write_problems(str(final)):
        sync_path(temporary)
        temporary.replace(final)
        sync_path(final.parent)


def discard(temporary: Path) -> None:
    """The temporary file is gone, if it was there."""
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()


def sync_path(path: Path) -> None:
    """What was written to a file, or the names in a folder, is on disk."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def drop_cache(path: Path) -> None:
    """What is read of the file next comes from the disk, where the system knows how to forget."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(handle)


def reread_file(path: Path) -> StoredFile:
    """Location, size and sha256 of a file's bytes as they lie on the disk."""
    drop_cache(path)
    digest = hashlib.sha256()
    size = 0
    with path.open("rb", buffering=0) as file:
        while block := file.read(_STEP):
            digest.update(block)
            size += len(block)
    return StoredFile(str(path), size, digest.hexdigest())


def array_digest(array: npt.NDArray[Any]) -> str:
    """Hex sha256 over dtype, shape and little-endian C-ordered values."""
    plain = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    digest = hashlib.sha256(f"{plain.dtype.str}{list(plain.shape)}".encode("ascii"))
    digest.update(plain.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
