"""Lists of what is wanted from a library, kept in files so that a ticket outlives whoever asked."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from datetime import datetime

from tomovault.core.errors import UserError
from tomovault.tiers.blocks import replace_file, translating


class Tickets:
    """The stage lists of one tier, in a folder."""

    def __init__(self, folder: str, tier: str) -> None:
        self._folder = folder
        self._tier = tier

    def write(self, places: Sequence[object], order: Iterable[object], at: datetime) -> str:
        """The ticket of a list, whose locations are read in this order. The same list has the same ticket."""
        ticket = hashlib.sha256("\n".join(map(str, places)).encode()).hexdigest()[:32]
        plain = {"locations": [str(place) for place in order], "at": at.isoformat()}
        with translating("the stage list"):
            replace_file(self._path(ticket), json.dumps(plain).encode("ascii"), alone=False)
        return ticket

    def read(self, ticket: str) -> list[str]:
        """The locations of a ticket in the order of reading. Raises UserError where there is none."""
        try:
            with open(self._path(ticket), "rb") as stream:
                locations: list[str] = json.loads(stream.read())["locations"]
        except FileNotFoundError as problem:
            raise UserError(f"nothing is staged under ticket {ticket!r}") from problem
        return locations

    def forget(self, ticket: str) -> None:
        """There is no such ticket any more."""
        with translating("the stage list"), contextlib.suppress(FileNotFoundError):
            os.unlink(self._path(ticket))

    def _path(self, ticket: str) -> str:
        if not (ticket.isascii() and ticket.isalnum()):
            raise UserError(f"{ticket!r} is no ticket of tier {self._tier}")
        return os.path.join(self._folder, f"{ticket}.json")
