"""empty_quarantine, phase two of a prune: after the hold and a second look at the law, the bytes go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from tomovault.actions._ground import require_ground
from tomovault.core.errors import IntegrityError
from tomovault.core.ports import Action, Bench, FolderTier, Placed
from tomovault.core.record import Outcome, Removed, Result
from tomovault.core.wire import from_plain
from tomovault.tiers import place as marked
from tomovault.tiers.claim import require_claim
from tomovault.tiers.quarantine import Place, empty
from tomovault.watch.area import AreaIdentity


@dataclass(frozen=True)
class Order:
    """The quarantine of one permit, which was granted a second time; on a tier what was `placed` there goes whole."""

    permit: str
    area: str
    area_path: str
    identity: AreaIdentity | None
    place: Place
    tier: marked.Place | None = None
    tier_name: str = ""
    placed: Placed | None = None


class EmptyQuarantine:
    """See the module."""

    name: ClassVar[str] = "empty_quarantine"

    def perform(self, order: Mapping[str, Any], bench: Bench) -> Result:
        """The files of this permit are gone. Raises IntegrityError if one there is not what was put there."""
        wanted = from_plain(Order, dict(order))
        require_ground(wanted)
        bench.checkpoint("remove.begin")
        files, size, left = empty(
            wanted.place,
            may_continue=bench.token_is_current,
            throttle=bench.throttle(wanted.area),
            checkpoint=bench.checkpoint,
        )
        bench.checkpoint("remove.done")
        if left:
            raise IntegrityError(
                f"{len(left)} files in {wanted.place.quarantine} were not removed, first {left[0]}",
                hint="look at the folder; tomovault prune undo SCAN puts back what is there",
            )
        beside = _clear_away(wanted.tier_name, wanted.placed, bench) if wanted.placed is not None else ()
        return Result(Outcome.SUCCEEDED, (Removed(wanted.permit, files, size, beside),))


def _clear_away(tier_name: str, placed: Placed, bench: Bench) -> tuple[str, ...]:
    """The manifest of what went from a tier, and its folder if it is empty then, are gone; returns what stays there."""
    tier = bench.tier(tier_name)
    if not isinstance(tier, FolderTier):
        raise ValueError(f"tier {tier_name} keeps no folders, and cannot have had a quarantine")
    require_claim(bench.token_is_current, "removed")
    return tuple(tier.clear_away(placed, checkpoint=bench.checkpoint))


PLUGIN: type[Action] = EmptyQuarantine
