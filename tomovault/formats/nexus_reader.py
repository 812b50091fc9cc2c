"""Reading NeXus files of GDA, as Diamond's imaging beamlines write them.

A file has an `NXentry` with the points of the scan, and an `NXsubentry` that arranges them as an NXtomo; its images are
links to the file of a camera, often by the absolute path of the day. How many points were asked for is in
`scan_dimensions`, or below `diamond_scan`, where `scan_finished` is set at the end.
"""

from __future__ import annotations

import math
import re
from typing import Any

import h5py

from tomovault.core.errors import NoScan
from tomovault.core.layout import FrameKind
from tomovault.core.scan import Condition
from tomovault.formats.hdf5_conditions import leaves_of, read_first
from tomovault.formats.hdf5_inspect import FoundScan, Opened
from tomovault.formats.hdf5_kind import class_of, entries_of, subentry_of
from tomovault.formats.hdf5_series import (
    Findings,
    Series,
    angles_at,
    counted,
    judge_angles,
    judge_series,
    kinds_of,
    numbers_at,
    seen_conditions,
)
from tomovault.formats.hdf5_stacks import ImageStack, find_stack
from tomovault.formats.hdf5_values import DAMAGE, count_of, item_of, plain, text_of, texts_of, time_of, value_of

_PATH = re.compile(r"/dls/(?P<beamline>[a-z]\d\d(-\d)?)/data/\d{4}/(?P<proposal>[a-z]{2}\d+-\d+)(/|$)")
#: Below the entry, `*` standing for the subentry and `+` for the detector, first found first.
_PLACES = {
    "energy": ("*/instrument/beam/incident_energy", "instrument/monochromator/energy", "instrument/dcm/energy"),
    "distance": ("*/instrument/detector/distance", "+/distance"),
    "pixel_size": ("*/instrument/detector/x_pixel_size", "+/x_pixel_size"),
    "exposure": ("*/instrument/detector/count_time", "+/count_time"),
    "current": ("*/instrument/source/current", "instrument/source/current"),
}
_MOST_POINTS = 10_000_000


def read(opened: Opened) -> list[FoundScan]:
    """Every scan of the file. Raises NoScan where no entry has images."""
    scans = []
    without = []
    for entry in entries_of(opened.file):
        subentry = subentry_of(entry)
        if subentry is None and not isinstance(item_of(entry, "diamond_scan"), h5py.Group):
            continue
        stack, detector = _images(opened.file, entry, subentry)
        if stack is not None:
            scans.append(_read_entry(opened, entry, subentry, stack, detector))
        else:
            without.append(f"{entry.name.lstrip('/')} has no stack of images")
    if not scans:
        raise NoScan("it is of GDA, and has no images of a tomography")
    scans[0].findings.warnings += without
    return scans


def _images(file: h5py.File, entry: h5py.Group, subentry: h5py.Group | None) -> tuple[ImageStack | None, str]:
    """The images and the path of their detector: the subentry's, else those of the first detector that has any."""
    if subentry is not None:
        stack = find_stack(file, f"{subentry.name}/instrument/detector/data")
        if stack is not None:
            return stack, _detector_of(file, entry, stack)
    for path in _detectors(entry):
        stack = find_stack(file, f"{path}/data")
        if stack is not None:
            return stack, path
    return None, ""


def _detectors(entry: h5py.Group) -> list[str]:
    instrument = item_of(entry, "instrument")
    if not isinstance(instrument, h5py.Group):
        return []
    groups = [(name, item_of(instrument, name)) for name in instrument]
    return [f"{instrument.name}/{name}" for name, group in groups if class_of(group) == "NXdetector"]


def _detector_of(file: h5py.File, entry: h5py.Group, stack: ImageStack) -> str:
    """The detector whose images these are: the one with the same link, else the first."""
    paths = _detectors(entry)
    for path in paths:
        other = find_stack(file, f"{path}/data")
        if other is not None and other.external == stack.external and other.sources == stack.sources:
            return path
    return paths[0] if paths else ""


def _read_entry(
    opened: Opened, entry: h5py.Group, subentry: h5py.Group | None, stack: ImageStack, detector: str
) -> FoundScan:
    name = entry.name.lstrip("/")
    found = Findings()
    keys, angles = _keys(opened.file, entry, subentry, detector), _angles(entry, subentry)
    checked = opened.files.check(stack)
    planned = _planned(entry)
    points = len(keys) if keys is not None else checked.frames or planned or 0
    kinds = kinds_of(keys) if keys is not None else (FrameKind.PROJECTION,) * min(points, _MOST_POINTS)
    if keys is None:
        found.warnings.append("there is no image_key: every image is taken for a projection")
    series = Series(checked, kinds, angles or ())
    announced, counted = judge_series([series], found, settled=opened.settled)
    _judge_points(planned, points, checked.frames, None if angles is None else len(angles), found)
    if angles is not None:
        judge_angles(series, found)
    _judge_end(entry, planned, found)
    origin = _PATH.search(_file_name(opened.file) or "") or _PATH.search(opened.folder + "/")
    start = text_of(entry, "start_time") or text_of(entry, "diamond_scan/start_time")
    written = plain(opened.file.attrs.get("file_time"))
    beamline = text_of(entry, "instrument/beamline") or text_of(entry, "instrument/name")
    return FoundScan(
        series=(series,),
        findings=found,
        expected=announced,
        found=counted,
        entry=name,
        conditions=_conditions(opened, entry, subentry, detector, series),
        metadata=_metadata(entry) | {"start_time": start},
        acquired_at=time_of(start) or time_of(written if isinstance(written, str) else None),
        beamline=origin["beamline"].upper() if origin else (beamline or "").upper() or None,
        proposal=text_of(entry, "experiment_identifier") or (origin["proposal"] if origin else None),
        sample=text_of(entry, "sample/name"),
        owner=text_of(entry, "user01/username") or text_of(entry, "user/username"),
    )


def _file_name(file: h5py.File) -> str | None:
    try:
        found = plain(file.attrs.get("file_name"))
    except DAMAGE:
        return None
    return found if isinstance(found, str) else None


def _keys(file: h5py.File, entry: h5py.Group, subentry: h5py.Group | None, detector: str) -> list[float] | None:
    places = [f"{subentry.name}/instrument/detector/image_key"] if subentry is not None else []
    places += [f"{detector}/image_key"] if detector else []
    instrument = item_of(entry, "instrument")
    if isinstance(instrument, h5py.Group):
        places += [f"{instrument.name}/{name}/image_key" for name in instrument]
    return next((keys for place in places if (keys := numbers_at(item_of(file, place.lstrip("/")))) is not None), None)


def _angles(entry: h5py.Group, subentry: h5py.Group | None) -> list[float | None] | None:
    """Of the subentry; else of the first axis of a data group that has one."""
    if subentry is not None:
        angles = angles_at(item_of(subentry, "sample/rotation_angle"))
        if angles is not None:
            return angles
    for name in entry:
        group = item_of(entry, name)
        if class_of(group) != "NXdata":
            continue
        axes = plain(group.attrs.get("axes"))
        first = axes[0] if isinstance(axes, list) and axes else axes
        angles = angles_at(item_of(group, first)) if isinstance(first, str) and first else None
        if angles is not None:
            return angles
    return None


def _planned(entry: h5py.Group) -> int | None:
    for path in ("diamond_scan/scan_shape", "scan_dimensions"):
        shape = value_of(entry, path)
        listed = shape if isinstance(shape, list) else [shape]
        if listed and all(isinstance(n, int) and n >= 0 for n in listed):
            points = math.prod(listed)
            return points if points <= _MOST_POINTS else None
    return None


def _judge_points(planned: int | None, points: int, frames: int, angles: int | None, found: Findings) -> None:
    if planned is None:
        found.doubts.append("neither scan_dimensions nor scan_shape says how many points were asked for")
    elif points < planned:
        found.missing.append(f"{points} of {planned} points of the scan are recorded")
    else:
        found.evidence.append(f"all {planned} points that were asked for are recorded")
    if angles is None:
        found.missing.append("there is no rotation_angle")
    elif angles != points:
        found.missing.append(f"rotation_angle has {angles} values for {points} points")
    if frames and frames < points:
        found.missing.append(f"the camera's dataset has {frames} images for {points} points")


def _judge_end(entry: h5py.Group, planned: int | None, found: Findings) -> None:
    finished = count_of(entry, "diamond_scan/scan_finished")
    ended = text_of(entry, "end_time") or text_of(entry, "diamond_scan/end_time")
    if finished == 0:
        found.open.append("scan_finished is 0")
    elif finished is not None:
        found.evidence.append("scan_finished is set")
    if ended:
        found.evidence.append(f"end_time is {ended}")
    elif finished is None and planned is None:
        found.doubts.append("nothing says that the scan has ended")


def _conditions(
    opened: Opened, entry: h5py.Group, subentry: h5py.Group | None, detector: str, series: Series
) -> dict[str, Condition]:
    name = entry.name.lstrip("/")
    inner = subentry.name.lstrip("/") if subentry is not None else f"{name}/-"
    places = {
        key: tuple(
            f"{inner}{path[1:]}"
            if path[0] == "*"
            else f"{detector.lstrip('/') or '-'}{path[1:]}"
            if path[0] == "+"
            else f"{name}/{path}"
            for path in paths
        )
        for key, paths in _PLACES.items()
    }
    found = read_first(opened.file, places, opened.name)
    found |= seen_conditions(opened.name, f"{inner}/sample/rotation_angle", [series])
    return found | counted(series, f"{opened.name}:{name} (image_key)")


def _metadata(entry: h5py.Group) -> dict[str, Any]:
    places = {
        "title": "title",
        "end_time": "end_time",
        "instrument": "instrument/name",
        "scan_command": "scan_command",
        "scan_identifier": "scan_identifier",
        "entry_identifier": "entry_identifier",
        "program": "program_name",
    }
    found: dict[str, Any] = {key: text_of(entry, path) for key, path in places.items()}
    before = leaves_of(item_of(entry, "before_scan"))
    return found | {"users": list(texts_of(entry, "user01/username")), "before_scan": before}
