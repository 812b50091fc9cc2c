"""empty_quarantine, phase two of a prune: after the hold and a second look at the law, the bytes go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from tomovault.core.errors import IntegrityError
from tomovault.core.ports import Action, Bench
from tomovault.core.record import Outcome, Removed, Result
from tomovault.core.wire import from_plain
from tomovault.tiers.quarantine import Place, empty
from tomovault.watch.area import AreaIdentity, check_area


@dataclass(frozen=True)
class Order:
    """The quarantine of one permit, which was granted a second time."""

    permit: str
    area: str
    area_path: str
    identity: AreaIdentity
    place: Place


class EmptyQuarantine:
    """See the module."""

    name: ClassVar[str] = "empty_quarantine"

    def perform(self, order: Mapping[str, Any], bench: Bench) -> Result:
        """The files of this permit are gone. Raises IntegrityError if one there is not what was put there."""
        wanted = from_plain(Order, dict(order))
        check_area(wanted.area_path, wanted.identity)
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
        return Result(Outcome.SUCCEEDED, (Removed(wanted.permit, files, size),))


PLUGIN: type[Action] = EmptyQuarantine
