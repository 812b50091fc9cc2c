"""Experimental conditions of an EDF series, each with the file and key it was read from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from tomovault.core.scan import CONDITION_UNITS, Condition
from tomovault.formats.edf_series import Series
from tomovault.formats.origin import clean
from tomovault.formats.quantities import is_known, measure
from tomovault.formats.spec_text import whole

#: Condition, `.info` key, `.xml` element; values stand in the unit of CONDITION_UNITS in both texts.
_KEYS: tuple[tuple[str, str, str], ...] = (
    ("energy", "energy", "energy"),
    ("distance", "distance", "distance"),
    ("source_distance", "source_distance", "sourcesampledistance"),
    ("pixel_size", "pixelsize", "pixelsize"),
    ("exposure", "count_time", "ccdtime"),
    ("scan_range", "scanrange", "scanrange"),
    ("n_projections", "tomo_n", "tomo_n"),
    ("n_flats", "ref_n", "ref_n"),
    ("n_darks", "dark_n", "dark_n"),
    ("flat_interval", "ref_on", "ref_on"),
    ("current", "srcurrent", "machinecurrentstart"),
    ("frame_width", "dim_1", "dim_1"),
    ("frame_height", "dim_2", "dim_2"),
)
_COUNTS = frozenset({"n_projections", "n_flats", "n_darks", "flat_interval", "frame_width", "frame_height"})
#: Where no text speaks, the header of the first frame does.
_HEADER_KEYS = {"exposure": "count_time", "frame_width": "dim_1", "frame_height": "dim_2"}
#: No EDF series of a CCD is older.
_OLDEST_S = 631152000.0  # 1990-01-01


def read_conditions(series: Series) -> dict[str, Condition]:
    """Every condition that a text or the first header states; the `.info` is asked first."""
    return {name: found for name, info_key, xml_key in _KEYS if (found := _find(series, name, info_key, xml_key))}


def _find(series: Series, name: str, info_key: str, xml_key: str) -> Condition | None:
    for text, source in _sources(series, name, info_key, xml_key):
        value = whole(text) if name in _COUNTS else measure(text, CONDITION_UNITS[name])
        # None of these conditions can be negative but the range, of which -1 stands for an unknown one in the XML.
        if value is not None and (is_known(name, value) or (name == "scan_range" and value != -1)):
            return Condition(value, CONDITION_UNITS[name], source)
    return None


def _sources(series: Series, name: str, info_key: str, xml_key: str) -> Iterator[tuple[str | None, str]]:
    if series.info is not None:
        yield series.info.get(info_key), f"{series.names.info or series.prefix + '.info'}:{info_key}"
    if series.xml is not None:
        yield series.xml.values.get(xml_key), f"{series.names.xml or series.prefix + '.xml'}:{xml_key}"
    header = series.first_header
    if header is not None and name in _HEADER_KEYS:
        yield header.keys.get(_HEADER_KEYS[name]), f"{_first_name(series)}:{_HEADER_KEYS[name]}"
    if header is not None and name == "current":
        counters = header.counters()
        current = next((counters[c] for c in ("srcur", "srcurrent") if c in counters), None)
        yield None if current is None else str(current), f"{_first_name(series)}:counter_pos"


def _first_name(series: Series) -> str:
    return next(iter(series.frames), series.prefix)


def acquired_at(series: Series) -> tuple[datetime | None, str]:
    """When the scan was taken, and by what: the first header's epoch (UTC), else the oldest projection's time.

    The header's `date` is local time without a zone and may disagree with `epoch` by hours; it is not used.
    """
    epoch = series.first_header.number("epoch") if series.first_header else None
    if epoch is not None and _OLDEST_S < epoch < 2**33:
        return datetime.fromtimestamp(epoch, UTC), f"{_first_name(series)}:epoch"
    times = [series.frames[n].mtime_ns for n in series.names.projections.values() if n in series.frames]
    if not times:
        return None, ""
    try:
        return datetime.fromtimestamp(min(times) / 1e9, UTC), "mtime of the oldest projection"
    except (OverflowError, ValueError, OSError):
        return None, ""


def read_metadata(series: Series) -> dict[str, Any]:
    """Everything else that the texts and the first header say, as plain JSON."""
    header: Mapping[str, str] = series.first_header.keys if series.first_header else {}
    found: dict[str, Any] = {
        "info": dict(series.info or {}),
        "xml": dict(series.xml.values) if series.xml else {},
        "xml_motors": dict(series.xml.motors) if series.xml else {},
        "header": {k: v for k, v in header.items() if not k.startswith(("motor_", "counter_"))},
        "motors": series.first_header.motors() if series.first_header else {},
        "counters": series.first_header.counters() if series.first_header else {},
    }
    plain: dict[str, Any] = clean({key: value for key, value in found.items() if value})
    return plain
