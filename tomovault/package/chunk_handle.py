"""A handle through which chunks go to the disk while the HDF5 library, and all threads but one, go on."""

from __future__ import annotations

import mmap
import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import numpy as np

from tomovault.package.handle import Handle
from tomovault.package.straight import BLOCK, aligned, open_straight

#: Chunks of at least so many bytes are to begin at a multiple of BLOCK in the file.
ALIGNED = 1 << 20

#: Chunks that wait to be written, besides the one that is: one is enough that the thread never waits for another.
_WAITING = 1


class ChunkHandle(Handle):
    """The library says where a chunk is to lie; a thread of the handle puts it there.

    What the library would write by itself it writes with the interpreter's lock held: everything stops for so long.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(path)
        self._straight = open_straight(self._descriptor, os.O_WRONLY)
        self._staged: mmap.mmap | None = None
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="write")
        self._under_way: deque[Future[None]] = deque()
        self._chunk: Any = None
        self._place: int | None = None

    def write_chunk(self, chunk: Any, by_library: Callable[[], None], after: Callable[[], None] | None) -> None:
        """Where the library writes the chunk in `by_library`, its bytes go; some later. `after` is called, in any
        thread, once they are not needed any more.
        """
        while len(self._under_way) > _WAITING:
            self._under_way.popleft().result()
        self._chunk = chunk
        try:
            by_library()
        finally:
            self._chunk, place = None, self._place_told()
        # Not within the call: there the library is locked, and the collector of another thread may wait for it.
        if place is not None:
            self._under_way.append(self._writer.submit(self._put, chunk, place, after or _nothing))
        elif after is not None:
            after()

    def write(self, data: Any) -> int:
        """Write, or take note of where the expected chunk is to lie."""
        chunk = self._chunk
        if chunk is None or len(data) != len(chunk) or _address(data) != _address(chunk):
            return super().write(data)
        self._place = self._at
        return self._passed(len(chunk))

    def _place_told(self) -> int | None:
        place, self._place = self._place, None
        return place

    def settle(self) -> None:
        """Every chunk is handed to the system. An OSError of that is kept as `problem`; any other is raised."""
        while self._under_way:
            self._under_way.popleft().result()

    def give_up(self) -> None:
        """Nothing more is written, and nothing is being written."""
        super().give_up()
        self._await()

    def close(self) -> None:
        """Let go of the file, once every chunk is handed to the system."""
        if not self.closed:
            self._await()
            self._writer.shutdown()
            self._go_round()
        super().close()

    def _await(self) -> None:
        """As `settle`, where nobody asks any more how it went."""
        wait(self._under_way)
        self._under_way.clear()

    def _put(self, chunk: Any, at: int, after: Callable[[], None]) -> None:
        view = memoryview(chunk).cast("B")
        done = self._put_straight(view, at)
        self._write_at(view[done:], at + done)
        after()

    def _put_straight(self, view: memoryview, at: int) -> int:
        """Write whole blocks past the system's memory; returns how many bytes, 0 where that is not to be had."""
        count = len(view) // BLOCK * BLOCK
        if self._straight < 0 or at % BLOCK or len(view) < ALIGNED or not self._writing:
            return 0
        if self._staged is None or len(self._staged) < count:
            self._staged = aligned(count)
        np.copyto(np.frombuffer(self._staged, np.uint8, count), np.frombuffer(view, np.uint8, count))
        try:
            written = os.pwrite(self._straight, memoryview(self._staged)[:count], at)
        except OSError:
            self._go_round()  # what is wrong, if not this way of writing, is met by the other
            return 0
        return written // BLOCK * BLOCK

    def _go_round(self) -> None:
        if self._straight >= 0:
            os.close(self._straight)
            self._straight = -1


def _nothing() -> None:
    """What follows where nothing is to follow."""


def _address(data: Any) -> int:
    return int(np.frombuffer(data, np.uint8).ctypes.data)
