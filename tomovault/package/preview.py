"""A preview of a scan: two projections a quarter turn apart and the middle slice, small enough to open anywhere."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeAlias

import h5py
import numpy as np
import numpy.typing as npt

from tomovault.core.errors import IntegrityError, UserError
from tomovault.core.flatfield import FlatField, FlatPlan, plan_flatfield
from tomovault.core.layout import FrameKind
from tomovault.core.manifest import content_digest
from tomovault.core.ports import Checkpoint, FrameSource, Throttle
from tomovault.core.replica import StoredFile
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
from tomovault.package.names import Whose
from tomovault.package.outfile import open_out
from tomovault.package.png import encode_png, enlarge, side_by_side, stretch

Image: TypeAlias = npt.NDArray[np.float32]

#: No image of a preview is longer than this on a side.
LONGEST_SIDE = 1024

#: Small images are shown enlarged to about this size.
SHOWN_SIDE = 256

_BAND_BYTES = 64 << 20
_NAMES = ("projection_0", "projection_90", "slice")


@dataclass(frozen=True)
class PreviewWritten:
    """A preview under its final names: the digest of its arrays, and the HDF5 file and the picture as re-read."""

    digest: str
    files: tuple[StoredFile, ...]


def make_preview(
    source: FrameSource,
    slice_image: Image | None,
    folder: str | Path,
    stem: str,
    *,
    parameters: Mapping[str, Any],
    whose: Whose,
    job: str,
    now: datetime,
    checkpoint: Checkpoint,
    floor_bytes: int = 0,
) -> PreviewWritten:
    """`<stem>.preview.h5` and `<stem>.preview.png` stand in `folder`, synced; their bytes were re-read and hashed.

    Projections are transmissions. Raises UserError where the scan has no projection, NoSpace where the disk is full
    or would fall below `floor_bytes`, Refused where a file is there that is not known to be this scan's; no
    temporary file is left behind then.
    """
    angles = _angles(source, parameters)
    if not angles:
        raise UserError(f"{stem}: a scan without projections has no preview")
    plan = plan_flatfield(source)
    images: dict[str, Image] = {}
    notes: dict[str, Any] = {"flat_correction": bool(plan.flats), "white_level": plan.white}
    for name, target in (("projection_0", 0.0), ("projection_90", 90.0)):
        index = min(angles, key=lambda i: (round(abs((angles[i] - target + 180.0) % 360.0 - 180.0), 6), i))
        factor = _binning(source.frame_shape)
        images[name] = read_binned(source, plan, index, factor)
        notes[name] = {"frame": index, "angle_deg": angles[index], "binning": factor}
    if slice_image is not None:
        factor = _binning(slice_image.shape)
        images["slice"] = bin_image(slice_image, factor)
        notes["slice"] = {"binning": factor}
    return _land(images, {**parameters, "preview": notes}, Path(folder), stem, whose, job, now, checkpoint, floor_bytes)


def verify_preview(path: str | Path, *, throttle: Throttle | None = None) -> str:
    """The digest of a preview's arrays, re-read from the disk. Raises IntegrityError if it is not as written."""
    place = Path(path)
    try:
        drop_cache(place)
        if throttle is not None:
            throttle.spend(place.stat().st_size)
        with h5py.File(place, "r", locking=False) as file:
            group = file["/entry/preview"]
            digest = content_digest({n: array_digest(group[f"{n}/data"][()]) for n in _NAMES if n in group})
            recorded = group.attrs["digest"]
    except (OSError, KeyError, RuntimeError, ValueError) as problem:
        raise IntegrityError(f"{place} cannot be read as a preview: {problem}") from problem
    if digest != recorded:
        raise IntegrityError(f"{place}: its images do not have the digest that it names")
    return digest


def bin_image(image: npt.NDArray[Any], factor: int) -> Image:
    """Means over squares of `factor` pixels; what is left at the right and bottom edges is averaged likewise."""
    if factor == 1:
        return np.ascontiguousarray(image, dtype=np.float32)
    starts = [np.arange(0, length, factor) for length in image.shape]
    sums = np.add.reduceat(image, starts[0], axis=0, dtype=np.float64)
    sums = np.add.reduceat(sums, starts[1], axis=1)
    counts = [np.diff(np.append(start, length)) for start, length in zip(starts, image.shape, strict=True)]
    means: Image = (sums / (counts[0][:, None] * counts[1][None, :])).astype(np.float32)
    return means


def read_binned(source: FrameSource, plan: FlatPlan, index: int, factor: int) -> Image:
    """The transmission of a projection in bins, read in bands of rows so that large frames need little memory."""
    rows, columns = source.frame_shape
    step = max(factor, _BAND_BYTES // (columns * 32) // factor * factor)
    bands = [slice(at, min(at + step, rows)) for at in range(0, rows, step)]
    return np.concatenate([bin_image(FlatField(source, plan, band).transmission(index), factor) for band in bands])


def _binning(shape: Sequence[int]) -> int:
    return max(1, math.ceil(max(shape) / LONGEST_SIDE))


def _angles(source: FrameSource, parameters: Mapping[str, Any]) -> dict[int, float]:
    """Angle of each projection by acquisition index: as resolved for the slice, as stored, or over half a turn."""
    runs, resolved = parameters.get("projections"), parameters.get("angles_deg")
    if runs and resolved:
        used = [index for start, stop in runs for index in range(start, stop)]
        if len(used) == len(resolved):
            return dict(zip(used, resolved, strict=True))
    indices = source.indices(FrameKind.PROJECTION)
    known = {index: source.angle_deg(index) for index in indices}
    angles = {index: angle for index, angle in known.items() if angle is not None and math.isfinite(angle)}
    if len(angles) == len(indices):
        return angles
    return {index: 180.0 * place / len(indices) for place, index in enumerate(indices)}


def _land(
    images: Mapping[str, Image],
    parameters: Mapping[str, Any],
    folder: Path,
    stem: str,
    whose: Whose,
    job: str,
    now: datetime,
    checkpoint: Checkpoint,
    floor_bytes: int,
) -> PreviewWritten:
    pictures = {name: stretch(image) for name, image in images.items()}
    shown = side_by_side([enlarge(picture, SHOWN_SIDE) for picture in pictures.values()])
    digest = content_digest({name: array_digest(image) for name, image in images.items()})
    finals = (folder / f"{stem}.preview.h5", folder / f"{stem}.preview.png")
    aside = tuple(temporary_path(final, job) for final in finals)
    size = sum(image.nbytes for image in images.values()) + 2 * shown.size
    try:
        with write_problems(str(finals[0])):
            folder.mkdir(parents=True, exist_ok=True)
            overwrite = may_replace(finals[0], whose, "/entry/preview", digest=digest)
            check_space(str(finals[0]), floor_bytes, size)
            aside[1].write_bytes(encode_png(shown))
            _write_file(aside[0], images, pictures, parameters, digest, stem, whose, now)
        checkpoint("preview.written")
        # The HDF5 file says whose both names are.
        publish(aside[0], finals[0], overwrite=overwrite)
        publish(aside[1], finals[1], overwrite=True)
    except BaseException:
        for temporary in aside:
            discard(temporary)
        raise
    checkpoint("preview.named")
    return PreviewWritten(digest, tuple(reread_file(final) for final in finals))


def _write_file(
    path: Path,
    images: Mapping[str, Image],
    pictures: Mapping[str, npt.NDArray[np.uint8]],
    parameters: Mapping[str, Any],
    digest: str,
    stem: str,
    whose: Whose,
    now: datetime,
) -> None:
    with open_out(path) as out:
        file = out.file
        file.attrs.update({"NX_class": "NXroot", "default": "entry", "creator": "tomovault"})
        file.attrs[SCAN_ATTRIBUTE] = whose.scan
        entry = file.create_group("entry")
        entry.attrs.update({"NX_class": "NXentry", "default": "preview"})
        entry["title"] = stem.encode("utf-8", "backslashreplace").decode("utf-8")
        preview = entry.create_group("preview")
        preview.attrs.update(
            {"NX_class": "NXcollection", "default": list(images)[-1], "digest": digest, "date": now.isoformat()}
        )
        preview["parameters"] = json.dumps(dict(parameters), sort_keys=True)
        for name, image in images.items():
            data = preview.create_group(name)
            data.attrs.update({"NX_class": "NXdata", "signal": "data"})
            data.create_dataset("data", data=image, compression="gzip", compression_opts=1, shuffle=True)
            data["data"].attrs["interpretation"] = "image"
            if name == "slice":
                data["data"].attrs["units"] = str(parameters.get("scale", "1/pixel"))
            picture = np.frombuffer(encode_png(pictures[name]), dtype=np.uint8)
            preview.create_dataset(f"{name}_png", data=picture).attrs["mimetype"] = "image/png"
