"""Original files out of stored chunks: read and decoded in threads, handed over in order, a few frames in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from tomovault.core.errors import IntegrityError
from tomovault.core.layout import FrameKind
from tomovault.core.ports import Throttle
from tomovault.package.codec import Buffers, decode_frame
from tomovault.package.manifest import FrameRecord, PackedFile, StoredChunk
from tomovault.package.store import ChunkStore
from tomovault.package.tree import shown

T = TypeVar("T")

#: Stored bytes that the kernel is asked to fetch before they are read.
_AHEAD = 32 << 20


@dataclass(frozen=True)
class Piece:
    """Some bytes of a file, valid until the next piece is asked for; or what is wrong with them.

    `data` is None at the end of a file. `chunk` and `stored` are of a frame only.
    """

    file: PackedFile
    data: memoryview | None
    damage: IntegrityError | None = None
    chunk: StoredChunk | None = None
    stored: bytes = b""
    length: int = 0


class Rebuilder:
    """Rebuilds files of a package. Used by one thread, which is fed by `threads` others."""

    def __init__(self, store: ChunkStore, *, threads: int, throttle: Throttle | None) -> None:
        self._store = store
        self._threads = threads
        self._throttle = throttle
        self._buffers = Buffers(threads + 3)
        self._names = {(f.group, f.position): f for f in store.manifest.contents.frames}

    def pieces(self, files: Iterable[PackedFile]) -> Iterator[Piece]:
        """Every piece of every file, in order, and for each file an end. Damage is handed over, not raised."""
        with ThreadPoolExecutor(self._threads, thread_name_prefix="decode") as pool:
            for piece, buffer in in_order(pool, self._tasks(files), self._threads + 2):
                yield piece
                if buffer is not None:
                    self._buffers.give(buffer)

    def _tasks(self, files: Iterable[PackedFile]) -> Iterator[Callable[[], tuple[Piece, bytearray | None]]]:
        wanted = list(files)
        ahead = _Ahead(self._store, wanted)
        for file in wanted:
            for kind, first, second in file.segments:
                if kind == "F":
                    ahead.passed(first, second)
                    yield self._frame(file, first, second)
                    continue
                for block, start, length in self._store.literal_pieces(first, second):
                    yield self._literal(file, block, start, length)
            yield _end(file)

    def _frame(self, file: PackedFile, group: int, index: int) -> Callable[[], tuple[Piece, bytearray | None]]:
        def task() -> tuple[Piece, bytearray | None]:
            of = self._store.manifest.contents.groups[group]
            chunk, length = of.chunks[index], self._store.frame_length(group)
            name = f"{describe_frame(self._names.get((group, index)))} of {shown(file.meta.path)}"
            stored = b""
            try:
                stored = self._store.stored(chunk, name, throttle=self._throttle)
                buffer = self._buffers.take(length)
                try:
                    decode_frame(stored, memoryview(buffer), codec=of.codec)
                except IntegrityError as problem:
                    raise IntegrityError(f"{name}: {problem.message}") from problem
            except IntegrityError as problem:
                return Piece(file, memoryview(b""), problem, length=length), None
            return Piece(file, memoryview(buffer), None, chunk, stored, length), buffer

        return task

    def _literal(
        self, file: PackedFile, block: int, start: int, length: int
    ) -> Callable[[], tuple[Piece, bytearray | None]]:
        def task() -> tuple[Piece, bytearray | None]:
            name = f"literal bytes of {shown(file.meta.path)}"
            try:
                data = self._store.literal(block, start, length, what=name, throttle=self._throttle)
            except IntegrityError as problem:
                return Piece(file, memoryview(b""), problem, length=length), None
            return Piece(file, memoryview(data), length=length), None

        return task


class _Ahead:
    """Has the frames that are read soon fetched, so that neither decoding nor hashing waits for the disk."""

    def __init__(self, store: ChunkStore, files: Iterable[PackedFile]) -> None:
        self._store = store
        self._coming = (store.frame_chunk(s[1], s[2]) for f in files for s in f.segments if s[0] == "F")
        self._fetched = 0

    def passed(self, group: int, index: int) -> None:
        """The next frame is about to be read: those behind it are asked for."""
        while self._fetched < _AHEAD:
            chunk = next(self._coming, None)
            if chunk is None:
                break
            self._store.foresee(chunk)
            self._fetched += chunk.length
        self._fetched -= self._store.frame_chunk(group, index).length


def _end(file: PackedFile) -> Callable[[], tuple[Piece, bytearray | None]]:
    return lambda: (Piece(file, None), None)


def describe_frame(record: FrameRecord | None) -> str:
    """A frame for a person: its place in the acquisition and its kind."""
    if record is None:
        return "a frame"
    return f"frame {record.order} ({FrameKind(record.kind).name.lower()})"


def in_order(pool: ThreadPoolExecutor, tasks: Iterable[Callable[[], T]], depth: int) -> Iterator[T]:
    """Results of tasks in their order, at most `depth` of them under way or waiting."""
    waiting: deque[Future[T]] = deque()
    try:
        for task in tasks:
            waiting.append(pool.submit(task))
            if len(waiting) >= depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
