"""replicate: add a replica of a package on another disk tier. Removes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from tomovault.core.ports import Action, Bench, Parcel
from tomovault.core.record import Outcome, Result
from tomovault.core.wire import from_plain
from tomovault.tiers.delivery import deliver


@dataclass(frozen=True)
class Order:
    """What to copy, and to which tier."""

    tier: str
    parcels: tuple[Parcel, ...]
    source_place: str


class Replicate:
    """See the module."""

    name: ClassVar[str] = "replicate"

    def perform(self, order: Mapping[str, Any], bench: Bench) -> Result:
        """The tier holds a copy that was re-read from its disk."""
        wanted = from_plain(Order, dict(order))
        tier = bench.tier(wanted.tier)
        stored = deliver(
            tier,
            wanted.parcels,
            tier.domains()[0],
            job=bench.job,
            now=bench.now,
            throttle=bench.throttle(wanted.source_place),
            checkpoint=bench.checkpoint,
        )
        return Result(Outcome.SUCCEEDED, tuple(stored))


PLUGIN: type[Action] = Replicate
