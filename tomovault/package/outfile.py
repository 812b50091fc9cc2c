"""An HDF5 file of ours while it is written, on a disk that may fill up at any byte.

The HDF5 library crashes the process at exit when its last flush fails. So it writes through a handle that keeps the
first error to itself and lets every later write pass; the error is raised from here, between calls of the library.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

from tomovault.package.container import write_problems


class OutFile:
    """`file` is the open HDF5 file. `check` must be called after writing to it, for it raises what went wrong."""

    def __init__(self, path: Path, handle: _Handle, file: Any) -> None:
        self.file = file
        self._path = path
        self._handle = handle

    def check(self) -> None:
        """Raises NoSpace or Transient if a write has failed."""
        if self._handle.problem is not None:
            with write_problems(str(self._path)):
                raise self._handle.problem


@contextmanager
def open_out(path: Path) -> Iterator[OutFile]:
    """A new HDF5 file, closed at the end with everything handed to the system. Raises NoSpace or Transient.

    The file is left as it is where anything is raised; the caller removes it.
    """
    with write_problems(str(path)):
        handle = _Handle(path)
    with handle:
        file = h5py.File(handle, "w", libver="v110")
        out = OutFile(path, handle, file)
        try:
            yield out
        except BaseException:
            handle.give_up()
            raise
        finally:
            file.close()
        out.check()


class _Handle(io.RawIOBase):
    """A file whose writes never fail: the first `problem` is kept, and nothing is written after it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.problem: OSError | None = None
        self._given_up = False
        self._at = 0
        self._end = 0
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)

    def give_up(self) -> None:
        """Nothing more is written."""
        self._given_up = True

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._end}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        data = os.pread(self._descriptor, len(view), self._at)
        # What a failed write left out reads as zeros, as in any hole of a file.
        view[:] = data + bytes(len(view) - len(data))
        self._at += len(view)
        return len(view)

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        done = 0
        while done < len(view) and self._writing:
            try:
                done += os.pwrite(self._descriptor, view[done:], self._at + done)
            except OSError as problem:
                self.problem = problem
        self._at += len(view)
        self._end = max(self._end, self._at)
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        self._end = self._at if size is None else size
        if self._writing:
            try:
                os.ftruncate(self._descriptor, self._end)
            except OSError as problem:
                self.problem = problem
        return self._end

    def close(self) -> None:
        if not self.closed:
            os.close(self._descriptor)
        super().close()

    @property
    def _writing(self) -> bool:
        return self.problem is None and not self._given_up
