"""The embedded CPU engine: filtered back-projection in the Fourier domain, one thread, bit-identical every time."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from tomovault.core.errors import LostFrames, UserError
from tomovault.core.ports import Estimate, FrameSource, Progress, Repeated
from tomovault.engines.fourier.correction import Correction
from tomovault.engines.fourier.geometry import outside_circle
from tomovault.engines.fourier.phase import phase_bytes
from tomovault.engines.fourier.polar import PolarTransform, require_finufft, transform_bytes
from tomovault.engines.fourier.repeating import repeat
from tomovault.engines.fourier.resolving import flat_plan, projections_of, resolve
from tomovault.engines.fourier.rings import remove_rings, rings_bytes

#: Raised whenever the same parameters would give other numbers.
ALGORITHM = 1

#: Interpreter and libraries, before any data.
_AT_REST_BYTES = 190_000_000

#: Processor time for a point of the polar grid in one transform, and to correct one pixel of a projection.
_POINT_S = 80e-9
_PIXEL_S = 15e-9

#: To sort a value of a sinogram and compare it with its neighbours, and for phase a pixel of a frame.
_RANK_S = 280e-9
_PHASE_S = 350e-9


class FourierEngine:
    """Parallel-beam reconstruction by a 2-D non-uniform FFT (finufft)."""

    name: ClassVar[str] = "fourier"

    def version(self) -> str:
        """Version of the algorithm, and of the libraries that its last bits depend on."""
        try:
            finufft = installed_version("finufft")
        except PackageNotFoundError:
            finufft = "absent"
        return f"{ALGORITHM} (finufft {finufft}, numpy {np.__version__}, {platform.machine()})"

    def resolve(self, source: FrameSource, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        """Every parameter as the number that will be used; see `resolving.DEFAULTS` for what may be asked for.

        Raises UserError where finufft is missing, a parameter makes no sense, or there are too few projections.
        """
        require_finufft()
        return {**resolve(source, parameters), "algorithm": ALGORITHM}

    def repeat(self, source: FrameSource, resolved: Mapping[str, Any]) -> Repeated:
        """As `resolved` where it was resolved for this source; see `repeating` for another."""
        require_finufft()
        return repeat(source, resolved, ALGORITHM)

    def estimate(self, source: FrameSource, resolved: Mapping[str, Any]) -> Estimate:
        """Peak memory of the process and processor seconds for the rows in `resolved`."""
        pairs = {row // 2 for row in resolved["rows"]}
        angles, columns = len(resolved["angles_deg"]), int(resolved["frame"][1])
        points = angles * int(resolved["padding"])
        chunk = _chunk_pairs(resolved) * 2
        rows = min(chunk, 2 * len(pairs))
        memory = _AT_REST_BYTES + _transform_bytes(resolved) + rows * _row_bytes(resolved) + _extra_bytes(resolved)
        grid = 1.0 + int(resolved["size"]) / max(angles, 1) * 0.3
        cpu_s = (len(pairs) + 2) * points * _POINT_S * grid + 2 * len(pairs) * angles * columns * _PIXEL_S
        if resolved.get("rings"):
            cpu_s += 2 * len(pairs) * angles * columns * _RANK_S
        if resolved.get("phase"):
            runs = len(_chunks(sorted(pairs), _chunk_pairs(resolved)))
            cpu_s += runs * angles * int(resolved["frame"][0]) * columns * _PHASE_S
        return Estimate(memory_bytes=int(memory), cpu_s=float(cpu_s))

    def slices(
        self, source: FrameSource, resolved: Mapping[str, Any], rows: Sequence[int], progress: Progress
    ) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
        """(row, slice) in ascending rows; a slice is (size, size) float32 in 1/pixel, `mask_value` outside the circle.

        `size` is the number of columns, and larger in a half acquisition. A row is always made together with its
        partner (2k with 2k + 1), so that a slice comes out the same whatever else is asked for. Projections are
        read once for each run of rows that fits into `memory_bytes`.
        """
        require_finufft()
        if tuple(resolved["frame"]) != tuple(source.frame_shape):
            raise UserError(
                f"the parameters are for frames of {resolved['frame']}, the scan has {list(source.frame_shape)}"
            )
        wanted = set(rows)
        if wanted and not (min(wanted) >= 0 and max(wanted) < source.frame_shape[0]):
            raise UserError(f"the rows to reconstruct must lie within 0 and {source.frame_shape[0] - 1}")
        return _make_slices(source, resolved, wanted, progress)


def _make_slices(
    source: FrameSource, resolved: Mapping[str, Any], wanted: set[int], progress: Progress
) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
    transform = PolarTransform(resolved)
    outside = outside_circle(int(resolved["size"]), float(resolved["mask_radius"]))
    count = source.frame_shape[0]
    chunks = _chunks(sorted({row // 2 for row in wanted}), _chunk_pairs(resolved))
    steps = len(chunks) * len(resolved["angles_deg"]) + len(wanted)
    done = 0
    for first, last in chunks:
        band = slice(2 * first, min(2 * last + 2, count))
        sinograms = np.empty(
            (band.stop - band.start, len(resolved["angles_deg"]), int(resolved["frame"][1])), dtype=np.float32
        )
        for _ in _read_sinograms(source, resolved, band, sinograms):
            done += 1
            progress(done, steps)
        for sinogram in sinograms if resolved.get("rings") else ():
            remove_rings(sinogram, int(resolved["rings_width"]))
        for at in range(0, len(sinograms), 2):
            odd = sinograms[at + 1] if at + 1 < len(sinograms) else None
            pair = transform.slices(sinograms[at], odd)
            for row, image in zip((band.start + at, band.start + at + 1), pair, strict=True):
                if row in wanted:
                    image[outside] = float(resolved["mask_value"])
                    done += 1
                    progress(done, steps)
                    yield row, image


def _read_sinograms(
    source: FrameSource, resolved: Mapping[str, Any], band: slice, sinograms: npt.NDArray[np.float32]
) -> Iterator[int]:
    """Fill (rows, angles, columns) with line integrals, one projection a step. Raises LostFrames at the end."""
    correction = Correction(source, flat_plan(resolved), band, resolved)
    for position, index in enumerate(projections_of(resolved)):
        sinograms[:, position, :] = correction.integrals(index)
        yield position
    if correction.lost:
        listed = ", ".join(map(str, correction.lost[:20])) + (", ..." if len(correction.lost) > 20 else "")
        raise LostFrames(
            f"{len(correction.lost)} of {len(resolved['angles_deg'])} projections hold no light or no numbers:"
            f" frames {listed}",
            correction.lost,
            hint="leave them out with `exclude` in a preset, if they are lost",
        )


def _extra_bytes(resolved: Mapping[str, Any]) -> int:
    """Memory of what is done before the transform, where it is wanted."""
    rows, columns = (int(size) for size in resolved["frame"])
    extra = 0
    if resolved.get("rings"):
        extra += rings_bytes(len(resolved["angles_deg"]), columns, int(resolved["rings_width"]))
    if resolved.get("phase"):
        extra += phase_bytes((rows, columns), len(resolved["flats"]) + len(resolved["darks"]))
    return extra


def _transform_bytes(resolved: Mapping[str, Any]) -> int:
    return transform_bytes(
        int(resolved["angle_block"]), int(resolved["padding"]), int(resolved["size"]), float(resolved["upsampling"])
    )


def _row_bytes(resolved: Mapping[str, Any]) -> int:
    """Memory of one row in a chunk: its sinogram, its flats and darks, and a projection's row being corrected."""
    groups = len(resolved["flats"]) + len(resolved["darks"])
    return 4 * int(resolved["frame"][1]) * (len(resolved["angles_deg"]) + 2 * groups + 8)


def _chunk_pairs(resolved: Mapping[str, Any]) -> int:
    """Pairs of rows read at once, so that transform and sinograms keep to the budget; one at least."""
    left = int(resolved["memory_bytes"]) - _transform_bytes(resolved)
    return max(1, left // (2 * _row_bytes(resolved)))


def _chunks(pairs: Sequence[int], most: int) -> list[tuple[int, int]]:
    """Runs (first, last) of neighbouring pairs, none longer than `most`."""
    chunks: list[tuple[int, int]] = []
    for pair in pairs:
        if chunks and chunks[-1][1] == pair - 1 and pair - chunks[-1][0] < most:
            chunks[-1] = (chunks[-1][0], pair)
        else:
            chunks.append((pair, pair))
    return chunks
