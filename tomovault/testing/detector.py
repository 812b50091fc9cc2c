"""Two detectors, a 14-bit CCD like FReLoN and a 16-bit sCMOS: counts with noise as a beamline sees them.

Counts are thousands of quanta per pixel, so shot noise is taken in its normal limit.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tomovault.core.errors import UserError

Float = npt.NDArray[np.float32]
Counts = npt.NDArray[np.uint16]


@dataclass(frozen=True)
class Detector:
    """`flat_adu` is the mean level of the brightest pixels of a flat above `offset_adu`.

    One photon makes `electrons_per_photon`; its light spreads by a Gaussian of `psf_px` (sigma) before it is
    counted, so photon noise is correlated between neighbours; electrons and readout add white noise.
    """

    name: str
    electrons_per_adu: float
    readout_electrons: float
    electrons_per_photon: float
    psf_px: float
    offset_adu: float
    full_adu: int
    flat_adu: float


FRELON = Detector("frelon", 18.0, 19.0, 12.0, 0.7, 200.0, 16383, 14500.0)
SCMOS = Detector("scmos", 0.46, 2.5, 1.0, 0.0, 100.0, 65535, 66000.0)
DETECTORS = {model.name: model for model in (FRELON, SCMOS)}


def named_detector(name: str) -> Detector:
    """The model of that name. Raises UserError that lists the names."""
    try:
        return DETECTORS[name]
    except KeyError:
        raise UserError(f"no detector {name!r}", hint=f"one of: {', '.join(sorted(DETECTORS))}") from None


@functools.lru_cache(maxsize=8)
def illumination(shape: tuple[int, int]) -> Float:
    """The beam's profile, 0.55 to 1: a broad maximum off the middle and monochromator stripes. Read only."""
    rows, columns = shape
    y = np.linspace(-1.0, 1.0, rows, dtype=np.float32)[:, None]
    x = np.linspace(-1.0, 1.0, columns, dtype=np.float32)[None, :]
    profile = np.exp(-((x - 0.1) ** 2) / 4.5 - ((y + 0.15) ** 2) / 2.6)
    profile = profile * (1.0 + 0.02 * np.sin(23.0 * y + 2.0 * x) + 0.008 * np.sin(61.0 * y))
    scaled: Float = (profile / profile.max()).astype(np.float32)
    scaled.setflags(write=False)
    return scaled


class Camera:
    """Frames of one detector and shape; a frame depends on its seed and on nothing that was taken before.

    With `fast` the noise is cut at random places from a field made once: 2048 x 2048 frames come several times
    faster, and no two frames carry the same noise at the same place.
    """

    #: Extra rows and columns of the stored noise field; the number of places to cut from is its square.
    _MARGIN = 256

    def __init__(self, model: Detector, shape: tuple[int, int], *, seed: int = 0, fast: bool = False) -> None:
        if min(shape) < 1:
            raise UserError(f"a frame of {shape[0]} x {shape[1]} has no pixels")
        self.model = model
        self.shape = shape
        self._seed = seed
        self._bank: Float | None = None
        self._white: Float | None = None
        if fast:
            rng = np.random.default_rng([seed, 0xBA])
            wide = (shape[0] + self._MARGIN, shape[1] + self._MARGIN)
            self._white = rng.standard_normal(wide, np.float32)
            self._bank = _shot_noise(model, wide, rng)

    def expose(self, transmission: Float | None, key: int, *, brightness: float = 1.0) -> Counts:
        """A frame through a sample (None: a flat). `key` selects the noise, `brightness` is the beam's current."""
        model = self.model
        electrons = illumination(self.shape) * np.float32(model.flat_adu * model.electrons_per_adu * brightness)
        if transmission is not None:
            electrons *= transmission
        scale = np.sqrt(electrons + np.float32(model.readout_electrons**2))
        scale *= self._noise(key, shot=True)
        electrons += scale
        return self._digitise(electrons)

    def dark(self, key: int) -> Counts:
        """A frame without beam: offset, fixed pattern of a few columns, readout noise."""
        electrons = self._noise(key, shot=False) * np.float32(self.model.readout_electrons)
        return self._digitise(electrons)

    def _noise(self, key: int, *, shot: bool) -> Float:
        rng = np.random.default_rng([self._seed, key])
        bank = self._bank if shot else self._white
        if bank is None:
            if shot:
                return _shot_noise(self.model, self.shape, rng)
            return rng.standard_normal(self.shape, np.float32)
        top, left = (int(v) for v in rng.integers(0, self._MARGIN, 2))
        return bank[top : top + self.shape[0], left : left + self.shape[1]]

    def _digitise(self, electrons: Float) -> Counts:
        electrons *= np.float32(1.0 / self.model.electrons_per_adu)
        electrons += np.float32(self.model.offset_adu + 0.5)
        electrons += _column_pattern(self.shape[1], self._seed)
        np.clip(electrons, 0.0, self.model.full_adu, out=electrons)
        return electrons.astype(np.uint16)


@functools.lru_cache(maxsize=8)
def _column_pattern(columns: int, seed: int) -> Float:
    pattern = np.random.default_rng([seed, 0xC0]).integers(-3, 4, columns).astype(np.float32)
    pattern.setflags(write=False)
    return pattern


def _shot_noise(model: Detector, shape: tuple[int, int], rng: np.random.Generator) -> Float:
    """White noise of the electrons plus the blurred noise of the photons, both in units of sqrt(electrons)."""
    noise = rng.standard_normal(shape, np.float32)
    if model.psf_px > 0.0:
        photons = _blur(rng.standard_normal(shape, np.float32), model.psf_px)
        photons *= np.float32(math.sqrt(model.electrons_per_photon))
        noise += photons
    return noise


def _blur(field: Float, sigma: float) -> Float:
    """The field convolved with a Gaussian of five taps a side, the borders wrapped round."""
    taps = np.exp(-0.5 * (np.arange(-2, 3) / sigma) ** 2)
    taps = (taps / taps.sum()).astype(np.float32)
    for axis in (0, 1):
        wide = np.concatenate([np.take(field, [-2, -1], axis), field, np.take(field, [0, 1], axis)], axis=axis)
        length = field.shape[axis]
        parts = [wide[i : i + length] if axis == 0 else wide[:, i : i + length] for i in range(5)]
        field = parts[0] * taps[0]
        for part, tap in zip(parts[1:], taps[1:], strict=True):
            field += part * tap
    return field
