"""The life of a scan: one table over facts. The daemon, `tomovault explain` and the documentation read it.

A stage is never stored. It is derived from what the catalogue can prove, so a copy that goes bad makes
"archived" false by itself and the step due again. A policy can want, delay or forbid a step; it can never
make one due that this table does not allow.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tomovault.core.replica import LEAST_COPIES, Form, ProductKind, TierClass


class Stage(enum.StrEnum):
    """The steps of a scan's life in the order in which a person reads them."""

    COMPLETE = "complete"
    PREVIEWED = "previewed"
    PACKED = "packed"
    REPLICATED = "replicated"
    ARCHIVED = "archived"
    RECONSTRUCTED = "reconstructed"
    ACCEPTED = "accepted"
    REDUCED = "reduced"
    EXPORTED = "exported"
    PRUNED = "pruned"


#: Actions that take bytes away from where somebody may look for them.
REMOVALS = frozenset({"prune", "empty_quarantine", "destroy"})


class Status(enum.StrEnum):
    """Where a stage stands for one scan."""

    DONE = "done"
    DUE = "due"
    WAITING = "waiting"
    HELD = "held"
    OFF = "off"


@dataclass(frozen=True)
class Facts:
    """What is known and proved of one scan. Counts are of failure domains, not of replicas."""

    complete: bool = False
    aborted: bool = False
    kept_as_found: bool = False
    preview: bool = False
    package: bool = False
    tiers_wanted: int = 0
    tiers_lacking: int = 0
    archive_copies: int = 0
    archive_wanted: int = LEAST_COPIES
    volume: bool = False
    accepted: bool = False
    in_set: bool = False
    set_accepted: bool = False
    reduced: bool = False
    exported: bool = False
    files_pruned: bool = False


@dataclass(frozen=True)
class Step:
    """One row. `needs` is closed over its own needs; `also` says what else forbids the step, '' if nothing.
    `as_found`: a scan that is kept as it was found takes this step without being complete.
    """

    stage: Stage
    of: str
    needs: tuple[Stage, ...]
    done: Callable[[Facts], bool]
    action: str
    needs_text: str
    done_text: str
    removes_text: str = "nothing"
    also: Callable[[Facts], str] = lambda _facts: ""
    by_person: bool = False
    as_found: bool = False


def _reduce_needs(facts: Facts) -> str:
    if not facts.complete:
        return "it is not complete"
    if facts.aborted:
        return "an aborted scan is never reduced"
    if facts.in_set and not facts.set_accepted:
        return "the volume of its set is not accepted"
    return ""


def _prune_needs(facts: Facts) -> str:
    return "" if facts.complete else "it is not complete"


LIFE: tuple[Step, ...] = (
    Step(
        Stage.COMPLETE,
        "scan",
        (),
        lambda f: f.complete,
        "inspect",
        "-",
        "the certificate says complete, or aborted (by evidence or a person), and it is settled",
    ),
    Step(
        Stage.PREVIEWED,
        "scan",
        (Stage.COMPLETE,),
        lambda f: f.preview,
        "preview",
        "complete",
        "a preview re-read to its digest",
    ),
    Step(
        Stage.PACKED,
        "original",
        (Stage.COMPLETE,),
        lambda f: f.package,
        "pack",
        "complete (or unchanged for so long that it is kept as found)",
        "a package re-read to the digests of every original file",
        as_found=True,
    ),
    Step(
        Stage.REPLICATED,
        "original",
        (Stage.PACKED,),
        lambda f: f.tiers_wanted > 0 and f.tiers_lacking == 0 and f.package,
        "replicate",
        "packed (what is copied, its package or its files, is compared with its digests)",
        "replicas on the wanted tiers, each verified once and not suspect",
        also=lambda f: "" if f.tiers_wanted else "no tier is wanted",
    ),
    Step(
        Stage.ARCHIVED,
        "each",
        (Stage.PACKED,),
        lambda f: f.archive_copies >= max(f.archive_wanted, LEAST_COPIES),
        "archive",
        "packed (other products: written and re-read)",
        "n archive replicas in n failure domains, each verified once and not suspect",
        as_found=True,
    ),
    Step(
        Stage.RECONSTRUCTED,
        "scan, set",
        (Stage.PACKED,),
        lambda f: f.volume,
        "reconstruct",
        "packed",
        "a volume re-read to its digest",
    ),
    Step(
        Stage.ACCEPTED,
        "volume",
        (Stage.RECONSTRUCTED,),
        lambda f: f.accepted,
        "accept",
        "reconstructed",
        "a person, or a preset proven on that beamline, says it is right",
        by_person=True,
    ),
    Step(
        Stage.REDUCED,
        "original",
        (Stage.ARCHIVED, Stage.ACCEPTED),
        lambda f: f.reduced,
        "reduce",
        "archived, accepted (the set's, if in a set)",
        "the gate passed on the stored bytes",
        also=_reduce_needs,
    ),
    Step(
        Stage.EXPORTED,
        "each",
        (),
        lambda f: f.exported,
        "export",
        "asked",
        "the receipt is in",
    ),
    Step(
        Stage.PRUNED,
        "replica",
        (Stage.PACKED,),
        lambda f: f.files_pruned,
        "prune",
        "law 4 (see `may_go`)",
        "gone, with permit and tombstone",
        "that replica",
        also=_prune_needs,
    ),
)


@dataclass(frozen=True)
class Standing:
    """A stage's status and, unless it is done, why."""

    status: Status
    reason: str = ""


@dataclass(frozen=True)
class Wants:
    """What the rules ask for one scan. `by` cites the rule; `held` says what forbids a wanted step."""

    by: Mapping[Stage, str] = field(default_factory=dict)
    held: Mapping[Stage, str] = field(default_factory=dict)
    later: Mapping[Stage, str] = field(default_factory=dict)


def step_of(stage: Stage, life: tuple[Step, ...] = LIFE) -> Step:
    """The row of a stage."""
    for step in life:
        if step.stage is stage:
            return step
    raise KeyError(stage)


def lacking(stage: Stage, facts: Facts, life: tuple[Step, ...] = LIFE) -> tuple[Stage, ...]:
    """Stages in the whole ancestry of `stage` that are not done, nearest to the beginning first."""
    missing: list[Stage] = []
    excused = (Stage.COMPLETE,) if facts.kept_as_found and step_of(stage, life).as_found else ()
    _collect_lacking(stage, facts, life, missing, excused)
    return tuple(missing)


def _collect_lacking(
    stage: Stage, facts: Facts, life: tuple[Step, ...], missing: list[Stage], excused: tuple[Stage, ...]
) -> None:
    for need in step_of(stage, life).needs:
        if need in excused:
            continue
        _collect_lacking(need, facts, life, missing, excused)
        if not step_of(need, life).done(facts) and need not in missing:
            missing.append(need)


def standing(stage: Stage, facts: Facts, wants: Wants, life: tuple[Step, ...] = LIFE) -> Standing:
    """Where one stage stands: done, due, waiting for something else first, held, or off."""
    step = step_of(stage, life)
    if step.done(facts):
        return Standing(Status.DONE)
    if stage is not Stage.COMPLETE and stage not in wants.by:
        return Standing(Status.OFF, wants.held.get(stage, "no rule asks for it"))
    missing = lacking(stage, facts, life)
    if missing:
        return Standing(Status.WAITING, "needs " + ", ".join(missing))
    if reason := step.also(facts):
        return Standing(Status.HELD, reason)
    if reason := wants.held.get(stage, ""):
        return Standing(Status.HELD, reason)
    if step.by_person:
        return Standing(Status.WAITING, "a person says that the volume is right: tomovault accept")
    if reason := wants.later.get(stage, ""):
        return Standing(Status.WAITING, reason)
    return Standing(Status.DUE, wants.by.get(stage, ""))


def standings(facts: Facts, wants: Wants, life: tuple[Step, ...] = LIFE) -> dict[Stage, Standing]:
    """Where every stage stands."""
    return {step.stage: standing(step.stage, facts, wants, life) for step in life}


def due(facts: Facts, wants: Wants, life: tuple[Step, ...] = LIFE) -> tuple[Step, ...]:
    """The steps that should run now."""
    return tuple(s for s in life if standing(s.stage, facts, wants, life).status is Status.DUE)


@dataclass(frozen=True)
class Removal:
    """What law 4 asks about one replica that is to go. Copies 'elsewhere' leave the replica itself out,
    are lossless where an original is concerned, and were re-read recently enough.
    """

    product: ProductKind
    form: Form
    tier_class: TierClass
    complete: bool
    enabled: bool
    pinned_by: str = ""
    made_by_us: bool = True
    archive_copies_elsewhere: int = 0
    server_copies_elsewhere: int = 0
    archiving_hopeful: bool = False
    good_copies_elsewhere: int = 0
    reproducible: bool = False
    copies_asked: int = LEAST_COPIES


def may_go(removal: Removal) -> tuple[str, ...]:
    """Every reason why law 4 forbids the removal; empty when it is allowed."""
    reasons: list[str] = []
    if not removal.enabled:
        reasons.append("prune is off for this area")
    if removal.pinned_by:
        reasons.append(f"pinned by {removal.pinned_by}")
    if not removal.complete:
        reasons.append("the scan is not complete")
    if removal.product is ProductKind.ORIGINAL or not removal.made_by_us:
        reasons.extend(_original_may_go(removal))
    elif removal.product is ProductKind.REDUCED:
        if removal.archive_copies_elsewhere < _asked(removal):
            reasons.append(_too_few(removal))
    elif removal.good_copies_elsewhere < 1 and not removal.reproducible:
        reasons.append("no verified replica elsewhere, and it cannot be made again from what is kept")
    return tuple(reasons)


def _asked(removal: Removal) -> int:
    return max(removal.copies_asked, LEAST_COPIES)


def _original_may_go(removal: Removal) -> list[str]:
    if removal.archive_copies_elsewhere >= _asked(removal):
        return []
    if removal.tier_class is TierClass.FAST and removal.server_copies_elsewhere >= 1:
        if removal.archiving_hopeful:
            return []
        return ["law 4: on a server, but its archiving is not wanted or has failed"]
    return [_too_few(removal)]


def _too_few(removal: Removal) -> str:
    return (
        f"law 4: {removal.archive_copies_elsewhere} of {_asked(removal)} verified lossless archive copies"
        " in separate failure domains"
    )
