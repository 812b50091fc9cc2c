"""destroy, on a tier that has no quarantine: after the hold of a person's order, one copy is made unreadable there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from tomovault.core.ports import Action, Bench, Placed
from tomovault.core.record import Outcome, Removed, Result
from tomovault.core.wire import from_plain
from tomovault.tiers.claim import require_claim


@dataclass(frozen=True)
class Order:
    """The copy of one permit, which was granted a second time; `as_it_is`: also where its bytes are others now."""

    permit: str
    tier: str
    placed: Placed
    as_it_is: bool = False


class Destroy:
    """See the module."""

    name: ClassVar[str] = "destroy"

    def perform(self, order: Mapping[str, Any], bench: Bench) -> Result:
        """The tier gives the copy out no more. Raises Refused for what it does not hold."""
        wanted = from_plain(Order, dict(order))
        bench.checkpoint("destroy.begin")
        require_claim(bench.token_is_current, "destroyed")
        bench.tier(wanted.tier).remove(wanted.placed, as_it_is=wanted.as_it_is)
        bench.checkpoint("destroy.done")
        size = sum(file.size for file in wanted.placed.files)
        return Result(Outcome.SUCCEEDED, (Removed(wanted.permit, len(wanted.placed.files), size),))


PLUGIN: type[Action] = Destroy
