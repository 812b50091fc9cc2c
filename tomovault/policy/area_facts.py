"""An area as it stands now, as rules read it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

from tomovault.core.replica import TierClass
from tomovault.policy.limits import Exceeded
from tomovault.policy.prices import Prices


@dataclass(frozen=True)
class AreaFacts:
    """An area as it stands now. `used_fraction` and `used_bytes` include the quarantine, and `unknown_bytes`, which the
    file system counts beyond what is known: data of others, or on a disk smaller than the quota.

    While `draining` a prune to the low watermark is under way, and `high` reads as `low`: the rule that began it
    holds until the low watermark is reached. `warn` is how long before a removal its owner is told of it, where the
    rule does not say. What is `of_tier` is no area but a tier: it holds packages alone, of scans of any area, and only
    rules that name it let them go.
    """

    name: str
    tier_class: TierClass = TierClass.SERVER
    prune_on: bool = False
    reduce_on: bool = False
    used_fraction: float = 0.0
    high: float = 0.85
    low: float = 0.75
    quota_bytes: int = 0
    used_bytes: int = 0
    quarantine_bytes: int = 0
    simulated: bool = False
    draining: bool = False
    unknown_bytes: int = 0
    #: Limits of proposals, owners, beamlines and tiers that are exceeded, wherever their data lie.
    exceeded: Exceeded = field(default_factory=Exceeded)
    warn: timedelta = timedelta(0)
    of_tier: bool = False
    #: What keeping and computing cost, where that is known.
    prices: Prices | None = None

    @property
    def usage(self) -> float:
        """The used share without the quarantine, which is space to come."""
        if self.quota_bytes <= 0:
            return self.used_fraction
        return self.used_fraction - self.quarantine_bytes / self.quota_bytes

    @property
    def mark(self) -> float:
        """The watermark above which room is made now."""
        return self.low if self.draining else self.high


def bytes_to_free(area: AreaFacts) -> int:
    """Bytes above the low watermark, when the area stands above the high one; the quarantine counts as freed."""
    kept = area.used_bytes - area.quarantine_bytes
    if area.quota_bytes <= 0 or kept <= area.mark * area.quota_bytes:
        return 0
    return max(0, kept - int(area.low * area.quota_bytes))
