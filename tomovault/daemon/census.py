"""The first import of a full server: one area is swept and every place in it looked into, and nothing else is done.

What was looked into is in the catalogue, so a census that was stopped goes on where it was.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from tomovault.catalog.census import Progress, census_progress
from tomovault.core.errors import Transient
from tomovault.daemon.clerk import Clerk
from tomovault.daemon.lookout import Lookout
from tomovault.daemon.presence import Presence
from tomovault.daemon.teller import Teller
from tomovault.vault.fellows import read_fellows
from tomovault.vault.plugins import list_kinds
from tomovault.vault.telling import last_told
from tomovault.vault.vault import Vault

#: How often the progress is told, and a daemon's work looked at.
_TOLD_EVERY_S, _LOOKED_EVERY_S = 1.0, 0.5

#: Counting takes at most one part in so many of the time.
_SHARE = 20.0

#: What has not settled after this, and twice the quiet time, is being written.
_LEAST_PATIENCE_S = 10.0

#: Called with how far it is, and whether every folder was listed once.
Told = Callable[[Progress, bool], None]


class CensusClerk(Clerk):
    """A clerk that watches one area and has only its candidates looked into; it ends when all were."""

    def __init__(self, vault: Vault, area: str, *, stop: threading.Event, told: Told) -> None:
        super().__init__(vault, stop=stop, tell=lambda _what, _facts: None, busy=lambda: False)
        self.lookout = Lookout(vault, only_settled=True)
        self.presence = Presence(vault, self._lead, self.lookout, tell=lambda _what, _facts: None)
        self._teller = _Silence(vault)
        self._area = area
        self._ends = _End(vault, told)
        self._steps.clear()
        self._steps.extend((self._take_looks, lambda _now: self.workers.reap(tell=self._job_ended), self.launch))

    def is_idle(self) -> bool:
        """The area was swept, and all in it looked into, but for what is still being written."""
        if self.absence():
            return True
        looks = self._unfinished is not None or not self.presence.looks.empty()
        swept = bool(self.lookout.swept.get(self._area)) and not looks
        return self._ends.reached(self._area, swept, self.lookout.unsettled.get(self._area, 0))

    def launch(self, now: datetime) -> int:
        """One more look is under way, if one waits."""
        others = frozenset(self.vault.site.areas) - {self._area}
        absent = self.presence.gone() | others
        stopped = frozenset(self.lookout.stopped)
        return self.workers.launch(now, absent=absent, stopped=stopped, without=_everything_else())

    def absence(self) -> str:
        """Why the area could not be swept; '' if it was."""
        return self.presence.absence(self._area)

    def _take_place(self) -> None:
        self.foreman.take_up_orphans()
        self.presence.start(lambda area: area.name == self._area)
        self.foreman.leads = True


class _Silence(Teller):
    """A census is no daemon: it neither raises alarms nor takes back those that a daemon has raised."""

    def look(self, *_of: Any, **_how: Any) -> None:
        """Nothing is told."""


class _End:
    """Tells how far a census is, and knows when it is over."""

    def __init__(self, vault: Vault, told: Told) -> None:
        self._vault = vault
        self._told = told
        self._not_before = 0.0
        self._at_rest_since: float | None = None

    def reached(self, area: str, swept: bool, unsettled: int) -> bool:
        """Whether everything was looked into. What does not settle for long is being written, and not waited for."""
        began = time.monotonic()
        if began < self._not_before:
            return False
        with self._vault.catalogue.reading() as tx:
            progress = census_progress(tx, area)
        now = time.monotonic()
        self._not_before = now + max(_TOLD_EVERY_S, _SHARE * (now - began))
        self._told(progress, swept)
        if not swept or progress.at_work:
            self._at_rest_since = None
            return False
        self._at_rest_since = self._at_rest_since or now
        watch = self._vault.site.watch
        return unsettled == 0 or now - self._at_rest_since > max(2 * watch.quiet_s + watch.poll_s, _LEAST_PATIENCE_S)


def _everything_else() -> frozenset[str]:
    """A census does nothing but look."""
    return frozenset(list_kinds("actions")) - {"inspect"}


def take_census(vault: Vault, area: str, told: Told, stop: threading.Event) -> None:
    """Everything in the area was looked into, by this process, or by the daemon where one runs.

    Raises Transient where the area is not there, or is another machine's.
    """
    vault.area(area)
    with vault.catalogue.reading() as tx:
        fellows = read_fellows(vault, tx)
    if fellows.leader is not None or fellows.daemons:
        _watch_the_daemon(vault, area, told, stop)
        return
    if why := vault.unwatched(area):
        raise Transient(why, hint="take the census on that machine")
    give_way()
    clerk = CensusClerk(vault, area, stop=stop, told=told)
    clerk.run(until_idle=True)
    if absent := clerk.absence():
        raise Transient(f"area {area}: {absent}", hint="tomovault doctor says what is wrong with it")


def _watch_the_daemon(vault: Vault, area: str, told: Told, stop: threading.Event) -> None:
    """The daemon looks into the area by itself: how far it is is told until it has."""
    ends = _End(vault, told)
    while not stop.wait(_LOOKED_EVERY_S):
        with vault.catalogue.reading() as tx:
            fellows = read_fellows(vault, tx)
        holders = {*fellows.daemons.values(), *filter(None, [fellows.leader])}
        if not holders:
            raise Transient("the daemon that took the census has stopped", hint="run the same command again")
        said: dict[str, Any] = last_told(vault, sorted(holders))
        if said.get("holder") not in holders:
            continue  # the daemon has just started, and what is told is of one before it
        if absent := said.get("absent", {}).get(area):
            raise Transient(f"area {area}: {absent}", hint="tomovault doctor says what is wrong with it")
        unsettled = said.get("unsettled", {})
        if ends.reached(area, area in unsettled, unsettled.get(area, 0)):
            return


def give_way() -> None:
    """This process, and those that it starts, read only when nobody else does, where the system can see to it."""
    with contextlib.suppress(OSError):
        os.nice(10)
    if ionice := shutil.which("ionice"):
        subprocess.run([ionice, "-c3", "-p", str(os.getpid())], check=False, capture_output=True)
