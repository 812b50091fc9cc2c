"""An entry written aside comes to stand under its name, and takes nobody's place unless that is asked for."""

from __future__ import annotations

import ctypes
import errno
import os

_RENAME_NOREPLACE = 1  # renameat2(2)
_NO_SUCH_CALL = (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP)
#: link(2): file systems without hard links, those that are full of them, and files of another owner.
_NO_LINK = (*_NO_SUCH_CALL, errno.EPERM, errno.EMLINK)


def place_entry(folder: int, temporary: str, name: str, *, overwrite: bool) -> None:
    """The entry `temporary` of an open folder is named `name` now; a symbolic link is not followed.

    Raises FileExistsError rather than replace what is there, unless `overwrite`; then `temporary` is as it was.
    The kernel decides that in one step, by renameat2(2), or by link(2) where the file system lacks it (NFS). Only
    where neither is possible a look comes before the rename.
    """
    if overwrite:
        os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
        return
    try:
        _move_alone(folder, temporary, name)
    except OSError as problem:
        if problem.errno not in _NO_SUCH_CALL:
            raise
    else:
        return
    try:
        _link_alone(folder, temporary, name)
    except OSError as problem:
        if problem.errno not in _NO_LINK:
            raise
        _look_and_rename(folder, temporary, name)


def _move_alone(folder: int, temporary: str, name: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(folder, os.fsencode(temporary), folder, os.fsencode(name), _RENAME_NOREPLACE) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), name)


def _link_alone(folder: int, temporary: str, name: str) -> None:
    os.link(temporary, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
    os.unlink(temporary, dir_fd=folder)


def _look_and_rename(folder: int, temporary: str, name: str) -> None:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    else:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)
