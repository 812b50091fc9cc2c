"""From a frame to the line integrals of some of its rows: flats and darks, zingers, phase, logarithm, in that order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tomovault.core.flatfield import FlatField, FlatPlan, line_integrals
from tomovault.core.ports import FrameSource
from tomovault.engines.fourier.phase import Paganin
from tomovault.engines.fourier.zingers import MARGIN, remove_zingers

Image = npt.NDArray[np.float32]

#: A frame whose every pixel, but one in a hundred, shows less of the open beam than this was taken without light.
_NO_LIGHT = 0.01


class Correction:
    """Corrects projections in a band of rows. What comes out for a row does not depend on the band: zingers are looked
    for with a row more on both sides, and phase is retrieved from whole frames.

    `steps` has logarithm, clip, zingers and phase as resolved. `lost`: indices of projections that held nothing.
    """

    def __init__(self, source: FrameSource, plan: FlatPlan, band: slice, steps: Mapping[str, Any]) -> None:
        rows = source.frame_shape[0]
        self._zingers, phase = steps.get("zingers"), steps.get("phase")
        self._paganin = None if phase is None else Paganin(source.frame_shape, phase)
        margin = rows if phase is not None else MARGIN if self._zingers is not None else 0
        read = slice(max(0, band.start - margin), min(rows, band.stop + margin))
        self._inner = slice(band.start - read.start, band.stop - read.start)
        self._field = FlatField(source, plan, read)
        self._low, self._high = steps["clip"]
        self._logarithm = steps["logarithm"]
        self.lost: list[int] = []

    def integrals(self, index: int) -> Image:
        """The band of a projection: -log of its transmission, or without `logarithm` that itself."""
        image = self._field.transmission(index)
        if index in self._field.empty or _is_dark(image):
            self.lost.append(index)
        if self._zingers is not None:
            remove_zingers(image, float(self._zingers))
        if self._paganin is not None:
            image = self._paganin.retrieve(image)
        image = image[self._inner]
        return line_integrals(image, self._low, self._high) if self._logarithm else image


def _is_dark(image: Image) -> bool:
    return float(image.mean()) < _NO_LIGHT and float(np.percentile(image, 99)) < _NO_LIGHT
