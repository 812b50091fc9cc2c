"""From bytes read to chunks stored: encoding in worker threads, writing in order, memory for a few frames."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from tomovault.core.layout import FrameSegment
from tomovault.package.codec import LEAST_GAIN, Buffers, encode_block, encode_frame, sha256_hex
from tomovault.package.coding import BLOSC2, LITERAL_BLOCK, RAW
from tomovault.package.container import PartFile
from tomovault.package.manifest import Contents, DerivedFrames, FrameGroup, FrameRecord, Segment, StoredChunk

_SAMPLES = 3

#: float32 holds every whole number up to here.
_EXACT_FLOAT = 1 << 24


@dataclass(frozen=True)
class _Encoded:
    data: bytes | bytearray | memoryview
    sha256: str
    derived: bytes | memoryview = b""
    derived_sha256: str = ""
    exact: bool = True


@dataclass
class _Pending:
    future: Future[_Encoded]
    buffer: bytearray
    group: FrameGroup | None
    order: int
    raw: int


@dataclass(frozen=True)
class _Unplaced:
    """A chunk in the open part whose offset HDF5 has not told yet."""

    row: int
    sha256: str


class Encoder:
    """Takes frames and literal bytes in the order of the files; appends them to the open part of a package."""

    def __init__(
        self, contents: Contents, *, view_shape: tuple[int, int] | None, threads: int, on_frame: Callable[[], None]
    ) -> None:
        self.contents = contents
        self._view_shape = view_shape
        self._on_frame = on_frame
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="encode")
        self._depth = threads + 2
        self._pending: deque[_Pending] = deque()
        self._samples: list[tuple[_Pending, _Encoded]] = []
        self._sampled: FrameGroup | None = None
        self._buffers = Buffers(self._depth)
        self._groups = {(g.dtype, g.shape): i for i, g in enumerate(contents.groups)}
        self._given = {id(g): len(g.chunks) for g in contents.groups}
        self._unplaced: dict[int, list[_Unplaced]] = {}
        self._blocks: list[tuple[_Unplaced, int]] = []
        self._literal_end = sum(raw for _, raw in contents.literals)
        self._block: bytearray | None = None
        self._filled = 0
        self._part: PartFile | None = None

    # --- what comes in ---------------------------------------------------------------------------

    def open_part(self, part: PartFile) -> None:
        """Chunks go into this part from now on."""
        self._part = part

    def frame_buffer(self, length: int) -> bytearray:
        """Where to read the next frame to; handed on with `add_frame`."""
        while len(self._pending) >= self._depth:
            self._store_oldest()
        return self._buffers.take(length)

    def add_frame(self, frame: FrameSegment, buffer: bytearray) -> Segment:
        """Take a frame that was read; returns the segment that stands for it."""
        dtype = np.dtype(frame.dtype)
        key = (dtype.str, (int(frame.shape[0]), int(frame.shape[1])))
        if key not in self._groups:
            self._groups[key] = len(self.contents.groups)
            self.contents.groups.append(FrameGroup(f"frames/g{len(self.contents.groups)}", *key))
        number = self._groups[key]
        group = self.contents.groups[number]
        derive = frame.summed > 1 and group.shape == self._view_shape
        future = self._pool.submit(_encode, buffer, dtype, group.codec, frame.summed if derive else 1)
        self._pending.append(_Pending(future, buffer, group, frame.order, len(buffer)))
        index = self._given.get(id(group), 0)
        self._given[id(group)] = index + 1
        self.contents.frames.append(
            FrameRecord(frame.order, frame.kind, number, index, frame.angle_deg, int(frame.summed))
        )
        return ("F", number, index)

    def literal_room(self, wanted: int) -> tuple[memoryview, int]:
        """Where to read the next literal bytes to, at most `wanted`, and their place in the literal store."""
        if self._block is None:
            while len(self._pending) >= self._depth:
                self._store_oldest()
            self._block = self._buffers.take(LITERAL_BLOCK)
        room = memoryview(self._block)[self._filled : self._filled + wanted]
        return room, self._literal_end

    def add_literal(self, count: int) -> None:
        """Take `count` bytes that were read into the room."""
        self._filled += count
        self._literal_end += count
        if self._filled == LITERAL_BLOCK:
            self._submit_block()

    def _submit_block(self) -> None:
        if self._block is None:
            return
        block, raw = self._block, self._filled
        if raw < LITERAL_BLOCK:
            block[raw:] = bytes(LITERAL_BLOCK - raw)
        self._pending.append(_Pending(self._pool.submit(_encode_block, block), block, None, 0, raw))
        self._block, self._filled = None, 0

    # --- what goes out ---------------------------------------------------------------------------

    def finish_part(self) -> None:
        """Everything taken so far is in the open part, and every chunk's place is known."""
        self._submit_block()
        while self._pending:
            self._store_oldest()
        self._decide()
        part = self._open()
        part.settle()
        for number, waiting in sorted(self._unplaced.items()):
            group = self.contents.groups[number] if number >= 0 else self._derived().group
            group.chunks += self._places(part, group.name, waiting)
        blocks = self._places(part, "literals", [b for b, _ in self._blocks])
        self.contents.literals += [(chunk, raw) for chunk, (_, raw) in zip(blocks, self._blocks, strict=True)]
        self._unplaced, self._blocks = {}, []

    def close(self) -> None:
        """Stop the threads; what is pending is dropped."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    @staticmethod
    def _places(part: PartFile, name: str, waiting: list[_Unplaced]) -> list[StoredChunk]:
        if not waiting:
            return []
        return part.places(name, [w.row for w in waiting], [w.sha256 for w in waiting])

    def _store_oldest(self) -> None:
        item = self._pending.popleft()
        result = item.future.result()
        if item.group is None:
            row = self._open().add_block(result.data, item.raw, lambda: self._buffers.give(item.buffer))
            self._blocks.append((_Unplaced(row, result.sha256), item.raw))
            return
        if item.group.codec:
            self._store_frame(item, result, item.group)
            return
        if self._sampled is not item.group:
            self._decide()
            self._sampled = item.group
        self._samples.append((item, result))
        if len(result.data) <= (1 - LEAST_GAIN) * item.raw or len(self._samples) >= _SAMPLES:
            self._decide()

    def _decide(self) -> None:
        """Choose the codec of the group whose first frames were held back, and store them."""
        group, samples = self._sampled, self._samples
        self._sampled, self._samples = None, []
        if group is None:
            return
        stored, raw = sum(len(r.data) for _, r in samples), sum(i.raw for i, _ in samples)
        group.codec = BLOSC2 if stored <= (1 - LEAST_GAIN) * raw else RAW
        for item, result in samples:
            self._store_frame(item, result, group)

    def _store_frame(self, item: _Pending, result: _Encoded, group: FrameGroup) -> None:
        part = self._open()
        data, digest = result.data, result.sha256
        if group.codec == RAW and data is not item.buffer:
            data, digest = item.buffer, sha256_hex(item.buffer)
        kept = data is item.buffer
        row = part.add_frame(group, data, (lambda: self._buffers.give(item.buffer)) if kept else None)
        number = self._groups[(group.dtype, group.shape)]
        self._unplaced.setdefault(number, []).append(_Unplaced(row, digest))
        if result.derived:
            derived = self._derived()
            row = part.add_frame(derived.group, result.derived)
            derived.orders.append(item.order)
            derived.exact = derived.exact and result.exact
            self._unplaced.setdefault(-1, []).append(_Unplaced(row, result.derived_sha256))
        if not kept:
            self._buffers.give(item.buffer)
        self._on_frame()

    def _derived(self) -> DerivedFrames:
        if self.contents.derived is None:
            shape = self._view_shape or (0, 0)
            self.contents.derived = DerivedFrames(FrameGroup("derived", "<f4", shape, BLOSC2))
        return self.contents.derived

    def _open(self) -> PartFile:
        if self._part is None:
            raise RuntimeError("no part is open")
        return self._part


def _encode(buffer: bytearray, dtype: np.dtype[Any], codec: str, summed: int) -> _Encoded:
    data: bytes | bytearray | memoryview = buffer if codec == RAW else encode_frame(memoryview(buffer), dtype.itemsize)
    if summed == 1:
        return _Encoded(data, sha256_hex(data))
    values = np.frombuffer(buffer, dtype=dtype)
    with np.errstate(all="ignore"):  # a float frame may hold anything
        divided = (values / summed).astype("<f4")
    exact = dtype.kind in "ui" and bool(np.all(values % summed == 0)) and float(divided.max()) < _EXACT_FLOAT
    derived = encode_frame(divided.data.cast("B"), 4)
    return _Encoded(data, sha256_hex(data), derived, sha256_hex(derived), exact)


def _encode_block(block: bytearray) -> _Encoded:
    packed = encode_block(memoryview(block))
    data: bytes | bytearray = block if packed is None else packed
    return _Encoded(data, sha256_hex(data))
