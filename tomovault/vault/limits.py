"""Where usage stands against the limits of the section `quotas`."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from tomovault.catalog.usage import usage_above, usage_of
from tomovault.catalog.usage_history import note_over, over_since
from tomovault.policy.limits import Exceeded, Level, Quotas, Standing, Subject, stand


def find_exceeded(tx: Any, quotas: Quotas, now: datetime) -> Exceeded:
    """The limits that are exceeded, by the roll-up as it is. Only what has a limit of its own is looked up; where every
    other proposal has one, those above it are.
    """
    groupings = quotas.groupings
    if not groupings:
        return Exceeded()
    since = over_since(tx)
    found: dict[Subject, Standing] = {}
    for by in groupings:
        for value, (size, files) in _limited(tx, quotas, by).items():
            limit = quotas.of(by, value)
            if limit is None:
                continue
            standing = stand((by, value), limit, size, files, since.get((by, value)), now)
            if standing.level is not Level.WITHIN:
                found[by, value] = standing
    return Exceeded(found)


def _limited(tx: Any, quotas: Quotas, by: str) -> dict[str, tuple[int, int]]:
    """(bytes, files) of all that may be above its limit."""
    named = usage_of(tx, by, [value for kind, value in quotas.limits if kind == by])
    if by != "proposal" or quotas.default is None:
        return named
    sizes = [size for size in (quotas.default.soft, quotas.default.hard) if size is not None]
    return {**usage_above(tx, by, bytes=min(sizes, default=None), files=quotas.default.files), **named}


def note_exceeded(tx: Any, quotas: Quotas, now: datetime) -> None:
    """The catalogue knows since when each soft limit is exceeded, and of no other."""
    exceeded = find_exceeded(tx, quotas, now).by_subject.values()
    over = {s.subject for s in exceeded if s.limit.soft is not None and s.bytes > s.limit.soft}
    if over != set(over_since(tx)):
        note_over(tx, over, now)
