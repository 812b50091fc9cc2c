"""Experimental conditions of a BLISS scan, converted by the units that the master states."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import h5py

from tomovault.core.layout import FrameKind
from tomovault.core.scan import Condition
from tomovault.formats.bliss_certificate import BlissScan
from tomovault.formats.hdf5_conditions import convert, leaves_of
from tomovault.formats.hdf5_values import DAMAGE, item_of, plain, text_of
from tomovault.formats.origin import Origin, clean, origin_of

#: Where a condition stands, below the sequence entry, first found first.
_PLACES: Mapping[str, tuple[str, ...]] = {
    "energy": ("technique/scan/energy",),
    "distance": ("technique/scan/sample_detector_distance",),
    "source_distance": ("technique/scan/source_sample_distance",),
    "pixel_size": ("technique/scan/sample_pixel_size", "technique/optic/sample_pixel_size"),
    "exposure": ("technique/scan/exposure_time",),
    "scan_range": ("technique/scan/scan_range",),
    "n_projections": ("technique/scan/tomo_n",),
    "n_flats": ("technique/scan/flat_n",),
    "n_darks": ("technique/scan/dark_n",),
    "flat_interval": ("technique/scan/flat_on",),
    "current": ("instrument/machine/current",),
}


def read_conditions(master: h5py.File, name: str, scan: BlissScan) -> dict[str, Condition]:
    """Every condition that the sequence entry states; values without a unit are taken in ours, and it is said."""
    head = scan.entries.head.name
    found: dict[str, Condition] = {}
    for condition, places in _PLACES.items():
        for place in places:
            value = convert(master, f"{head}/{place}", condition, name)
            if value is not None:
                found[condition] = value
                break
    camera = _camera(scan)
    if camera:
        place = f"{head}/technique/detector/{camera}/pixel_size"
        value = convert(master, place, "detector_pixel_size", name)
        if value is not None:
            found["detector_pixel_size"] = value
    if "exposure" not in found:
        _exposure_of_parts(master, name, scan, found)
    return found | _frame_size(name, scan)


def _exposure_of_parts(master: h5py.File, name: str, scan: BlissScan, found: dict[str, Condition]) -> None:
    for entry, kind, _ in scan.parts():
        if kind is FrameKind.PROJECTION:
            value = convert(master, f"{entry.name}/technique/proj/exposure_time", "exposure", name)
            if value is not None:
                found["exposure"] = value
                return


def _frame_size(name: str, scan: BlissScan) -> dict[str, Condition]:
    for _, kind, stacks in scan.parts():
        if kind is FrameKind.PROJECTION and stacks and stacks[0].stack.shape != (0, 0):
            rows, columns = stacks[0].stack.shape
            source = f"{name}:{stacks[0].stack.path.lstrip('/')}"
            return {
                "frame_width": Condition(columns, "px", source),
                "frame_height": Condition(rows, "px", source),
            }
    return {}


def _camera(scan: BlissScan) -> str | None:
    return next((stacks[0].stack.camera for stacks in scan.stacks if stacks), None)


def read_origin(master: h5py.File, scan: BlissScan, folder: str) -> Origin:
    """Beamline and proposal as the writer saved them, else as the path says."""
    head = scan.entries.head.name
    saved = text_of(master, f"{head}/technique/saving/path")
    try:
        written = plain(master.attrs.get("file_name"))
    except DAMAGE:
        written = None
    origins = [origin_of(saved), origin_of(written if isinstance(written, str) else None), origin_of(folder + "/")]
    stated = text_of(master, f"{head}/technique/saving/beamline")
    beamline = stated.upper() if stated else next((o.beamline for o in origins if o.beamline), None)
    return Origin(beamline, next((o.proposal for o in origins if o.proposal), None))


def read_metadata(master: h5py.File, scan: BlissScan) -> dict[str, Any]:
    """What else the master says of the scan, as plain JSON."""
    head = scan.entries.head
    found: dict[str, Any] = {
        "title": head.title,
        "start_time": head.start_time,
        "end_time": head.end_time,
        "field_of_view": text_of(master, f"{head.name}/technique/scan/field_of_view"),
        "instrument": text_of(master, f"{head.name}/instrument/name"),
        "camera": _camera(scan),
        "technique": leaves_of(item_of(master, f"{head.name}/technique")),
        "parts": [
            {"entry": e.name, "title": e.title, "kind": kind.name.lower(), "images": stacks[0].good if stacks else 0}
            for e, kind, stacks in scan.parts()
        ],
    }
    plain_found: dict[str, Any] = clean({key: value for key, value in found.items() if value not in (None, "", {}, [])})
    return plain_found
