"""By night, in processes of their own that die with the daemon: what is known is compared with what is there, and the
catalogue is backed up.
"""

from __future__ import annotations

import time

from tomovault.daemon.aside import Aside
from tomovault.daemon.planner import Alarm
from tomovault.vault import backup_state, drill_state
from tomovault.vault.reconcile_state import alarms_of, read_state
from tomovault.vault.vault import Vault

#: A night's comparison ends after so long; the next one goes on.
LIMIT = "4h"

#: What it found is looked at this often.
_LOOKED_EVERY_S = 10.0


class Nightly:
    """Starts what is done by night, each one at a time, and knows what the last of them found."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._comparison = Aside(vault, "reconcile")
        self._backup = Aside(vault, "backup")
        self._drill = Aside(vault, "drill")
        self._looked_at = float("-inf")
        self._alarms: dict[str, Alarm] = {}

    @property
    def running(self) -> bool:
        """Whether a comparison is under way."""
        return self._comparison.running

    @property
    def alarms(self) -> dict[str, Alarm]:
        """What a person should know of what was found, at most some seconds old."""
        if time.monotonic() - self._looked_at > _LOOKED_EVERY_S:
            self._looked_at = time.monotonic()
            found = alarms_of(read_state(self._vault))
            found |= backup_state.alarms_of(backup_state.read_state(self._vault))
            found |= drill_state.alarms_of(self._vault)
            self._alarms = {name: Alarm(place, text) for name, (place, text) in found.items()}
        return self._alarms

    def begin(self, *, own: bool = False) -> None:
        """A comparison is under way, of the areas of this machine alone with `own`. Must be called from the thread that
        lives as long as the daemon.
        """
        self._comparison.begin(["reconcile", "--for", LIMIT, *["--own"] * own])

    def back_up(self) -> None:
        """The catalogue is being backed up. Must be called from the thread that lives as long as the daemon."""
        self._backup.begin(["catalogue", "backup", "--nightly"])

    def drill(self) -> None:
        """A fire drill is under way, or what one left goes. Must be called from the thread that lives as long as the
        daemon.
        """
        self._drill.begin(["drill"])
