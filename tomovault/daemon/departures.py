"""What we take away ourselves: the watches of the areas are told, so that they do not miss it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from tomovault.catalog.departing import list_departed, list_departing
from tomovault.core.scan import Candidate
from tomovault.vault.vault import Vault


class Watching(Protocol):
    """A watch of an area, as far as it can be told of removals."""

    def forget(self, candidates: list[Candidate], /) -> None:
        """They are gone."""

    def let_leave(self, candidates: list[Candidate], /) -> None:
        """They may be gone at any moment."""

    def keep(self, candidates: list[Candidate], /) -> None:
        """They are not going after all."""


class Departures:
    """Knows of which scans the watches were told: from before the first file is moved until it is known how it went."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._leaving: dict[str, tuple[str, Candidate]] = {}
        self._due = True

    def ask(self) -> None:
        """A removal began or ended, or an area is watched anew."""
        self._due = True

    def look(self, watches: Mapping[str, Watching]) -> None:
        """The watches know what leaves now, and what has left since. Raises Transient where the catalogue is busy: then
        they are told at the next look.
        """
        if not self._due:
            return
        with self._vault.catalogue.reading() as tx:
            leaving = list_departing(tx)
            over = self._leaving.keys() - leaving.keys()
            departed = list_departed(tx, over) if over else frozenset()
        for area, candidate in leaving.values():
            if area in watches:
                watches[area].let_leave([candidate])
        for permit in over:
            area, candidate = self._leaving[permit]
            if area in watches:
                (watches[area].forget if permit in departed else watches[area].keep)([candidate])
        self._leaving = leaving
        self._due = False
