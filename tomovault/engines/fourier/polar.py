"""Slices from sinograms by the Fourier slice theorem: one 2-D non-uniform transform for two slices.

The spectrum of a projection is a line through the middle of the slice's 2-D spectrum (Natterer, The Mathematics
of Computerized Tomography, theorem 1.1). Filtered and weighted, all lines together are summed into the slice
by a type-1 non-uniform FFT. Two real slices go as real and imaginary part of one complex transform.

Results are bit-identical from run to run on one kind of machine: one thread, fixed pairs, one plan. More threads
would not be (the order of sums in the transform changes).
"""

from __future__ import annotations

import importlib.util
import math
import platform
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from tomovault.core.errors import UserError
from tomovault.engines.fourier.filters import filter_response
from tomovault.engines.fourier.geometry import angle_weights, feather

Sinogram: TypeAlias = npt.NDArray[np.float32]

#: Bytes for each point of the polar grid: coordinates 8, weights 8, spectrum 8, its transform 8, sort index 8.
POINT_BYTES = 40

#: Angles whose weights are computed at once in double precision.
_SLAB = 64


def require_finufft() -> None:
    """Returns if the transform's library is installed. Raises UserError naming the ways out if it is not."""
    if importlib.util.find_spec("finufft") is None:
        raise UserError(
            f"the fourier engine needs finufft, which is not installed here ({platform.system()} {platform.machine()})",
            hint="there is no wheel of it for Linux on aarch64: build it (pip install --no-binary finufft finufft;"
            " needs cmake and a C++17 compiler), or run reconstructions on an x86_64 host,"
            " or name another engine under `engine:` in tomovault.yaml",
        )


def transform_bytes(block: int, padded: int, size: int, upsampling: float) -> int:
    """Memory of a transform: its points, its fine grid and its output, in bytes."""
    return POINT_BYTES * block * padded + 8 * math.ceil(upsampling * size) ** 2 + 24 * size * size


class PolarTransform:
    """From pairs of sinograms to pairs of slices. `resolved` is what the engine's `resolve` returned.

    A slice's pixel (i, j) lies at x = j - (size - 1)/2 and y = (size - 1)/2 - i from the rotation axis, and is seen at
    angle t by detector column centre + x cos t + y sin t.
    """

    def __init__(self, resolved: Mapping[str, Any]) -> None:
        require_finufft()
        import finufft

        self._size = int(resolved["size"])
        self._columns = int(resolved["frame"][1])
        self._padded = int(resolved["padding"])
        self._taper = int(resolved["taper"])
        self._centre = float(resolved["centre"])
        self._angles = np.deg2rad(np.asarray(resolved["angles_deg"], dtype=np.float64))
        self._weights, _ = angle_weights(resolved["angles_deg"], float(resolved["weights"]["period_deg"]))
        self._response = filter_response(str(resolved["filter"]), self._padded) / self._padded
        self._feather = feather(self._columns, self._centre) if resolved["half_acquisition"] else None
        block = int(resolved["angle_block"])
        self._blocks = [slice(at, min(at + block, len(self._angles))) for at in range(0, len(self._angles), block)]
        self._plan = finufft.Plan(
            1,
            (self._size, self._size),
            n_trans=1,
            eps=float(resolved["eps"]),
            isign=1,
            dtype="complex64",
            nthreads=1,
            upsampfac=float(resolved["upsampling"]),
            fftw=64,
        )
        self._at: slice | None = None
        self._points: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]] | None = None
        self._phases = np.zeros((0, 0), dtype=np.complex64)

    def slices(self, even: Sinogram, odd: Sinogram | None) -> tuple[Sinogram, Sinogram]:
        """Both slices, (size, size) in 1/pixel, of two sinograms (angles, columns) of line integrals.

        Raises ValueError where a sinogram is not finite: one such value would spoil both slices.
        """
        for sinogram in (even, odd):
            if sinogram is not None and not np.isfinite(sinogram).all():
                raise ValueError("a sinogram holds values that are not finite")
        image = np.zeros((self._size, self._size), dtype=np.complex64)
        for block in self._blocks:
            self._go_to(block)
            spectrum = self._spectrum(even[block], None if odd is None else odd[block])
            image += self._plan.execute(spectrum.reshape(-1))
        return np.ascontiguousarray(image.real), np.ascontiguousarray(image.imag)

    def _spectrum(self, even: Sinogram, odd: Sinogram | None) -> npt.NDArray[np.complex64]:
        packed = np.zeros((even.shape[0], self._padded), dtype=np.complex64)
        for part, sinogram in ((packed.real, even), (packed.imag, odd)):
            if sinogram is None:
                continue
            part[:, : self._columns] = sinogram if self._feather is None else sinogram * self._feather
            if self._taper:
                self._extend(part, sinogram)
        spectrum = np.fft.fft(packed, axis=1).astype(np.complex64, copy=False)
        spectrum *= self._phases
        return spectrum

    def _extend(self, part: npt.NDArray[np.float32], sinogram: Sinogram) -> None:
        """Continue the edges of a truncated object, falling to zero as a cosine over the taper.

        In a half acquisition the edge near the axis is already feathered to zero and stays so.
        """
        edge = min(4, self._columns)
        fall = (0.5 * (1.0 + np.cos(np.pi * np.arange(1, self._taper + 1) / (self._taper + 1)))).astype(np.float32)
        left_is_outer = self._feather is None or self._feather[0] > 0.5
        right_is_outer = self._feather is None or self._feather[-1] > 0.5
        if right_is_outer:
            last = sinogram[:, -edge:].mean(axis=1, dtype=np.float32)
            part[:, self._columns : self._columns + self._taper] = last[:, None] * fall
        if left_is_outer:
            first = sinogram[:, :edge].mean(axis=1, dtype=np.float32)
            part[:, self._padded - self._taper :] = first[:, None] * fall[::-1]

    def _go_to(self, block: slice) -> None:
        """Set points and phases of a block of angles; done once where all angles are in one block."""
        if self._at == block:
            return
        angles, weights = self._angles[block], self._weights[block]
        count = len(angles)
        shape = (count, self._padded)
        row, column = np.empty(shape, dtype=np.float32), np.empty(shape, dtype=np.float32)
        phases = np.empty(shape, dtype=np.complex64)
        turn = 2.0 * np.pi * np.fft.fftfreq(self._padded)
        # The transform counts pixels from -size/2: an even slice has its middle half a pixel before pixel 0.
        middle = 0.5 if self._size % 2 == 0 else 0.0
        for at in range(0, count, _SLAB):
            part = slice(at, min(at + _SLAB, count))
            down = -np.sin(angles[part])[:, None] * turn
            along = np.cos(angles[part])[:, None] * turn
            row[part], column[part] = down, along
            shift = np.exp(1j * (self._centre * turn + middle * (down + along)))
            phases[part] = weights[part][:, None] * self._response * shift
        self._points = (row.reshape(-1), column.reshape(-1))
        self._phases = phases
        self._plan.setpts(*self._points)
        self._at = block


def choose_block(angles: Sequence[float], padded: int, memory_bytes: int) -> int:
    """Angles in one transform so that its points take no more than half the memory allowed."""
    return max(1, min(len(angles), memory_bytes // 2 // (POINT_BYTES * padded)))
