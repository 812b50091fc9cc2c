"""How names and times stand in what `--json` prints."""

from __future__ import annotations

from datetime import datetime


def name_of(text: str) -> str:
    """A name or path as JSON text: bytes that are not UTF-8 become escapes."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def time_text(value: datetime | None) -> str | None:
    """A moment in ISO 8601, UTC as `Z`; None for none."""
    return None if value is None else value.isoformat().replace("+00:00", "Z")
