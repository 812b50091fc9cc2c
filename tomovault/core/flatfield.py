"""Projections divided by their flats: the one place where flats and darks meet a projection.

Shared by engines, previews and views. It reads frames through `FrameSource` and holds averaged flats and
darks of the rows asked for only, so memory follows the number of rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from tomovault.core.layout import FrameKind
from tomovault.core.ports import FrameSource

Image: TypeAlias = npt.NDArray[np.float32]
Groups: TypeAlias = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class FlatPlan:
    """Which frames correct a scan, by acquisition index. A group is what was taken between two projections.

    `white` is the level that stands for the open beam where there are no flats, else None.
    """

    flats: Groups
    darks: Groups
    white: float | None = None


def plan_flatfield(source: FrameSource) -> FlatPlan:
    """The groups of flats and darks of a scan; without flats, the white level is estimated from projections."""
    projections = source.indices(FrameKind.PROJECTION)
    flats = group_frames(source.indices(FrameKind.FLAT), projections)
    darks = group_frames(source.indices(FrameKind.DARK), projections)
    if flats or not projections:
        return FlatPlan(flats, darks, None if flats else 1.0)
    return FlatPlan(flats, darks, _white_level(source, darks, projections))


def group_frames(indices: Sequence[int], projections: Sequence[int]) -> Groups:
    """Frames of one kind, a new group wherever a projection lies between two of them."""
    before = np.searchsorted(np.asarray(sorted(projections), dtype=np.int64), np.asarray(sorted(indices)))
    groups: dict[int, list[int]] = {}
    for index, place in zip(sorted(indices), before.tolist(), strict=True):
        groups.setdefault(place, []).append(index)
    return tuple(tuple(groups[place]) for place in sorted(groups))


def average_frames(source: FrameSource, indices: Sequence[int], rows: slice) -> Image:
    """The mean single exposure of these frames; NaN where no frame has a finite value."""
    total: npt.NDArray[np.float64] | None = None
    lost: npt.NDArray[np.float64] | None = None
    exposures = 0
    for index in indices:
        frame = source.read(index, rows)
        summed = max(1, source.summed(index))
        if total is None:
            total = np.zeros(frame.shape, dtype=np.float64)
        if frame.dtype.kind == "f" and not np.isfinite(frame).all():
            broken = ~np.isfinite(frame)
            lost = np.zeros(frame.shape, dtype=np.float64) if lost is None else lost
            lost[broken] += summed
            frame = np.where(broken, np.zeros((), dtype=frame.dtype), frame)
        np.add(total, frame, out=total, casting="unsafe")
        exposures += summed
    if total is None:
        raise ValueError("no frame to average")
    if lost is None:
        total /= exposures
    else:
        left = exposures - lost
        np.divide(total, left, out=total, where=left > 0)
        total[left <= 0] = np.nan
    return total.astype(np.float32)


class FlatField:
    """Flats and darks of some rows of a scan, averaged by group, ready to correct projections.

    Between groups both are interpolated linearly by acquisition order, and held beyond the outermost ones.
    Pixels whose flat is not above their dark are dead, and are filled along their row.
    """

    def __init__(self, source: FrameSource, plan: FlatPlan, rows: slice) -> None:
        self._source = source
        self._rows = rows
        self._white = plan.white if plan.white is not None and plan.white > 0 else 1.0
        self._dark_orders = [float(np.mean(group)) for group in plan.darks]
        self._darks = [average_frames(source, group, rows) for group in plan.darks]
        for dark in self._darks:
            np.nan_to_num(dark, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
        self._flat_orders = [float(np.mean(group)) for group in plan.flats]
        self._nets: list[Image] = []
        dead: npt.NDArray[np.bool_] | None = None
        for order, group in zip(self._flat_orders, plan.flats, strict=True):
            net = average_frames(source, group, rows)
            net -= self._dark_at(order)
            broken = ~(np.isfinite(net) & (net > 0))
            net[broken] = 1.0
            dead = broken if dead is None else dead | broken
            self._nets.append(net)
        self._dead = dead if dead is not None and dead.any() else None
        self._patch = None if self._dead is None else _patch_of(self._dead)
        self._single = 1.0 / self._nets[0] if len(self._nets) == 1 else None
        #: Projections that had no finite value in these rows: all of what is returned of one is made up.
        self.empty: set[int] = set()

    def transmission(self, index: int) -> Image:
        """(projection - dark) / (flat - dark) of the rows, per exposure; always finite."""
        raw = self._source.read(index, self._rows)
        image = raw.astype(np.float32)
        summed = self._source.summed(index)
        if summed > 1:
            image /= np.float32(summed)
        if self._darks:
            image -= self._dark_at(float(index))
        if self._single is not None:
            image *= self._single
        elif self._nets:
            image /= _between(self._flat_orders, self._nets, float(index))
        else:
            image /= np.float32(self._white)
        if raw.dtype.kind == "f" and not np.isfinite(image).all():
            broken = ~np.isfinite(image)
            if broken.all():
                self.empty.add(index)
            _patch(image, _patch_of(broken if self._dead is None else broken | self._dead))
        elif self._patch is not None:
            _patch(image, self._patch)
        return image

    def _dark_at(self, order: float) -> Image | np.float32:
        if not self._darks:
            return np.float32(0.0)
        return _between(self._dark_orders, self._darks, order)


def line_integrals(transmission: Image, low: float, high: float) -> Image:
    """-log of the transmission clipped to [low, high], in place."""
    np.clip(transmission, np.float32(low), np.float32(high), out=transmission)
    np.log(transmission, out=transmission)
    np.negative(transmission, out=transmission)
    return transmission


def _between(orders: Sequence[float], images: Sequence[Image], order: float) -> Image:
    if len(images) == 1 or order <= orders[0]:
        return images[0]
    if order >= orders[-1]:
        return images[-1]
    after = int(np.searchsorted(np.asarray(orders), order, side="right"))
    part = np.float32((order - orders[after - 1]) / (orders[after] - orders[after - 1]))
    mixed: Image = images[after - 1] * (np.float32(1) - part) + images[after] * part
    return mixed


@dataclass(frozen=True)
class _Patch:
    """Flat indices of bad pixels and of the good ones left and right of each in its row."""

    bad: npt.NDArray[np.intp]
    left: npt.NDArray[np.intp]
    right: npt.NDArray[np.intp]
    part: Image
    hopeless: npt.NDArray[np.intp]


def _patch_of(bad: npt.NDArray[np.bool_]) -> _Patch:
    columns = bad.shape[1]
    row, column = np.nonzero(bad)
    rows, which = np.unique(row, return_inverse=True)
    line = np.arange(columns)
    left = np.maximum.accumulate(np.where(bad[rows], -1, line), axis=1)[which, column]
    right = np.minimum.accumulate(np.where(bad[rows], columns, line)[:, ::-1], axis=1)[:, ::-1][which, column]
    alone = (left < 0) & (right >= columns)
    left = np.where(left < 0, np.where(alone, 0, right), left)
    right = np.where(right >= columns, left, right)
    part = (column - left) / np.maximum(right - left, 1)
    start = row * columns
    return _Patch(start + column, start + left, start + right, part.astype(np.float32), (start + column)[alone])


def _patch(image: Image, patch: _Patch) -> None:
    flat = image.reshape(-1)
    flat[patch.bad] = flat[patch.left] * (np.float32(1) - patch.part) + flat[patch.right] * patch.part
    flat[patch.hopeless] = 1.0


def _white_level(source: FrameSource, darks: Groups, projections: Sequence[int]) -> float:
    rows = source.frame_shape[0]
    band = slice(max(0, rows // 2 - 64), min(rows, rows // 2 + 64))
    field = FlatField(source, FlatPlan((), darks, 1.0), band)
    picked = {projections[0], projections[len(projections) // 2], projections[-1]}
    level = float(np.median([np.percentile(field.transmission(index), 99) for index in sorted(picked)]))
    return level if np.isfinite(level) and level > 0 else 1.0


__all__ = ["FlatField", "FlatPlan", "average_frames", "group_frames", "line_integrals", "plan_flatfield"]
