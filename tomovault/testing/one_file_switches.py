"""Everything that can be different about a scan in one HDF5 file, one switch each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class OneFileSwitches:
    """The plain scan by default. `announced`: the file says how many projections, flats and darks were asked for."""

    images: Literal["appended", "at_once", "gzip", "linked", "linked_late", "linked_missing", "zero_for_ever"] = (
        "appended"
    )
    end: Literal["plain", "none", "short"] = "plain"
    angles: Literal["plain", "none"] = "plain"
    flats: Literal["before", "between", "missing"] = "before"
    announced: bool = True
    dropped: bool = False
