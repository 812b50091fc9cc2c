"""Asking for the transfers that rules want: few at a time, and none more while one after another fails."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, NamedTuple

import structlog

from tomovault.vault.transferring import ask_for_rule
from tomovault.vault.vault import Vault, View

log = structlog.get_logger(__name__)

#: A scan whose turn has not come is looked at again so often, unless a transfer is over before.
_AGAIN = timedelta(minutes=10)

#: One whose destination tomovault.yaml does not know is looked at again so often: that file may have been edited.
_NOWHERE_AGAIN = timedelta(hours=6)


class Asked(NamedTuple):
    """Whether a transfer of a scan was asked for, and when the scan is looked at again; None for no date."""

    queued: bool
    again: datetime | None


class Exporter:
    """Holds no state but which scans wait for their turn, and what keeps every one of them waiting."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._waiting: dict[str, None] = {}
        #: Why rules send nothing, by area; people may, and once one of their transfers succeeds, rules do again.
        self.problems: dict[str, str] = {}

    def wake(self, tx: Any, now: datetime) -> None:
        """Scans whose turn has come are due to be looked at, those that waited longest first."""
        free = self._free(tx) if self._waiting else 0
        for scan_id in list(self._waiting)[:free]:
            del self._waiting[scan_id]
            self._vault.catalogue.set_next_due(tx, scan_id, now)

    def ask(self, tx: Any, view: View, now: datetime) -> Asked:
        """What rules want to be sent of a scan now is asked for. It is looked at again at once where something was, by
        what is known of it then; later where its turn has not come or the site does not know the destination.
        """
        scan, queued = view.scan, False
        for wanted in view.due_exports:
            if self._free(tx, scan.area) <= 0:
                self._waiting[scan.id] = None
                return Asked(queued, now if queued else now + _AGAIN)
            if ask_for_rule(self._vault, tx, scan, wanted, now) is not None:
                queued = True
                log.info("a rule has a scan sent", scan=scan.name, rule=wanted.rule, to=wanted.path)
        self._waiting.pop(scan.id, None)
        if queued:
            return Asked(queued, now)
        nowhere = any(one.holds and not one.path for one in view.exports)
        return Asked(queued, now + _NOWHERE_AGAIN if nowhere else None)

    def _free(self, tx: Any, area: str = "") -> int:
        """How many more transfers rules may ask for now."""
        conf, catalogue = self._vault.site.globus, self._vault.catalogue
        if conf is None:
            return 0
        free: int = conf.at_once - catalogue.exports_under_way(tx)
        if free <= 0:
            return free
        why = catalogue.why_exports_fail(tx, conf.at_once)
        if why and area:
            self.problems[area] = (
                f"rules send nothing, since the last {conf.at_once} transfers failed: {why}; "
                "`tomovault status` names them, and once one succeeds (tomovault retry JOB) the others follow"
            )
        elif not why:
            self.problems.clear()
        return 0 if why else free
