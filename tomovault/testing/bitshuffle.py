"""Frames in the bitshuffle + LZ4 form of HDF5 filter 32008, made without a plug-in.

The LZ4 blocks hold literals only: any reader of the filter decodes them, and nothing gets smaller.
"""

from __future__ import annotations

import struct

import h5py
import numpy as np
import numpy.typing as npt

FILTER = 32008
_BLOCK_BYTES = 8192
_LZ4 = 2


def add_filter(plist: h5py.h5p.PropDCID, itemsize: int) -> None:
    """Datasets made with this property list take chunks of `encode`.

    A loaded plug-in puts its version and the item size in front of the parameters itself.
    """
    given = (0, _LZ4) if h5py.h5z.filter_avail(FILTER) else (0, 4, itemsize, 0, _LZ4)
    plist.set_filter(FILTER, h5py.h5z.FLAG_OPTIONAL, given)


def encode(frame: npt.NDArray[np.generic]) -> bytes:
    """One chunk: sizes high byte first, then blocks of bit planes, then up to 7 values as they are."""
    flat = np.ascontiguousarray(frame).reshape(-1)
    itemsize = flat.dtype.itemsize
    per_block = _BLOCK_BYTES // itemsize
    whole = flat.size - flat.size % 8
    parts = [struct.pack(">QI", flat.nbytes, per_block * itemsize)]
    for start in range(0, whole, per_block):
        block = _literals(_bit_planes(flat[start : min(start + per_block, whole)], itemsize))
        parts += [struct.pack(">I", len(block)), block]
    parts.append(flat[whole:].tobytes())
    return b"".join(parts)


def _bit_planes(values: npt.NDArray[np.generic], itemsize: int) -> bytes:
    little = values.astype(values.dtype.newbyteorder("<")).view(np.uint8).reshape(-1, itemsize)
    bits = np.unpackbits(little, axis=1, bitorder="little")
    return np.packbits(bits.T, axis=1, bitorder="little").tobytes()


def _literals(content: bytes) -> bytes:
    left = len(content) - 15
    if left < 0:
        return bytes([len(content) << 4]) + content
    return bytes([0xF0]) + b"\xff" * (left // 255) + bytes([left % 255]) + content
