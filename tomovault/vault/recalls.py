"""Whose turn it is at the drives of a site's libraries: which of the jobs that need a cartridge is claimed next."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tomovault.catalog.recalls import Errand, list_errands
from tomovault.core.ports import DriveState
from tomovault.recall.request import DriveNow, Kind
from tomovault.recall.visit import Visit, Why, choose_visit
from tomovault.vault.libraries import Library, Placing, open_libraries, share_out
from tomovault.vault.places import tiers_there

if TYPE_CHECKING:
    from tomovault.vault.vault import Vault

#: So many of each kind of those that waited longest are weighed against each other.
_MOST = 300

#: After a look at which nothing could begin, the next one is so much later unless a job ends before.
_REST = timedelta(seconds=1)

#: A drive that nobody has wanted for so long is on no visit any more.
_OVER = timedelta(seconds=10)

#: What a look was about: actions, places passed over, and whether jobs that are bound to no machine count.
_Asked = tuple[frozenset[str], frozenset[str], bool]


@dataclass(frozen=True)
class Turn:
    """A job that has a drive now, and the location, or for an archive the domain, that it begins with."""

    job: str
    library: str
    visit: Visit
    begins: str


@dataclass(frozen=True)
class Line:
    """What a look at the queue found: whose turn it is at a drive, and who needs none; each may be nobody."""

    turn: Turn | None
    without_drive: str | None
    oldest_needs_drive: bool


class Recalls:
    """The turns of one holder of claims. It knows of the drives what the libraries say and which jobs it runs itself;
    those of others keep their drives by the libraries' own locks.
    """

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._running: dict[str, Turn] = {}
        #: By library and cartridge, since a library may take another drive than was thought.
        self._since: dict[tuple[str, str], datetime] = {}
        self._left: dict[tuple[str, str], datetime] = {}
        self._rest_until: dict[_Asked, datetime] = {}

    @cached_property
    def libraries(self) -> Mapping[str, Library]:
        """The libraries of the site by name."""
        return open_libraries(self._vault.site)

    def rests(self, now: datetime, *, actions: Collection[str], skip_places: Collection[str], unbound: bool) -> bool:
        """Whether the same look just now found nothing that could begin."""
        until = self._rest_until.get(_asked(actions, skip_places, unbound))
        return until is not None and timedelta(0) < until - now <= _REST

    def look(
        self, tx: Any, now: datetime, *, actions: Collection[str], skip_places: Collection[str], unbound: bool
    ) -> Line:
        """Whose turn it is among the jobs that may be claimed here now."""
        errands = list_errands(
            tx,
            now,
            limit=_MOST,
            actions=actions,
            skip_places=skip_places,
            host=self._vault.host,
            unbound=unbound,
        )
        needing: set[str] = set()
        turns: list[Turn] = []
        shares = share_out(errands, self.libraries, tiers_there(self._vault))
        for name, library in self.libraries.items():
            placings = library.requests(shares[name], now)
            drives = self._drives(library, now)
            needing |= placings.keys() if drives else set()
            turns += self._turns(library, placings, drives, now)
        turn = _most_urgent(turns, errands)
        without = next((errand.job for errand in errands if errand.job not in needing), None)
        if turn is None and without is None:
            self._rest_until[_asked(actions, skip_places, unbound)] = now + _REST
        return Line(turn, without, bool(errands) and errands[0].job in needing)

    def begin(self, turn: Turn, now: datetime) -> None:
        """A job was claimed for its turn."""
        self._running[turn.job] = turn
        if turn.visit.why is not Why.GOES_ON:
            self._since[turn.library, turn.visit.cartridge] = now

    def end(self, job: str, now: datetime) -> None:
        """A job runs no longer, whether it had a drive or not."""
        self._rest_until.clear()
        turn = self._running.pop(job, None)
        if turn is not None:
            self._left[turn.library, turn.visit.cartridge] = now

    def drive(self, job: str) -> dict[str, Any] | None:
        """The library and the drive that were chosen for a running job; None where it may take any."""
        turn = self._running.get(job)
        return None if turn is None else {"tier": turn.library, "number": turn.visit.drive}

    def begins(self, job: str) -> str:
        """The location or domain that a running job begins with; '' where it may choose."""
        turn = self._running.get(job)
        return "" if turn is None else turn.begins

    def _turns(
        self, library: Library, placings: Mapping[str, Placing], drives: Sequence[DriveNow], now: datetime
    ) -> list[Turn]:
        """The next one at a library, if one can begin there."""
        requests = [placing.request for placing in placings.values()]
        names = {copy.cartridge for request in requests for copy in request.copies}
        names |= {drive.cartridge for drive in drives if drive.cartridge is not None}
        limits, at = self._vault.site.recall, now.timestamp()
        visit = choose_visit(requests, drives, dict.fromkeys(names, library.timing), limits, at)
        if visit is None:
            for drive in drives:
                if drive.busy_until <= at and drive.cartridge is not None:
                    self._since.pop((library.name, drive.cartridge), None)
            return []
        job = visit.order[0]
        return [Turn(job, library.name, visit, placings[job].begins.get(visit.cartridge, ""))]

    def _drives(self, library: Library, now: datetime) -> list[DriveNow]:
        """As the library says, and busy where one of our jobs is: in the drive that its cartridge is in by now."""
        running = {t.visit.cartridge: t for t in self._running.values() if t.library == library.name}
        states = library.drives()
        at_home = {state.number: running.pop(state.cartridge or "", None) for state in states}
        for turn in running.values():  # its cartridge is still on the way
            number = turn.visit.drive
            if at_home.get(number) is not None:
                number = next((n for n, other in at_home.items() if other is None), number)
            at_home[number] = turn
        return [self._drive(library.name, state, at_home[state.number], now) for state in states]

    def _drive(self, library: str, state: DriveState, turn: Turn | None, now: datetime) -> DriveNow:
        cartridge = state.cartridge if turn is None else turn.visit.cartridge
        since = self._begun(library, cartridge, now)
        if turn is not None:
            return DriveNow(state.number, cartridge, state.position, math.inf, since)
        left = self._left.get((library, cartridge or ""))
        if left is not None and not timedelta(0) <= now - left <= _OVER:
            since = None
        return DriveNow(state.number, cartridge, state.position, since=since)

    def _begun(self, library: str, cartridge: str | None, now: datetime) -> float | None:
        """When the visit to a cartridge began; None where none is known, or the clock was put back behind it."""
        begun = self._since.get((library, cartridge or ""))
        return begun.timestamp() if begun is not None and begun <= now else None


def _asked(actions: Collection[str], skip_places: Collection[str], unbound: bool) -> _Asked:
    return frozenset(actions), frozenset(skip_places), unbound


def _most_urgent(turns: Sequence[Turn], errands: Sequence[Errand]) -> Turn | None:
    """Of the turns at several libraries the one that goes first: the same rule as within one of them."""
    known = {errand.job: errand for errand in errands}

    def rank(turn: Turn) -> tuple[bool, bool, datetime]:
        errand = known[turn.job]
        return turn.visit.why is not Why.WAITED, errand.action != Kind.RESTORE, errand.queued_at

    return min(turns, key=rank, default=None)
