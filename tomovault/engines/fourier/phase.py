"""Phase of one distance, for a sample of one material: Paganin et al., Journal of Microscopy 206, 33 (2002)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tomovault.core.errors import UserError
from tomovault.engines.fourier.filters import good_length

Image = npt.NDArray[np.float32]

#: Planck's constant times the speed of light, in metres times keV (CODATA 2018, exact by definition).
HC_M_KEV = 1.23984198e-9


class Paganin:
    """The filter 1 / (1 + pi lambda z (delta/beta) |f|^2) over whole frames of one shape, f in cycles per metre."""

    def __init__(self, shape: tuple[int, int], phase: Mapping[str, Any]) -> None:
        self._shape = shape
        self._padded = padded_shape(shape)
        wavelength_m = HC_M_KEV / float(phase["energy_kev"])
        pixel_m = float(phase["pixel_m"])
        across = np.fft.rfftfreq(self._padded[1], pixel_m)
        down = np.fft.fftfreq(self._padded[0], pixel_m)
        factor = np.pi * wavelength_m * float(phase["distance_m"]) * float(phase["delta_beta"])
        self._response = (1.0 / (1.0 + factor * (down[:, None] ** 2 + across[None, :] ** 2))).astype(np.float32)

    def retrieve(self, transmission: Image) -> Image:
        """The transmission that the sample would have shown in contact, whose logarithm is that of its thickness.

        The frame goes on beyond its edges as its outermost pixels, to twice its size.
        """
        (rows, columns), (high, wide) = self._shape, self._padded
        top, left = (high - rows) // 2, (wide - columns) // 2
        margins = ((top, high - rows - top), (left, wide - columns - left))
        spectrum = np.fft.rfft2(np.pad(transmission, margins, mode="edge"))
        spectrum *= self._response
        filtered = np.fft.irfft2(spectrum, s=self._padded)
        return np.ascontiguousarray(filtered[top : top + rows, left : left + columns], dtype=np.float32)


def padded_shape(shape: tuple[int, int]) -> tuple[int, int]:
    """Twice a frame, in lengths that a transform likes."""
    return good_length(2 * shape[0]), good_length(2 * shape[1])


def phase_bytes(shape: tuple[int, int], groups: int) -> int:
    """Memory for whole frames: their flats and darks, the frame on its way, its spectrum in double precision."""
    high, wide = padded_shape(shape)
    return shape[0] * shape[1] * 4 * (2 * groups + 8) + high * wide * (4 + 2 + 8 + 3 * 8)


def resolve_phase(wishes: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, Any] | None:
    """Every number that the filter needs, from the wishes or else from the scan; None where no phase is wanted.

    Raises UserError that names what neither has, and for a distance at which there is no phase contrast.
    """
    if wishes["delta_beta"] is None:
        return None
    found = {
        "energy_kev": _first(wishes["energy_kev"], facts.get("energy_kev")),
        "distance_m": _first(wishes["distance_m"], facts.get("distance_m")),
        "pixel_m": _first(wishes["pixel_m"], facts.get("x_pixel_m")),
    }
    lacking = [name for name, value in found.items() if value is None or not value > 0]
    if lacking:
        raise UserError(
            f"phase retrieval needs {', '.join(lacking)}, which the scan does not tell",
            hint="name them in the preset, beside `delta_beta`",
        )
    return {"method": "paganin", "delta_beta": float(wishes["delta_beta"]), **found}


def _first(wished: Any, found: Any) -> float | None:
    value = found if wished is None else wished
    return None if value is None else float(value)
