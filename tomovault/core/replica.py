"""Products and their replicas: which copies exist, and which of them may be counted on."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

#: Law 4: no original goes while fewer lossless archive copies than this were verified. A policy may ask for more.
LEAST_COPIES = 2


class ProductKind(enum.StrEnum):
    """A body of data of a scan or a set."""

    ORIGINAL = "original"
    REDUCED = "reduced"
    VOLUME = "volume"
    PREVIEW = "preview"


class Form(enum.StrEnum):
    """How a replica is stored: as the instrument wrote it, or in a file of ours."""

    FILES = "files"
    PACKAGE = "package"


class TierClass(enum.StrEnum):
    """What a tier is for; areas are watched tiers of class fast or server."""

    FAST = "fast"
    SERVER = "server"
    ARCHIVE = "archive"
    REMOTE = "remote"


class ReplicaState(enum.StrEnum):
    """The life of one copy."""

    ARRIVING = "arriving"
    PRESENT = "present"
    VERIFIED = "verified"
    SUSPECT = "suspect"
    LEAVING = "leaving"
    GONE = "gone"


@dataclass(frozen=True)
class StoredFile:
    """One file of a replica on its tier, with the sha256 of the stored bytes."""

    location: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Replica:
    """One copy of a product. `counts` is False where nothing may be removed because of it: a copy on an emulated
    library that is not on a simulated site archives a scan, and counts for no removal (law 4).
    """

    id: str
    product: ProductKind
    digest: str
    lossless: bool
    form: Form
    tier: str
    tier_class: TierClass
    domain: str
    location: str
    bytes: int
    state: ReplicaState
    sha256: str
    written_at: datetime | None = None
    verified_at: datetime | None = None
    counts: bool = True

    @property
    def good(self) -> bool:
        """Verified once and not suspect, leaving or gone."""
        return self.state is ReplicaState.VERIFIED and self.verified_at is not None

    @property
    def live(self) -> bool:
        """Its bytes take up room on its tier (quarantine included)."""
        return self.state is not ReplicaState.GONE

    def read_within(self, period: timedelta, now: datetime) -> bool:
        """Good, and re-read no longer than `period` before `now`. A date in the future is not believed."""
        return self.good and self.verified_at is not None and timedelta(0) <= now - self.verified_at <= period

    def verified_within(self, period: timedelta, now: datetime) -> bool:
        """Law 4 counts it for a removal: re-read within the period, on a tier whose copies count."""
        return self.counts and self.read_within(period, now)


def good_domains(replicas: Iterable[Replica], tier_class: TierClass, *, without: str | None = None) -> frozenset[str]:
    """Failure domains of a tier class that hold a good lossless copy, the replica `without` left out."""
    return frozenset(
        r.domain for r in replicas if r.tier_class is tier_class and r.good and r.lossless and r.id != without
    )
