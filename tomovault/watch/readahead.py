"""Looking at folders before the walker comes to them, where each look waits for a disk or a server.

What the threads see is thrown away: it is in the caches of the kernel then, and the walker, which alone decides
what is true, need not wait for it. Where everything is in those caches already, threads would only be in the way.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Sequence
from types import TracebackType

from tomovault.watch.listing import Descent, read_folder

#: A file that is in a cache is looked at in 6 to 9 us, from an idle local disk in 40 us and from a server in 200 us
#: or more: measured, on two cores.
WAITING_S = 25e-6

#: So many files are looked at before it is judged whether looks wait.
_JUDGED_BY = 200

#: Two at a time are as good as eight on a local disk, and a server has others to serve.
_THREADS = 2

_AHEAD = 2 * _THREADS


class ReadAhead:
    """For one sweep of a tree. Starts its threads only once `measured` was told that looks wait."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._wanted: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._asked: set[str] = set()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._seconds = 0.0
        self._files = 0
        self.active = False

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

    def measured(self, relative: str, seconds: float, files: int) -> None:
        """The walker took so long for a folder; what a thread looked at before says nothing of the disk."""
        if relative in self._asked:
            self._asked.discard(relative)
        else:
            self._judge(seconds, files)

    def _judge(self, seconds: float, files: int) -> None:
        with self._lock:
            self._seconds += seconds
            self._files += files
            if self._files >= _JUDGED_BY:
                self.active = self._seconds / self._files > WAITING_S
                self._seconds, self._files = 0.0, 0

    def expect(self, pending: Sequence[str]) -> None:
        """The walker will come to the last of `pending` next; the threads look at the few before that."""
        if not self.active:
            return
        while len(self._threads) < _THREADS:
            self._threads.append(threading.Thread(target=self._run, name="read-ahead", daemon=True))
            self._threads[-1].start()
        for relative in pending[-2 : -2 - _AHEAD : -1]:
            if relative not in self._asked:
                self._asked.add(relative)
                self._wanted.put(relative)

    def _run(self) -> None:
        try:
            with Descent(self._root) as descent:
                while (relative := self._wanted.get()) is not None:
                    began = time.perf_counter()
                    try:
                        _, stats = read_folder(descent.enter(relative), relative)
                    except OSError:
                        continue  # the walker will meet the same, and say so
                    self._judge(time.perf_counter() - began, len(stats))
        except OSError:
            self.active = False
