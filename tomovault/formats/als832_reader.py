"""Reading ALS 8.3.2 files: one group, whose attributes are the scan's texts, and one dataset an image.

`<scan>_TTTT_NNNN.tif` is the projection NNNN, `<scan>bak_KKKK_NNNN.tif` flat KKKK taken at projection NNNN, and
`<scan>drk_KKKK_NNNN.tif` a dark. Values are texts that end in a carriage return.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import h5py

from tomovault.core.errors import NoScan
from tomovault.core.layout import FrameKind
from tomovault.core.scan import Condition, FrameCounts
from tomovault.formats.hdf5_conditions import made
from tomovault.formats.hdf5_inspect import FoundScan, Opened
from tomovault.formats.hdf5_kind import scan_group
from tomovault.formats.hdf5_series import Findings, Series, judge_series, seen_conditions
from tomovault.formats.hdf5_stacks import stack_of
from tomovault.formats.hdf5_values import DAMAGE, Quantity, plain, time_of
from tomovault.formats.index_ranges import in_words, missing_ranges
from tomovault.formats.quantities import is_known

_IMAGE = re.compile(r"^(?P<stem>.*?)(?P<kind>bak|drk)?_(?P<first>\d{4,7})_(?P<index>\d{4,7})\.tiff?$", re.DOTALL)
#: Attribute and its unit, by condition; lengths of this beamline are millimetres.
_ATTRIBUTES: Mapping[str, tuple[tuple[str, str | None], ...]] = {
    "energy": (("Mono_Energy", "eV"), ("senergy", "eV")),
    "distance": (("distance", "mm"),),
    "pixel_size": (("pxsize", "mm"), ("pzsize", "mm")),
    "exposure": (("obstime", "s"),),
    "scan_range": (("arange", "deg"),),
    "current": (("Beam_Current", "mA"), ("scurrent", "mA")),
    "n_projections": (("nangles", None),),
    "n_flats": (("num_bright_field", None),),
    "n_darks": (("num_dark_fields", None),),
    "flat_interval": (("i0cycle", None),),
}
#: More images of one kind are nobody's.
_MOST_IMAGES = 1_000_000
_NAMED = 20


class _Images:
    """The names in the group by kind, first number and index."""

    def __init__(self, group: h5py.Group) -> None:
        self.projections: dict[tuple[int, int], str] = {}
        self.flats: dict[tuple[int, int], str] = {}
        self.darks: dict[tuple[int, int], str] = {}
        for name in group:
            match = _IMAGE.match(name)
            if match is not None:
                of_kind = {"bak": self.flats, "drk": self.darks}.get(match["kind"] or "", self.projections)
                of_kind[(int(match["first"]), int(match["index"]))] = name


def read(opened: Opened) -> list[FoundScan]:
    """The one scan of the file. Raises NoScan where its group holds no image."""
    group = scan_group(opened.file)
    images = _Images(group) if group is not None else None
    if group is None or images is None or not (images.projections or images.flats):
        raise NoScan("it has the attributes of ALS 8.3.2, and no image")
    attributes = _attributes(group)
    found = Findings()
    planned = FrameCounts(
        _count(attributes, "nangles"), _count(attributes, "num_bright_field"), _count(attributes, "num_dark_fields")
    )
    expected = FrameCounts(
        _judge_projections(images, planned.projections, found),
        _judge_flats(images, attributes, planned, found),
        _judge_darks(images, planned.darks, found),
    )
    series = _series(opened, group, images, attributes, found)
    _, counted = judge_series(series, found, settled=opened.settled)
    flagged = [s.checked.stack.camera for s in series if _flag(group, s.checked.stack.camera)]
    if flagged:
        found.doubts.append(f"the camera flagged an error in {len(flagged)} images, the first is {flagged[0]}")
    else:
        found.evidence.append("no image carries an errorFlag")
    root = {key: plain(value) for key, value in opened.file.attrs.items()}
    return [
        FoundScan(
            series=tuple(series),
            findings=found,
            expected=expected,
            found=counted,
            conditions=_conditions(opened, group, attributes) | seen_conditions(opened.name, "", series),
            metadata={"title": group.name.lstrip("/"), "attributes": attributes, "file": root},
            acquired_at=time_of(_text(root.get("stage_date"))),
            beamline=(_text(root.get("end_station")) or "").upper() or None,
            sample=attributes.get("object") or group.name.lstrip("/"),
            owner=_text(root.get("owner")) or attributes.get("experimenter"),
        )
    ]


def _text(value: Any) -> str | None:
    return value.strip() or None if isinstance(value, str) else None


def _attributes(group: h5py.Group) -> dict[str, str]:
    """Every attribute that is a text, or a number, as text without the carriage return."""
    found: dict[str, str] = {}
    for key in group.attrs:
        try:
            value = plain(group.attrs[key])
        except DAMAGE:
            continue
        if isinstance(value, (str, int, float)) and str(value).strip():
            found[str(key)] = str(value).strip()
    return found


def _number(attributes: Mapping[str, str], key: str) -> float | None:
    try:
        value = float(attributes.get(key, ""))
    except ValueError:
        return None
    return value if abs(value) < 1e15 else None


def _count(attributes: Mapping[str, str], key: str) -> int | None:
    value = _number(attributes, key)
    return int(value) if value is not None and 0 <= value <= _MOST_IMAGES and value == int(value) else None


def _judge_projections(images: _Images, wanted: int | None, found: Findings) -> int | None:
    if wanted is None:
        found.doubts.append("nangles does not say how many projections are expected")
        return None
    tiles = sorted({tile for tile, _ in images.projections}) or [0]
    whole = True
    for tile in tiles:
        gaps = missing_ranges((index for t, index in images.projections if t == tile), wanted)
        if gaps:
            whole = False
            count = sum(last - first + 1 for first, last in gaps)
            found.missing.append(f"{count} of {wanted} projections of {tile:04d} are missing: {in_words(gaps)}")
    if whole:
        found.evidence.append(f"every projection 0-{wanted - 1} is there by its name")
    extra = sum(index >= wanted for _, index in images.projections)
    if extra:
        found.doubts.append(f"{extra} projections more than the {wanted} announced")
    return wanted * len(tiles)


def _judge_flats(images: _Images, attributes: Mapping[str, str], planned: FrameCounts, found: Findings) -> int | None:
    """`num_bright_field` at the first and the last projection, and at every `i0cycle` where that is not 0."""
    each, angles = planned.flats, planned.projections
    if each is None or not angles:
        found.warnings.append("nothing says how many flats are expected")
        return len(images.flats)
    cycle = _count(attributes, "i0cycle") or 0
    places = {0, angles - 1} | (set(range(0, angles, cycle)) if cycle else set())
    lacking = [
        f"{place} (flats {in_words(gaps)} of {each})"
        for place in sorted(places)
        if (gaps := missing_ranges((number for number, index in images.flats if index == place), each))
    ]
    if lacking:
        found.missing.append(f"flats are missing at projections {', '.join(lacking[:_NAMED])}")
    elif each:
        found.evidence.append(f"{each} flats at each of {len(places)} places")
    return each * len(places)


def _judge_darks(images: _Images, wanted: int | None, found: Findings) -> int | None:
    if wanted is None:
        found.warnings.append("nothing says how many darks are expected")
        return len(images.darks)
    gaps = missing_ranges((number for number, _ in images.darks), wanted)
    if gaps:
        found.missing.append(f"darks {in_words(gaps)} of {wanted} are missing")
    elif wanted:
        found.evidence.append(f"all {wanted} darks are there")
    return wanted


def _series(
    opened: Opened, group: h5py.Group, images: _Images, attributes: Mapping[str, str], findings: Findings
) -> list[Series]:
    """One a dataset, in the order of their indices; flats before the projection whose number they carry, but the
    last ones after it; darks at the end. What has the name of an image and is none is missing.

    Angles go evenly from 0 to `arange`, both ends taken, as the beamline's own reconstruction takes them
    (`tomopy.angles`).
    """
    angles, reach = _count(attributes, "nangles"), _number(attributes, "arange")
    rows = [(index, 1, first, name, FrameKind.PROJECTION) for (first, index), name in images.projections.items()]
    rows += [
        (index, 2 if index + 1 == angles else 0, first, name, FrameKind.FLAT)
        for (first, index), name in images.flats.items()
    ]
    rows += [(_MOST_IMAGES, index, first, name, FrameKind.DARK) for (first, index), name in images.darks.items()]
    found, other = [], []
    for index, _, _, name, kind in sorted(rows):
        stack = stack_of(group, name, name)
        if stack is None:
            other.append(name)
            continue
        angle = None
        if kind is not FrameKind.DARK and angles is not None and angles > 1 and reach is not None:
            angle = reach * index / (angles - 1)
        checked = opened.files.check(stack)
        found.append(Series(checked, (kind,) * min(max(checked.frames, 1), 1000), (angle,)))
    if other:
        findings.missing.append(f"{len(other)} have the name of an image and are none, the first is {other[0]}")
    return found


def _flag(group: h5py.Group, name: str) -> bool:
    try:
        value = plain(group[name].attrs.get("errorFlag", 0))
    except DAMAGE:
        return False
    return isinstance(value, (int, float)) and value != 0


def _conditions(opened: Opened, group: h5py.Group, attributes: Mapping[str, str]) -> dict[str, Condition]:
    found: dict[str, Condition] = {}
    for condition, places in _ATTRIBUTES.items():
        for key, unit in places:
            value = _number(attributes, key)
            source = f"{opened.name}:{group.name.lstrip('/')}@{key}"
            stated = f"{source} (in {unit})" if unit else source
            made_of = (
                made(Quantity(value, unit), condition, stated)
                if value is not None and is_known(condition, value)
                else None
            )
            if made_of is not None:
                found[condition] = made_of
                break
    return found
