"""Where usage stands against the limits of the section `quotas`."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from tomovault.catalog.usage_history import note_over, over_since
from tomovault.policy.limits import Exceeded, Level, Quotas, Standing, Subject, stand

if TYPE_CHECKING:
    from tomovault.catalog.catalogue import Catalogue


def find_exceeded(catalogue: Catalogue, tx: Any, quotas: Quotas, now: datetime) -> Exceeded:
    """The limits that are exceeded, by the roll-up as it is."""
    groupings = quotas.groupings
    if not groupings:
        return Exceeded()
    since = over_since(tx)
    found: dict[Subject, Standing] = {}
    for by in groupings:
        for row in catalogue.usage(tx, by):
            limit = quotas.of(by, row.value)
            if limit is None or row.value is None:
                continue
            standing = stand((by, row.value), limit, row.bytes, row.files, since.get((by, row.value)), now)
            if standing.level is not Level.WITHIN:
                found[by, row.value] = standing
    return Exceeded(found)


def note_exceeded(catalogue: Catalogue, tx: Any, quotas: Quotas, now: datetime) -> None:
    """The catalogue knows since when each soft limit is exceeded, and of no other."""
    exceeded = find_exceeded(catalogue, tx, quotas, now).by_subject.values()
    over = {s.subject for s in exceeded if s.limit.soft is not None and s.bytes > s.limit.soft}
    if over != set(over_since(tx)):
        note_over(tx, over, now)
