"""Reading NXtomo files: every entry that is an NXtomo is a scan.

A converter (nxtomomill) writes such a file in one go, with `end_time` last where it knows one, and its images may be
links into the file of the instrument. Where all of them lead into a BLISS master, that master is the scan and this is
a description of it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import h5py

from tomovault.core.errors import NoScan
from tomovault.core.layout import FrameKind
from tomovault.core.scan import Condition, FrameCounts
from tomovault.formats.hdf5_conditions import leaves_of, read_first
from tomovault.formats.hdf5_inspect import FoundScan, Opened
from tomovault.formats.hdf5_kind import entries_of, is_nxtomo
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
from tomovault.formats.hdf5_values import count_of, item_of, text_of, texts_of, time_of
from tomovault.formats.origin import origin_of

#: Where a condition stands, below the entry, first found first.
_PLACES = {
    "energy": ("instrument/beam/incident_energy", "beam/incident_energy"),
    "distance": ("sample/propagation_distance", "instrument/detector/distance"),
    "pixel_size": ("sample/x_pixel_size", "instrument/detector/x_pixel_size"),
    "exposure": ("instrument/detector/count_time",),
    "current": ("control/data",),
}
#: NXtomo's units where a file states none.
_ASSUMED = {"distance": "m", "pixel_size": "m", "current": "A"}
_INSTRUMENT = re.compile(r"^ESRF-(?P<beamline>(id|bm)\d+[a-z]?)$", re.I)


def read(opened: Opened) -> list[FoundScan]:
    """Every scan of the file. Raises NoScan where all its images lie in BLISS masters."""
    entries = [entry for entry in entries_of(opened.file) if is_nxtomo(entry)]
    scans = []
    reasons = []
    for entry in entries:
        stack = find_stack(opened.file, f"{entry.name}/instrument/detector/data")
        if stack is None:
            reasons.append(f"{entry.name.lstrip('/')} has no stack of images")
        elif made_of := _made_of(entry, stack):
            reasons.append(f"its images lie in the BLISS master {made_of}, which is the scan")
        else:
            scans.append(_read_entry(opened, entry, stack))
    if not scans:
        raise NoScan("; ".join(reasons) or "it has no entry that is an NXtomo")
    scans[0].findings.warnings += reasons
    return scans


def _made_of(entry: h5py.Group, stack: ImageStack) -> str:
    """The BLISS master that a converted entry's images all lie in, '' where any is its own."""
    named = texts_of(entry, "bliss_original_files")
    apart = stack.external is not None or (bool(stack.sources) and all(s.file != "." for s in stack.sources))
    if not named or not apart:
        return ""
    names = {name.rsplit("/", 1)[-1] for name in named}
    linked = {stack.external[0]} if stack.external is not None else {source.file for source in stack.sources}
    return next(iter(sorted(linked)), "") if {name.rsplit("/", 1)[-1] for name in linked} <= names else ""


def _read_entry(opened: Opened, entry: h5py.Group, stack: ImageStack) -> FoundScan:
    name = entry.name.lstrip("/")
    detector = item_of(entry, "instrument/detector")
    keys = numbers_at(item_of(detector, "image_key"))
    control = numbers_at(item_of(detector, "image_key_control"))
    angles = angles_at(item_of(entry, "sample/rotation_angle"))
    checked = opened.files.check(stack)
    found = Findings()
    kinds = _kinds(keys, control, checked.frames, found)
    series = Series(checked, kinds, angles or ())
    announced, counted = judge_series([series], found, settled=opened.settled)
    _judge_lengths(checked.frames, {"image_key": keys, "rotation_angle": angles}, found)
    if angles is not None:
        judge_angles(series, found)
    planned = count_of(detector, "tomo_n")
    _judge_end(entry, planned, announced.projections or 0, found, growable=stack.growable)
    origin = origin_of(opened.folder + "/")
    instrument = _INSTRUMENT.match(text_of(entry, "instrument/name") or "")
    return FoundScan(
        series=(series,),
        findings=found,
        expected=FrameCounts(max(planned or 0, announced.projections or 0), announced.flats, announced.darks),
        found=counted,
        entry=name,
        conditions=_conditions(opened, entry, series, planned),
        metadata=_metadata(entry),
        acquired_at=time_of(text_of(entry, "start_time")),
        beamline=instrument["beamline"].upper() if instrument else origin.beamline,
        proposal=text_of(entry, "experiment_identifier") or origin.proposal,
        sample=text_of(entry, "sample/name"),
    )


def _kinds(
    keys: Sequence[float] | None, control: Sequence[float] | None, frames: int, found: Findings
) -> tuple[FrameKind | None, ...]:
    """By `image_key_control`, which knows return images, where it says as much as `image_key`."""
    if keys is None:
        found.missing.append("there is no image_key: nothing says what each image is")
        return ()
    kinds = kinds_of(control if control is not None and len(control) == len(keys) else keys)
    unknown = sum(kind is None for kind in kinds)
    if unknown:
        found.doubts.append(f"{unknown} values of image_key are none that NXtomo knows")
    if not frames and not kinds:
        found.missing.append("it holds no image")
    return kinds


def _judge_lengths(frames: int, said: dict[str, Any], found: Findings) -> None:
    for word, values in said.items():
        if values is None:
            if word != "image_key":
                found.missing.append(f"there is no {word}")
        elif len(values) < frames:
            found.missing.append(f"{word} speaks of {len(values)} images, there are {frames}")
        elif len(values) > frames:
            found.missing.append(f"{word} speaks of {len(values)} images, the dataset has {frames}")


def _judge_end(entry: h5py.Group, planned: int | None, projections: int, found: Findings, *, growable: bool) -> None:
    """A converter writes the images at once and may leave `end_time` out; a writer that appends them may not."""
    if planned is not None and projections < planned:
        found.missing.append(f"{projections} of {planned} projections (tomo_n) are announced")
    elif planned is not None and projections > planned:
        found.warnings.append(f"{projections} projections are announced, tomo_n is {planned}")
    ended = text_of(entry, "end_time")
    if ended:
        found.evidence.append(f"end_time is {ended}")
    elif planned is not None and projections == planned and not growable:
        found.evidence.append(f"all {planned} projections (tomo_n) are there")
    elif growable and not found.missing:
        found.doubts.append("there is no end_time, and more images can still be appended")
    elif not found.missing:
        found.doubts.append("there is neither end_time nor tomo_n: nothing says that the writer had ended")


def _conditions(opened: Opened, entry: h5py.Group, series: Series, planned: int | None) -> dict[str, Condition]:
    name = entry.name.lstrip("/")
    places = {key: tuple(f"{name}/{path}" for path in paths) for key, paths in _PLACES.items()}
    found = read_first(opened.file, places, opened.name, _ASSUMED)
    found |= seen_conditions(opened.name, f"{name}/sample/rotation_angle", [series])
    found |= counted(series, f"{opened.name}:{name}/instrument/detector/image_key")
    if planned is not None:
        found["n_projections"] = Condition(planned, None, f"{opened.name}:{name}/instrument/detector/tomo_n")
    return found


def _metadata(entry: h5py.Group) -> dict[str, Any]:
    places = {
        "title": "title",
        "start_time": "start_time",
        "end_time": "end_time",
        "instrument": "instrument/name",
        "source": "instrument/source/name",
        "field_of_view": "instrument/detector/field_of_view",
    }
    found: dict[str, Any] = {key: text_of(entry, path) for key, path in places.items()}
    made_from = list(texts_of(entry, "bliss_original_files"))
    return found | {"made_from": made_from, "beside_images": leaves_of(item_of(entry, "instrument"))}
