"""How a file of ours comes to stand under its name: written aside, synced, renamed, read back from the disk."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from tomovault.core.errors import Refused, Transient
from tomovault.core.replica import StoredFile
from tomovault.package.container import write_problems
from tomovault.package.names import Whose
from tomovault.package.place import place_entry

_STEP = 4 << 20

#: The root attribute that says which scan an HDF5 file of ours is of.
SCAN_ATTRIBUTE = "tomovault_scan"


def temporary_path(final: Path, job: str) -> Path:
    """Where a file is written before it is whole: beside its place, hidden, with the job's id in its name."""
    return final.with_name(f".{final.name}.{job}.tmp")


def publish(temporary: Path, final: Path, *, overwrite: bool) -> None:
    """The file is on disk under its final name, and so is the name.

    Raises NoSpace or Transient; that too where a file came there meanwhile, unless `overwrite`.
    """
    with write_problems(str(final)):
        sync_path(temporary)
        folder = os.open(final.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            place_entry(folder, temporary.name, final.name, overwrite=overwrite)
            os.fsync(folder)
        except FileExistsError as there:
            raise came_meanwhile(str(final)) from there
        finally:
            os.close(folder)


def came_meanwhile(path: str) -> Transient:
    """What is said where another job was first to give a name to a file: whose it is can be asked again."""
    return Transient(f"{path}: another file came there meanwhile")


def may_replace(path: Path, whose: Whose, group: str, **same: str) -> bool:
    """Whether a file is there and of that scan: by what is known, or by what it says itself: the scan, or the texts
    `same` in a `group`, which a catalogue that was made anew does not change.

    Raises Refused where something else is there.
    """
    if not os.path.lexists(path):
        return False
    if str(path) in whose.locations or _says(path, "/", {SCAN_ATTRIBUTE: whose.scan}) or _says(path, group, same):
        return True
    raise Refused(
        f"{path} is there and is not known to be this scan's",
        by="a file in the vault is never replaced by another scan's",
        hint="move it away, if no scan has it",
    )


def _says(path: Path, group: str, wanted: Mapping[str, str]) -> bool:
    try:
        with h5py.File(path, "r", locking=False) as file:
            node = file[group]
            said = {n: node.attrs[n] if n in node.attrs else node[n].asstr()[()] for n in wanted}
    except (OSError, KeyError, RuntimeError, TypeError, ValueError):
        return False
    return said == wanted


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
