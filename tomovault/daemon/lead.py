"""A daemon's place among those of its catalogue: one leads, and each knows at once when it has no place any more."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import structlog

from tomovault.core.errors import TomovaultError, Transient
from tomovault.vault.asking import take_lead
from tomovault.vault.fellows import LEADER, Fellows, daemon_lease, read_fellows
from tomovault.vault.vault import Vault

log = structlog.get_logger(__name__)

#: The others are looked at this often.
_LOOK_S = 1.0


class Lead:
    """The leases of one holder: on the lead, on its machine, and the words that others read (see `vault.fellows`)."""

    def __init__(self, vault: Vault, holder: str) -> None:
        self._vault = vault
        self._holder = holder
        self._lease_s = vault.site.lease_s
        self._life: Any = None
        self._renewed_at = 0.0
        self._looked_at = 0.0
        self._words: frozenset[str] = frozenset()
        self.leads = False
        #: Why this daemon must stop; '' while it has its place.
        self.lost = ""
        #: Whether the last renewal came so late that others may have done what was claimed here.
        self.lapsed = False
        self.fellows = Fellows()

    def join(self) -> datetime | None:
        """This daemon leads or, on a shared catalogue, follows; returns the time of the newest entry in the audit log.

        Raises Transient, naming the holder, where another has the place: on SQLite any daemon, on a shared catalogue
        one of the same machine.
        """
        self._life = self._vault.catalogue.hold_life(self._holder)
        began = time.monotonic()
        with self._ended_if_refused():
            if self._vault.shared:
                self._take_machine()
            if not self.try_lead() and not self._vault.shared:
                raise _refusal("another daemon leads this site", self._holder_of(LEADER))
            self._renewed_at = began
            with self._vault.catalogue.reading() as tx:
                return max((entry.at for entry in self._vault.catalogue.list_audit(tx, limit=1)), default=None)

    def try_lead(self) -> bool:
        """Whether this daemon leads now; then nothing is left of leaders that died, and every tier is recorded."""
        if not take_lead(self._vault, self._holder):
            return False
        with self._vault.catalogue.writing() as tx:
            self._vault.record_tiers(tx)
        self.leads = True
        return True

    def renew(self) -> bool:
        """Whether this daemon has its place still; the catalogue is asked every third of the lease."""
        if self.lost:
            return False
        began = time.monotonic()
        self.lapsed = False
        if began - self._renewed_at < self._lease_s / 3:
            return True
        with self._vault.catalogue.writing() as tx:
            held = self._vault.catalogue.renew_leases(tx, self._holder, self._lease_s)
        if self.leads and LEADER not in held:
            self.lost = "another daemon took the lead"
        elif self._vault.shared and daemon_lease(self._vault.host) not in held:
            self.lost = f"another daemon took the place of this one on {self._vault.host}"
        if self.lost:
            log.error("stopping", reason=self.lost)
            return False
        self._words &= held
        self.lapsed = began - self._renewed_at > self._lease_s
        self._renewed_at = began
        return True

    def look_round(self, words: frozenset[str]) -> bool:
        """The others read these words of this daemon and no other, and `fellows` is how they are; at most once in a
        while, and whether it was now.
        """
        if time.monotonic() - self._looked_at < _LOOK_S:
            return False
        if words != self._words:
            self._tell(words)
        with self._vault.catalogue.reading() as tx:
            self.fellows = read_fellows(self._vault, tx)
        self._looked_at = time.monotonic()
        return True

    def drop(self) -> None:
        """Every lease of ours is free, if the catalogue can be reached."""
        with contextlib.suppress(TomovaultError), self._vault.catalogue.writing() as tx:
            self._vault.catalogue.drop_leases(tx, self._holder)
        self._end_life()

    def _tell(self, words: frozenset[str]) -> None:
        catalogue = self._vault.catalogue
        with catalogue.writing() as tx:
            for gone in self._words - words:
                catalogue.drop_lease(tx, gone, self._holder)
            told = {w for w in words if w in self._words or catalogue.take_lease(tx, w, self._holder, self._lease_s)}
        self._words = frozenset(told)

    def _take_machine(self) -> None:
        name = daemon_lease(self._vault.host)
        with self._vault.catalogue.writing() as tx:
            if self._vault.catalogue.take_lease(tx, name, self._holder, self._lease_s):
                return
        raise _refusal(f"another daemon runs for the machine {self._vault.host}", self._holder_of(name))

    def _holder_of(self, name: str) -> str | None:
        with self._vault.catalogue.reading() as tx:
            holder: str | None = self._vault.catalogue.lease_holder(tx, name)
        return holder

    @contextlib.contextmanager
    def _ended_if_refused(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self._end_life()
            raise

    def _end_life(self) -> None:
        if self._life is not None:
            self._life.close()


def _refusal(what: str, holder: str | None) -> Transient:
    return Transient(f"{what}: {holder}", hint="stop it first, or look at it with `tomovault status`")
