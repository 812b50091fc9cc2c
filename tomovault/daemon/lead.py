"""The lead of a site: one daemon decides, and knows at once when it is no longer the one."""

from __future__ import annotations

import contextlib
import time
from datetime import datetime
from typing import Any

import structlog

from tomovault.core.errors import TomovaultError, Transient
from tomovault.vault.asking import LEADER, take_lead
from tomovault.vault.vault import Vault

log = structlog.get_logger(__name__)

_LEASE_S = 60.0


class Lead:
    """The lease on the lead, for one holder."""

    def __init__(self, vault: Vault, holder: str) -> None:
        self._vault = vault
        self._holder = holder
        self._life: Any = None
        self._renewed_at = 0.0
        self.lost = False

    def take(self) -> datetime | None:
        """The lead is ours; returns the time of the newest entry in the audit log.

        Raises Transient, naming the holder, if another daemon leads this catalogue.
        """
        catalogue = self._vault.catalogue
        self._life = catalogue.hold_life(self._holder)
        if take_lead(self._vault, self._holder):
            self._renewed_at = time.monotonic()
            with catalogue.writing() as tx:
                self._vault.record_tiers(tx)
                return max((entry.at for entry in catalogue.list_audit(tx, limit=1)), default=None)
        with catalogue.reading() as tx:
            other = catalogue.lease_holder(tx, LEADER)
        self._end_life()
        raise Transient(
            f"another daemon leads this site: {other}",
            hint="stop it first, or look at it with `tomovault status`",
        )

    def renew(self) -> bool:
        """Whether the lead is ours still; the catalogue is asked every third of the lease."""
        if self.lost:
            return False
        if time.monotonic() - self._renewed_at < _LEASE_S / 3:
            return True
        with self._vault.catalogue.writing() as tx:
            if not self._vault.catalogue.renew_lease(tx, LEADER, self._holder, _LEASE_S):
                log.error("the lead was lost; stopping")
                self.lost = True
                return False
        self._renewed_at = time.monotonic()
        return True

    def drop(self) -> None:
        """The lead is free, if it was ours and the catalogue can be reached."""
        with contextlib.suppress(TomovaultError), self._vault.catalogue.writing() as tx:
            self._vault.catalogue.drop_lease(tx, LEADER, self._holder)
        self._end_life()

    def _end_life(self) -> None:
        if self._life is not None:
            self._life.close()
