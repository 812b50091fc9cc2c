"""Rings: a detector column that answers a little differently draws a stripe in every sinogram and a ring in the slice.

Sorting after Vo, Atwood and Drakopoulos, Optics Express 26, 28396 (2018), algorithm 3: in a sinogram whose columns
are each sorted, what is seen under many angles lies side by side in neighbouring columns, so a stripe stands out of a
median across columns, and the object does not.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Sinogram = npt.NDArray[np.float32]

#: Bytes of the windows that are looked at together.
_BLOCK_BYTES = 32 << 20


def remove_rings(sinogram: Sinogram, width: int) -> None:
    """Stripes narrower than half of `width` columns (odd) are gone from (angles, columns), in place.

    Each column's values, sorted, are replaced by the median of `width` sorted columns about it, and put back where they
    came from. Beyond the edges the sinogram goes on as its mirror image.
    """
    order = np.argsort(sinogram, axis=0, kind="stable")
    ranked = np.take_along_axis(sinogram, order, axis=0)
    half = width // 2
    columns = sinogram.shape[1]
    step = max(1, _BLOCK_BYTES // (4 * columns * width))
    for start in range(0, len(ranked), step):
        part = ranked[start : start + step]
        padded = np.pad(part, ((0, 0), (half, half)), mode="symmetric")
        windows = np.lib.stride_tricks.sliding_window_view(padded, width, axis=1)
        ranked[start : start + step] = np.partition(windows, half, axis=2)[:, :, half]
    np.put_along_axis(sinogram, order, ranked, axis=0)


def rings_bytes(angles: int, columns: int, width: int) -> int:
    """Memory that the correction of one sinogram takes besides it."""
    return angles * columns * (8 + 4 + 8) + 2 * min(_BLOCK_BYTES, 4 * angles * columns * width) + 4 * columns * width
