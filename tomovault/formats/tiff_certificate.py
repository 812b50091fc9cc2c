"""Whether a TIFF stack is complete, from what was read of it. Nothing is opened here.

TIFF knows nothing of a scan: without a text, or a word in the file itself, that says how many projections there are
to be, a stack is never complete, however whole it looks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from tomovault.core.layout import FrameKind
from tomovault.core.scan import Certificate, FrameCounts, Verdict
from tomovault.formats.index_ranges import in_ranges, in_words, missing_ranges
from tomovault.formats.tiff_series import Stack, StackFile

#: So many single files are named in a problem.
_NAMED = 20
#: Images after the last projection that a scanner takes to see what moved; more are a doubt.
_MOST_EXTRA = 5


@dataclass
class _Findings:
    refused: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    evidence: list[str] = field(default_factory=list)

    def problems(self) -> tuple[str, ...]:
        return (*self.refused, *self.missing, *self.doubts, *self.warnings)


def certify(stack: Stack, *, settled: bool) -> Certificate:
    """The certificate of a stack. Unsettled is never COMPLETE."""
    found = _Findings()
    _judge_files(stack, found)
    expected = _expected(stack)
    counts = FrameCounts(*(_count(stack.of(k)) for k in (FrameKind.PROJECTION, FrameKind.FLAT, FrameKind.DARK)))
    if stack.lone:
        _judge_pages(stack, found)
    else:
        _judge_indices(stack, expected.projections, found)
        _judge_references(stack, expected, counts, found)
    if stack.left_out:
        found.doubts.append(f"{len(stack.left_out)} links are left out, the first is {stack.left_out[0]}")
    verdict = _verdict(found, expected.projections, settled=settled)
    found.evidence.append("no change seen for the quiet time" if settled else "still changing")
    return Certificate(verdict, expected, counts, found.problems(), tuple(found.evidence))


def base_of(stack: Stack) -> int:
    """The index of the first projection: 0 or 1, after darks and flats where they share the numbers."""
    projections = stack.of(FrameKind.PROJECTION)
    if stack.text is not None and stack.in_one_series:
        return 1 + (stack.text.darks or 0) + (stack.text.flats or 0)
    first = min((f.index for f in projections), default=0)
    return first if stack.text is None else min(first, 1)


def _verdict(found: _Findings, expected: int | None, *, settled: bool) -> Verdict:
    if not settled:
        return Verdict.ACQUIRING
    if found.refused:
        return Verdict.UNREADABLE
    if expected is None:
        found.doubts.append("nothing says how many projections are expected")
        return Verdict.INCOMPLETE if found.missing else Verdict.UNDECIDED
    if found.doubts:
        return Verdict.UNDECIDED
    return Verdict.INCOMPLETE if found.missing else Verdict.COMPLETE


def _expected(stack: Stack) -> FrameCounts:
    if stack.lone:
        return FrameCounts(projections=stack.stated_pages)
    if stack.text is None:
        return FrameCounts()
    return FrameCounts(stack.text.projections, stack.text.flats, stack.text.darks)


def _count(files: Sequence[StackFile]) -> int:
    """Images of files that are whole."""
    return sum(len(f.pages) for f in files if not f.problem)


def _judge_files(stack: Stack, found: _Findings) -> None:
    bad = [f for f in stack.files if f.problem]
    for file in bad[:_NAMED]:
        refused = file.problem.startswith("cannot be read")
        (found.refused if refused else found.missing).append(f"{file.state.path}: {file.problem}")
    if len(bad) > _NAMED:
        found.missing.append(f"{len(bad) - _NAMED} more files are not whole")
    zero = [f for f in stack.files if f.zero]
    found.doubts += [f"{f.state.path}: every data byte is zero" for f in zero[:_NAMED]]
    shapes = {(p.height, p.width, p.dtype) for f in stack.of(FrameKind.PROJECTION) for p in f.pages}
    if len(shapes) > 1:
        words = ", ".join(sorted(f"{rows} x {columns} {dtype}" for rows, columns, dtype in shapes)[:4])
        found.doubts.append(f"the projections are not alike: {words}")
    odd = [f.state.path for f in stack.of(FrameKind.PROJECTION) if any(p.offset is None for p in f.pages)]
    if odd and any(p.offset is not None for f in stack.of(FrameKind.PROJECTION) for p in f.pages):
        found.doubts.append(f"the projections are not alike: some are plain images, others not, as {odd[0]}")
    packed = sum(p.offset is None for f in stack.files for p in f.pages)
    if packed:
        found.warnings.append(f"{packed} images are compressed, tiled or of another kind and are kept as whole files")


def _judge_pages(stack: Stack, found: _Findings) -> None:
    there = sum(len(f.pages) for f in stack.files)
    if stack.stated_pages is None:
        return
    found.evidence.append(f"the file announces {stack.stated_pages} images")
    if there < stack.stated_pages:
        found.missing.append(f"{stack.stated_pages - there} of {stack.stated_pages} images are missing")
    elif there > stack.stated_pages:
        found.doubts.append(f"{there} images, {stack.stated_pages} are announced")


def _judge_indices(stack: Stack, expected: int | None, found: _Findings) -> None:
    projections = stack.of(FrameKind.PROJECTION)
    base = base_of(stack)
    places = [f.index - base for f in projections]
    several = any(len(f.pages) > 1 for f in projections)
    if expected is None or several:
        _judge_holes(places, base, found)
    if expected is None or stack.text is None:
        return
    found.evidence.append(f"announced: {expected} projections in {stack.text.name}")
    if several:
        _judge_total(sum(len(f.pages) for f in projections), expected, found)
        return
    gaps = missing_ranges(places, expected)
    if gaps:
        count = sum(last - first + 1 for first, last in gaps)
        words = in_words([(first + base, last + base) for first, last in gaps])
        found.missing.append(f"{count} of {expected} projections are missing: {words}")
    else:
        found.evidence.append(f"every index {base}-{base + expected - 1} is there")
    extra = [p + base for p in places if p >= expected]
    extra += [f.index for f in stack.of(FrameKind.ALIGNMENT)]
    if extra:
        text = f"{len(extra)} images after the last projection: {in_words(in_ranges(extra))}"
        (found.doubts if len(extra) > _MOST_EXTRA else found.evidence).append(text)


def _judge_total(there: int, expected: int, found: _Findings) -> None:
    if there < expected:
        found.missing.append(f"{expected - there} of {expected} projections are missing")
    elif there > expected + _MOST_EXTRA:
        found.doubts.append(f"{there} images, {expected} projections are announced")


def _judge_holes(places: Sequence[int], base: int, found: _Findings) -> None:
    """Gaps between the first and the last index; a constant step is a way of counting, and no gap."""
    ordered = sorted(set(places))
    steps = {second - first for first, second in pairwise(ordered)}
    if len(steps) <= 1:
        if steps and steps != {1}:
            found.evidence.append(f"the indices go in steps of {steps.pop()}")
        return
    first = ordered[0]
    gaps = missing_ranges((p - first for p in ordered), ordered[-1] - first + 1)
    words = in_words([(low + first + base, high + first + base) for low, high in gaps])
    found.missing.append(f"indices are missing between the first and the last: {words}")


def _judge_references(stack: Stack, expected: FrameCounts, counts: FrameCounts, found: _Findings) -> None:
    if stack.text is not None and stack.text.inter_flats:
        found.doubts.append(
            f"{stack.text.name} speaks of flats between the projections; their numbers cannot be told apart"
        )
        return
    for word, wanted, there in (("flats", expected.flats, counts.flats), ("darks", expected.darks, counts.darks)):
        if wanted and (there or 0) < wanted:
            found.missing.append(f"{wanted - (there or 0)} of {wanted} {word} are missing")
    if not counts.flats and not counts.darks and not expected.flats and not expected.darks:
        found.warnings.append("there are no flats and no darks")
