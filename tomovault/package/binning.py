"""Images made small enough to look at anywhere."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Image: TypeAlias = npt.NDArray[np.float32]

#: No image of a preview is longer than this on a side.
LONGEST_SIDE = 1024


def binning(shape: Sequence[int]) -> int:
    """Over how many pixels to average along each side."""
    return max(1, math.ceil(max(shape) / LONGEST_SIDE))


def bin_image(image: npt.NDArray[Any], factor: int) -> Image:
    """Means over squares of `factor` pixels; what is left at the right and bottom edges is averaged likewise."""
    if factor == 1:
        return np.ascontiguousarray(image, dtype=np.float32)
    starts = [np.arange(0, length, factor) for length in image.shape]
    sums = np.add.reduceat(image, starts[0], axis=0, dtype=np.float64)
    sums = np.add.reduceat(sums, starts[1], axis=1)
    counts = [np.diff(np.append(start, length)) for start, length in zip(starts, image.shape, strict=True)]
    means: Image = (sums / (counts[0][:, None] * counts[1][None, :])).astype(np.float32)
    return means
