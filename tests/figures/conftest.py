"""Sites with a real daemon in a process of its own, measured from outside."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest

from tomovault.catalog.work import has_work_before
from tomovault.core.known import JobStatus, KnownScan
from tomovault.vault.setting_up import set_up_site
from tomovault.vault.vault import Vault

_QUICK = {"watch": {"poll": "0.3s", "quiet": "0.5s"}, "quarantine": {"hold": "0s"}}


@dataclass
class Site:
    """A simulated site in `folder` that watches `area`, and what the processes started for it used."""

    folder: Path
    area: Path
    daemon: subprocess.Popen[bytes] | None = None
    peaks: dict[str, int] = field(default_factory=dict)

    def command(self, *arguments: str) -> list[str]:
        """The command line of a command on this site."""
        return [sys.executable, "-m", "tomovault", "--site", str(self.folder), *arguments]

    def start(self) -> psutil.Process:
        """The daemon runs, its screen quiet."""
        self.daemon = subprocess.Popen(self.command("run", "--quiet"), stdin=subprocess.DEVNULL)
        return psutil.Process(self.daemon.pid)

    def stop(self) -> None:
        """The daemon stopped gracefully, if it was started."""
        if self.daemon is not None:
            self.daemon.terminate()
            assert self.daemon.wait(30) == 0
            self.daemon = None

    def call(self, *arguments: str, timeout_s: float) -> Any:
        """A command ran to its good end; what it printed as JSON. `peaks` has the most memory, in bytes, that any

        one process of it had.
        """
        with (self.folder / "called.out").open("w+b") as out:
            process = subprocess.Popen(self.command(*arguments, "--json"), stdin=subprocess.DEVNULL, stdout=out)
            deadline = time.monotonic() + timeout_s
            while True:
                pid, status, usage = os.wait4(process.pid, os.WNOHANG)
                if pid:
                    break
                if time.monotonic() > deadline:
                    process.kill()
                    process.wait()
                    pytest.fail(f"{arguments[0]} was not over after {timeout_s:.0f} s")
                time.sleep(0.05)
            process.returncode = os.waitstatus_to_exitcode(status)
            self.peaks[arguments[0]] = usage.ru_maxrss * 1024
            out.seek(0)
            printed = out.read().decode("utf-8")
        assert process.returncode == 0, printed
        return json.loads(printed)

    def scans(self) -> list[KnownScan]:
        """Every scan as the catalogue knows it now."""
        with self._opened() as vault, vault.catalogue.reading() as tx:
            return list(vault.catalogue.list_scans(tx))

    def wait_for_rest(self, scans: int, *, timeout_s: float) -> None:
        """So many scans are known and nothing is to be done. Fails after `timeout_s`, or where a job failed."""
        deadline = time.monotonic() + timeout_s
        with self._opened() as vault:
            while time.monotonic() < deadline:
                with vault.catalogue.reading() as tx:
                    now = datetime.now(UTC)
                    known = [s for s in vault.catalogue.list_scans(tx) if s.replicas]
                    working = has_work_before(tx, now, now)
                    failed = vault.catalogue.list_jobs(tx, JobStatus.FAILED)
                assert not failed, [(j.action, j.error) for j in failed]
                if len(known) >= scans and not working:
                    return
                time.sleep(0.2)
        pytest.fail(f"{len(known)} of {scans} scans known after {timeout_s:.0f} s, still at work: {working}")

    def _opened(self) -> Any:
        return contextlib.closing(Vault.open(self.folder, upgrade=False))


@pytest.fixture
def new_site(tmp_path, new_catalogue) -> Iterator[Callable[..., Site]]:
    """Called with settings, and `area` settings, for a simulated site that looks often and holds nothing back."""
    made: list[Site] = []

    def make(settings: dict[str, Any] | None = None, area: dict[str, Any] | None = None) -> Site:
        folder = tmp_path / f"site{len(made)}"
        site = Site(folder, tmp_path / f"area{len(made)}")
        areas = {"areas": {"inhouse": area}} if area else {}
        wanted = _QUICK | areas | (settings or {})
        if "catalogue" not in wanted and (url := new_catalogue()):
            wanted["catalogue"] = url
        set_up_site(folder, {"inhouse": str(site.area)}, simulated=True, settings=wanted)
        made.append(site)
        return site

    yield make
    for site in made:
        if site.daemon is not None and site.daemon.poll() is None:
            site.daemon.kill()
            site.daemon.wait()


@pytest.fixture
def digests() -> Callable[[Path], dict[str, str]]:
    """Called with a folder for the hex sha256 of every file below it, by relative path."""

    def read(folder: Path) -> dict[str, str]:
        found = {}
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            with path.open("rb") as file:
                found[str(path.relative_to(folder))] = hashlib.file_digest(file, "sha256").hexdigest()
        return found

    return read
