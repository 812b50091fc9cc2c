"""Reading Data Exchange files.

The acquisition (the tomoscan programs of the APS) lets the camera's file writer close the file and then opens it again
to add `/exchange/theta`, an angle for each projection that was really got. So `theta` marks the end; how many were
asked for is in `/process/acquisition`, where a beamline stores it, and the numbers of the images in
`/defaults/NDArrayUniqueId` show those that were dropped on the way.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import h5py

from tomovault.core.errors import NoScan
from tomovault.core.layout import FrameKind
from tomovault.core.scan import Condition, FrameCounts
from tomovault.formats.hdf5_conditions import convert, leaves_of, read_first
from tomovault.formats.hdf5_inspect import FoundScan, Opened
from tomovault.formats.hdf5_series import (
    Findings,
    Series,
    angles_at,
    angular_range,
    judge_angles,
    judge_series,
    numbers_at,
    seen_conditions,
    texts_at,
)
from tomovault.formats.hdf5_stacks import find_stack
from tomovault.formats.hdf5_values import count_of, item_of, text_of, time_of
from tomovault.formats.index_ranges import in_words, missing_ranges, number_of

_ACQUISITION = "process/acquisition"
_PLACES = {
    "energy": ("measurement/instrument/monochromator/energy",),
    "distance": (
        "measurement/instrument/detector_motor_stack/setup/z",
        "measurement/instrument/camera_motor_stack/setup/camera_distance",
        "measurement/instrument/camera_motor_stack/setup/camera_z",
    ),
    "pixel_size": ("measurement/instrument/detection_system/objective/resolution",),
    "detector_pixel_size": (
        "measurement/instrument/detector/pixel_size",
        "measurement/instrument/detector/pixel_size_x",
    ),
    "exposure": ("measurement/instrument/detector/exposure_time",),
    "current": ("measurement/instrument/source/current",),
}
#: Datasets in the order of a scan that takes darks and flats first; the file does not say when each was taken.
_DATASETS = (
    ("data_dark", "theta_dark", FrameKind.DARK),
    ("data_white", "theta_white", FrameKind.FLAT),
    ("data", "theta", FrameKind.PROJECTION),
)
#: How often flats, or darks, are taken in each mode.
_TIMES = {"none": 0, "start": 1, "end": 1, "both": 2}
#: Angles are taken evenly; a range that is so near a multiple of 180 degrees was meant to be one.
_HALF_TURN_DEG = 180.0
_NEAR_DEG = 0.5


def read(opened: Opened) -> list[FoundScan]:
    """The one scan of the file. Raises NoScan where `/exchange/data` is no stack of images.

    Flats or darks that were averaged to one image of two dimensions are that one image.
    """
    found = Findings()
    by_name = {name: s for name, theta, kind in _DATASETS if (s := _series(opened, name, theta, kind)) is not None}
    main, series = by_name.get("data"), list(by_name.values())
    if main is None:
        raise NoScan("exchange/data is no stack of images")
    _judge_unlike(opened.file, by_name, main, found)
    announced, counted = judge_series(series, found, settled=opened.settled)
    plan = _plan(opened.file)
    projections = announced.projections or 0
    _judge_angles(opened.file, main, projections, found)
    _judge_plan(plan, announced, found)
    _judge_numbers(opened.file, projections, found)
    if plan.projections is None:
        _judge_range(main, found)
    start, end = text_of(opened.file, f"{_ACQUISITION}/start_date"), text_of(opened.file, f"{_ACQUISITION}/end_date")
    return [
        FoundScan(
            series=tuple(series),
            findings=found,
            expected=FrameCounts(
                max(plan.projections or 0, projections),
                _wanted(plan.flats, announced.flats),
                _wanted(plan.darks, announced.darks),
            ),
            found=counted,
            conditions=_conditions(opened, series, announced),
            metadata=_metadata(opened.file) | {"start_time": start, "end_time": end},
            acquired_at=time_of(start),
            beamline=_beamline(opened.file),
            proposal=text_of(opened.file, "measurement/sample/experiment/proposal"),
            sample=text_of(opened.file, "measurement/sample/name"),
        )
    ]


def _series(opened: Opened, name: str, theta: str, kind: FrameKind) -> Series | None:
    stack = find_stack(opened.file, f"/exchange/{name}", single=kind is not FrameKind.PROJECTION)
    if stack is None:
        return None
    checked = opened.files.check(stack)
    angles = angles_at(item_of(opened.file, f"exchange/{theta}"))
    return Series(checked, (kind,) * min(checked.frames, 1_000_000), angles or ())


def _judge_unlike(file: h5py.File, by_name: Mapping[str, Series], main: Series, found: Findings) -> None:
    """Flats and darks that are there and cannot be used, or are not of the projections' size."""
    ours = _shape_of(main)
    for name, _, _ in _DATASETS[:2]:
        if name not in by_name:
            if _is_named(file, name):
                found.doubts.append(f"exchange/{name} is there, and is no images: {_in_words(file, name)}")
        elif (theirs := _shape_of(by_name[name])) != ours and (0, 0) not in (theirs, ours):
            found.doubts.append(f"the images of exchange/{name} are {theirs}, those of exchange/data {ours}")


def _is_named(file: h5py.File, name: str) -> bool:
    exchange = item_of(file, "exchange")
    return isinstance(exchange, h5py.Group) and exchange.get(name, getlink=True) is not None


def _in_words(file: h5py.File, name: str) -> str:
    there = item_of(file, f"exchange/{name}")
    if not isinstance(there, h5py.Dataset):
        return "a group" if isinstance(there, h5py.Group) else "a link that leads to no dataset"
    return f"a dataset of {there.dtype} and shape {there.shape}"


def _shape_of(series: Series) -> tuple[int, int]:
    """Rows and columns, (0, 0) where no file says them."""
    stack = series.checked.stack
    return stack.shape if stack.shape != (0, 0) else next((r.storage.shape for r in series.checked.runs), (0, 0))


def _wanted(planned: int | None, announced: int | None) -> int | None:
    return announced if planned is None else max(planned, announced or 0)


def _plan(file: h5py.File) -> FrameCounts:
    return FrameCounts(
        count_of(file, f"{_ACQUISITION}/rotation/num_angles"),
        _repeated(file, "flat_fields/num_flat_fields", "flat_fields/flat_field_mode"),
        _repeated(file, "dark_fields/num_dark_fields", "dark_fields/dark_field_mode"),
    )


def _repeated(file: h5py.File, number: str, mode: str) -> int | None:
    """Frames of a kind in the whole scan: so many each time, once or twice, or as often as is not said: once."""
    each = count_of(file, f"{_ACQUISITION}/{number}")
    said = (text_of(file, f"{_ACQUISITION}/{mode}") or "").lower()
    if said == "none":
        return 0
    return None if each is None else each * _TIMES.get(said, 1)


def _judge_angles(file: h5py.File, main: Series, projections: int, found: Findings) -> None:
    theta = item_of(file, "exchange/theta")
    values = numbers_at(theta)
    if theta is None:
        found.doubts.append("there is no theta, which the acquisition adds at its end")
    elif values is None:
        found.missing.append("theta is no list of angles")
    elif len(values) != projections:
        found.missing.append(f"theta has {len(values)} angles for {projections} projections")
    else:
        found.evidence.append(f"theta, which is written last, has an angle for each of {projections} projections")
        judge_angles(main, found)
    if not projections:
        found.missing.append("it holds no projection")


def _judge_plan(plan: FrameCounts, announced: FrameCounts, found: Findings) -> None:
    rows = (
        ("projections", plan.projections, announced.projections or 0),
        ("flats", plan.flats, announced.flats or 0),
        ("darks", plan.darks, announced.darks or 0),
    )
    for word, wanted, there in rows:
        if wanted is None:
            found.warnings.append(f"nothing says how many {word} were asked for")
        elif there < wanted:
            found.missing.append(f"{word} {in_words([(there, wanted - 1)])} of {wanted} were not written")
        elif there > wanted:
            found.warnings.append(f"{there} {word} are there, {wanted} were asked for")
        else:
            found.evidence.append(f"all {wanted} {word} that were asked for are there")


def _judge_numbers(file: h5py.File, projections: int, found: Findings) -> None:
    """Each image has a number of its own; one that is left out was dropped between camera and file."""
    numbers, places = (
        numbers_at(item_of(file, "defaults/NDArrayUniqueId")),
        texts_at(item_of(file, "defaults/HDF5FrameLocation")),
    )
    if numbers is None or places is None or len(numbers) != len(places):
        return
    ours = [int(n) for n, place in zip(numbers, places, strict=True) if place == "/exchange/data"]
    if len(ours) != projections or not ours:
        return
    first = min(ours)
    span = max(ours) - first + 1
    gaps = missing_ranges((n - first for n in ours), span) if span < 2 * len(ours) + 1000 else [(0, span - 1)]
    if gaps:
        dropped = span - len(set(ours))
        found.missing.append(
            f"{number_of(dropped, 'projection')} dropped on the way: images {in_words(gaps)} counted from the first"
        )
    else:
        found.evidence.append("the images of the projections are numbered without a gap")


def _judge_range(main: Series, found: Findings) -> None:
    """Without a plan the range of the angles tells whether the scan went to its end."""
    spread = angular_range(main)
    count = len(main.indices(FrameKind.PROJECTION))
    if spread is None or count < 2 or not main.angles:
        return
    step = spread / (count - 1)
    for reached in (spread, spread + step):
        turns = reached / _HALF_TURN_DEG
        if round(turns) >= 1 and abs(turns - round(turns)) * _HALF_TURN_DEG <= max(_NEAR_DEG, step / 2):
            found.evidence.append(f"the angles span {spread:g} degrees")
            return
    found.doubts.append(f"the angles span {spread:g} degrees, and nothing says that the scan was to end there")


def _conditions(opened: Opened, series: list[Series], announced: FrameCounts) -> dict[str, Condition]:
    found = read_first(opened.file, _PLACES, opened.name)
    found |= seen_conditions(opened.name, "exchange/theta", series)
    for key, path, count in (
        ("n_projections", "data", announced.projections),
        ("n_flats", "data_white", announced.flats),
        ("n_darks", "data_dark", announced.darks),
    ):
        if count or not _is_named(opened.file, path):
            found[key] = Condition(count or 0, None, f"{opened.name}:exchange/{path}")
    planned = convert(opened.file, f"{_ACQUISITION}/rotation/num_angles", "n_projections", opened.name)
    return found | ({"n_projections": planned} if planned is not None else {})


def _beamline(file: h5py.File) -> str | None:
    places = ("measurement/instrument/source/beamline", "measurement/sample/experiment/beamline")
    return next((text for place in places if (text := text_of(file, place))), None)


def _metadata(file: h5py.File) -> dict[str, Any]:
    places = {
        "title": "exchange/title",
        "implements": "implements",
        "instrument": "measurement/instrument/name",
        "experimenter": "measurement/sample/experimenter/name",
        "description": "measurement/sample/description_1",
        "file": "measurement/sample/file/full_name",
    }
    found: dict[str, Any] = {key: text_of(file, path) for key, path in places.items()}
    return found | {group: leaves_of(item_of(file, group)) for group in ("measurement", "process")}
