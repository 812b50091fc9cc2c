"""Looking at folders before the walker comes to them, where each look waits for a disk or a server.

What the threads see is thrown away: it is in the caches of the kernel then, and the walker, which alone decides
what is true, need not wait for it. Where everything is in those caches already, threads would only be in the way.
"""

from __future__ import annotations

import contextlib
import queue
import resource
import threading
from collections.abc import Sequence
from types import TracebackType

from tomovault.watch.listing import Descent, read_folder

#: Looks wait where the thread that looks gave its processor up more often than this for each file: a server makes
#: it wait once a file, a local disk once a block, which holds the states of 16 files (ext4, inodes of 256 bytes).
_WAITS_A_FILE = 0.04

#: So many files are looked at before it is judged whether looks wait, and so many folders are looked at ahead
#: before it is judged again.
_JUDGED_BY = 200
_FOLDERS_AHEAD = 400

#: Two at a time are as good as eight on a local disk, and a server has others to serve.
_THREADS = 2
_AHEAD = 2 * _THREADS


class ReadAhead:
    """For one sweep of a tree. Starts its threads only once looks were found to wait."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._wanted: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._asked: set[str] = set()
        self._threads: list[threading.Thread] = []
        self._left = 0
        self._waits = 0
        self._files = 0
        self._before = 0

    def __enter__(self) -> ReadAhead:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                self._wanted.get_nowait()
        for _ in self._threads:
            self._wanted.put(None)
        for thread in self._threads:
            thread.join()

    @property
    def active(self) -> bool:
        """Whether threads look ahead now."""
        return self._left > 0

    def begin(self) -> None:
        """The walker begins to read a folder."""
        if not self.active:
            self._before = _waits_of_this_thread()

    def end(self, files: int) -> None:
        """The walker has read a folder of so many files."""
        if self.active:
            return
        self._waits += _waits_of_this_thread() - self._before
        self._files += files
        if self._files >= _JUDGED_BY:
            self._left = _FOLDERS_AHEAD if self._waits > self._files * _WAITS_A_FILE else 0
            self._waits = self._files = 0

    def expect(self, pending: Sequence[str]) -> None:
        """The walker will come to the last of `pending` next; the threads look at the few before that."""
        if not self.active:
            return
        while len(self._threads) < _THREADS:
            self._threads.append(threading.Thread(target=self._run, name="read-ahead", daemon=True))
            self._threads[-1].start()
        self._asked.discard(pending[-1])
        for relative in pending[-2 : -2 - _AHEAD : -1]:
            if relative not in self._asked:
                self._asked.add(relative)
                self._wanted.put(relative)
        self._left -= 1

    def _run(self) -> None:
        with contextlib.suppress(OSError), Descent(self._root) as descent:
            while (relative := self._wanted.get()) is not None:
                with contextlib.suppress(OSError):  # the walker will meet the same, and say so
                    read_folder(descent.enter(relative), relative)


def _waits_of_this_thread() -> int:
    """How often this thread gave its processor up before its time was over."""
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
