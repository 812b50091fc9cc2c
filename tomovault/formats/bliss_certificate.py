"""Whether a scan of a BLISS master is complete, from what was read of it. Nothing is opened here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tomovault.core.layout import FrameKind
from tomovault.core.scan import Certificate, FrameCounts, Verdict
from tomovault.formats.bliss_entries import Entry
from tomovault.formats.bliss_scans import ScanEntries
from tomovault.formats.hdf5_sources import CheckedStack
from tomovault.formats.index_ranges import number_of

_FAILED_REASONS = frozenset({"FAILURE", "DELETION"})
#: DELETION: the system closed a session that was silent for a day.
_REASON_WORDS = {"FAILURE": "it failed", "DELETION": "the session was closed by the system without an end"}
_NAMED = 20


@dataclass(frozen=True)
class BlissScan:
    """A scan with the stacks of every part, the tomography camera's first."""

    entries: ScanEntries
    stacks: tuple[tuple[CheckedStack, ...], ...]
    zero_files: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    def parts(self) -> Iterable[tuple[Entry, FrameKind, tuple[CheckedStack, ...]]]:
        """Entry, kind and stacks of every part."""
        return zip(self.entries.parts, self.entries.kinds, self.stacks, strict=True)

    def found(self, kind: FrameKind) -> int:
        """Frames of the first camera that are really there, of one kind."""
        return sum(stacks[0].good for _, k, stacks in self.parts() if k is kind and stacks)


@dataclass
class _Findings:
    open: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    evidence: list[str] = field(default_factory=list)
    aborted: bool = False

    def problems(self) -> tuple[str, ...]:
        return (*self.open, *self.missing, *self.doubts, *self.warnings)


def certify(scan: BlissScan, *, settled: bool) -> Certificate:
    """The certificate of a scan: every entry ended well, every image is in a file that holds it."""
    found = _Findings(warnings=list(scan.problems))
    if scan.entries.planned:
        _judge_ends(scan, found)
        _judge_subscans(scan, found)
    elif scan.entries.head.start_time and not scan.entries.head.ended:
        found.open.append(f"{scan.entries.head.name} has no end_time")
    _judge_stacks(scan, found)
    expected, counts = _judge_counts(scan, found)
    if not scan.entries.planned:
        found.doubts.append("no sequence entry says what was planned")
    found.evidence.append("no change seen for the quiet time" if settled else "still changing")
    return Certificate(_verdict(found, settled=settled), expected, counts, found.problems(), tuple(found.evidence))


def _verdict(found: _Findings, *, settled: bool) -> Verdict:
    if found.aborted:
        return Verdict.ABORTED
    if not settled or found.open:
        return Verdict.ACQUIRING
    if found.missing:
        return Verdict.INCOMPLETE
    return Verdict.UNDECIDED if found.doubts else Verdict.COMPLETE


def _judge_ends(scan: BlissScan, found: _Findings) -> None:
    head = scan.entries.head
    entries = [head, *(part for part in scan.entries.parts if part is not head)]
    for entry in entries:
        _judge_end(entry, found)
    found.aborted = head.ended and any(e.end_reason == "USER_ABORT" for e in entries)
    if found.aborted:
        found.evidence.append("end_reason is USER_ABORT")
    elif not (found.open or found.missing or found.doubts):
        found.evidence.append(f"{len(entries)} entries have an end_time and ended with SUCCESS")


def _judge_end(entry: Entry, found: _Findings) -> None:
    where = f"{entry.name} ({entry.title})" if entry.title else entry.name
    reason, status = entry.end_reason, entry.writer_status
    if reason in _FAILED_REASONS:
        found.missing.append(f"{where}: end_reason {reason}, {_REASON_WORDS[reason]}")
    if status == "FAILED":
        found.missing.append(f"{where}: the writer says FAILED")
    if not entry.ended:
        found.open.append(f"{where} has no end_time")
        return
    if reason is None and status is None:
        found.doubts.append(f"{where} has neither end_reason nor writer/status")
    elif reason is None or status is None:
        found.warnings.append(f"{where} has no {'end_reason' if reason is None else 'writer/status'}")
    if status not in (None, "SUCCEEDED", "FAILED"):
        found.doubts.append(f"{where} has an end_time, but the writer says {status}")
    if reason not in (None, "SUCCESS", "USER_ABORT", *_FAILED_REASONS):
        found.doubts.append(f"{where}: end_reason {reason} is not known")


def _judge_subscans(scan: BlissScan, found: _Findings) -> None:
    announced = scan.entries.head.subscans
    there = len([p for p in scan.entries.parts if p is not scan.entries.head])
    if there < len(announced):
        lacking = ", ".join(f"scan{n} ({announced[n]})" for n in range(there, min(len(announced), there + _NAMED)))
        found.missing.append(f"{there} of {len(announced)} subscans are there; missing: {lacking}")
    elif announced:
        found.evidence.append(f"all {len(announced)} subscans are there")


def _judge_stacks(scan: BlissScan, found: _Findings) -> None:
    problems: list[str] = []
    for entry, _, stacks in scan.parts():
        if not stacks:
            found.missing.append(f"{entry.name} ({entry.title}) has no images in the master")
        for stack in stacks:
            (found.open if stack.busy else problems).extend(stack.problems)
    found.missing += problems[:_NAMED]
    if len(problems) > _NAMED:
        found.missing.append(f"and {len(problems) - _NAMED} more problems with camera files")
    files = {run.file for stacks in scan.stacks for stack in stacks for run in stack.runs}
    if not problems and files:
        found.evidence.append(f"all images lie in {number_of(len(files), 'file')}, each opened and measured")
    found.doubts += [f"{name}: an image whose every byte is zero" for name in scan.zero_files[:_NAMED]]


def _judge_counts(scan: BlissScan, found: _Findings) -> tuple[FrameCounts, FrameCounts]:
    counts = FrameCounts(scan.found(FrameKind.PROJECTION), scan.found(FrameKind.FLAT), scan.found(FrameKind.DARK))
    if not scan.entries.planned:
        return FrameCounts(), counts
    expected = FrameCounts(
        _expected_projections(scan, found),
        _expected(scan, FrameKind.FLAT, "flat_n", ("tomo:flat", "tomo:ref")),
        _expected(scan, FrameKind.DARK, "dark_n", ("tomo:dark",)),
    )
    words = (("projections", expected.projections, counts.projections), ("flats", expected.flats, counts.flats))
    for word, wanted, there in (*words, ("darks", expected.darks, counts.darks)):
        if wanted is None:
            found.warnings.append(f"nothing says how many {word} are expected")
        elif there is not None and there < wanted:
            found.missing.append(f"{there} of {wanted} {word} are there")
        elif there is not None and there > wanted:
            found.warnings.append(f"{there} {word} are there, {wanted} were announced")
    if expected.projections is None:
        found.doubts.append("nothing says how many projections are expected")
    return expected, counts


def _expected_projections(scan: BlissScan, found: _Findings) -> int | None:
    """What the subscans planned where they say it, but never less than the sequence did without a word."""
    tomo_n = scan.entries.head.announced.get("tomo_n") or None
    parts = [e for e, kind, _ in scan.parts() if kind is FrameKind.PROJECTION and e is not scan.entries.head]
    own = [e.announced["proj_n"] for e in parts if "proj_n" in e.announced]
    if not own or len(own) < len(parts):
        return tomo_n
    planned = sum(own)
    if tomo_n is not None and planned < tomo_n:
        found.doubts.append(f"the sequence announces {tomo_n} projections, its subscans {planned}")
    return planned


def _expected(scan: BlissScan, kind: FrameKind, key: str, types: Sequence[str]) -> int | None:
    """Each subscan's own number where it says one, else the sequence's; announced subscans that lack count too."""
    default = scan.entries.head.announced.get(key)
    own = [e.announced.get(key, default) for e, k, _ in scan.parts() if k is kind]
    lacking = max(0, sum(t in types for t in scan.entries.head.subscans) - len(own))
    numbers = [*own, *([default] * lacking)]
    known = [n for n in numbers if n is not None]
    if not numbers:
        return 0 if scan.entries.head.subscans or default == 0 else default
    return sum(known) if len(known) == len(numbers) else None
