"""What the HDF5 library writes a file of ours through, on a disk that may fill up at any byte.

The library crashes the process at exit when its last flush fails. So the handle keeps the first error to itself and
lets every later write pass; whoever uses it asks for the error between calls of the library.
"""

from __future__ import annotations

import io
import os
from typing import Any


class Handle(io.RawIOBase):
    """A file whose writes never fail: the first `problem` is kept, and nothing is written after it."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__()
        self.problem: OSError | None = None
        self._given_up = False
        self._at = 0
        self._end = 0
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)

    def fileno(self) -> int:
        """The descriptor of the file."""
        return self._descriptor

    def check(self) -> None:
        """Raises the OSError that a write has met, if any has."""
        if self.problem is not None:
            raise self.problem

    def give_up(self) -> None:
        """Nothing more is written."""
        self._given_up = True

    def readable(self) -> bool:
        """It is."""
        return True

    def writable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place; returns it."""
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._end}[whence]
        return self._at

    def tell(self) -> int:
        """The place."""
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer from the place on, with zeros where nothing was written."""
        view = memoryview(buffer).cast("B")
        data = os.pread(self._descriptor, len(view), self._at)
        # What a failed write left out reads as zeros, as in any hole of a file.
        view[:] = data + bytes(len(view) - len(data))
        self._at += len(view)
        return len(view)

    def write(self, data: Any) -> int:
        """Write at the place, or nothing if a write has failed; returns the length in both cases."""
        view = memoryview(data).cast("B")
        self._write_at(view, self._at)
        return self._passed(len(view))

    def _write_at(self, view: memoryview, at: int) -> None:
        done = 0
        while done < len(view) and self._writing:
            try:
                done += os.pwrite(self._descriptor, view[done:], at + done)
            except OSError as problem:
                self.problem = problem

    def _passed(self, count: int) -> int:
        self._at += count
        self._end = max(self._end, self._at)
        return count

    def truncate(self, size: int | None = None) -> int:
        """Cut the file, by default at the place; returns its length."""
        self._end = self._at if size is None else size
        if self._writing:
            try:
                os.ftruncate(self._descriptor, self._end)
            except OSError as problem:
                self.problem = problem
        return self._end

    def close(self) -> None:
        """Let go of the file."""
        if not self.closed:
            os.close(self._descriptor)
        super().close()

    @property
    def _writing(self) -> bool:
        return self.problem is None and not self._given_up
