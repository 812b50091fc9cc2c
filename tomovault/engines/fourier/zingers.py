"""Zingers: single pixels that a scattered photon or a cosmic particle hit, far brighter than their neighbours."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.float32]

#: A pixel's neighbourhood is 3 x 3: so many rows more on both sides of a band are needed.
MARGIN = 1


def remove_zingers(image: Image, threshold: float) -> int:
    """Pixels more than `threshold` above the median of their 3 x 3 neighbourhood are that median, in place; how many.

    Every median is of the image as it came, so the result does not depend on the order. Beyond its edges the image goes
    on as its outermost pixels.
    """
    padded = np.pad(image, MARGIN, mode="edge")
    rows, columns = image.shape
    least = image.copy()
    for down in range(3):
        for right in range(3):
            np.minimum(least, padded[down : down + rows, right : right + columns], out=least)
    # A median is not below the minimum, so only these can stand out.
    row, column = np.nonzero(image - least > np.float32(threshold))
    if not row.size:
        return 0
    around = np.stack([padded[row + down, column + right] for down in range(3) for right in range(3)])
    median = np.partition(around, 4, axis=0)[4]
    out = image[row, column] - median > np.float32(threshold)
    image[row[out], column[out]] = median[out]
    return int(np.count_nonzero(out))
