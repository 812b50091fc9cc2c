"""A command of ours as a process of its own, one at a time, that dies with the daemon and that nobody waits for."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

import structlog

from tomovault.vault.vault import Vault

log = structlog.get_logger(__name__)


class Aside:
    """Starts a command, and knows whether it is under way."""

    def __init__(self, vault: Vault, name: str) -> None:
        """What it prints is in the run folder, in a file of this name."""
        self._vault = vault
        self._name = name
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """Whether it is under way."""
        return self._process is not None and self._process.poll() is None

    def begin(self, words: Sequence[str]) -> None:
        """It is under way. Must be called from the thread that lives as long as the daemon."""
        if self.running:
            return
        command = [sys.executable, "-m", "tomovault", "--site", self._vault.site.folder, *words]
        self._vault.run_folder.mkdir(parents=True, exist_ok=True)
        with (self._vault.run_folder / f"{self._name}.out").open("wb") as out:
            self._process = subprocess.Popen(
                [*command, "--parent", str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        log.info("begun beside the work", what=self._name, pid=self._process.pid)
