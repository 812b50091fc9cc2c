"""Angles, their weights, and the circle in which a slice means something."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tomovault.core.errors import UserError
from tomovault.core.ports import FrameSource

#: A gap between neighbouring angles is a hole, not a spacing, when it is larger than both.
HOLE_DEG = 30.0
HOLE_TIMES_MEDIAN = 4.0


def read_angles(
    source: FrameSource, projections: Sequence[int], scan_range_deg: float | None
) -> tuple[list[float], bool]:
    """Angle of each projection in degrees, and whether they had to be assumed.

    Where the source lacks any, they are evenly spaced over `scan_range_deg` (180 if None), the end left out.
    Raises UserError for an angle that is not finite.
    """
    known = [source.angle_deg(index) for index in projections]
    angles = [float(angle) for angle in known if angle is not None]
    if len(angles) < len(projections):
        span = 180.0 if scan_range_deg is None else scan_range_deg
        return [span * place / len(projections) for place in range(len(projections))], True
    for index, angle in zip(projections, angles, strict=True):
        if not math.isfinite(angle):
            raise UserError(
                f"frame {index} has the rotation angle {angle}",
                hint="leave it out with the parameter `exclude`, or correct the scan's metadata",
            )
    return angles, False


def span_deg(angles: Sequence[float]) -> float:
    """The range that the angles cover, one step past the last one included."""
    if len(angles) < 2:
        return 0.0
    width = max(angles) - min(angles)
    return width * len(angles) / (len(angles) - 1)


def angle_weights(angles: Sequence[float], period_deg: float) -> tuple[npt.NDArray[np.float64], float]:
    """Radians that each projection stands for, and the largest gap in degrees.

    Half the distance to both neighbours modulo `period_deg` (180, or 360 where a projection sees one side of
    the axis only); so repeated and unevenly spaced angles count for what they add. Next to a hole (a missing
    wedge) the median distance is taken instead, as nothing can stand for what was not measured.
    """
    turned = np.mod(np.asarray(angles, dtype=np.float64), period_deg)
    order = np.argsort(turned, kind="stable")
    ascending = turned[order]
    gaps = np.diff(ascending, append=ascending[0] + period_deg)
    largest = float(gaps.max())
    spaced = gaps[gaps > 1e-6]
    median = float(np.median(spaced)) if spaced.size else period_deg
    gaps = np.where((gaps > HOLE_DEG) & (gaps > HOLE_TIMES_MEDIAN * median), median, gaps)
    weights = np.empty_like(gaps)
    weights[order] = np.deg2rad((gaps + np.roll(gaps, 1)) / 2.0)
    return weights, largest


def feather(columns: int, centre: float) -> npt.NDArray[np.float32]:
    """Weights of the columns of a half acquisition: w(s) + w(-s) = 1 about the axis, 1 beyond the overlap."""
    overlap = max(overlap_half_width(columns, centre), 0.5)
    distance = np.arange(columns) - centre
    if centre > (columns - 1) / 2:
        distance = -distance
    weights: npt.NDArray[np.float32] = np.clip((distance + overlap) / (2.0 * overlap), 0.0, 1.0).astype(np.float32)
    return weights


def overlap_half_width(columns: int, centre: float) -> float:
    """Distance from the axis to the nearer edge of the detector, in pixels."""
    return max(0.0, min(centre, columns - 1 - centre))


def slice_size(columns: int, centre: float, half: bool) -> int:
    """Width of a slice: the detector's, or in a half acquisition that of the circle it sweeps."""
    if not half:
        return columns
    return 2 * math.ceil(max(centre, columns - 1 - centre)) + 1


def outside_circle(size: int, radius: float) -> npt.NDArray[np.bool_]:
    """True for pixels farther than `radius` from the middle of the slice."""
    line = (np.arange(size) - (size - 1) / 2.0) ** 2
    outside: npt.NDArray[np.bool_] = line[:, None] + line[None, :] > radius**2
    return outside


def angles_digest(angles: Sequence[float]) -> str:
    """Hex sha256 of the angles as little-endian doubles."""
    return hashlib.sha256(np.asarray(angles, dtype="<f8").tobytes()).hexdigest()


def is_half_acquisition(facts: Mapping[str, Any], angles: Sequence[float]) -> bool:
    """True if the scan says so and turned far enough for the other side to be seen."""
    return str(facts.get("field_of_view", "")).lower() == "half" and span_deg(angles) >= 350.0
