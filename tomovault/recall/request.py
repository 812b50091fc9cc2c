"""What is asked of a library, what is in its drives, and its limits. Times are seconds of one clock."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from tomovault.recall.tour import Span

_HOUR_S = 3600.0


class Kind(StrEnum):
    """What is to be done at a place of a cartridge. For a restore somebody waits."""

    RESTORE = "restore"
    ARCHIVE = "archive"
    VERIFY = "verify"


@dataclass(frozen=True)
class Copy:
    """One place that a request can be served from or, for an archive, where it can begin to be written."""

    cartridge: str
    span: Span


@dataclass(frozen=True)
class Request:
    """Bytes to be read from one of the copies, or to be written."""

    id: str
    kind: Kind
    arrival: float
    bytes: int
    copies: tuple[Copy, ...]

    def on(self, cartridge: str) -> Copy:
        """Its copy on a cartridge that has one."""
        return next(copy for copy in self.copies if copy.cartridge == cartridge)


@dataclass(frozen=True)
class DriveNow:
    """A drive: the cartridge in it, where the head stands (a share of the capacity), until when it is busy, and since
    when the visit to that cartridge lasts. `since` is None where a cartridge lies in it unused.
    """

    number: int
    cartridge: str | None = None
    position: float = 0.0
    busy_until: float = 0.0
    since: float | None = None


@dataclass(frozen=True)
class Limits:
    """When a cartridge is worth a mount: for a restore at once; for the rest once so many bytes or requests wait for
    it, or one has waited `mount_age_s`. A visit lasts `fair_s` where others wait, and after `patience_s` a request goes
    before all that came later.
    """

    mount_bytes: int = 200 * 10**9
    mount_count: int = 50
    mount_age_s: float = 0.0
    fair_s: float = 900.0
    patience_s: float = 4 * _HOUR_S
