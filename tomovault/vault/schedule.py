"""The beam times to come: those of the section `quotas`, and those of a file that the site's user office writes.

The file is CSV with a head: `start,end,proposal,area,expected size`; days as 2027-03-31, sizes as 8TB.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Mapping
from datetime import date
from typing import TYPE_CHECKING

from tomovault.core.errors import UserError
from tomovault.policy.forecast import BeamTime
from tomovault.policy.quantity import parse_size, show_found

if TYPE_CHECKING:
    from tomovault.vault.site_settings import QuotaSettings

_HEAD = ("start", "end", "proposal", "area", "expected size")


def read_schedule(settings: QuotaSettings, areas: Collection[str]) -> tuple[BeamTime, ...]:
    """Every beam time that the site tells of. Raises UserError with each problem of the file, by its line."""
    if settings.schedule_file is None:
        return settings.schedule
    path = settings.schedule_file
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError) as problem:
        reason = getattr(problem, "strerror", None) or "it is not UTF-8 text"
        raise UserError(f"the schedule {path} cannot be read: {reason}", hint="quotas.schedule_file names it") from None
    return settings.schedule + parse_schedule(text, path, areas)


def parse_schedule(text: str, file_name: str, areas: Collection[str]) -> tuple[BeamTime, ...]:
    """The beam times of a file's text. Raises UserError with each problem, by its line."""
    rows = csv.DictReader(io.StringIO(text), restkey="more")
    head = tuple(name.strip().lower() for name in rows.fieldnames or ())
    if sorted(head) != sorted(_HEAD):
        raise UserError(f"{file_name}:1: the head is not {','.join(_HEAD)}", hint="one line for each beam time follows")
    rows.fieldnames = list(head)
    found: list[BeamTime] = []
    problems: list[str] = []
    for row in rows:
        try:
            found.append(_beam_time(row, areas))
        except ValueError as problem:
            problems.append(f"{file_name}:{rows.line_num}: {problem}")
    if problems:
        raise UserError("\n".join(problems), hint="nothing of the schedule was used")
    return tuple(found)


def _beam_time(row: Mapping[str, str], areas: Collection[str]) -> BeamTime:
    if row.get("more") or None in row.values():
        raise ValueError(f"not {len(_HEAD)} values")
    start, end = parse_day(row["start"]), parse_day(row["end"])
    if end < start:
        raise ValueError(f"it would end on {end} before it starts on {start}")
    area = row["area"].strip() or None
    if area is not None and area not in areas:
        raise ValueError(f"there is no area {area!r}")
    return BeamTime(start, end, row["proposal"].strip() or None, area, parse_size(row["expected size"]))


def parse_day(text: str) -> date:
    """A day of the calendar. Raises ValueError that says what is legal."""
    try:
        if len(text.strip()) == len("2027-03-31"):
            return date.fromisoformat(text.strip())
    except ValueError:
        pass
    raise ValueError(f"{show_found(text)} is not a day of the calendar; write it as 2027-03-31")
