"""What is known is compared with what is there, at night, in a process of its own that dies with the daemon."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import structlog

from tomovault.daemon.planner import Alarm
from tomovault.vault.reconcile_state import alarms_of, read_state
from tomovault.vault.vault import Vault

log = structlog.get_logger(__name__)

#: A night's comparison ends after so long; the next one goes on.
LIMIT = "4h"

#: What it found is looked at this often.
_LOOKED_EVERY_S = 10.0


class Nightly:
    """Starts a comparison, one at a time, and knows what the last ones found."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._process: subprocess.Popen[bytes] | None = None
        self._looked_at = float("-inf")
        self._alarms: dict[str, Alarm] = {}

    @property
    def running(self) -> bool:
        """Whether a comparison is under way."""
        return self._process is not None and self._process.poll() is None

    @property
    def alarms(self) -> dict[str, Alarm]:
        """What a person should know of what was found, at most some seconds old."""
        if time.monotonic() - self._looked_at > _LOOKED_EVERY_S:
            self._looked_at = time.monotonic()
            found = alarms_of(read_state(self._vault))
            self._alarms = {name: Alarm(place, text) for name, (place, text) in found.items()}
        return self._alarms

    def begin(self, *, own: bool = False) -> None:
        """A comparison is under way, of the areas of this machine alone with `own`. Must be called from the thread that
        lives as long as the daemon.
        """
        if self.running:
            return
        command = [sys.executable, "-m", "tomovault", "--site", self._vault.site.folder, "reconcile"]
        with (self._vault.run_folder / "reconcile.out").open("wb") as out:
            self._process = subprocess.Popen(
                [*command, "--for", LIMIT, "--parent", str(os.getpid()), *["--own"] * own],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        log.info("what is known is compared with what is there", pid=self._process.pid)
