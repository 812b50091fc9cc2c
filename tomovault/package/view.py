"""The NXtomo view of a package: what silx, nabu, nxtomo and h5py read, over frames that are stored once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np

from tomovault.core.layout import FrameKind
from tomovault.package.manifest import FrameRecord
from tomovault.package.names import readable


@dataclass(frozen=True)
class ViewFrame:
    """A frame of the view and the dataset row that shows it; `file` is '.' or the name of another part."""

    record: FrameRecord
    file: str
    dataset: str
    row: int
    rows: int
    derived: bool


def write_view(
    out: Any,
    frames: Sequence[ViewFrame],
    *,
    shape: tuple[int, int],
    dtypes: Iterable[str],
    inexact: bool,
    nx: Mapping[str, Any],
    name: str,
) -> None:
    """Add `/entry` to an open HDF5 file. `data` is virtual, float32 where a divided sum needs it."""
    kind = np.dtype(np.float32) if inexact else np.result_type(*[np.dtype(d) for d in dtypes])
    records = [f.record for f in frames]
    detector = write_nxtomo(out, records, nx=nx, name=name)
    layout = h5py.VirtualLayout((len(frames), *shape), dtype=kind)
    first = 0
    for last in range(1, len(frames) + 1):
        if last == len(frames) or not _adjacent(frames[last - 1], frames[last]):
            head = frames[first]
            source = h5py.VirtualSource(head.file, head.dataset, shape=(head.rows, *shape), dtype=kind)
            layout[first:last] = source[head.row : head.row + last - first]
            first = last
    data = detector.create_virtual_dataset("data", layout)
    data.attrs["interpretation"] = "image"
    made = [position for position, frame in enumerate(frames) if frame.derived]
    if made:
        data.attrs["derived"] = np.array(made, dtype=np.int64)
        data.attrs["derived_how"] = "frames at these positions are sums divided by their number of exposures"
    link_default_data(out)


def write_nxtomo(out: Any, records: Sequence[FrameRecord], *, nx: Mapping[str, Any], name: str) -> Any:
    """Everything of an NXtomo entry but the frames; returns the detector group, in which `data` is still to come."""
    out.attrs["default"] = "entry"
    out.attrs["NX_class"] = "NXroot"
    entry = _group(out, "entry", "NXentry")
    entry.attrs["default"] = "data"
    entry["definition"] = "NXtomo"
    entry["title"] = readable(nx.get("title") or name)
    for key in ("start_time", "end_time"):
        if nx.get(key) is not None:
            entry[key] = readable(nx[key])
    instrument = _group(entry, "instrument", "NXinstrument")
    instrument["name"] = readable(nx.get("instrument") or "unknown")
    detector = _group(instrument, "detector", "NXdetector")
    control = np.array([int(r.kind) for r in records], dtype=np.int32)
    detector["image_key_control"] = control
    detector["image_key"] = np.where(control == int(FrameKind.ALIGNMENT), int(FrameKind.PROJECTION), control)
    _quantity(detector, "count_time", nx.get("exposure_s"), "s", repeat=len(records))
    _quantity(detector, "distance", nx.get("distance_m"), "m")
    _quantity(detector, "x_pixel_size", nx.get("x_pixel_m"), "m")
    _quantity(detector, "y_pixel_size", nx.get("y_pixel_m"), "m")
    if nx.get("field_of_view") is not None:
        detector["field_of_view"] = readable(nx["field_of_view"])
    beam = _group(entry, "beam", "NXbeam")
    _quantity(beam, "incident_energy", nx.get("energy_kev"), "keV")
    instrument["beam"] = h5py.SoftLink("/entry/beam")
    sample = _group(entry, "sample", "NXsample")
    sample["name"] = readable(nx.get("sample") or name)
    sample["rotation_angle"] = _angles(records)
    sample["rotation_angle"].attrs["units"] = "degree"
    return detector


def link_default_data(out: Any) -> None:
    """The NXdata group that a viewer opens first."""
    data = _group(out["entry"], "data", "NXdata")
    data.attrs["signal"] = "data"
    data.attrs["SILX_style/axis_scale_types"] = ["linear", "linear"]
    for key in ("data", "image_key", "image_key_control"):
        data[key] = h5py.SoftLink(f"/entry/instrument/detector/{key}")
    data["rotation_angle"] = h5py.SoftLink("/entry/sample/rotation_angle")


def _adjacent(one: ViewFrame, other: ViewFrame) -> bool:
    return (one.file, one.dataset, one.row + 1) == (other.file, other.dataset, other.row)


def _angles(records: Sequence[FrameRecord]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """An angle for every frame: a reader takes no gaps, so flats and darks stand at the last one known."""
    angles = np.zeros(len(records), dtype=np.float64)
    last = next((r.angle_deg for r in records if r.angle_deg is not None), 0.0)
    for position, record in enumerate(records):
        last = record.angle_deg if record.angle_deg is not None else last
        angles[position] = last
    return angles


def _group(parent: Any, name: str, nx_class: str) -> Any:
    group = parent.create_group(name)
    group.attrs["NX_class"] = nx_class
    return group


def _quantity(group: Any, name: str, value: Any, units: str, *, repeat: int = 0) -> None:
    if value is None:
        return
    group[name] = np.full(repeat, float(value)) if repeat else float(value)
    group[name].attrs["units"] = units
