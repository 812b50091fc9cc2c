"""undo_prune: put a pruned replica back where it was, as far as it was not removed yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from tomovault.actions._ground import require_ground
from tomovault.core.ports import Action, Bench
from tomovault.core.record import Outcome, PutBack, Result
from tomovault.core.wire import from_plain
from tomovault.tiers import place as marked
from tomovault.tiers.note import leave_note
from tomovault.tiers.quarantine import Place, Stock, put_back, take_stock
from tomovault.watch.area import AreaIdentity


@dataclass(frozen=True)
class Order:
    """Where the files of one permit are and were. `note`: the place may have a text file about pruned scans, which
    says `readme` from then on, nothing if that is empty. `moved` and their bytes: what may have been removed already.
    """

    permit: str
    area_path: str
    identity: AreaIdentity | None
    place: Place
    note: bool
    readme: str
    moved: tuple[str, ...] = ()
    moved_bytes: int = 0
    tier: marked.Place | None = None


class UndoPrune:
    """See the module."""

    name: ClassVar[str] = "undo_prune"

    def perform(self, order: Mapping[str, Any], bench: Bench) -> Result:
        """Every file is back, unless something else stands in its place or it is gone, which is reported."""
        wanted = from_plain(Order, dict(order))
        require_ground(wanted)
        bench.checkpoint("undo.begin")
        files, size, conflicts = put_back(
            wanted.place, moved=wanted.moved, may_continue=bench.token_is_current, checkpoint=bench.checkpoint
        )
        if wanted.note and not conflicts:
            leave_note(wanted.place.below, wanted.place.root, wanted.readme, bench.job, bench.checkpoint)
        stock = take_stock(wanted.place, moved=wanted.moved) if conflicts else Stock({}, {})
        bench.checkpoint("undo.done")
        record = PutBack(
            permit=wanted.permit,
            files=files,
            bytes=size,
            conflicts=tuple(conflicts),
            kept=tuple(stock.kept),
            kept_bytes=sum(stock.kept.values()),
            removed_files=len(stock.removed),
            removed_bytes=sum(stock.removed.values()) or (wanted.moved_bytes if stock.removed else 0),
        )
        return Result(Outcome.SUCCEEDED, (record,))


PLUGIN: type[Action] = UndoPrune
