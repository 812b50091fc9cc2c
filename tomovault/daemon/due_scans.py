"""Which scans are due to be looked at, without walking again and again over those of areas that rest; and those that
wait for a date which a clock that was ahead has written.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from tomovault.catalog.dates import bring_jobs_forward, bring_messages_forward, bring_scans_forward
from tomovault.catalog.scans import list_due
from tomovault.vault.vault import Vault

#: So long after the moment that it says may a date be recorded: by a machine whose clock is behind, or after a wait
#: for the catalogue's one writer.
_LATE = timedelta(minutes=5)

#: Every so often all that is due is walked over, also what is of areas that rest.
_ALL_EVERY_S = 600.0


#: Scans whose dates one turn brings forward.
_FORWARD_AT_ONCE = 1000


class DueScans:
    """Remembers, for areas that rest, before which moment nothing but their scans was due."""

    def __init__(self, vault: Vault, steady: Callable[[], float] = time.monotonic) -> None:
        self._vault = vault
        self._steady = steady
        self._forward_from: str | None = None
        self._resting: frozenset[str] = frozenset()
        self._since: datetime | None = None
        self._all_at = float("-inf")

    def find(self, tx: Any, now: datetime, limit: int, resting: frozenset[str]) -> list[str]:
        """Scans that are due and of no area that rests, longest due first, so many at most."""
        at = self._steady()
        is_behind = self._since is not None and now < self._since  # the clock was set back
        if resting != self._resting or at - self._all_at >= _ALL_EVERY_S or is_behind:
            self._resting, self._since, self._all_at = resting, None, at
        found = list_due(tx, now, limit, skip_areas=resting, since=self._since)
        if resting and len(found) < limit:
            self._since = now - _LATE
        return found

    def believe_no_date(self) -> None:
        """All that waits for a date is to be looked at: the clock by which that was written was ahead."""
        self._forward_from = ""

    def bring_forward(self, now: datetime) -> int:
        """Some of what waits for a date that is not believed is due now; returns how many turns that took, 0 where
        nothing is left of it. Raises Transient where the catalogue is busy.
        """
        if self._forward_from is None:
            return 0
        with self._vault.catalogue.writing() as tx:
            if not self._forward_from:
                bring_jobs_forward(tx, now)
                bring_messages_forward(tx, now)
            after = bring_scans_forward(tx, now, self._forward_from, _FORWARD_AT_ONCE)
        self._forward_from = after
        return 1
