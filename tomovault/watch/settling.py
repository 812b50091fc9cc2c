"""When a thing under observation has come to rest, by the observer's own monotonic clock.

No time of a file and no time of day enters: servers' clocks are wrong, copies restore old times, and a
day clock jumps.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True)
class Rest:
    """Whether it is settled, and for how many seconds at least it has not changed."""

    settled: bool
    quiet_for_s: float


class Settling(Generic[K]):
    """Remembers, for each key, which snapshot was seen and since when without a change."""

    def __init__(self, quiet_s: float, *, trusted_s: float = 0.0) -> None:
        """`quiet_s`: rest needed. `trusted_s`: how long a snapshot that was trusted counts as quiet at first sight."""
        if not 0 <= quiet_s < float("inf"):
            raise ValueError(f"quiet_s must be a finite number of seconds, not {quiet_s}")
        self.quiet_s = quiet_s
        self._trusted_s = max(trusted_s, quiet_s)
        self._since: dict[K, tuple[str, float]] = {}
        self._trusted: dict[K, str] = {}

    def trust(self, key: K, snapshot: str) -> None:
        """Equal to this at its next first sight, the key is settled at once."""
        self._trusted[key] = snapshot

    def observe(self, key: K, snapshot: str, *, began: float, ended: float) -> Rest:
        """Take in one look at `key` that lasted from `began` to `ended` on the monotonic clock.

        The rest counts from the end of the first look at this snapshot to the beginning of this one, so a
        change during either is never counted as rest. A first sight is never settled unless it was trusted.
        """
        before = self._since.get(key)
        if before is None and self._trusted.pop(key, None) == snapshot:
            self._since[key] = (snapshot, began - self._trusted_s)
            return Rest(True, self._trusted_s)
        if before is None or before[0] != snapshot:
            self._since[key] = (snapshot, ended)
            return Rest(False, 0.0)
        quiet = max(0.0, began - before[1])
        return Rest(quiet >= self.quiet_s, quiet)

    def forget(self, key: K) -> None:
        """The key's next look is a first sight."""
        self._since.pop(key, None)
        self._trusted.pop(key, None)

    def __len__(self) -> int:
        return len(self._since)
