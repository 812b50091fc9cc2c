"""An HDF5 file of ours while it is written, on a disk that may fill up at any byte."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

from tomovault.package.container import write_problems
from tomovault.package.handle import Handle


class OutFile:
    """`file` is the open HDF5 file. `check` must be called after writing to it, for it raises what went wrong."""

    def __init__(self, path: Path, handle: Handle, file: Any) -> None:
        self.file = file
        self._path = path
        self._handle = handle

    def check(self) -> None:
        """Raises NoSpace or Transient if a write has failed."""
        with write_problems(str(self._path)):
            self._handle.check()


@contextmanager
def open_out(path: Path) -> Iterator[OutFile]:
    """A new HDF5 file, closed at the end with everything handed to the system. Raises NoSpace or Transient.

    The file is left as it is where anything is raised; the caller removes it.
    """
    with write_problems(str(path)):
        handle = Handle(path)
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
