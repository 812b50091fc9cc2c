"""One HDF5 file of a package while it is written: chunks go in as they come, their places are read back at the end."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
from collections.abc import Callable, Iterator
from typing import Any

import h5py

from tomovault.core.errors import NoSpace, TomovaultError, Transient
from tomovault.package.chunk_handle import ALIGNED, ChunkHandle
from tomovault.package.codec import block_filter, frame_filter
from tomovault.package.coding import LITERAL_BLOCK, RAW
from tomovault.package.manifest import FrameGroup, StoredChunk
from tomovault.package.straight import BLOCK

_WRITEBACK_STEP = 32 << 20
_ROWS = 256
_SYNC_FILE_RANGE_WRITE = 2
_KEEP_SIZE = 1  # FALLOC_FL_KEEP_SIZE

_libc = ctypes.CDLL(None, use_errno=True)


class PartFile:
    """The file of one part, under its temporary name. `written` is what chunks have taken so far, in bytes."""

    def __init__(self, path: str, number: int, floor_bytes: int, expected: int) -> None:
        self.path = path
        self.number = number
        self.written = 0
        self._floor = floor_bytes
        self._rows: dict[str, int] = {}
        self._raw_end = 0
        self._started = 0
        check_space(path, floor_bytes, expected)
        with write_problems(path):
            self._out = ChunkHandle(path)
            self._file: Any = h5py.File(
                self._out, "w", libver="v110", alignment_threshold=ALIGNED, alignment_interval=BLOCK
            )
            self._reserved = reserve(self._out.fileno(), expected)

    @property
    def file(self) -> Any:
        """The open HDF5 file."""
        return self._file

    def add_frame(self, group: FrameGroup, data: Any, after: Callable[[], None] | None = None) -> int:
        """Append one encoded frame to the group's dataset; returns its row there.

        `data` must stay as it is until `after` is called, in another thread.
        """
        name = f"/tomovault/{group.name}"
        with write_problems(self.path):
            if name not in self._rows:
                encoding = {} if group.codec == RAW else dict(frame_filter(group.shape))
                self._file.create_dataset(
                    name,
                    shape=(_ROWS, *group.shape),
                    maxshape=(None, *group.shape),
                    chunks=(1, *group.shape),
                    dtype=group.dtype,
                    **encoding,
                )
                self._rows[name] = 0
            row = self._rows[name]
            if row and row % _ROWS == 0:
                self._file[name].resize(row + _ROWS, axis=0)
            return self._write(name, (row, 0, 0), data, 0, after)

    def add_block(self, data: Any, raw: int, after: Callable[[], None] | None = None) -> int:
        """Append one block of the literal store, of which `raw` bytes count; returns its row in this part.

        `data` must stay as it is until `after` is called, in another thread.
        """
        name = "/tomovault/literals"
        with write_problems(self.path):
            if name not in self._rows:
                self._file.create_dataset(
                    name,
                    shape=(LITERAL_BLOCK,),
                    maxshape=(None,),
                    chunks=(LITERAL_BLOCK,),
                    dtype="u1",
                    **dict(block_filter()),
                )
                self._rows[name] = 0
            row = self._rows[name]
            if row:
                self._file[name].resize(((row + 1) * LITERAL_BLOCK,))
            self._raw_end = row * LITERAL_BLOCK + raw
            return self._write(name, (row * LITERAL_BLOCK,), data, 1 if len(data) == LITERAL_BLOCK else 0, after)

    def _write(self, name: str, place: tuple[int, ...], data: Any, mask: int, after: Callable[[], None] | None) -> int:
        if self.written + len(data) > self._reserved:
            check_space(self.path, self._floor, len(data))
        dataset = self._file[name].id
        self._out.write_chunk(data, lambda: dataset.write_direct_chunk(place, data, mask), after)
        self._out.check()
        row = self._rows[name]
        self._rows[name] = row + 1
        self.written += len(data)
        if self.written - self._started >= _WRITEBACK_STEP:
            start_writeback(self._out.fileno())
            self._started = self.written
        return row

    def settle(self) -> None:
        """Every dataset is as long as what it holds."""
        with write_problems(self.path):
            self._out.settle()  # the library reads the last chunk of what it shortens
            for name, rows in self._rows.items():
                dataset = self._file[name]
                length = self._raw_end if dataset.ndim == 1 else rows
                if dataset.shape[0] != length:
                    dataset.resize(length, axis=0)
            self._file.flush()
            self._out.check()

    def places(self, name: str, rows: list[int], digests: list[str]) -> list[StoredChunk]:
        """Where rows of a dataset came to lie in the file."""
        dataset = self._file[f"/tomovault/{name}"]
        found = []
        for row, digest in zip(rows, digests, strict=True):
            place = (row * LITERAL_BLOCK,) if dataset.ndim == 1 else (row, 0, 0)
            info = dataset.id.get_chunk_info_by_coord(place)
            found.append(StoredChunk(self.number, int(info.byte_offset), int(info.size), digest))
        return found

    def close(self) -> None:
        """Close the HDF5 file; nothing is synced yet."""
        with write_problems(self.path), self._out:
            self._file.close()
            self._out.settle()
            self._out.check()
            handle = self._out.fileno()
            os.ftruncate(handle, os.fstat(handle).st_size)  # gives back what was reserved beyond the end

    def abandon(self) -> None:
        """Close and remove the file, whatever state it is in."""
        self._out.give_up()
        # A file on a full disk cannot be closed properly; it is removed in any case.
        with contextlib.suppress(OSError, RuntimeError, ValueError):
            self._file.close()
        self._out.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)


def reserve(handle: int, count: int) -> int:
    """Reserve room without changing the file's size; returns how much, 0 where the file system cannot.

    Raises OSError if there is no room.
    """
    if count <= 0 or not hasattr(_libc, "fallocate"):
        return 0
    if _libc.fallocate(handle, _KEEP_SIZE, ctypes.c_int64(0), ctypes.c_int64(count)) == 0:
        return count
    number = ctypes.get_errno()
    if number in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
        return 0
    raise OSError(number, os.strerror(number))


def start_writeback(handle: int) -> None:
    """Ask the kernel to begin writing what is dirty, without waiting: the sync at the end has less to do."""
    if hasattr(_libc, "sync_file_range"):
        _libc.sync_file_range(handle, ctypes.c_int64(0), ctypes.c_int64(0), _SYNC_FILE_RANGE_WRITE)


def check_space(path: str, floor_bytes: int, count: int) -> None:
    """Raise NoSpace if writing `count` bytes beside `path` would cross the floor."""
    state = os.statvfs(os.path.dirname(path))
    free = state.f_bavail * state.f_frsize
    if free - count < floor_bytes:
        raise NoSpace(
            f"{os.path.dirname(path)} has {free} bytes free; {count} more would cross the floor of {floor_bytes}",
            hint="free space there, or choose another place",
        )


@contextlib.contextmanager
def write_problems(path: str) -> Iterator[None]:
    """Failures to write a file of ours, as errors of ours: NoSpace where the disk or a quota is full."""
    try:
        yield
    except TomovaultError:
        raise
    except (OSError, RuntimeError) as problem:
        number = _error_number(problem)
        if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise NoSpace(f"{path}: {os.strerror(number)}", hint="free space there") from problem
        if number is None and isinstance(problem, RuntimeError):
            raise
        raise Transient(f"{path} cannot be written: {problem}") from problem


def _error_number(problem: BaseException) -> int | None:
    number = getattr(problem, "errno", None)
    if isinstance(number, int):
        return number
    found = re.search(r"errno = (\d+)", str(problem))  # how HDF5 says it
    return int(found.group(1)) if found else None
