"""Whether the wall clock can be believed: holds end and copies age by it, so a jump must remove nothing."""

from __future__ import annotations

import functools
import subprocess
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from tomovault.catalog.owner_warnings import Running
from tomovault.vault.vault import Vault

#: A clock that is set right by less than this does no harm: holds and re-reads are counted in days.
_LEAST_JUMP = timedelta(hours=1)

#: The time service is asked so often while the clock is doubted.
_ASKED_EVERY_S = 60.0


def _running() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def machine_running() -> Running:
    """For how long this machine has run, and since which boot. Where that has no name, each process is its own."""
    return Running(_boot(), _running())


@functools.cache
def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except (OSError, ValueError):
        return uuid.uuid4().hex


def _is_synchronised() -> bool:
    """Whether the machine's time service says that the clock is right; not where there is none to ask.

    systemd's is asked rather than the kernel, whose adjtimex(2) a hardened service may not call.
    """
    command = ["timedatectl", "show", "--property=NTPSynchronized", "--value"]
    try:
        said = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=5.0, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return said.stdout.strip() == b"yes"


@dataclass(frozen=True)
class Silence:
    """Nothing is on record between two moments: the daemon rested, or the clock is ahead since. Which of them cannot
    be told from this side, so it is doubted for a while.
    """

    since: datetime
    until: datetime
    doubted_for: timedelta


def find_silence(vault: Vault, now: datetime) -> Silence | None:
    """The silence that ended less than half a hold ago and was longer than that; None where there was none.

    A clock that is ahead by less leaves at least half of every hold. Later entries of the log prove nothing about it,
    since they were dated by the same clock; but half a hold of them is time for a person to look, and to take back.
    """
    hold = timedelta(seconds=vault.site.quarantine.hold_s)
    if not hold:
        return None
    longest = max(hold / 2, _LEAST_JUMP)
    with vault.catalogue.reading() as tx:
        since, until = vault.catalogue.find_audit_around(tx, now - longest)
    until = min(until or now, now)
    if since is None or until - since <= longest:
        return None
    return Silence(since, until, until + longest - now)


class WallClock:
    """Compares the wall clock with the time that the machine has run, and with what is on record."""

    def __init__(
        self,
        now: datetime,
        *,
        newest: datetime | None = None,
        silence: Silence | None = None,
        running: Callable[[], float] = _running,
        is_synchronised: Callable[[], bool] = _is_synchronised,
    ) -> None:
        self._running = running
        self._is_synchronised = is_synchronised
        self._began = now
        self._began_running = running()
        self._silence = silence
        self._asked_at = float("-inf")
        self._jump = ""
        self._looked = (now, self._began_running)
        #: Whether the clock was set back, so that what waits for a date may wait for one that was never near.
        self.was_ahead = newest is not None and newest - now > _LEAST_JUMP
        if newest is not None and newest - now > _LEAST_JUMP:
            self._jump = f"the clock says {now:%Y-%m-%d %H:%M}, but there are records of {newest:%Y-%m-%d %H:%M}"
        #: What the last look said.
        self.problem = self._jump or self._doubt()

    def look(self, now: datetime) -> str:
        """'' while the clock goes as time does; after a jump what happened, for as long as this daemon runs.

        After a silence it is told, too, until the machine's time service says that the clock is right, or until the
        doubt is over by the time that the machine has run.
        """
        before, ran = self._looked
        self._looked = (now, self._running())
        self.was_ahead |= (now - before) - timedelta(seconds=self._looked[1] - ran) < -_LEAST_JUMP
        jump = (now - self._began) - self._ran()
        if not self._jump and abs(jump) > _LEAST_JUMP:
            hours = jump / timedelta(hours=1)
            self._jump = f"the clock jumped by {hours:+.0f} h to {now:%Y-%m-%d %H:%M}"
        self.problem = self._jump or self._doubt()
        return self.problem

    def _ran(self) -> timedelta:
        return timedelta(seconds=self._running() - self._began_running)

    def _doubt(self) -> str:
        silence = self._silence
        if silence is None:
            return ""
        if self._ran() >= silence.doubted_for or self._is_vouched_for():
            self._silence = None
            return ""
        return (
            f"nothing is on record from {silence.since:%Y-%m-%d} to {silence.until:%Y-%m-%d}, and no time service says "
            "that the clock is not ahead (timedatectl)"
        )

    def _is_vouched_for(self) -> bool:
        if self._running() - self._asked_at < _ASKED_EVERY_S:
            return False
        self._asked_at = self._running()
        return self._is_synchronised()
