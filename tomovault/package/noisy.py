"""Blosc2 chunks of noisy 16-bit frames, made here: with the same filters and zstd, but without a search.

Among the high bytes of a noisy camera few sequences come twice. zstd at the level 1 of blosc2 looks for them and finds
short ones by chance: twice the time, for more bytes than to code the high bytes one by one. Blosc2 passes no parameter
of zstd but the level, so the chunk is put together from zstd frames here. Whatever reads Blosc2 reads it.

The format is the one of `README_CHUNK_FORMAT.rst` of c-blosc2: a header, the offset of each block, and of each block
its byte planes one after the other, each with its length before it; the last block, if shorter, in one piece.
"""

from __future__ import annotations

import struct
import threading

import numpy as np
import numpy.typing as npt
import zstandard

#: Bytes of a block: it stays within a core's second-level cache.
BLOCK = 1 << 20

_PLANES = 2

# What blosc2 itself writes for such a frame, but for the lengths.
_HEADER = struct.Struct("<4B 3i 16B")
_FORMAT = (5, 1, 0x85)  # of the chunk; of zstd in it; an extended header, zstd, every plane of a block for itself
_FILTERS = (1, 35, 0, 0, 0, 0)  # shuffle, bytedelta
_REST = (5, 0, 0, 2, 0, 0, 0, 0, 0, 0)

_PROBE = 1 << 16  # samples
_REPEATING = 4

_local = threading.local()


def encode_noisy(raw: memoryview, before: int = 0, after: int = 0) -> memoryview | None:
    """The Blosc2 chunk of a frame of 16-bit samples, with room before and after it; None where the frame is small or
    not noisy, and blosc2 is as good.
    """
    if len(raw) < BLOCK or not _is_noisy(raw):
        return None
    samples = np.frombuffer(raw, "<u2")
    blocks = -(-len(raw) // BLOCK)
    room = np.empty(before + _HEADER.size + blocks * (4 + 4 * _PLANES) + len(raw) + after, np.uint8)
    out = room[before:]
    starts: list[int] = []
    at = _HEADER.size + 4 * blocks
    for first in range(0, len(samples), BLOCK // _PLANES):
        starts.append(at)
        planes = _planes(samples[first : first + BLOCK // _PLANES])
        for plane in planes if planes.size == BLOCK else [planes.reshape(-1)]:
            coded = _compress(plane)
            data = np.frombuffer(coded, np.uint8) if len(coded) < plane.size else plane
            out[at + 4 : at + 4 + data.size] = data
            struct.pack_into("<i", out.data, at, data.size)
            at += 4 + data.size
    if at >= len(raw):
        return None
    _HEADER.pack_into(out.data, 0, *_FORMAT, _PLANES, len(raw), BLOCK, at, *_FILTERS, *_REST)
    struct.pack_into(f"<{len(starts)}i", out.data, _HEADER.size, *starts)
    return room.data[: before + at + after]


def _is_noisy(raw: memoryview) -> bool:
    """Whether the high bytes in the middle of a frame do not shrink as those do that repeat."""
    middle = len(raw) // 4 * 2
    high = _planes(np.frombuffer(raw[middle : middle + 2 * _PROBE], "<u2"))[1]
    return len(_compress(high)) * _REPEATING > len(high)


def _planes(samples: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint8]:
    """Low and high bytes, of each the difference to the one before; valid until the thread asks again."""
    if not hasattr(_local, "planes"):
        _local.planes = np.empty((2, BLOCK), np.uint8)
    both: npt.NDArray[np.uint8] = _local.planes
    planes, steps = both[:, : _PLANES * samples.size].reshape(2, _PLANES, -1)
    planes[0] = samples
    np.right_shift(samples, 8, out=planes[1], casting="unsafe")
    steps[:, 0] = planes[:, 0]
    np.subtract(planes[:, 1:], planes[:, :-1], out=steps[:, 1:])
    return steps


def _compress(plane: npt.NDArray[np.uint8]) -> bytes:
    if not hasattr(_local, "zstd"):
        _local.zstd = zstandard.ZstdCompressor(
            compression_params=zstandard.ZstdCompressionParameters(
                strategy=zstandard.STRATEGY_FAST, min_match=7, hash_log=6, chain_log=6, search_log=1, window_log=19
            )
        )
    coded: bytes = _local.zstd.compress(plane)
    return coded
