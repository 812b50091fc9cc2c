"""A volume as whole numbers: counts, evenly spaced from its least value to its largest, and what gives these back.

How far the values reach is known only once every slice is made. Until then they wait in a file without a name, which is
gone with the process, whatever ends it; its room is reserved when the first slice comes, and memory is bounded by a few
slices.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from tomovault.core.errors import UserError
from tomovault.package.container import check_space, reserve, write_problems

Slice: TypeAlias = npt.NDArray[Any]

#: As what a volume may be stored: the values themselves, or counts.
FLOAT = "float32"
COUNTS = ("uint16", "uint8")

#: Lines of a slice that are computed at a time, in double precision.
_BAND = 64


class Casting:
    """So many slices on their way to counts of a `dtype`; `told` has the numbers that were used, at the end."""

    def __init__(self, dtype: str, folder: Path, floor_bytes: int, count: int) -> None:
        if dtype not in COUNTS:
            raise UserError(f"a volume cannot be stored as {dtype!r}", hint=f"{FLOAT}, {', '.join(COUNTS)}")
        self._dtype = np.dtype(dtype).newbyteorder("<")
        self._folder = str(folder)
        self._floor = floor_bytes
        self._count = count
        self._reserved = 0
        self._rows: list[int] = []
        self._shape: tuple[int, ...] = ()
        self._low, self._high = np.inf, -np.inf
        self._worst = 0.0

    def slices(self, made: Iterator[tuple[int, Slice]]) -> Iterator[tuple[int, Slice]]:
        """(row, counts) in the order in which the slices were `made`; all are, before the first comes.

        Raises UserError for values that are not finite, and slices of different shapes, and NoSpace, also where there
        is no room for the values and the counts together.
        """
        with tempfile.TemporaryFile(dir=self._folder) as file:
            for row, image in made:
                self._keep(file, row, np.ascontiguousarray(image, dtype="<f4"))
            with write_problems(self._folder):
                file.seek(0)
            for row in self._rows:
                raw = file.read(4 * int(np.prod(self._shape)))
                yield row, self._counts(np.frombuffer(raw, dtype="<f4").reshape(self._shape))

    @property
    def told(self) -> dict[str, Any]:
        """value = count * scale + offset, to within `largest_error`. No value lies outside of what the counts reach."""
        return {
            "dtype": self._dtype.name,
            "scale": self._scale,
            "offset": float(self._low),
            "low": float(self._low),
            "high": float(self._high),
            "largest_error": self._worst,
        }

    @property
    def _most(self) -> int:
        return int(np.iinfo(self._dtype).max)

    @property
    def _scale(self) -> float:
        """The step from one count to the next; of a volume of one value alone it could be any."""
        return float(self._high - self._low) / self._most or 1.0

    def _keep(self, file: IO[bytes], row: int, image: Slice) -> None:
        if not np.isfinite(image).all():
            raise UserError(
                f"the slice of row {row} has values that are not finite, for which there is no count",
                hint="store the volume as float32, or choose another `mask_value`",
            )
        if self._shape and image.shape != self._shape:
            raise UserError(f"the engine gave slices of different shapes: {self._shape} and {image.shape}")
        if not self._rows:
            self._reserve(file, image)
        elif not self._reserved:
            check_space(self._folder, self._floor, image.nbytes)
        self._rows.append(row)
        self._shape = image.shape
        self._low, self._high = min(self._low, float(image.min())), max(self._high, float(image.max()))
        with write_problems(self._folder):
            file.write(image.data.cast("B"))

    def _reserve(self, file: IO[bytes], image: Slice) -> None:
        """There is room for the values of all slices, set apart where the file system can, and beside them for what
        their counts come to at most.
        """
        values = self._count * image.nbytes
        check_space(self._folder, self._floor, values + self._count * image.size * self._dtype.itemsize)
        with write_problems(self._folder):
            self._reserved = reserve(file.fileno(), values)

    def _counts(self, image: Slice) -> Slice:
        counts = np.empty(image.shape, dtype=self._dtype)
        for at in range(0, len(image), _BAND):
            values = image[at : at + _BAND].astype(np.float64)
            steps = np.rint((values - self._low) / self._scale)
            self._worst = max(self._worst, float(np.abs(steps * self._scale + self._low - values).max()))
            counts[at : at + _BAND] = steps
        return counts
