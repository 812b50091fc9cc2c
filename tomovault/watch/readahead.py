"""Reading folders before the walker comes to them, where each look waits for a disk or a server.

What a thread read is as good as what the walker reads itself, and says as much of it as it takes to see that a folder
is as it was; a folder that changed, or could not be read, the walker reads for itself. Where everything is in the
kernel's caches already, threads would only be in the way.
"""

from __future__ import annotations

import contextlib
import resource
import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import NamedTuple

from tomovault.watch.listing import Descent, key_of, read_folder
from tomovault.watch.snapshot import digest_of

#: Looks wait where the thread that looks gave its processor up more often than this for each file: a server makes
#: it wait once a file, a local disk once in a hundred files where it reads some hundred inodes ahead (ext4).
_WAITS_A_FILE = 0.005

#: So many files are looked at before it is judged whether looks wait, and so many are read with the help of threads
#: before it is judged again.
_JUDGED_BY = 400
_FILES_AHEAD = 50_000

#: With the walker itself five readers. On a local disk (ext4, cold, 10 or 1,000 files a folder) a sweep takes a quarter
#: less time than with three, six threads are no faster than four; and a server has others to serve.
_THREADS = 4
#: So many of the next folders may be read ahead.
_AHEAD = 32


class Reading(NamedTuple):
    """A folder as it was read: when that began by the walker's clock, `key_of` the folder before, a digest of all
    that it holds, and how many files those are.
    """

    began: float
    key: tuple[int, int, int]
    digest: bytes
    files: int


class ReadAhead:
    """For one sweep. Starts its threads only once looks were found to wait; they end with it."""

    def __init__(self, descent: Descent, clock: Callable[[], float]) -> None:
        """`descent` stays the walker's own; `clock` is the walker's."""
        self._descent = descent
        self._clock = clock
        self._threads: list[threading.Thread] = []
        self._left = 0
        self._files = 0
        self._waits = 0
        self._lock = threading.Lock()
        self._asked = threading.Condition(self._lock)
        self._finished = threading.Condition(self._lock)
        self._wanted: list[str] = []
        self._reading: set[str] = set()
        self._read: dict[str, Reading | None] = {}
        self._closed = False

    def __enter__(self) -> ReadAhead:
        self._waits = _waits_of_this_thread()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with self._lock:
            self._closed = True
            self._asked.notify_all()
        for thread in self._threads:
            thread.join()

    @property
    def active(self) -> bool:
        """Whether threads read ahead now."""
        return self._left > 0

    def judge(self, files: int) -> None:
        """The walker itself has read a folder of so many files."""
        if self.active:
            self._count(files)
            return
        self._files += files
        if self._files >= _JUDGED_BY:
            waits = _waits_of_this_thread()
            self._left = _FILES_AHEAD if waits - self._waits > self._files * _WAITS_A_FILE else 0
            self._waits, self._files = waits, 0

    def _count(self, files: int) -> None:
        self._left -= files
        if not self.active:
            with self._lock:
                self._wanted = []
            self._waits, self._files = _waits_of_this_thread(), 0

    def expect(self, pending: Sequence[str]) -> None:
        """The walker comes to the last of `pending` next; threads may read the few before that."""
        if not self.active:
            return
        while len(self._threads) < _THREADS:
            thread = threading.Thread(target=self._run, name="read-ahead", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the system allows no more threads: the walker reads alone
                self._left = 0
                return
            self._threads.append(thread)
        with self._lock:
            self._wanted = [
                relative
                for relative in pending[-1 - _AHEAD : -1]
                if relative not in self._read and relative not in self._reading
            ]
            self._asked.notify_all()

    def take(self, relative: str) -> Reading | None:
        """What a thread read of this folder, waited for if it is at it; None where the walker is to read it."""
        if not self._threads:
            return None
        with self._lock:
            if relative in self._wanted:
                self._wanted.remove(relative)
            while relative in self._reading:
                self._finished.wait()
            reading = self._read.pop(relative, None)
        if reading is not None and self.active:
            self._count(reading.files)
        return reading

    # --- in the threads ---

    def _run(self) -> None:
        with contextlib.suppress(OSError), self._descent.another() as descent:
            while (relative := self._next()) is not None:
                reading = None
                try:
                    with contextlib.suppress(OSError):  # the walker will meet the same, and say so
                        reading = self._look(descent, relative)
                finally:
                    with self._lock:
                        self._reading.remove(relative)
                        self._read[relative] = reading
                        self._finished.notify_all()

    def _next(self) -> str | None:
        with self._lock:
            while not self._wanted and not self._closed:
                self._asked.wait()
            if self._closed:
                return None
            relative = self._wanted.pop()
            self._reading.add(relative)
            return relative

    def _look(self, descent: Descent, relative: str) -> Reading:
        began = self._clock()
        descriptor = descent.enter(relative)
        listing, stats = read_folder(descriptor, relative)
        return Reading(began, key_of(descent.own), digest_of(listing, stats), len(stats))


def _waits_of_this_thread() -> int:
    """How often this thread gave its processor up before its time was over."""
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
