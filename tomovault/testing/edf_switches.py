"""Everything that can be different about an EDF scan of SPEC and FReLoN, one switch each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class EdfSwitches:
    """The plain scan by default. Waits are in seconds of acquisition time."""

    info: Literal["start", "end", "never", "rewritten"] = "start"
    info_text: Literal["plain", "latin1", "equals", "crlf", "no_pixel_size", "float_count"] = "plain"
    xml: Literal["end", "never", "partial", "early"] = "end"
    refs: Literal["k_angle", "angle_k", "single_digit"] = "k_angle"
    refs_written: Literal["all", "none", "no_last"] = "all"
    refs_asked: bool = True
    ref_on: Literal["half", "uneven", "zero"] = "half"
    dark: Literal["end", "first", "missing"] = "end"
    alignment: int = 3
    #: How the bytes of a projection arrive; the last four are about the last projection only.
    body: Literal[
        "plain", "fsync", "steps", "tmp_rename", "preallocated", "zero_for_ever", "late_tail", "late_body"
    ] = "plain"
    late_s: float = 20.0
    order: Literal["in_order", "bursts", "index_0_last"] = "in_order"
    pace: Literal["even", "gaps", "beam_loss", "refill", "folder_early"] = "even"
    fault: Literal[
        "", "lost", "header_only", "truncated", "over_long", "disk_full", "abort", "silent_abort", "empty"
    ] = ""
    after: Literal["", "reduced", "reconstructed"] = ""
    again: Literal["", "in_place", "renamed", "after_kill", "after_abort"] = ""
    series: Literal["", "back_to_back", "holo", "holo_missing", "prefix"] = ""
    mtime: Literal["", "ahead", "behind", "future", "copied", "backwards"] = ""
    place: Literal["", "lagging", "split", "moved"] = ""
    noise: bool = False
    naming: Literal["", "spaces", "newline", "bytes"] = ""
    digits: int = 4
