"""The acquisition guard: while a scan is being written on a server, our own traffic there shrinks."""

from __future__ import annotations

import json
import math
import os
import re
import threading
import time
import urllib.parse
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

#: A bucket looks at its share this often at most, and so notices a change within this time even while it waits.
REREAD_S = 1.0

#: A bucket holds the bytes of so many seconds, so that small pauses of a job are made up for, and no more.
BURST_S = 0.5


@dataclass(frozen=True)
class GuardLimits:
    """Bytes per second of all our jobs on one server, in peace and while a scan is written; None is no limit.

    No job is held for longer than `max_pause_s` at a time.
    """

    full_bps: float | None = None
    shrunk_bps: float | None = None
    max_pause_s: float = 10.0


def servers_of(mount_sources: Mapping[str, str]) -> Mapping[str, str]:
    """The server of each area by what is mounted there, as `AreaIdentity.mount_source` says it.

    Exports of one host are on one server, and so are folders and subvolumes of one device. An area of which nothing
    is known is on a server of its own.
    """
    return {area: _server(source) or f"area {area}" for area, source in mount_sources.items()}


def _server(source: str) -> str:
    device = source.split("[", 1)[0] or source
    share = re.match(r"//([^/]+)/", device)
    if share:
        return share[1].lower()
    # An IPv6 address stands in brackets before the colon, and is no folder inside a device.
    export = re.match(r"(\[[^\]]+\]|[^/\[:]+):/", source)
    return export[1].lower() if export else device


def shares(
    area_writing: Mapping[str, bool],
    jobs_per_area: Mapping[str, int],
    limits: GuardLimits,
    servers: Mapping[str, str] | None = None,
) -> Mapping[str, float]:
    """Bytes per second for each job of each area: the server's limit divided equally, `math.inf` for no limit.

    `servers` is what `servers_of` says; an area that is not in it has a server of its own. The limit shrinks in every
    area of a server while a scan is written in one of them. An area whose state is not known counts as being written;
    one on a server without jobs gets the share of a first one.
    """
    areas = sorted({*area_writing, *jobs_per_area})
    on = {area: (servers or {}).get(area, f"area {area}") for area in areas}
    written = {on[area] for area in areas if area_writing.get(area, True)}
    jobs: Counter[str] = Counter()
    for area, count in jobs_per_area.items():
        jobs[on[area]] += count
    result = {}
    for area, server in on.items():
        limit = _smallest(limits.full_bps, limits.shrunk_bps if server in written else None)
        result[area] = limit / max(1, jobs[server])
    return result


def _smallest(*limits: float | None) -> float:
    return min(math.inf if limit is None else max(0.0, limit) for limit in limits)


def share_path(folder: str, area: str) -> str:
    """Where the share of an area is told to its jobs."""
    return os.path.join(folder, urllib.parse.quote(area, safe="").replace(".", "%2E") + ".share")


def write_share(folder: str, area: str, bytes_per_s: float | None) -> None:
    """Tell the jobs on an area their share; None and infinity are no limit. A reader sees the old or the new one.

    Raises OSError if the folder cannot be written. Not synced: after a crash the daemon, which alone writes here,
    writes it anew, over what it left.
    """
    unlimited = bytes_per_s is None or math.isinf(bytes_per_s)
    path = share_path(folder, area)
    temporary = f"{path}.tmp"
    try:
        with open(temporary, "w", encoding="ascii") as stream:
            json.dump({"bytes_per_s": None if unlimited else bytes_per_s}, stream)
        os.replace(temporary, path)
    except OSError:
        _remove_if_there(temporary)
        raise


def _remove_if_there(path: str) -> None:
    if os.path.lexists(path):
        os.unlink(path)


def read_share(path: str) -> float | None:
    """The share in bytes per second, None for no limit or no file. Raises ValueError or OSError if unreadable."""
    try:
        with open(path, "rb") as stream:
            found = json.load(stream)
    except FileNotFoundError:
        return None
    value = found.get("bytes_per_s") if isinstance(found, dict) else found
    if value is None and isinstance(found, dict):
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0:
        raise ValueError(f"{path}: {value!r} is no number of bytes per second")
    return None if math.isinf(value) else float(value)


class NoThrottle:
    """A Throttle without a limit."""

    def spend(self, count: int) -> None:
        """Returns at once."""


class SharedBucket:
    """A Throttle that follows a share file: a token bucket for one job, safe for several threads of it.

    No file is no limit. A share that cannot be understood leaves the one before in force.
    """

    def __init__(
        self,
        path: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        max_pause_s: float,
    ) -> None:
        self._path = path
        self._clock = clock
        self._sleep = sleep
        self._max_pause_s = max_pause_s
        self._lock = threading.Lock()
        self._rate: float | None = None
        self._tokens = 0.0
        self._accrued_at = clock()
        self._reread_at = -math.inf

    def spend(self, count: int) -> None:
        """Return once `count` bytes are within the share, after `max_pause_s` at the latest.

        What is still owed then is forgiven: a job always moves on.
        """
        now = self._clock()
        with self._lock:
            self._refresh(now)
            if self._rate is None:
                return
            self._tokens -= count
            pause = self._pause(now, now + self._max_pause_s)
        deadline = now + self._max_pause_s
        while pause > 0:
            self._sleep(pause)
            now = self._clock()
            with self._lock:
                self._refresh(now)
                pause = self._pause(now, deadline)

    def _refresh(self, now: float) -> None:
        if self._rate is not None:
            earned = max(0.0, now - self._accrued_at) * self._rate
            self._tokens = min(self._tokens + earned, self._rate * BURST_S)
        self._accrued_at = now
        if now - self._reread_at < REREAD_S:
            return
        self._reread_at = now
        try:
            rate = read_share(self._path)
        except (OSError, ValueError):
            rate = self._rate
        if rate != self._rate:
            # What was saved up or owed under the old share says nothing about the new one.
            self._tokens = 0.0 if rate is None or self._rate is None else min(self._tokens, 0.0)
        self._rate = rate

    def _pause(self, now: float, deadline: float) -> float:
        """Seconds to sleep before looking again; 0 when done. Called with the lock held."""
        if self._rate is None or self._tokens > -1:
            return 0.0
        left = deadline - now
        if left <= 0:
            self._tokens = 0.0
            return 0.0
        owed_s = -self._tokens / self._rate if self._rate > 0 else math.inf
        return min(owed_s, left, REREAD_S)
