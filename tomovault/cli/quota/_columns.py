"""The columns of `--csv`, after the one of the grouping: their order is a promise."""

from __future__ import annotations

USAGE = (
    "bytes",
    "files",
    "scans",
    "limit_bytes",
    "used_fraction",
    "full_fraction",
    "high",
    "low",
    "days_to_full",
    "days_to_full_early",
    "days_to_full_late",
    "days_to_full_why",
    "logical_bytes",
    "saved_fraction",
    "soft_bytes",
    "hard_bytes",
    "limit_files",
    "level",
    "over_since",
    "grace_left_s",
)

HISTORY = ("at", "bytes", "files", "scans", "logical_bytes", "written_bytes")
