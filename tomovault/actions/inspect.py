"""inspect: look into candidates, each in a limited child process, and say what scans they hold."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from tomovault.core.errors import NoScan, TomovaultError, Transient, UserError
from tomovault.core.ports import Action, Bench
from tomovault.core.record import Inspected, Outcome, Result
from tomovault.core.scan import Candidate, ScanReport
from tomovault.core.wire import from_plain
from tomovault.formats.family import load
from tomovault.formats.limits import InspectionEnded, LimitedFormats
from tomovault.tiers.restored_mark import find_mark, match_report
from tomovault.watch.snapshot import snapshot_now

#: A master that its writer holds in a state that cannot be read is tried again after these pauses.
_PAUSES_S = (0.5, 2.0)


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
        if isinstance(bench.formats, LimitedFormats):
            bench.formats.foresee([(look.candidate, look.settled) for look in wanted.looks])
        for done, look in enumerate(wanted.looks):
            bench.progress(done, len(wanted.looks))
            records.append(_look_for_mark(_inspected(look, bench), wanted.area, bench))
        return Result(Outcome.SUCCEEDED, tuple(records))


def _inspected(look: Look, bench: Bench) -> Inspected:
    """What the candidate holds. It counts as settled only if it is, before and after, as it was when it was seen.

    A problem that another look may not meet is not settled, either.
    """
    for pause_s in (*_PAUSES_S, None):
        settled = look.settled and _is_as_seen(look)
        try:
            reports = tuple(bench.formats.inspect(look.candidate, settled=settled))
            if settled and not _is_as_seen(look):
                settled = False
                reports = tuple(bench.formats.inspect(look.candidate, settled=False))
        except Transient as problem:
            if pause_s is None:
                return Inspected(look.candidate, look.snapshot, False, problem=problem.message)
            time.sleep(pause_s)
        except NoScan as reason:
            return Inspected(look.candidate, look.snapshot, settled, no_scan=reason.message)
        except InspectionEnded as problem:
            return Inspected(look.candidate, look.snapshot, False, problem=problem.message)
        except TomovaultError as problem:
            return Inspected(look.candidate, look.snapshot, settled, problem=problem.message)
        else:
            return Inspected(look.candidate, look.snapshot, settled, reports)
    raise AssertionError("unreachable")


def _look_for_mark(inspected: Inspected, area: str, bench: Bench) -> Inspected:
    """With what a mark of a restore excuses of the reports; one that cannot be understood excuses nothing, and says so
    in each report.
    """
    if not inspected.reports:
        return inspected
    try:
        found = find_mark(inspected.candidate.folder)
    except UserError as problem:
        reports = tuple(_with_problem(report, problem.message) for report in inspected.reports)
        return replace(inspected, reports=reports)
    if found is None:
        return inspected
    base, marked = found
    matches = (
        match_report(report, base, marked, bench.throttle(area), settled=inspected.settled)
        for report in inspected.reports
    )
    return replace(inspected, restored=tuple(match for match in matches if match is not None))


def _with_problem(report: ScanReport, problem: str) -> ScanReport:
    certificate = report.certificate
    return replace(report, certificate=replace(certificate, problems=(*certificate.problems, problem)))


def _is_as_seen(look: Look) -> bool:
    try:
        return snapshot_now(look.candidate, load(look.candidate.format)) == look.snapshot
    except OSError:
        return False


PLUGIN: type[Action] = Inspect
