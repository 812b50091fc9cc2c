"""A reconstructed volume in one HDF5 file, with everything that made it, readable without tomovault.

Slices are the chunks: each is compressed by a thread, hashed, and written as it comes, so memory is bounded by
a few slices whatever the volume.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeAlias

import h5py
import numpy as np
import numpy.typing as npt

from tomovault.core.errors import IntegrityError, UserError
from tomovault.core.manifest import content_digest
from tomovault.core.ports import Checkpoint, Progress, Throttle
from tomovault.core.replica import StoredFile
from tomovault.package.casting import FLOAT, Casting
from tomovault.package.codec import LARGEST_FRAME, decode_frame, encode_frame, frame_filter
from tomovault.package.coding import BLOSC2
from tomovault.package.container import check_space, write_problems
from tomovault.package.landing import (
    SCAN_ATTRIBUTE,
    array_digest,
    discard,
    drop_cache,
    may_replace,
    publish,
    reread_file,
    temporary_path,
)
from tomovault.package.names import Whose, readable
from tomovault.package.outfile import OutFile, open_out

Slice: TypeAlias = npt.NDArray[Any]

DATA = "/entry/reconstruction/results/data"
CONFIGURATION = "/entry/reconstruction/configuration"


@dataclass(frozen=True)
class VolumeWritten:
    """A volume under its final name: the digest of its content, its files as re-read, its shape (z, y, x), and the
    parameters that are in it, with those of its casting.
    """

    digest: str
    files: tuple[StoredFile, ...]
    shape: tuple[int, int, int]
    resolved: Mapping[str, Any]


def write_volume(
    folder: str | Path,
    stem: str,
    rows: Sequence[int],
    slices: Iterator[tuple[int, Slice]],
    *,
    resolved: Mapping[str, Any],
    engine: str,
    version: str,
    nx: Mapping[str, Any],
    whose: Whose,
    job: str,
    now: datetime,
    threads: int,
    throttle: Throttle,
    checkpoint: Checkpoint,
    progress: Progress,
    floor_bytes: int = 0,
    dtype: str = FLOAT,
) -> VolumeWritten:
    """`<stem>.volume.h5` stands in `folder`, synced; its stored bytes were re-read and hashed. Its values are stored as
    they are, or of another `dtype` as counts (see `casting`).

    `slices` gives the rows in ascending order, all of one shape; `progress` counts slices written. Raises NoSpace
    where the disk is full or would fall below `floor_bytes`, UserError where `slices` does not give `rows`,
    Refused where a file is there that is not known to be this scan's, and whatever `slices` raises; nothing is left
    behind then.
    """
    wanted = sorted(rows)
    if not wanted:
        raise UserError("a volume needs at least one row")
    final = Path(folder) / f"{stem}.volume.h5"
    temporary = temporary_path(final, job)
    with write_problems(str(final)):
        final.parent.mkdir(parents=True, exist_ok=True)
    overwrite = may_replace(final, whose, "/entry/reconstruction", source_digest=str(nx.get("digest")))
    check_space(str(temporary), floor_bytes, 0)
    casting = Casting(dtype, final.parent, floor_bytes, len(wanted)) if dtype != FLOAT else None
    try:
        with open_out(temporary) as out:
            writer = _Writer(out, temporary, wanted, throttle, progress, floor_bytes, dtype)
            writer.take(slices if casting is None else casting.slices(slices), max(1, threads))
            digest = content_digest(writer.parts)
            if casting is not None:
                resolved = {**resolved, "cast": casting.told}
                out.file[DATA].attrs.update({k: casting.told[k] for k in ("scale", "offset", "largest_error")})
            _describe(out.file, wanted, writer.shape, resolved, engine, version, nx, now)
            out.file.attrs[SCAN_ATTRIBUTE] = whose.scan
            out.file["/entry/reconstruction"].attrs["digest"] = digest
            _write_digests(out.file, [writer.parts[_name(row)] for row in wanted])
        checkpoint("volume.written")
        publish(temporary, final, overwrite=overwrite)
    except BaseException:
        discard(temporary)
        raise
    checkpoint("volume.named")
    return VolumeWritten(digest, (reread_file(final),), writer.shape, resolved)


class _Writer:
    """Slices on their way into a file. `parts` holds the digest of each slice written."""

    def __init__(
        self,
        out: OutFile,
        path: Path,
        rows: list[int],
        throttle: Throttle,
        progress: Progress,
        floor_bytes: int,
        dtype: str,
    ) -> None:
        self.parts: dict[str, str] = {}
        self.shape = (len(rows), 0, 0)
        self._out = out
        self._path = str(path)
        self._rows = rows
        self._throttle = throttle
        self._progress = progress
        self._floor = floor_bytes
        self._dtype = np.dtype(dtype).newbyteorder("<")

    def take(self, slices: Iterator[tuple[int, Slice]], threads: int) -> None:
        waiting: deque[tuple[int, Future[tuple[bytes | memoryview, str]]]] = deque()
        taken = 0
        with ThreadPoolExecutor(threads) as pool:
            for row, image in slices:
                if taken == len(self._rows) or row != self._rows[taken]:
                    raise UserError(f"the engine gave row {row}, which was not its turn")
                self._check_shape(image)
                waiting.append((taken, pool.submit(_encode, np.ascontiguousarray(image, dtype=self._dtype))))
                taken += 1
                if len(waiting) > threads:
                    self._write(*waiting.popleft())
            while waiting:
                self._write(*waiting.popleft())
        if taken < len(self._rows):
            raise UserError(f"the engine gave {taken} of {len(self._rows)} rows")

    def _check_shape(self, image: Slice) -> None:
        if not self.shape[1]:
            if image.nbytes > LARGEST_FRAME:
                raise UserError(f"a slice of {image.nbytes} bytes is larger than one chunk can be")
            self.shape = (len(self._rows), int(image.shape[0]), int(image.shape[1]))
            self._out.file.create_dataset(
                DATA,
                shape=self.shape,
                chunks=(1, *self.shape[1:]),
                dtype=self._dtype,
                **dict(frame_filter((self.shape[1], self.shape[2]))),
            )
        elif image.shape != self.shape[1:]:
            raise UserError(f"the engine gave slices of different shapes: {self.shape[1:]} and {image.shape}")

    def _write(self, place: int, future: Future[tuple[bytes | memoryview, str]]) -> None:
        stored, digest = future.result()
        self._throttle.spend(len(stored))
        check_space(self._path, self._floor, len(stored))
        self._out.file[DATA].id.write_direct_chunk((place, 0, 0), stored)
        self._out.check()
        self.parts[_name(self._rows[place])] = digest
        self._progress(place + 1, len(self._rows))


def _encode(image: Slice) -> tuple[bytes | memoryview, str]:
    return encode_frame(image.data.cast("B"), image.itemsize), array_digest(image)


def _name(row: int) -> str:
    return f"slice {row}"


def _describe(
    file: Any,
    rows: list[int],
    shape: tuple[int, int, int],
    resolved: Mapping[str, Any],
    engine: str,
    version: str,
    nx: Mapping[str, Any],
    now: datetime,
) -> None:
    file.attrs.update({"NX_class": "NXroot", "default": "entry", "creator": "tomovault"})
    entry = file["entry"]
    entry.attrs.update({"NX_class": "NXentry", "default": "reconstruction"})
    for name in ("title", "start_time", "end_time"):
        if nx.get(name) is not None:
            entry[name] = readable(nx[name])
    process = entry["reconstruction"]
    process.attrs.update({"NX_class": "NXprocess", "default": "results"})
    process["program"] = f"tomovault {engine}"
    process["version"] = version
    process["date"] = now.isoformat()
    if nx.get("digest") is not None:
        process["source_digest"] = str(nx["digest"])
    results = process["results"]
    results.attrs.update({"NX_class": "NXdata", "signal": "data", "axes": ["z", "y", "x"]})
    results["data"].attrs.update({"interpretation": "image", "units": str(resolved.get("scale", "1/pixel"))})
    # A row of the detector is a slice; y and x both come from its columns.
    known = nx.get("x_pixel_m") is not None and nx.get("y_pixel_m") is not None
    across, along = (float(nx["x_pixel_m"]), float(nx["y_pixel_m"])) if known else (1.0, 1.0)
    unit = "m" if known else "pixel"
    positions = {
        "z": np.asarray(rows, dtype=np.float64) * along,
        "y": ((shape[1] - 1) / 2.0 - np.arange(shape[1])) * across,
        "x": (np.arange(shape[2]) - (shape[2] - 1) / 2.0) * across,
    }
    for name, values in positions.items():
        results[name] = values
        results[name].attrs["units"] = unit
    results["voxel_size"] = np.array([along, across, across])
    results["voxel_size"].attrs.update({"units": unit, "axes": ["z", "y", "x"]})
    results["rows"] = np.asarray(rows, dtype=np.int64)
    configuration = file.create_group(CONFIGURATION)
    configuration.attrs["NX_class"] = "NXcollection"
    configuration["json"] = json.dumps(dict(resolved), sort_keys=True)
    _write_tree(configuration.create_group("values"), resolved)


def _write_tree(group: Any, values: Mapping[str, Any]) -> None:
    """The configuration once more as groups and datasets, for readers that browse; nothing stands for None."""
    group.attrs["NX_class"] = "NXcollection"
    for name, value in values.items():
        key = str(name).replace("/", "_")
        if isinstance(value, Mapping):
            _write_tree(group.create_group(key), value)
        elif isinstance(value, (list, tuple)) and not _is_array(value):
            _write_tree(group.create_group(key), {str(place): item for place, item in enumerate(value)})
        elif value is not None:
            group[key] = np.asarray(value) if isinstance(value, (list, tuple)) else value


def _is_array(values: Sequence[Any]) -> bool:
    """True for numbers in rows of equal length."""
    try:
        return np.asarray(values).dtype.kind in "biuf"
    except ValueError:
        return False


def _write_digests(file: Any, digests: list[str]) -> None:
    file["/entry/reconstruction/results"].create_dataset("slice_sha256", data=np.array(digests, dtype="S64"))


def verify_volume(path: str | Path, *, throttle: Throttle | None = None) -> str:
    """The digest of a volume's content, every slice re-read from the disk and decoded.

    Raises IntegrityError naming the row where a slice is not what was written, or if the file cannot be read.
    """
    place = Path(path)
    try:
        drop_cache(place)
        with h5py.File(place, "r", locking=False) as file:
            return _read_digest(file, throttle)
    except (OSError, KeyError, RuntimeError, ValueError) as problem:
        raise IntegrityError(f"{place} cannot be read as a volume: {problem}") from problem


def _read_digest(file: Any, throttle: Throttle | None) -> str:
    data = file[DATA]
    rows = file["/entry/reconstruction/results/rows"][()].tolist()
    recorded = [value.decode("ascii") for value in file["/entry/reconstruction/results/slice_sha256"][()]]
    if not len(rows) == len(recorded) == data.shape[0]:
        raise IntegrityError(f"{file.filename}: its lists of rows and digests do not fit its slices")
    image = np.empty(data.shape[1:], dtype=data.dtype)
    parts: dict[str, str] = {}
    for at, row in enumerate(rows):
        try:
            mask, stored = data.id.read_direct_chunk((at, 0, 0))
            if throttle is not None:
                throttle.spend(len(stored))
            if mask:
                raise IntegrityError("a slice is not compressed as written")
            decode_frame(stored, image.data.cast("B"), codec=BLOSC2)
        except (OSError, RuntimeError, ValueError, IntegrityError) as problem:
            raise IntegrityError(f"{file.filename}: the slice of row {row} does not decode: {problem}") from problem
        parts[_name(row)] = array_digest(image)
        if parts[_name(row)] != recorded[at]:
            raise IntegrityError(f"{file.filename}: the slice of row {row} is not what was written")
    digest = content_digest(parts)
    if file["/entry/reconstruction"].attrs["digest"] != digest:
        raise IntegrityError(f"{file.filename}: its content does not have the digest that it names")
    return digest
