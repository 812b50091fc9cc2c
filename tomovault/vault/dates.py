"""Dates as people type them."""

from __future__ import annotations

from datetime import UTC, date, datetime, time

from tomovault.core.errors import UserError


def parse_end(text: str, now: datetime) -> datetime:
    """The last second of a day, or the very moment where a time is given; aware UTC. Raises UserError if it is over."""
    try:
        if len(text) <= 10:
            moment = datetime.combine(date.fromisoformat(text), time(23, 59, 59), tzinfo=UTC)
        else:
            moment = datetime.fromisoformat(text)
            moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError) as problem:
        raise UserError(f"{text!r} is not a date", hint="write it as 2027-03-31") from problem
    if moment <= now:
        raise UserError(f"{text} is over already")
    return moment
