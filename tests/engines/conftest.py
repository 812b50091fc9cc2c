"""An analytic phantom, scans of it held in memory, and the real scan of a tooth."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from tomovault.core.layout import FrameKind

#: Shepp and Logan's head with contrasts for the eye: value, half axes, middle (in half widths), tilt in degrees.
ELLIPSES = (
    (1.0, 0.69, 0.92, 0.0, 0.0, 0.0),
    (-0.8, 0.6624, 0.874, 0.0, -0.0184, 0.0),
    (-0.2, 0.11, 0.31, 0.22, 0.0, -18.0),
    (-0.2, 0.16, 0.41, -0.22, 0.0, 18.0),
    (0.1, 0.21, 0.25, 0.0, 0.35, 0.0),
    (0.1, 0.046, 0.046, 0.0, 0.1, 0.0),
    (0.1, 0.046, 0.046, 0.0, -0.1, 0.0),
    (0.1, 0.046, 0.023, -0.08, -0.605, 0.0),
    (0.1, 0.023, 0.023, 0.0, -0.606, 0.0),
    (0.1, 0.023, 0.046, 0.06, -0.605, 0.0),
)


def phantom_sinogram(angles_deg, columns, centre, *, radius=None, samples=4, ellipses=ELLIPSES):
    """Exact line integrals in pixels, averaged over each detector column; the head fits into `radius`."""
    radius = columns / 2 if radius is None else radius
    fine = (np.arange(columns * samples) + 0.5) / samples - 0.5 - centre
    result = np.zeros((len(angles_deg), columns))
    for value, a, b, x0, y0, tilt in ellipses:
        a, b, x0, y0 = (radius * v for v in (a, b, x0, y0))
        for place, angle in enumerate(np.deg2rad(angles_deg)):
            turned = angle - np.deg2rad(tilt)
            width2 = (a * np.cos(turned)) ** 2 + (b * np.sin(turned)) ** 2
            distance = fine - (x0 * np.cos(angle) + y0 * np.sin(angle))
            inside = np.maximum(width2 - distance**2, 0.0)
            ray = 2 * value * a * b * np.sqrt(inside) / width2
            result[place] += ray.reshape(columns, samples).mean(axis=1)
    return result


def phantom_slice(size, *, radius=None, samples=4, ellipses=ELLIPSES):
    """The head averaged over pixels: x to the right, y upwards, the axis in the middle."""
    radius = size / 2 if radius is None else radius
    line = (np.arange(size * samples) + 0.5) / samples - size / 2
    x, y = line[None, :], -line[:, None]
    image = np.zeros((size * samples, size * samples))
    for value, a, b, x0, y0, tilt in ellipses:
        a, b, x0, y0 = (radius * v for v in (a, b, x0, y0))
        cos, sin = np.cos(np.deg2rad(tilt)), np.sin(np.deg2rad(tilt))
        along, across = (x - x0) * cos + (y - y0) * sin, -(x - x0) * sin + (y - y0) * cos
        image[(along / a) ** 2 + (across / b) ** 2 <= 1] += value
    return image.reshape(size, samples, size, samples).mean(axis=(1, 3))


class FakeSource:
    """A `FrameSource` over frames in memory; each is (kind, image, angle, summed)."""

    def __init__(self, frames, facts: Mapping | None = None):
        self.frames = list(frames)
        self._facts = dict(facts or {})
        self.reads = 0

    @property
    def frame_shape(self):
        return next(f[1].shape for f in self.frames if f[0] is FrameKind.PROJECTION)

    def indices(self, kind) -> Sequence[int]:
        return [i for i, f in enumerate(self.frames) if f[0] is kind]

    def angle_deg(self, index):
        return self.frames[index][2]

    def summed(self, index):
        return self.frames[index][3]

    def read(self, index, rows=None):
        self.reads += 1
        image = self.frames[index][1]
        return (image if rows is None else image[rows]).copy()

    def facts(self):
        return self._facts


def scan_of(
    integrals,
    angles,
    *,
    counts=None,
    seed=0,
    flats=2,
    darks=2,
    dark_level=100.0,
    dark_sum=1,
    profile=True,
    facts=None,
    rows=None,
):
    """A scan whose projections have these line integrals: (angles, columns) or (angles, rows, columns).

    With `counts` the frames are Poisson distributed uint16, else exact float64.
    """
    integrals = integrals[:, None, :] if integrals.ndim == 2 else integrals
    if rows is not None:
        integrals = np.repeat(integrals, rows, axis=1)
    shape = integrals.shape[1:]
    rng = np.random.default_rng(seed)
    beam = 0.7 + 0.3 * np.hanning(shape[1] + 2)[None, 1:-1] * np.ones(shape) if profile else np.ones(shape)
    level = 20000.0 if counts is None else counts

    def expose(expected):
        if counts is None:
            return expected + dark_level
        return np.clip(rng.poisson(expected) + dark_level + rng.normal(0, 3, shape), 0, 65535).round().astype("<u2")

    dark = np.full(shape, dark_level * dark_sum)
    frames = [(FrameKind.DARK, dark if counts is None else dark.astype("<u4"), None, dark_sum) for _ in range(darks)]
    frames += [(FrameKind.FLAT, expose(level * beam), None, 1) for _ in range(flats)]
    frames += [
        (FrameKind.PROJECTION, expose(level * beam * np.exp(-line)), angle, 1)
        for line, angle in zip(integrals, angles, strict=True)
    ]
    return FakeSource(frames, facts)


class Kit:
    """What tests in this folder build scans with."""

    sinogram = staticmethod(phantom_sinogram)
    slice = staticmethod(phantom_slice)
    scan = staticmethod(scan_of)
    Source = FakeSource
    ellipses = ELLIPSES


@pytest.fixture(scope="session")
def kit():
    return Kit


def real_file(path):
    """A file of the real data; skips where it is not there."""
    root = Path(os.environ.get("TOMOVAULT_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
    if not (root / path).exists():
        pytest.skip(f"real data is not at {root} (TOMOVAULT_DATA)")
    return root / path


@pytest.fixture(scope="session")
def full_turn():
    """A BLISS scan of 16 x 16 frames over a full turn, its beam off: flats and projections are noise about the dark."""
    import h5py

    frames = []
    name = "TestEwoksTomo_0010"
    with h5py.File(real_file(f"bliss/RAW_DATA/TestEwoksTomo/{name}/{name}.h5"), "r", locking=False) as file:
        for entry, kind in (("2.1", FrameKind.DARK), ("3.1", FrameKind.FLAT), ("4.1", FrameKind.PROJECTION)):
            images = file[f"{entry}/measurement/edgetwinmic"][()]
            turn = file.get(f"{entry}/measurement/srot_eh2")
            angles = [None] * len(images) if turn is None else turn[()].tolist()
            frames += [(kind, image, angle, 1) for image, angle in zip(images, angles, strict=True)]
    return FakeSource(frames)


@pytest.fixture(scope="session")
def tooth():
    """The scan of a tooth as a source."""
    import h5py

    path = real_file("aps-dx/tooth.h5")
    with h5py.File(path, "r", locking=False) as file:
        angles = file["exchange/theta"][()].tolist()
        frames = [(FrameKind.DARK, f, None, 1) for f in file["exchange/data_dark"][()]]
        frames += [(FrameKind.FLAT, f, None, 1) for f in file["exchange/data_white"][()]]
        frames += [(FrameKind.PROJECTION, f, a, 1) for f, a in zip(file["exchange/data"][()], angles, strict=True)]
    return FakeSource(frames, {"digest": "tooth"})
