"""How a frame or a block of literal bytes becomes the bytes of one HDF5 chunk, and back.

Frames are blosc2 contiguous frames (HDF5 filter 32026) with zstd level 1 over SHUFFLE and BYTEDELTA: on
detector noise higher levels cost five times the time and gain nothing. Blocks of 1 MiB stay within a core's
second-level cache, and splitting the byte planes lets the noise plane be stored as it is. What `noisy` codes better is
in the same format.
Literal blocks are plain zstd frames (HDF5 filter 32015). Every call uses one thread and drops the GIL.
"""

from __future__ import annotations

import ctypes
import hashlib
import struct
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import blosc2
import hdf5plugin
import numpy as np
import numpy.typing as npt
import zstandard

from tomovault.core.errors import IntegrityError
from tomovault.package.coding import LITERAL_BLOCK, LITERAL_CODEC, RAW
from tomovault.package.noisy import BLOCK, encode_noisy

#: A group of frames whose samples shrink by less than this fraction is stored as it is.
LEAST_GAIN = 0.05

#: blosc2 cannot hold more in one chunk (2 GiB less its overhead); a larger frame is kept as literal bytes.
LARGEST_FRAME = (1 << 31) - (1 << 20)

#: Bytes that are asked for, and where the C library refuses so many, fewer.
_KEPT_FREE = (64 << 20, 32 << 20)

_CFRAME_MAGIC = b"b2frame\0"
_CFRAME_HEADER = struct.Struct(">2x8sxi")
_WHOLE_LENGTH, _CODED_LENGTH = 16, 39  # bytes of the header of a cframe
_CHUNK_HEADER = struct.Struct("<4xi4xi16x")
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of mallopt, in glibc
_local = threading.local()

blosc2.set_releasegil(True)


def _keep_freed_memory(counts: Sequence[int]) -> None:
    """The C library keeps the first of so many bytes that it accepts, in each arena: what a frame was coded in serves
    the next one. Where it accepts none, or knows no such option, it is left as it is.

    By itself it gives them back after each frame, and the faults for fresh pages cost a tenth of packing.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is None:
        return
    for count in counts:
        # The second alone would have every frame's memory mapped anew.
        if set_option(_M_MMAP_THRESHOLD, count):
            set_option(_M_TRIM_THRESHOLD, count)
            return


_keep_freed_memory(_KEPT_FREE)


def sha256_hex(data: Any) -> str:
    """Hex sha256 of a buffer."""
    return hashlib.sha256(data).hexdigest()


def encode_frame(raw: memoryview, itemsize: int) -> bytes | memoryview:
    """The bytes of one chunk for the C-ordered bytes of one frame."""
    if itemsize != 2:
        return _encode_by_blosc2(raw, itemsize)
    frame = _frames_around.get(len(raw))
    if frame is not None:
        found = encode_noisy(raw, len(frame.head), len(frame.tail))
        return _encode_by_blosc2(raw, itemsize) if found is None else frame.put_around(found)
    found = encode_noisy(raw)
    if found is None:
        return _encode_by_blosc2(raw, itemsize)
    chunk = bytes(found)
    schunk = _schunk(len(raw), itemsize)
    schunk.insert_chunk(0, chunk)
    stored: bytes = schunk.to_cframe()
    start = stored.find(chunk)
    if start > 0:
        _frames_around[len(raw)] = _FrameAround(stored[:start], stored[start + len(chunk) :])
    return stored


def _encode_by_blosc2(raw: memoryview, itemsize: int) -> bytes:
    frame: bytes = _schunk(len(raw), itemsize, raw).to_cframe()
    return frame


def _schunk(raw_bytes: int, itemsize: int, data: memoryview | None = None) -> Any:
    return blosc2.SChunk(
        chunksize=raw_bytes,
        contiguous=True,
        data=data,
        cparams={
            "codec": blosc2.Codec.ZSTD,
            "clevel": 1,
            "nthreads": 1,
            "typesize": itemsize,
            "filters": [blosc2.Filter.SHUFFLE, blosc2.Filter.BYTEDELTA],
            "filters_meta": [0, 0],
            "splitmode": blosc2.SplitMode.ALWAYS_SPLIT,
            "blocksize": min(BLOCK, raw_bytes),
        },
        dparams={"nthreads": 1},
    )


@dataclass(frozen=True)
class _FrameAround:
    """What blosc2 writes before and after the chunk of a frame of some length: the same each time, but for how long the
    whole is and the chunk (README_CFRAME_FORMAT.rst of c-blosc2). To let it do so costs two copies of each chunk, for
    which all threads wait.
    """

    head: bytes
    tail: bytes

    def put_around(self, room: memoryview) -> memoryview:
        """The frame, in the room that was left before and after a chunk."""
        end = len(room) - len(self.tail)
        room[: len(self.head)], room[end:] = self.head, self.tail
        struct.pack_into(">Q", room, _WHOLE_LENGTH, len(room))
        struct.pack_into(">Q", room, _CODED_LENGTH, end - len(self.head))
        return room


#: By the bytes of a frame.
_frames_around: dict[int, _FrameAround] = {}


def decode_frame(stored: bytes, into: memoryview, *, codec: str) -> None:
    """Fill `into` with the frame's bytes; raises IntegrityError if they do not decode to just that many."""
    if codec == RAW:
        if len(stored) != len(into):
            raise IntegrityError("a frame stored as it is has the wrong length")
        into[:] = stored
        return
    chunk = _only_chunk(stored, len(into))
    if chunk is not None and _decode_chunk(chunk, into):
        return
    schunk = _opened(stored, len(into))
    try:
        if _CHUNK_HEADER.unpack_from(schunk.get_chunk(0))[0] != len(into):
            raise IntegrityError("a stored frame holds another number of bytes than it says")
        schunk.decompress_chunk(0, np.frombuffer(into, dtype=np.uint8))
    except RuntimeError as problem:
        raise IntegrityError("a frame does not decode") from problem


def _decode_chunk(chunk: memoryview, into: memoryview) -> bool:
    """Whether the chunk fills `into`. Other threads run meanwhile; a method of SChunk stops them all."""
    try:
        blosc2.decompress2(chunk, dst=into, nthreads=1)
    except (RuntimeError, ValueError):
        return False
    return True


def _only_chunk(stored: bytes, raw_bytes: int) -> memoryview | None:
    """The chunk of `raw_bytes` in a cframe that starts with one: else, as where a frame is all one value, None.

    The length of the header is told at its byte 11 (README_CFRAME_FORMAT.rst of c-blosc2); the lengths of a chunk,
    before and after coding, at its bytes 4 and 12 (README_CHUNK_FORMAT.rst). Both are held against what is there.
    """
    if len(stored) < _CFRAME_HEADER.size:
        return None
    magic, start = _CFRAME_HEADER.unpack_from(stored)
    if magic != _CFRAME_MAGIC or not 0 < start <= len(stored) - _CHUNK_HEADER.size:
        return None
    raw, coded = _CHUNK_HEADER.unpack_from(stored, start)
    if raw != raw_bytes or not _CHUNK_HEADER.size <= coded <= len(stored) - start:
        return None
    return memoryview(stored)[start : start + coded]


def decode_rows(stored: bytes, *, codec: str, dtype: str, shape: tuple[int, int], rows: slice) -> npt.NDArray[Any]:
    """Some rows of a frame, in its own dtype; only the blocks that hold them are decoded."""
    kind = np.dtype(dtype)
    first, stop, step = rows.indices(shape[0])
    if step != 1 or stop < first:
        whole = np.empty(shape, kind)
        decode_frame(stored, whole.data.cast("B"), codec=codec)
        return np.ascontiguousarray(whole[rows])
    part = np.empty((stop - first, shape[1]), kind)
    if part.size == 0:
        return part
    if codec == RAW:
        width = shape[1] * kind.itemsize
        part.data.cast("B")[:] = memoryview(stored)[first * width : stop * width]
        return part
    schunk = _opened(stored, shape[0] * shape[1] * kind.itemsize)
    try:
        schunk.get_slice(first * shape[1], stop * shape[1], out=part.view(np.uint8))
    except RuntimeError as problem:
        raise IntegrityError("a frame does not decode") from problem
    return part


def _opened(stored: bytes, raw_bytes: int) -> Any:
    try:
        schunk = blosc2.schunk_from_cframe(stored)
    except (RuntimeError, ValueError) as problem:
        raise IntegrityError("a stored frame is not a blosc2 frame") from problem
    if schunk.nchunks != 1 or schunk.nbytes != raw_bytes:
        raise IntegrityError("a stored frame holds another number of bytes than its shape asks for")
    return schunk


def encode_block(block: memoryview) -> bytes | None:
    """A zstd frame of a literal block, or None where that would not be smaller."""
    if not hasattr(_local, "zstd"):
        _local.zstd = zstandard.ZstdCompressor(level=int(str(LITERAL_CODEC["level"])), write_content_size=True)
    packed: bytes = _local.zstd.compress(block)
    return packed if len(packed) < len(block) else None


def decode_block(stored: bytes) -> bytes:
    """The bytes of a literal block; raises IntegrityError if it does not decode."""
    if len(stored) == LITERAL_BLOCK:
        return stored
    try:
        block: bytes = zstandard.ZstdDecompressor().decompress(stored, max_output_size=LITERAL_BLOCK)
    except zstandard.ZstdError as problem:
        raise IntegrityError("a literal block does not decode") from problem
    if len(block) != LITERAL_BLOCK:
        raise IntegrityError("a literal block decodes to another length than it had")
    return block


def frame_filter(shape: tuple[int, int]) -> Any:
    """Arguments of `create_dataset` for a dataset of chunks made by `encode_frame`."""
    return hdf5plugin.Blosc2(cname="zstd", clevel=1, filters=hdf5plugin.Blosc2.SHUFFLE)


def block_filter() -> Any:
    """Arguments of `create_dataset` for a dataset of chunks made by `encode_block`."""
    return hdf5plugin.Zstd(clevel=int(str(LITERAL_CODEC["level"])))


class Buffers:
    """Buffers that are used again, since fresh pages for each frame cost a quarter of the time to read it."""

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._free: list[bytearray] = []
        self._lock = threading.Lock()

    def take(self, size: int) -> bytearray:
        """A buffer of exactly `size` bytes with any content."""
        with self._lock:
            for index, buffer in enumerate(self._free):
                if len(buffer) == size:
                    return self._free.pop(index)
        return bytearray(size)

    def give(self, buffer: bytearray) -> None:
        """Hand a buffer back; nobody may use it any more."""
        with self._lock:
            self._free.append(buffer)
            if len(self._free) > self._keep:
                self._free.pop(0)
