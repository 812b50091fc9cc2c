"""The middle planes of a volume, read slice by slice: one slice and two cuts upright through all of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from tomovault.core.errors import UserError
from tomovault.core.layout import FrameKind
from tomovault.core.ports import FrameSource, Progress
from tomovault.package.binning import Image, bin_image, binning

Line: TypeAlias = npt.NDArray[np.generic]

_BAND_BYTES = 64 << 20


@dataclass(frozen=True)
class Planes:
    """`images` by name, `notes` on where each lies; `dtype` is that of the slices."""

    images: Mapping[str, Image]
    notes: Mapping[str, Mapping[str, int]]
    dtype: np.dtype[Any]


def read_planes(source: FrameSource, progress: Progress) -> Planes:
    """The middle slice, and the cuts along its middle row and its middle column with the first slice on top.

    A pixel is the mean of the finite values of its bin, NaN where there are none: a slice that is not there, or not
    like the middle one, is a gap. Of the slices that a pixel of a cut spans the middle one is read, so that no more
    slices are than an image has pixels, one at a time. Raises UserError where there is no slice.
    """
    orders = source.indices(FrameKind.INVALID)
    if not orders:
        raise UserError("a volume without slices has no preview")
    first, depth = orders[0], orders[-1] - orders[0] + 1
    middle = min(orders, key=lambda order: (abs(order - first - depth // 2), order))
    plane = source.read(middle)
    if plane.size == 0 or plane.dtype.kind not in "biuf":
        raise UserError(f"slices of {plane.dtype} with {plane.size} values have no preview")
    rows, columns = plane.shape
    factor = binning(plane.shape)
    notes = {"slice": {"slice": middle, "binning": factor}}
    image = _bin_in_bands(plane, factor)
    dtype = plane.dtype
    del plane
    factor = binning((depth, rows, columns))
    there = frozenset(orders)
    spans = [range(at, min(at + factor, first + depth)) for at in range(first, first + depth, factor)]
    along_row, along_column = [_gap(columns, factor)] * len(spans), [_gap(rows, factor)] * len(spans)
    for place, span in enumerate(spans):
        chosen = _nearest_to_middle(span, there)
        found = source.read(chosen) if chosen is not None else None
        if found is not None and found.shape == (rows, columns):
            along_row[place] = bin_finite(found[rows // 2][None], factor)
            along_column[place] = bin_finite(found[:, columns // 2][None], factor)
        progress(place + 1, len(spans))
    notes["cut_row"] = {"row": rows // 2, "binning": factor}
    notes["cut_column"] = {"column": columns // 2, "binning": factor}
    cuts = {"cut_row": np.concatenate(along_row), "cut_column": np.concatenate(along_column)}
    return Planes({**cuts, "slice": image}, notes, dtype)


def bin_finite(image: Line, factor: int) -> Image:
    """Means of the finite values over squares of `factor` pixels; NaN where there are none."""
    with np.errstate(over="ignore"):  # a double may be too large for the single precision of an image
        finite = np.isfinite(image)
        if finite.all():
            return bin_image(image, factor)
        sums = bin_image(np.where(finite, image, np.zeros((), image.dtype)), factor)
        share = bin_image(finite, factor)
        means: Image = np.divide(sums, share, out=np.full_like(sums, np.nan), where=share > 0)
    return means


def _bin_in_bands(image: Line, factor: int) -> Image:
    """`bin_finite` of an image, by bands of rows so that a large one needs little memory more."""
    step = max(factor, _BAND_BYTES // (image.shape[1] * 8) // factor * factor)
    return np.concatenate([bin_finite(image[at : at + step], factor) for at in range(0, image.shape[0], step)])


def _nearest_to_middle(span: Sequence[int], there: frozenset[int]) -> int | None:
    middle = span[len(span) // 2]
    return min(
        (order for order in span if order in there), key=lambda order: (abs(order - middle), order), default=None
    )


def _gap(length: int, factor: int) -> Image:
    return np.full((1, math.ceil(length / factor)), np.nan, dtype=np.float32)
