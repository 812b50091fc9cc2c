"""Taking away a package's folder on a disk: only what is as it was recorded goes, and what is gone is done."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping, Sequence

from tomovault.core.errors import IntegrityError, Refused
from tomovault.core.ports import Checkpoint
from tomovault.core.replica import StoredFile
from tomovault.tiers.blocks import hash_rest, open_regular, shown
from tomovault.tiers.folders import exists_in, folder_below
from tomovault.tiers.ground import NOT_NOW
from tomovault.tiers.sidecar import SIDECAR, read_sidecar

#: What opening says of a name that is no regular file.
_NO_FILE = (errno.ELOOP, errno.EINVAL, errno.ENXIO)


def remove_files(inside: int, location: str, wanted: Mapping[str, StoredFile], *, as_it_is: bool = False) -> None:
    """The files `wanted`, by name, of the folder `location` are gone: those that are there were as recorded, or, with
    `as_it_is`, regular files.

    Raises IntegrityError, and leaves all, where one is not or, but with `as_it_is`, no sound manifest names them;
    Refused where the manifest names others. OSError.
    """
    try:
        kept = _names_of_manifest(inside)
    except IntegrityError:
        if not as_it_is:
            raise
        kept = None
    there = [name for name in sorted(wanted) if exists_in(inside, name)]
    if kept is None and there and not as_it_is:
        raise IntegrityError(f"{shown(location)}: {SIDECAR} is not there", hint="nothing was removed; look at it")
    if kept is not None and not wanted.keys() <= kept:
        strange = shown(min(wanted.keys() - kept))
        raise Refused(f"{shown(location)}: {strange} was not placed here", by="law 5", hint="nothing was removed")
    checked = {name: _state(inside, location, name, None if as_it_is else wanted[name]) for name in there}
    for name, state in checked.items():
        # Hashing may take hours: what stands there now is to be what was hashed.
        if _look(os.stat(name, dir_fd=inside, follow_symlinks=False)) != _look(state):
            raise _changed(location, name)
        os.unlink(name, dir_fd=inside)
    os.fsync(inside)


def clear_folder(folder: int, name: str, wanted: frozenset[str], checkpoint: Checkpoint) -> Sequence[str]:
    """The manifest of the package with the files `wanted`, and the folder `name` below `folder` that it stood in, are
    gone, if nothing else is in it; returns the names that stay. Raises OSError.

    A manifest that is damaged, names other files or has files left that were not to go, stays.
    """
    try:
        with folder_below(folder, (name,)) as inside:
            if _is_over(inside, wanted):
                os.unlink(SIDECAR, dir_fd=inside)
                os.fsync(inside)
            checkpoint("remove.manifest")
            left = sorted(os.listdir(inside))
    except FileNotFoundError:
        return ()
    if not left:
        _remove_folder(folder, name)
        checkpoint("remove.folder")
    return left


def _names_of_manifest(inside: int) -> frozenset[str] | None:
    """The files that a folder's manifest names; None where there is none. Raises IntegrityError, OSError."""
    try:
        return frozenset(os.path.basename(f.location) for f in read_sidecar(inside).files)
    except IntegrityError as problem:
        cause = problem.__cause__
        if isinstance(cause, FileNotFoundError):
            return None
        if isinstance(cause, OSError) and cause.errno in NOT_NOW:
            raise cause from problem
        raise


def _is_over(inside: int, wanted: frozenset[str]) -> bool:
    """Whether the manifest there is that of the files `wanted`, and of no other file that is there."""
    try:
        kept = _names_of_manifest(inside)
    except IntegrityError:
        return False
    return kept is not None and wanted <= kept and not any(exists_in(inside, name) for name in kept - wanted)


def _state(inside: int, location: str, name: str, recorded: StoredFile | None) -> os.stat_result:
    """The state of a regular file, every byte of which is as `recorded`. Raises IntegrityError, OSError."""
    try:
        fd = open_regular(name, dir_fd=inside)
    except OSError as problem:
        if problem.errno in _NO_FILE:
            raise _changed(location, name) from problem
        raise
    try:
        state = os.fstat(fd)
        if recorded is not None and (state.st_size != recorded.size or hash_rest(fd) != recorded.sha256.lower()):
            raise _changed(location, name)
    finally:
        os.close(fd)
    return state


def _look(state: os.stat_result) -> tuple[int, ...]:
    return state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns


def _changed(location: str, name: str) -> IntegrityError:
    return IntegrityError(
        f"{shown(os.path.join(location, name))} is not the file that was put there, and was left",
        hint="look at it; what is not ours is to be moved away by hand",
    )


def _remove_folder(folder: int, name: str) -> None:
    try:
        os.rmdir(name, dir_fd=folder)
    except OSError as problem:
        if problem.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
            raise
    os.fsync(folder)
