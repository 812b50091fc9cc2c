"""Which areas are swept from here, and which rest, each with its reason."""

from __future__ import annotations

import queue
from collections.abc import Callable, Mapping
from typing import Any

import structlog

from tomovault.daemon.areas import AreaWatch, Look, open_watch
from tomovault.daemon.lead import Lead
from tomovault.daemon.lookout import Lookout
from tomovault.vault.site import Area
from tomovault.vault.vault import Vault

log = structlog.get_logger(__name__)

#: What an area whose file server hangs is said to be.
_SILENT = "its file server does not answer"


class Presence:
    """The watches of this daemon, and what is known of areas that cannot be watched now.

    `watches` may be read by other threads; `looks` is where the watches hand over what they saw.
    """

    def __init__(
        self, vault: Vault, lead: Lead, lookout: Lookout, *, tell: Callable[[str, dict[str, Any]], None]
    ) -> None:
        self._vault = vault
        self._lead = lead
        self._lookout = lookout
        self._tell = tell
        self.looks: queue.Queue[Look] = queue.Queue()
        self.watches: dict[str, AreaWatch] = {}
        self._absent: dict[str, str] = {}
        self._left: frozenset[str] = frozenset()

    def start(self, is_mine: Callable[[Area], bool]) -> None:
        """Every marked area of this machine that `is_mine` is swept from now on; why another is not is told."""
        catalogue = self._vault.catalogue
        with catalogue.reading() as tx:
            recorded = {a.name: a for a in catalogue.list_areas(tx)}
            self._left = self._vault.left_areas(tx)
        for name in sorted(self._left):
            log.warning("area is in the catalogue but not in tomovault.yaml; its jobs wait", area=name)
        for name, area in self._vault.site.areas.items():
            if name in self.watches or not is_mine(area):
                continue
            if why := self._vault.unwatched(name):
                log.warning("area is not watched from here", area=name, reason=why)
                self._tell("area", {"area": name, "text": why})
                continue
            if name not in recorded:
                self._miss_marker(area)
                continue
            watch = open_watch(self._vault, area, recorded[name], self.looks)
            watch.start()
            self.watches = {**self.watches, name: watch}

    def _miss_marker(self, area: Area) -> None:
        self._absent[area.name] = f"it was never marked: run `tomovault area add {area.name}={area.path}`"
        log.error("area is not marked", area=area.name)
        self._tell("area", {"area": area.name, "text": self._absent[area.name]})

    def stop(self) -> None:
        """No area is swept any more."""
        for watch in self.watches.values():
            watch.stop()

    # --- absent and back -----------------------------------------------------------------------------

    def miss(self, area: str, why: str) -> bool:
        """An area could not be swept; whether that is new, and was told."""
        if self._absent.get(area) == why:
            return False
        log.error("area is absent", area=area, reason=why)
        self._tell("area", {"area": area, "text": why})
        self._absent[area] = why
        return True

    def find(self, area: str) -> str:
        """An area was swept; returns why it was absent before, '' if it was not."""
        return self._absent.pop(area, "")

    def listen(self, silent: frozenset[str]) -> bool:
        """Areas whose file servers do not answer rest until they do; whether that changed."""
        before = self._vault.silent
        if silent == before:
            return False
        for area in sorted(silent - before):
            log.error("area is silent", area=area, reason=_SILENT)
        self._vault.silent = silent
        return True

    def absence(self, area: str) -> str:
        """Why an area could not be swept; '' if it was."""
        return self._absent.get(area, "")

    # --- what rests ----------------------------------------------------------------------------------

    def elsewhere(self) -> frozenset[str]:
        """Areas of the site that no daemon watches and found well."""
        return frozenset(self._vault.site.areas.keys() - self.watches.keys() - self._lead.fellows.watched.keys())

    def unwatched(self) -> frozenset[str]:
        """Areas that no daemon watches, and that are not known to be absent."""
        return self.elsewhere() - self._absent.keys()

    def unseen(self) -> frozenset[str]:
        """Areas that are watched from here and were not swept yet."""
        return frozenset(area for area in self.watches if not self._lookout.swept.get(area))

    def well(self) -> frozenset[str]:
        """Areas that are watched from here, were swept and do not rest."""
        return frozenset(self.watches) - self.resting_here() - self.unseen()

    def gone(self) -> frozenset[str]:
        """Areas that are absent, or not in the site's file any more."""
        return frozenset(self._absent) | self._left

    def resting_here(self) -> frozenset[str]:
        """Areas that are absent or silent, not in the site's file any more, or with too much missing."""
        return self.gone() | self._vault.silent | frozenset(self._lookout.stopped)

    def resting(self) -> frozenset[str]:
        """Areas where nothing is done now: those that rest here, and those that no daemon watches and found well."""
        return self.resting_here() | self.elsewhere()

    def is_missing(self, area: str) -> bool:
        """Whether an area is absent or silent, or stopped since too much is missing there: it is at rest."""
        return area in self._absent or area in self._vault.silent or area in self._lookout.stopped

    def absences(self) -> dict[str, str]:
        """Areas that are absent or silent, each with the reason."""
        return {**self._absent, **dict.fromkeys(self._vault.silent, _SILENT)}

    def reasons(self) -> Mapping[str, Any]:
        """The areas that rest here, by kind of reason."""
        return {
            "absent": self._absent,
            "silent": self._vault.silent,
            "left": self._left,
            "stopped": self._lookout.stopped,
            "unseen": self.unseen(),
        }
