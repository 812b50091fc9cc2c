"""A preview of a scan: two projections a quarter turn apart and the middle slice, or the middle planes of a volume."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from tomovault.core.errors import IntegrityError, UserError
from tomovault.core.flatfield import FlatField, FlatPlan, plan_flatfield
from tomovault.core.layout import FrameKind
from tomovault.core.manifest import content_digest
from tomovault.core.ports import Checkpoint, FrameSource, Progress, Throttle
from tomovault.core.replica import StoredFile
from tomovault.package.binning import Image, bin_image, binning
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
from tomovault.package.planes import read_planes
from tomovault.package.png import encode_png, enlarge, side_by_side, stretch

#: Small images are shown enlarged to about this size.
SHOWN_SIDE = 256

_BAND_BYTES = 64 << 20
_NAMES = ("projection_0", "projection_90", "cut_row", "cut_column", "slice")


@dataclass(frozen=True)
class _Shown:
    """Images by name, the last of them the one to look at first; `units` are those of a slice. Where `masked`, 0 stands
    for no value.
    """

    images: Mapping[str, Image]
    parameters: Mapping[str, Any]
    units: str = ""
    masked: bool = True


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
        factor = binning(source.frame_shape)
        images[name] = read_binned(source, plan, index, factor)
        notes[name] = {"frame": index, "angle_deg": angles[index], "binning": factor}
    if slice_image is not None:
        factor = binning(slice_image.shape)
        images["slice"] = bin_image(slice_image, factor)
        notes["slice"] = {"binning": factor}
    shown = _Shown(images, {**parameters, "preview": notes}, units=str(parameters.get("scale", "1/pixel")))
    return _land(shown, Path(folder), stem, whose, job, now, checkpoint, floor_bytes)


def make_preview_of_volume(
    source: FrameSource,
    folder: str | Path,
    stem: str,
    *,
    whose: Whose,
    job: str,
    now: datetime,
    progress: Progress,
    checkpoint: Checkpoint,
    floor_bytes: int = 0,
) -> PreviewWritten:
    """As `make_preview`, of the middle planes of a volume whose slices `source` has, in the values that it has.

    Of values of one byte 0 is one like the others: they are as often labels as densities.
    """
    planes = read_planes(source, progress)
    shown = _Shown(planes.images, {"preview": planes.notes}, masked=planes.dtype.itemsize > 1)
    return _land(shown, Path(folder), stem, whose, job, now, checkpoint, floor_bytes)


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


def read_binned(source: FrameSource, plan: FlatPlan, index: int, factor: int) -> Image:
    """The transmission of a projection in bins, read in bands of rows so that large frames need little memory."""
    rows, columns = source.frame_shape
    step = max(factor, _BAND_BYTES // (columns * 32) // factor * factor)
    bands = [slice(at, min(at + step, rows)) for at in range(0, rows, step)]
    return np.concatenate([bin_image(FlatField(source, plan, band).transmission(index), factor) for band in bands])


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
    what: _Shown,
    folder: Path,
    stem: str,
    whose: Whose,
    job: str,
    now: datetime,
    checkpoint: Checkpoint,
    floor_bytes: int,
) -> PreviewWritten:
    images = what.images
    pictures = {name: stretch(image, masked=what.masked) for name, image in images.items()}
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
            _write_file(aside[0], what, pictures, digest, stem, whose, now)
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
    what: _Shown,
    pictures: Mapping[str, npt.NDArray[np.uint8]],
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
            {"NX_class": "NXcollection", "default": list(what.images)[-1], "digest": digest, "date": now.isoformat()}
        )
        preview["parameters"] = json.dumps(dict(what.parameters), sort_keys=True)
        for name, image in what.images.items():
            data = preview.create_group(name)
            data.attrs.update({"NX_class": "NXdata", "signal": "data"})
            data.create_dataset("data", data=image, compression="gzip", compression_opts=1, shuffle=True)
            data["data"].attrs["interpretation"] = "image"
            if name == "slice" and what.units:
                data["data"].attrs["units"] = what.units
            picture = np.frombuffer(encode_png(pictures[name]), dtype=np.uint8)
            preview.create_dataset(f"{name}_png", data=picture).attrs["mimetype"] = "image/png"
