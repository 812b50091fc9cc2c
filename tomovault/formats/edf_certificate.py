"""Whether an EDF series is complete, from what was read of it. Nothing is opened here.

Rests on index sets, never on counts: a return image (index >= TOMO_N) must not fill a hole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tomovault.core.scan import Certificate, FrameCounts, Verdict
from tomovault.formats.edf_abort import find_abort
from tomovault.formats.edf_darks import darks_in
from tomovault.formats.edf_flats import FlatGroups, FlatOrder, FlatPlan, group_flats, missing_flats, plan_flats
from tomovault.formats.edf_leftovers import MOST_RETURN_IMAGES
from tomovault.formats.edf_rescan import find_rescan
from tomovault.formats.edf_series import FrameFile, Series
from tomovault.formats.index_ranges import in_ranges, in_words, missing_ranges

#: So many single files are named in a problem.
_NAMED = 20


@dataclass
class _Findings:
    """What speaks against completeness, by how much."""

    missing: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    evidence: list[str] = field(default_factory=list)

    def problems(self) -> tuple[str, ...]:
        return (*self.refused, *self.missing, *self.doubts, *self.warnings)


def certify(series: Series, *, settled: bool) -> Certificate:
    """The certificate of a series. Unsettled is never COMPLETE; every problem is named with its files."""
    found = _Findings(refused=list(series.refused), warnings=list(series.problems))
    tomo_n = series.announced.tomo_n
    if series.leftovers:
        found.warnings.append(
            f"{len(series.leftovers)} older files of a scan of the same name are left here, kept as side files: "
            f"{series.leftovers[0]} and on"
        )
    whole = {i for i, name in series.names.projections.items() if _is_whole(series.frames.get(name))}
    _judge_files(series, found)
    expected, counts = FrameCounts(), FrameCounts(projections=len(whole))
    if tomo_n is not None:
        expected, counts = _judge_plan(series, tomo_n, whole, found)
    aborted = _judge_abort(series, found)
    verdict = _verdict(series, found, tomo_n=tomo_n, aborted=aborted, settled=settled)
    found.evidence.append("no change seen for the quiet time" if settled else "still changing")
    return Certificate(verdict, expected, counts, found.problems(), tuple(found.evidence))


def flat_plan(series: Series) -> FlatPlan | None:
    """The flats that the series announces, None where nothing is said."""
    tomo_n = series.announced.tomo_n
    return None if tomo_n is None else plan_flats(tomo_n, series.announced.ref_n, series.announced.ref_on)


def flat_groups(series: Series) -> FlatGroups:
    """Whole single flats by angle."""
    whole = [f for f in series.names.flats if _is_whole(series.frames.get(f.name))]
    return group_flats(whole, flat_plan(series), series.announced.ref_on)


def _is_whole(frame: FrameFile | None) -> bool:
    return frame is not None and not frame.problem


def _judge_abort(series: Series, found: _Findings) -> bool:
    """True where the scan was stopped; an `.abo` of an earlier scan of the name says nothing of this one."""
    mark = find_abort(series)
    if mark is None:
        return False
    if mark.newer:
        found.warnings.append(f"{mark.name} is older than {mark.newer}: an earlier scan of the same name was aborted")
        return False
    found.evidence.append(f"{mark.name} marks the scan as aborted")
    return True


def _verdict(series: Series, found: _Findings, *, tomo_n: int | None, aborted: bool, settled: bool) -> Verdict:
    if aborted and not found.refused:
        return Verdict.ABORTED
    if not settled:
        return Verdict.ACQUIRING
    if found.refused:
        return Verdict.UNREADABLE
    if tomo_n is None:
        found.doubts.append(_nothing_announced(series))
        return Verdict.UNDECIDED
    if found.doubts:
        return Verdict.UNDECIDED
    return Verdict.INCOMPLETE if found.missing else Verdict.COMPLETE


def _nothing_announced(series: Series) -> str:
    there = [t for t, present in ((".info", series.info is not None), (".xml", series.xml is not None)) if present]
    where = f"{' and '.join(there)} do not give TOMO_N" if there else "there is no .info and no .xml"
    return f"nothing says how many projections are expected: {where}"


def _judge_files(series: Series, found: _Findings) -> None:
    """Files that are short, unreadable, over-long or zero, whatever the plan says of them."""
    frames = {name: frame for name, frame in series.frames.items() if name not in series.leftovers}
    found.refused += [f"{name} {f.problem}" for name, f in _named(frames, lambda f: f.refused)]
    found.missing += [f"{n}: {f.problem}" for n, f in _named(frames, lambda f: bool(f.problem) and not f.refused)]
    found.doubts += [f"{name}: every data byte is zero" for name, f in _named(frames, lambda f: f.zero)]
    longer = [name for name, f in frames.items() if f.extra]
    if longer:
        found.warnings.append(f"{len(longer)} files are longer than header + Size, the first is {longer[0]}")
    if series.xml is not None and not series.xml.whole:
        found.missing.append(f"{series.names.xml or series.prefix + '.xml'} is {series.xml.problem}")


def _named(frames: Mapping[str, FrameFile], wanted: Callable[[FrameFile], bool]) -> list[tuple[str, FrameFile]]:
    return [(name, frame) for name, frame in frames.items() if wanted(frame)][:_NAMED]


def _judge_plan(series: Series, tomo_n: int, whole: set[int], found: _Findings) -> tuple[FrameCounts, FrameCounts]:
    _judge_projections(series, tomo_n, whole, found)
    plan = flat_plan(series)
    flats = _judge_flats(series, plan, found)
    darks = _judge_darks(series, found)
    expected = FrameCounts(tomo_n, None if plan is None else plan.frames, series.announced.dark_n)
    return expected, FrameCounts(sum(i < tomo_n for i in whole), flats, darks)


def _judge_projections(series: Series, tomo_n: int, whole: set[int], found: _Findings) -> None:
    said = series.announced
    sources = [f"TOMO_N {n} in {w}" for n, w in ((said.tomo_n_info, ".info"), (said.tomo_n_xml, ".xml")) if n]
    found.evidence.append("announced: " + ", ".join(sources))
    # A link that leads elsewhere has a name here and no frame.
    gaps = missing_ranges((i for i, name in series.names.projections.items() if name in series.frames), tomo_n)
    if gaps:
        count = sum(last - first + 1 for first, last in gaps)
        found.missing.append(f"{count} of {tomo_n} projections are missing: {in_words(gaps)}")
    else:
        found.evidence.append(f"every index 0-{tomo_n - 1} is there")
    _judge_disagreement(series, whole, found)
    _judge_likeness(series, tomo_n, found)
    extra = sorted(i for i in series.names.projections if i >= tomo_n)
    if extra:
        words = in_words(in_ranges(extra))
        found.evidence.append(f"{len(extra)} images after the last projection: {words}")
        if len(extra) > MOST_RETURN_IMAGES:
            found.doubts.append(f"{len(extra)} images more than the {tomo_n} announced: {words}")
    times = {i: series.frames[n].mtime_ns for i, n in series.names.projections.items() if n in series.frames}
    rescan = find_rescan(times, end_marked_ns=_end_marked_ns(series))
    if rescan:
        found.doubts.append(rescan)


def _judge_likeness(series: Series, tomo_n: int, found: _Findings) -> None:
    """Projections are images of one camera: one whose header tells of another array, or of none, was damaged, and a
    link to a file beside it is no image of its own.
    """
    planned = sorted((i, name) for i, name in series.names.projections.items() if i < tomo_n)
    links = {name: target for _, name in planned if (target := series.states[name].link_target) is not None}
    found.doubts += [f"{n} is a link to {to}, no image of its own" for n, to in links.items() if n in series.frames][
        :_NAMED
    ]
    arrays = {name: _array_of(series.frames[name]) for _, name in planned if _is_whole(series.frames.get(name))}
    usual = Counter(arrays.values()).most_common(1)
    odd = [name for name, array in arrays.items() if array != usual[0][0]]
    found.doubts += [f"{n}: its header tells of {arrays[n]}, most others of {usual[0][0]}" for n in odd[:_NAMED]]


def _array_of(frame: FrameFile) -> str:
    if frame.dtype is None or frame.shape is None:
        return "no plain image"
    return f"{frame.shape[1]} x {frame.shape[0]} of {frame.dtype}"


def _end_marked_ns(series: Series) -> int | None:
    """The time of the `.xml`, which is written when a scan has ended; None where there is no whole one."""
    if series.xml is None or not series.xml.whole:
        return None
    name = series.names.xml
    state = series.states.get(name) if name else series.metadata_states.get(f"{series.prefix}.xml")
    return None if state is None else state.mtime_ns


def _judge_disagreement(series: Series, whole: set[int], found: _Findings) -> None:
    first, second = series.announced.tomo_n_info, series.announced.tomo_n_xml
    if first is None or second is None or first == second:
        return
    text = f".info announces {first} projections and .xml {second}"
    if not missing_ranges(whole, max(first, second)):
        found.warnings.append(f"{text}; all of the larger number are there")
    elif not missing_ranges(whole, min(first, second)):
        found.doubts.append(f"{text}; only the smaller number is there")
    else:
        found.warnings.append(text)


def _judge_flats(series: Series, plan: FlatPlan | None, found: _Findings) -> int:
    groups = flat_groups(series)
    reduced = frozenset(i for i, n in series.names.reduced_flats.items() if _is_whole(series.frames.get(n)))
    singles = sum(_is_whole(series.frames.get(f.name)) for f in series.names.flats)
    if plan is None:
        _doubt_count(series, "flats", found)
        return singles
    if plan.count == 0:
        found.evidence.append("no flats are announced")
        return singles
    if groups.order is FlatOrder.UNKNOWN:
        found.warnings.append(
            "the names of the flats do not tell which number is the angle (REF_N and REF_ON fit neither or both); "
            "no angle is assumed for them"
        )
        if singles < plan.frames:
            found.missing.append(f"{plan.frames - singles} of {plan.frames} flats are missing")
        return singles
    lacking = missing_flats(plan, groups, reduced)
    found.missing += lacking
    if not lacking:
        found.evidence.append(f"flats at all {plan.groups} announced places, names are {groups.order.value}")
    if groups.order is FlatOrder.ANGLE_FRAME:
        found.warnings.append("the flats' names carry the angle first, as only writers of 2026 do")
    only_reduced = [a for a in reduced if a in plan.angles and len(groups.by_angle.get(a, ())) < plan.count]
    counted = sum(min(plan.count, len(v)) for a, v in groups.by_angle.items() if a not in only_reduced)
    return counted + _distinct_places(plan, only_reduced) * plan.count


def _distinct_places(plan: FlatPlan, angles: list[int]) -> int:
    """Groups that reduced flats stand for: the two names of the last group count once."""
    ends = [a for a in angles if a in plan.ends and a not in plan.starts]
    return len([a for a in angles if a in plan.starts]) + (1 if ends else 0)


def _doubt_count(series: Series, word: str, found: _Findings) -> None:
    """SPEC writes all counts together, so a text that has that of the projections alone was cut."""
    text = f"nothing says how many {word} are expected"
    if series.announced.tomo_n is None:
        found.warnings.append(text)
    else:
        found.doubts.append(text)


def _judge_darks(series: Series, found: _Findings) -> int:
    announced = series.announced.dark_n
    counts = {n: darks_in(series, n) for n in series.names.darks if _is_whole(series.frames.get(n))}
    if announced is None:
        _doubt_count(series, "darks", found)
        return len(counts)
    if announced == 0:
        return len(counts)
    whole = next((name for name, count in counts.items() if count is not None and count >= announced), None)
    if whole is not None:
        found.evidence.append(f"darks: {whole} stands for {announced}")
        return announced
    there = sum(count or 1 for count in counts.values())
    unsure = next((name for name, count in counts.items() if count is None), None)
    if unsure is not None:
        found.doubts.append(f"nothing says whether {unsure} is the sum of {announced} darks or the first of them")
    elif there < announced:
        found.missing.append(f"{announced - there} of {announced} darks are missing")
    return there
