"""What LTFS tells of itself and of its files: extended attributes `user.ltfs.*`.

They are believed for what costs nothing where they lie: in which order files are read, and which volume this is. The
names are those of the reference implementation: `volumeUUID` is on every file and folder, `partition` and `startblock`
on files that have data, and `indexGeneration`, `commitMessage` and `sync` on the root folder of the volume alone.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
import uuid
from collections.abc import Iterable

from tomovault.core.errors import Transient

_PREFIX = "user.ltfs."
#: The file system has no such attribute, or none at all.
_NO_SUCH = (errno.ENODATA, errno.ENOTSUP)
_NOT_ALLOWED = (errno.EACCES, errno.EPERM, errno.EROFS)
_LARGEST_BLOCK = 1 << 64
_COMMIT = b"tomovault: copies were added or removed"
_LOOK_EVERY_S = 1.0
#: A large index takes a minute to write, and the tape may have to go round first.
_PATIENCE_S = 600.0

#: Of a file: its volume, its partition, the block where it starts; and its path, by which others are ordered.
TapeKey = tuple[str, str, int, str]


def volume_of(place: int | str) -> str:
    """The UUID of the LTFS volume that a file or folder is on; '' where no LTFS tells one that can be. Raises OSError
    where that cannot be read now.
    """
    try:
        return str(uuid.UUID(_read(place, "volumeUUID")))
    except ValueError:
        return ""


def names_of_volume(path: str) -> tuple[str, ...]:
    """By what a person may know the volume: its UUID, its serial (the barcode) and its name, as far as it tells them.
    Raises OSError where they cannot be read now.
    """
    if not (volume := volume_of(path)):
        return ()
    root = volume_root(path)
    told = (volume, _read(root, "volumeSerial"), _read(root, "volumeName"))
    return tuple(name for name in told if name)


def tape_key(path: str) -> TapeKey:
    """By this files are ordered as they lie on tape. What tells nothing sensible comes last, by its path."""
    volume, partition, start = "", "", _LARGEST_BLOCK
    with contextlib.suppress(OSError):
        volume, partition, told = volume_of(path), _read(path, "partition")[:1], _read(path, "startblock")
        if told.isascii() and told.isdecimal():
            start = min(int(told[:32]), _LARGEST_BLOCK)
    return volume or "~", partition or "~", start, path


def in_tape_order(paths: Iterable[str]) -> list[str]:
    """Each path once, volume by volume, as they lie there."""
    return sorted(dict.fromkeys(paths), key=tape_key)


def volume_root(path: str) -> str:
    """The topmost folder above a path, or that path, that is on the same volume. Raises OSError."""
    volume = volume_of(path)
    while volume and (above := os.path.dirname(path)) != path:
        try:
            if volume_of(above) != volume:
                break
        except OSError:
            break
        path = above
    return path


def write_index(path: str) -> None:
    """The volume that a folder is on has an index on tape that names all that is there now: without one a file is not
    found after a power cut, whatever was read of it before. Nothing happens where there is no LTFS, or none that can
    be written.

    To ask for it is not enough: a volume that is mounted to write its index at times only notes that. So where it
    tells the generation of its index, something in it is changed and a newer one awaited. Raises Transient, also where
    we may not ask, and OSError.
    """
    if not volume_of(path) or os.statvfs(path).f_flag & os.ST_RDONLY:
        return
    root = volume_root(path)
    before = _read(root, "indexGeneration")
    if not _set(root, "commitMessage", _COMMIT):
        before = ""  # nothing was changed, so no newer one may ever come
    if not _set(root, "sync", b"1"):
        return
    end = time.monotonic() + _PATIENCE_S
    while before and _read(root, "indexGeneration") == before:
        if time.monotonic() > end:
            raise Transient(
                f"{root}: LTFS wrote no index within {_PATIENCE_S:g} s: its generation is still {before}",
                hint="see what the log of ltfs says of the volume",
            )
        time.sleep(_LOOK_EVERY_S)


def _set(root: str, name: str, value: bytes) -> bool:
    """Whether the volume has such an attribute, which says that now. Raises Transient where we may not, OSError."""
    try:
        os.setxattr(root, _PREFIX + name, value)
    except OSError as problem:
        if problem.errno in _NO_SUCH:
            return False
        if problem.errno not in _NOT_ALLOWED:
            raise
        raise Transient(
            f"{root}: LTFS was not asked to write its index: {problem.strerror}",
            hint="the daemon's account has to be allowed to set attributes of the volume's root folder",
        ) from problem
    return True


def _read(place: int | str, name: str) -> str:
    """An attribute as text, '' where there is none. Raises OSError where it cannot be read now."""
    try:
        if isinstance(place, int):
            value = os.getxattr(place, _PREFIX + name)
        else:
            value = os.getxattr(place, _PREFIX + name, follow_symlinks=False)
    except OSError as problem:
        if problem.errno not in _NO_SUCH:
            raise
        return ""
    return value.decode("utf-8", "replace").strip("\0 \n")
