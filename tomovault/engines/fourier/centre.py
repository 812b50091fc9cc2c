"""The detector column that the rotation axis projects to, found from projections half a turn apart.

Two projections half a turn apart mirror each other about the axis, so the shift between one and the mirror
image of the other is the centre. Where there are no such pairs, the centre of mass of the line integrals, which
moves on a sinusoid about the axis, gives it (Helgason-Ludwig condition of first order).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from tomovault.engines.fourier.filters import good_length

Band: TypeAlias = npt.NDArray[np.float32]
Values: TypeAlias = npt.NDArray[np.float64]

#: Gives the line integrals (rows, columns) of the projection at a position in the list of angles.
Look: TypeAlias = Callable[[int], Band]

#: Pairs this near to half a turn need no correction for what the object turned in between.
EXACT_DEG = 0.01
NEAREST_DEG = 3.5
MOST_PAIRS = 12
LEAST_LIKENESS = 0.3


@dataclass(frozen=True)
class Pair:
    """Positions of two projections, and by how many degrees the second misses half a turn from the first."""

    first: int
    second: int
    angle_deg: float
    miss_deg: float


@dataclass(frozen=True)
class Centre:
    """`column` counts from 0 at the middle of the first column. `spread` is the scatter of the estimates in pixels."""

    column: float
    method: str
    spread: float
    pairs: tuple[Pair, ...] = ()


def find_centre(look: Look, angles: Sequence[float], columns: int, *, truncated: bool, half: bool) -> Centre:
    """The centre to a thousandth of a pixel. `truncated`, `half`: the detector sees only part of the object,
    and in a half acquisition with the axis away from its middle.

    By pairs, else by moments, else the middle of the detector; `method` says which.
    """
    found = _by_pairs(look, angles, columns, truncated, half)
    if found is None and not (truncated or half):
        found = _by_moments(look, angles, columns)
    if found is None or not 0 <= found.column <= columns - 1:
        return Centre((columns - 1) / 2.0, "middle", 0.0)
    return found


def opposite_pairs(angles: Sequence[float]) -> tuple[Pair, ...]:
    """Up to a dozen pairs: spread over the scan where some are exact, else the ones nearest to half a turn."""
    values = np.asarray(angles, dtype=np.float64)
    opposite = np.mod(values + 180.0, 360.0)
    order = np.argsort(np.mod(values, 360.0), kind="stable")
    ascending = np.mod(values, 360.0)[order]
    place = np.searchsorted(ascending, opposite)
    found: dict[tuple[int, int], Pair] = {}
    for step in (-2, -1, 0, 1):
        for first, near in enumerate(order[(place + step) % len(order)].tolist()):
            miss = float((values[near] - values[first]) % 360.0 - 180.0)
            # Each pair is met from both ends; from the second one the miss has the other sign.
            if abs(miss) <= NEAREST_DEG and first < near:
                found.setdefault((first, near), Pair(first, near, float(values[first]), miss))
    pairs = [found[key] for key in sorted(found)]
    exact = [pair for pair in pairs if abs(pair.miss_deg) <= EXACT_DEG]
    if exact:
        picked = np.unique(np.linspace(0, len(exact) - 1, min(MOST_PAIRS, len(exact))).round().astype(int))
        return tuple(exact[i] for i in picked.tolist())
    return tuple(sorted(pairs, key=lambda pair: (abs(pair.miss_deg), pair.first))[:MOST_PAIRS])


def _by_pairs(look: Look, angles: Sequence[float], columns: int, truncated: bool, half: bool) -> Centre | None:
    pairs = opposite_pairs(angles)
    if not pairs:
        return None
    partial = truncated or half
    together = Likeness(columns)
    for pair in pairs:
        together.add(*_mirrored(look, pair, partial))
    if half:
        allowed = _overlaps(columns, columns // 20, columns - columns // 10)
    else:
        allowed = _overlaps(columns, columns // 2, columns)
    near, likeness = together.best(allowed)
    if likeness < LEAST_LIKENESS:
        return None
    values = np.empty(len(pairs))
    for place, pair in enumerate(pairs):
        first, second = _mirrored(look, pair, partial)
        alone = Likeness(columns)
        alone.add(first, second)
        # What turned between two projections that are not quite opposite moves the best shift a little.
        reach = 1 + round(abs(np.deg2rad(pair.miss_deg)) * columns / 2)
        at, _ = alone.best(allowed[np.abs(allowed - near) <= reach])
        values[place] = (columns - 1 - fine_shift(first, second, at, partial=partial)) / 2.0
    misses = np.deg2rad([pair.miss_deg for pair in pairs])
    if np.all(np.abs(misses) <= np.deg2rad(EXACT_DEG)):
        return Centre(round(float(np.median(values)), 3), "pairs", round(float(np.std(values)), 4), pairs)
    column, spread = _without_turn(values, misses, np.deg2rad([pair.angle_deg for pair in pairs]))
    return Centre(round(column, 3), "pairs", round(spread, 4), pairs)


def _mirrored(look: Look, pair: Pair, partial: bool) -> tuple[Values, Values]:
    return _flatten(look(pair.first), partial), _flatten(look(pair.second), partial)[:, ::-1] * (-1 if partial else 1)


def _overlaps(columns: int, least: int, most: int) -> npt.NDArray[np.intp]:
    """Shifts that leave an overlap of `least` to `most` columns, in ascending order."""
    shifts = np.arange(-(columns - max(4, least)), columns - max(4, least) + 1)
    kept: npt.NDArray[np.intp] = shifts[columns - np.abs(shifts) <= most]
    return kept


def _without_turn(
    values: npt.NDArray[np.float64], misses: npt.NDArray[np.float64], angles: npt.NDArray[np.float64]
) -> tuple[float, float]:
    """The centre for a miss of zero. What turned in between moves an estimate by miss x (a cos + b sin)(angle)."""
    if len(values) < 3 or np.ptp(misses) == 0.0:
        return float(np.median(values)), float(np.std(values))
    near_one_angle = float(np.abs(np.mean(np.exp(2j * angles)))) > 0.9
    if near_one_angle or len(values) < 6:
        towards = np.sign(np.cos(angles - angles[0]))
        terms = np.stack([np.ones_like(misses), misses * towards], axis=1)
    else:
        terms = np.stack([np.ones_like(misses), misses * np.cos(angles), misses * np.sin(angles)], axis=1)
    fit, *_ = np.linalg.lstsq(terms, values, rcond=None)
    return float(fit[0]), float(np.std(values - terms @ fit))


def _flatten(image: Band, partial: bool) -> Values:
    """The image less a straight line between its edges, or its slopes where its edges are not air."""
    values = image.astype(np.float64)
    if partial:
        return _slopes(values)
    columns = values.shape[1]
    edge = max(1, columns // 50)
    left, right = values[:, :edge].mean(axis=1), values[:, -edge:].mean(axis=1)
    part = np.linspace(0.0, 1.0, columns)
    baseline: npt.NDArray[np.float64] = values - (left[:, None] * (1 - part) + right[:, None] * part)
    return baseline


def _slopes(values: Values) -> Values:
    """Differences over four columns of means of five, so that noise does not outweigh a smooth object."""
    wide = np.pad(values, ((0, 0), (4, 4)), mode="edge")
    sums = np.cumsum(np.pad(wide, ((0, 0), (1, 0))), axis=1)
    means = (sums[:, 5:] - sums[:, :-5]) / 5.0
    slopes: Values = means[:, 4:] - means[:, :-4]
    return slopes


def _cross_spectrum(first: Values, second: Values, length: int) -> npt.NDArray[np.complex128]:
    cross: npt.NDArray[np.complex128] = np.sum(
        np.conj(np.fft.fft(first, length, axis=1)) * np.fft.fft(second, length, axis=1), axis=0
    )
    return cross


class Likeness:
    """How alike two images are at each whole shift, over all rows and all pairs added to it."""

    def __init__(self, columns: int) -> None:
        self._columns = columns
        self._length = good_length(2 * columns)
        self._cross = np.zeros(self._length, dtype=np.complex128)
        self._first = np.zeros(columns)
        self._second = np.zeros(columns)

    def add(self, first: Values, second: Values) -> None:
        """Take another pair into account."""
        self._cross += _cross_spectrum(first, second, self._length)
        self._first += np.sum(first**2, axis=0)
        self._second += np.sum(second**2, axis=0)

    def best(self, shifts: npt.NDArray[np.intp]) -> tuple[int, float]:
        """The shift of `second` to the right at which the overlapping parts are most alike (1: the same)."""
        columns = self._columns
        correlation = np.fft.ifft(self._cross).real[shifts % self._length]
        energy_first = np.concatenate([[0.0], np.cumsum(self._first)])
        energy_second = np.concatenate([[0.0], np.cumsum(self._second)])
        start, stop = np.maximum(0, shifts), np.minimum(columns, columns + shifts)
        seen = energy_first[stop - shifts] - energy_first[start - shifts]
        seen = seen * (energy_second[stop] - energy_second[start])
        # An overlap with next to nothing in it is alike by chance only.
        floor = 1e-4 * energy_first[-1] * energy_second[-1]
        likeness = np.where(seen > floor, correlation / np.sqrt(np.maximum(seen, 1e-300)), -1.0)
        best = int(np.argmax(likeness))
        return int(shifts[best]), float(likeness[best])


def fine_shift(first: Values, second: Values, near: int, *, partial: bool) -> float:
    """The peak, between pixels, of the band-limited cross-correlation within a pixel of the whole shift `near`.

    Of objects that leave the field only the overlap is compared, faded out towards its ends.
    """
    columns = first.shape[1]
    if not partial:
        return _peak(first, second, near)
    start, stop = max(0, near), min(columns, columns + near)
    window = np.hanning(stop - start + 2)[1:-1]
    return near + _peak(first[:, start - near : stop - near] * window, second[:, start:stop] * window, 0)


def _peak(first: Values, second: Values, near: int) -> float:
    length = good_length(2 * first.shape[1])
    cross = _cross_spectrum(first, second, length)
    frequency = np.fft.fftfreq(length)
    steps = near + np.linspace(-1.0, 1.0, 81)
    height = np.array([np.sum(np.real(cross * np.exp(2j * np.pi * frequency * step))) for step in steps])
    best = int(np.clip(np.argmax(height), 1, len(steps) - 2))
    before, top, after = height[best - 1 : best + 2]
    bend = before - 2.0 * top + after
    offset = 0.5 * (before - after) / bend if bend < 0 else 0.0
    return float(steps[best] + np.clip(offset, -1.0, 1.0) * (steps[1] - steps[0]))


def _by_moments(look: Look, angles: Sequence[float], columns: int) -> Centre | None:
    picked = np.unique(np.linspace(0, len(angles) - 1, min(128, len(angles))).round().astype(int)).tolist()
    line = np.arange(columns)
    places, kept = [], []
    for position in picked:
        profile = _flatten(look(position), False).sum(axis=0)
        mass = float(profile.sum())
        if mass > 0 and np.isfinite(mass):
            places.append(float((profile * line).sum()) / mass)
            kept.append(angles[position])
    turn = np.deg2rad(kept)
    terms = np.stack([np.ones(len(kept)), np.cos(turn), np.sin(turn)], axis=1)
    # Over a short arc the axis and the sinusoid cannot be told apart.
    if len(kept) < 4 or np.linalg.cond(terms) > 20:
        return None
    fit, *_ = np.linalg.lstsq(terms, np.asarray(places), rcond=None)
    spread = float(np.std(np.asarray(places) - terms @ fit))
    if spread > columns / 20:
        return None
    return Centre(round(float(fit[0]), 3), "moments", round(spread, 4))
