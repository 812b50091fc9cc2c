"""Everything that can be different about a BLISS scan, one switch each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class BlissSwitches:
    """The plain scan by default."""

    frames_per_file: int = 10
    camera: Literal["plain", "late", "filled_late", "short", "missing", "truncated"] = "plain"
    compression: Literal["", "gzip", "bitshuffle"] = ""
    vds: Literal["relative", "absolute", "too_many", "external", "dangling"] = "relative"
    end: Literal["SUCCESS", "USER_ABORT", "FAILURE", "none", "killed", "writer_failed"] = "SUCCESS"
    file: Literal["plain", "swmr", "latest"] = "plain"
    scans: int = 1
    overlap: bool = False
    units: Literal["ms", "s"] = "ms"
    energy: bool = True
    collection: bool = False
