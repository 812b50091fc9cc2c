"""One simulated acquisition: its numbers, and its frames made on demand."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt

from tomovault.core.errors import UserError
from tomovault.testing.clock import EPOCH
from tomovault.testing.detector import Camera, named_detector
from tomovault.testing.phantom import sample_phantom


@dataclass(frozen=True)
class Acquisition:
    """What was asked for. `shape` is (rows, columns), `flats` the frames of each flat series, `darks` those of
    the dark series. Nothing on disk depends on anything but these values.
    """

    name: str
    seed: int = 0
    shape: tuple[int, int] = (64, 64)
    projections: int = 32
    flats: int = 3
    darks: int = 4
    detector: str = "frelon"
    scan_range_deg: float = 180.0
    exposure_s: float = 0.05
    frame_s: float = 0.1
    energy_kev: float = 26.0
    distance_mm: float = 30.0
    pixel_um: float = 0.7
    beamline: str = "ID19"
    sample: str = "capillary"
    started_at: datetime = EPOCH
    fast: bool = False

    def __post_init__(self) -> None:
        if self.projections < 1 or self.flats < 0 or self.darks < 0 or min(self.shape) < 1:
            raise UserError(
                f"an acquisition of {self.projections} projections, {self.flats} flats and {self.darks} darks of "
                f"{self.shape[0]} x {self.shape[1]} cannot be made",
                hint="at least one projection and one pixel, and no negative numbers",
            )
        if self.started_at.tzinfo is None:
            raise UserError("the start of an acquisition needs a time zone")

    @property
    def step_deg(self) -> float:
        """Rotation between projections."""
        return self.scan_range_deg / self.projections

    def angle_deg(self, index: int) -> float:
        """Angle of projection `index`; from `projections` on, return images go back: end, middle, start."""
        if index < self.projections:
            return index * self.step_deg
        return max(0.0, self.scan_range_deg * (1.0 - 0.5 * (index - self.projections)))

    def brightness(self, index: int) -> float:
        """The beam falls by one per cent over a scan, as the stored current does."""
        return 1.0 - 0.01 * index / self.projections

    def current_ma(self, index: int) -> float:
        """Stored current at a projection."""
        return round(200.0 * self.brightness(index), 3)

    def at(self, seconds: float) -> datetime:
        """The date at an acquisition time."""
        return self.started_at + timedelta(seconds=seconds)


@dataclass
class Frames:
    """The frames of an acquisition. Each depends on its kind and index alone, so the order of asking is free."""

    acquisition: Acquisition
    _camera: Camera = field(init=False)

    def __post_init__(self) -> None:
        a = self.acquisition
        self._camera = Camera(named_detector(a.detector), a.shape, seed=a.seed, fast=a.fast)
        self._phantom = sample_phantom(a.seed)

    def projection(self, index: int) -> npt.NDArray[np.uint16]:
        """Projection or return image `index`."""
        integral = self._phantom.projection(self.acquisition.angle_deg(index), self.acquisition.shape)
        np.negative(integral, out=integral)
        np.exp(integral, out=integral)
        return self._camera.expose(integral, _key(0, index), brightness=self.acquisition.brightness(index))

    def flat(self, index: int, number: int) -> npt.NDArray[np.uint16]:
        """Frame `number` of the flats taken before projection `index`."""
        return self._camera.expose(None, _key(1, index * 1000 + number), brightness=self.acquisition.brightness(index))

    def dark(self, number: int) -> npt.NDArray[np.uint16]:
        """Dark frame `number`."""
        return self._camera.dark(_key(2, number))

    def dark_sum(self) -> npt.NDArray[np.uint16] | npt.NDArray[np.uint32]:
        """All darks added up, in 16 bits where they fit."""
        total = np.zeros(self.acquisition.shape, np.uint32)
        for number in range(self.acquisition.darks):
            total += self.dark(number)
        return total.astype(np.uint16) if int(total.max(initial=0)) <= 0xFFFF else total


def flat_indices(projections: int, interval: int) -> list[int]:
    """Projection indices at which flats are taken, the last being the one after the last projection.

    Where the interval does not divide the number of projections, SPEC names the last flats after the nearest
    multiple of the interval (interval * round(projections / interval)), whatever the true index is.
    """
    if interval <= 0 or interval > projections:
        return [0, projections]
    indices = list(range(0, projections, interval))
    last = projections if projections % interval == 0 else interval * math.floor(projections / interval + 0.5)
    return [*indices, last] if last not in indices else indices


def _key(kind: int, index: int) -> int:
    return kind * 1_000_000_000 + index
