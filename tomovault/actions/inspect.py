"""inspect: look into candidates, each in a limited child process, and say what scans they hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from tomovault.core.errors import TomovaultError
from tomovault.core.ports import Action, Bench
from tomovault.core.record import Inspected, Outcome, Result
from tomovault.core.scan import Candidate
from tomovault.core.wire import from_plain


@dataclass(frozen=True)
class Look:
    """One candidate as the walker saw it."""

    candidate: Candidate
    snapshot: str
    settled: bool


@dataclass(frozen=True)
class Order:
    """Candidates of one area."""

    area: str
    looks: tuple[Look, ...]


class Inspect:
    """See the module."""

    name: ClassVar[str] = "inspect"

    def perform(self, order: Mapping[str, Any], bench: Bench) -> Result:
        """One `Inspected` a candidate; what cannot be read is reported, not raised."""
        wanted = from_plain(Order, dict(order))
        records = []
        for done, look in enumerate(wanted.looks):
            bench.progress(done, len(wanted.looks))
            records.append(_inspected(look, bench))
        return Result(Outcome.SUCCEEDED, tuple(records))


def _inspected(look: Look, bench: Bench) -> Inspected:
    try:
        reports = tuple(bench.formats.inspect(look.candidate, settled=look.settled))
    except TomovaultError as problem:
        return Inspected(look.candidate, look.snapshot, look.settled, problem=problem.message)
    return Inspected(look.candidate, look.snapshot, look.settled, reports)


PLUGIN: type[Action] = Inspect
