"""A sample of ellipsoids and cylinders whose parallel-beam projections are known exactly.

Coordinates are in halves of the detector's width: the rotation axis is x = y = 0, z points down the rows,
and both are 0 in the middle of the frame. The integral of a density along a ray is therefore a number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Ellipsoid:
    """Semi-axes `a`, `b` in the plane (turned by `turn_deg`) and `c` along the axis; densities add up."""

    density: float
    x: float
    y: float
    z: float
    a: float
    b: float
    c: float
    turn_deg: float = 0.0

    def add_chords(
        self, out: npt.NDArray[np.float32], s: npt.NDArray[np.float32], z: npt.NDArray[np.float32], angle_deg: float
    ) -> None:
        """Add density times chord for every ray; `s` and `z` are the coordinates of columns and rows.

        The chord of an ellipse with semi-axes a, b at distance d from its centre, seen under angle t, is
        2 a b sqrt(w^2 - d^2) / w^2 with w^2 = a^2 cos^2 t + b^2 sin^2 t; at height h both axes are
        scaled by sqrt(1 - (h/c)^2).
        """
        centre, width = _shadow(self.x, self.y, self.a, self.b, self.turn_deg, angle_deg)
        columns, rows = _inside(s, centre, width), _inside(z, self.z, self.c)
        if columns.start >= columns.stop or rows.start >= rows.stop:
            return
        across = ((s[columns] - centre) / width) ** 2
        along = 1.0 - ((z[rows] - self.z) / self.c) ** 2
        square = along[:, None] - across[None, :]
        np.maximum(square, 0.0, out=square)
        np.sqrt(square, out=square)
        square *= np.float32(self.density * 2.0 * self.a * self.b / width)
        out[rows, columns] += square


@dataclass(frozen=True)
class Cylinder:
    """An upright elliptic cylinder of half height `c`."""

    density: float
    x: float
    y: float
    z: float
    a: float
    b: float
    c: float
    turn_deg: float = 0.0

    def add_chords(
        self, out: npt.NDArray[np.float32], s: npt.NDArray[np.float32], z: npt.NDArray[np.float32], angle_deg: float
    ) -> None:
        """As for an ellipsoid, with the same chord at every height inside."""
        centre, width = _shadow(self.x, self.y, self.a, self.b, self.turn_deg, angle_deg)
        columns, rows = _inside(s, centre, width), _inside(z, self.z, self.c)
        if columns.start >= columns.stop or rows.start >= rows.stop:
            return
        square = 1.0 - ((s[columns] - centre) / width) ** 2
        chords = np.sqrt(np.maximum(square, 0.0)) * np.float32(self.density * 2.0 * self.a * self.b / width)
        out[rows, columns] += chords[None, :]


Solid = Ellipsoid | Cylinder


class Phantom:
    """A set of solids, seen by a detector of any shape."""

    def __init__(self, solids: Sequence[Solid], *, axis_offset: float = 0.0) -> None:
        self.solids = tuple(solids)
        #: Where the rotation axis falls on the detector, in half widths right of the middle.
        self.axis_offset = axis_offset

    def projection(self, angle_deg: float, shape: tuple[int, int]) -> npt.NDArray[np.float32]:
        """Integrals of the density along parallel rays through pixel centres; shape (rows, columns), C order."""
        rows, columns = shape
        half = columns / 2.0
        s = (((np.arange(columns) + 0.5) - half) / half - self.axis_offset).astype(np.float32)
        z = (((np.arange(rows) + 0.5) - rows / 2.0) / half).astype(np.float32)
        out = np.zeros(shape, np.float32)
        for solid in self.solids:
            solid.add_chords(out, s, z, angle_deg)
        return out


def sample_phantom(seed: int = 0, *, axis_offset: float = 0.03) -> Phantom:
    """A capillary with grains, fibres and pores; the same for the same seed, with integrals from 0 to about 2."""
    rng = np.random.default_rng([seed, 0x5A])
    tall = 1.6
    solids: list[Solid] = [
        Cylinder(1.4, 0.0, 0.0, 0.0, 0.78, 0.78, tall),
        Cylinder(-0.9, 0.0, 0.0, 0.0, 0.72, 0.72, tall),
        Cylinder(2.4, 0.34, -0.12, 0.0, 0.07, 0.11, tall, turn_deg=25.0),
        Ellipsoid(2.2, -0.25, 0.22, -0.2, 0.26, 0.18, 0.30, turn_deg=40.0),
        Ellipsoid(-2.2, -0.25, 0.22, -0.2, 0.09, 0.09, 0.10),
        Ellipsoid(1.6, 0.1, -0.35, 0.3, 0.2, 0.2, 0.2),
    ]
    for _ in range(10):
        radius, turn = 0.62 * math.sqrt(rng.random()), 2.0 * math.pi * rng.random()
        size = 0.03 + 0.06 * rng.random()
        x, y, z = radius * math.cos(turn), radius * math.sin(turn), rng.uniform(-0.8, 0.8)
        a, b = size, size * rng.uniform(0.6, 1.0)
        density = 3.2 if rng.random() < 0.6 else -0.5
        solids.append(Ellipsoid(density, x, y, float(z), a, float(b), size, turn_deg=float(rng.uniform(0, 180))))
    return Phantom(solids, axis_offset=axis_offset)


def _shadow(x: float, y: float, a: float, b: float, turn_deg: float, angle_deg: float) -> tuple[float, float]:
    theta, seen = math.radians(angle_deg), math.radians(angle_deg - turn_deg)
    return x * math.cos(theta) + y * math.sin(theta), math.hypot(a * math.cos(seen), b * math.sin(seen))


def _inside(grid: npt.NDArray[np.float32], centre: float, half_width: float) -> slice:
    return slice(
        int(np.searchsorted(grid, centre - half_width)), int(np.searchsorted(grid, centre + half_width, side="right"))
    )
