"""archive: add replicas on an archive tier, one in each failure domain that lacks one. Removes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from tomovault.core.ports import Action, Bench, Parcel
from tomovault.core.record import Outcome, Record, Result
from tomovault.core.wire import from_plain
from tomovault.tiers.delivery import deliver


@dataclass(frozen=True)
class Order:
    """What to write, and into which failure domains of which tier."""

    tier: str
    domains: tuple[str, ...]
    parcels: tuple[Parcel, ...]
    source_place: str


class Archive:
    """See the module."""

    name: ClassVar[str] = "archive"

    def perform(self, order: Mapping[str, Any], bench: Bench) -> Result:
        """Each domain holds a copy that was re-read after a remount, one `Stored` record a copy."""
        wanted = from_plain(Order, dict(order))
        tier = bench.tier(wanted.tier)
        records: list[Record] = []
        for done, domain in enumerate(wanted.domains):
            bench.progress(done, len(wanted.domains))
            records.extend(
                deliver(
                    tier,
                    wanted.parcels,
                    domain,
                    job=f"{bench.job}-{done}",
                    now=bench.now,
                    throttle=bench.throttle(wanted.source_place),
                    checkpoint=bench.checkpoint,
                )
            )
        return Result(Outcome.SUCCEEDED, tuple(records))


PLUGIN: type[Action] = Archive
