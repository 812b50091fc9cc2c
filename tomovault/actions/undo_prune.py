"""undo_prune: within the hold, put a pruned replica back where it was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from tomovault.core.ports import Action, Bench
from tomovault.core.record import Outcome, PutBack, Result
from tomovault.core.wire import from_plain
from tomovault.tiers.quarantine import put_back


@dataclass(frozen=True)
class Order:
    """The quarantine folder of one permit, and where its files were."""

    permit: str
    below: str
    root: str
    quarantine: str
    readme: str


class UndoPrune:
    """See the module."""

    name: ClassVar[str] = "undo_prune"

    def perform(self, order: Mapping[str, Any], bench: Bench) -> Result:
        """Every file is back, unless something else stands in its place, which is reported."""
        wanted = from_plain(Order, dict(order))
        bench.checkpoint("undo.begin")
        files, size, conflicts = put_back(wanted.below, wanted.root, wanted.quarantine, checkpoint=bench.checkpoint)
        if not conflicts and wanted.readme:
            Path(wanted.readme).unlink(missing_ok=True)
        bench.checkpoint("undo.done")
        return Result(Outcome.SUCCEEDED, (PutBack(wanted.permit, files, size, tuple(conflicts)),))


PLUGIN: type[Action] = UndoPrune
