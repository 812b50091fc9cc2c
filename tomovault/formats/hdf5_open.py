"""The one way in which a user's HDF5 file is opened.

A reader with HDF5's default locking makes the acquisition's own open fail (errno 11), after which the
whole scan is lost to its writer. So: read-only, no lock, and where the file is open for single-writer
access, as a reader of that.
"""

from __future__ import annotations

import errno
import os

# Also for what the library opens by itself: sources of virtual datasets and external links.
os.environ["HDF5_USE_FILE_LOCKING"] = "FALSE"

import h5py

from tomovault.core.errors import Transient, UserError

_WRITING = ("already open for write", "still open for write", "already open for SWMR write")


def open_hdf5(path: str) -> h5py.File:
    """Open for reading without any lock; the caller closes it.

    Raises Transient where a writer holds it in a way that cannot be read now, UserError where it cannot be read.
    """
    try:
        return h5py.File(path, "r", locking=False)
    except (OSError, RuntimeError, ValueError) as error:
        if "already open for" not in str(error):
            raise _explain(path, error) from error
    try:
        return h5py.File(path, "r", locking=False, swmr=True)
    except (OSError, RuntimeError, ValueError) as error:
        raise _explain(path, error) from error


def _explain(path: str, error: Exception) -> Transient | UserError:
    text = " ".join(str(error).split())
    number = getattr(error, "errno", None)
    if number in (errno.EAGAIN, errno.ESTALE) or any(mark in text for mark in _WRITING):
        return Transient(f"{path}: is being written: {text}", hint="it will be looked at again")
    return UserError(
        f"{path}: cannot be read as HDF5: {text}", hint="h5dump -H FILE shows what the library makes of it"
    )
