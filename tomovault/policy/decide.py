"""What a policy wants of one scan now. Pure: facts in, wants out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from tomovault.core.known import KnownScan, files_lost, frames_lacking
from tomovault.core.life import Stage, Wants, may_go
from tomovault.core.replica import Form, ProductKind
from tomovault.core.scan import has_slices
from tomovault.policy.area_facts import AreaFacts
from tomovault.policy.document import STAGE_OF, Policy
from tomovault.policy.matching import Match, first_of, matches_of, wanted_of
from tomovault.policy.removing import reaches, removal_of


def wants_of(
    scan: KnownScan, policy: Policy, area: AreaFacts, now: datetime, matches: Sequence[Match] | None = None
) -> Wants:
    """What the rules want of a scan: `by` cites the rule of each stage, `held` says what forbids it, and `later`
    what its sentence still waits for. A stage that no rule wants has its nearest reason in `held` alone.

    `matches`: as `matches_of` says, where the caller has asked already.
    """
    matches = matches_of(scan, policy, area, now) if matches is None else matches
    return held_back(scan, wants_by(matches, policy, area), policy, area, now, matches)


def wants_by(matches: Sequence[Match], policy: Policy, area: AreaFacts) -> Wants:
    """What the rules want by what they say alone, before anything of the scan holds it back: the same for all scans of
    which they say the same.
    """
    by: dict[Stage, str] = {}
    held: dict[Stage, str] = {}
    later: dict[Stage, str] = {}
    for do, stage in STAGE_OF.items():
        rules = [m for m in matches if m.rule.do == do]
        if stage is Stage.PRUNED:
            rules = [m for m in rules if reaches(m.rule, ProductKind.ORIGINAL, Form.FILES, area)]
        wanted = first_of(rules)
        if wanted is not None:
            by[stage] = policy.cite(wanted.rule)
            if not wanted.verdict.value:
                later[stage] = f"{by[stage]} waits for: {wanted.verdict.explain(holding=False)}"
        elif rules:
            why = rules[0].verdict.explain(holding=False) or rules[0].rule.when
            held[stage] = f"{policy.cite(rules[0].rule)} does not apply: {why}"
    for stage, reason in _forbidden(matches, policy).items():
        if stage in by or (stage is Stage.PRUNED and wanted_of(matches, "prune")):
            held[stage] = reason
    return Wants(by=by, held=held, later=later)


def held_back(
    scan: KnownScan, wants: Wants, policy: Policy, area: AreaFacts, now: datetime, matches: Sequence[Match]
) -> Wants:
    """The same wants, with what holds them back that is known of this scan, and of the switches of its area."""
    by, held, later = dict(wants.by), dict(wants.held), wants.later
    held.update(_held_back(scan, policy, area, now, by, matches))
    if why := files_lost(scan):
        by.pop(Stage.PRUNED, None)
        held[Stage.PRUNED] = why
    for stage, on in ((Stage.PRUNED, area.prune_on), (Stage.REDUCED, area.reduce_on)):
        if not on and stage in later:
            by.pop(stage, None)  # nobody wants it: not now by the rule, and not at all by who switched it off
    return Wants(by=by, held=held, later=later)


def forbidden(
    scan: KnownScan, policy: Policy, area: AreaFacts, now: datetime, matches: Sequence[Match] | None = None
) -> Mapping[Stage, str]:
    """The stages of one scan that a 'forbid' rule forbids now, wanted or not, each with the rule.

    `matches`, here and below: as `matches_of` says, where the caller has asked already.
    """
    return _forbidden(matches_of(scan, policy, area, now) if matches is None else matches, policy)


def why_forbidden_still(scan: KnownScan, policy: Policy, area: AreaFacts, now: datetime, *, for_room: bool) -> str:
    """The rule that forbids what left for the quarantine to go; '' for none. What left to make room was let go by an
    area on its way to its low mark, and is asked about in that area: with all that is in quarantine put back.
    """
    there = replace(area, draining=True, quarantine_bytes=0) if for_room else area
    return forbidden(scan, policy, there, now).get(Stage.PRUNED, "")


def _forbidden(matches: Sequence[Match], policy: Policy) -> dict[Stage, str]:
    """What 'forbid' rules forbid. One whose sentence cannot be answered forbids too: a doubt is no permission."""
    forbidden: dict[Stage, str] = {}
    for match in matches:
        if match.rule.do != "forbid" or not (match.verdict.value or match.verdict.doubtful):
            continue
        for do in match.rule.settings.actions:
            if do in STAGE_OF:
                forbidden.setdefault(STAGE_OF[do], f"forbidden by {policy.cite(match.rule)}")
    return forbidden


def _held_back(
    scan: KnownScan, policy: Policy, area: AreaFacts, now: datetime, by: Mapping[Stage, str], matches: Sequence[Match]
) -> dict[Stage, str]:
    """What a pin, a switch of the area or law 4 holds back of the wanted removals and reductions, and of what is made
    from frames where none can be read, now or by what its format says.
    """
    held: dict[Stage, str] = {}
    if lacking := frames_lacking(scan):
        held |= {stage: lacking for stage in (Stage.PREVIEWED, Stage.RECONSTRUCTED) if stage in by}
    if isinstance(reason := scan.metadata.get("no_reconstruction"), str):
        unmade = [Stage.RECONSTRUCTED, Stage.REDUCED] + [Stage.PREVIEWED] * (not has_slices(scan.metadata))
        held |= {stage: reason for stage in unmade if stage in by}
    pin = scan.pinned_by(now)
    for stage, on, word in (
        (Stage.PRUNED, area.prune_on, "prune"),
        (Stage.REDUCED, area.reduce_on, "reduce"),
    ):
        if stage not in by and not (stage is Stage.PRUNED and wanted_of(matches, "prune")):
            continue
        if not on:
            held[stage] = f"{word}: off for area {area.name}"
        elif pin:
            held[stage] = f"pinned by {pin}"
    if Stage.PRUNED in by and Stage.PRUNED not in held and scan.complete:
        reasons = _law_reasons(scan, policy, area, now, matches)
        if reasons:
            held[Stage.PRUNED] = "; ".join(reasons)
    return held


def _law_reasons(
    scan: KnownScan, policy: Policy, area: AreaFacts, now: datetime, matches: Sequence[Match]
) -> tuple[str, ...]:
    """Why law 4 keeps the files in the area, whichever rule lets them go; what it asks of the first is told."""
    reaching = [m for m in matches if m.coming and reaches(m.rule, ProductKind.ORIGINAL, Form.FILES, area)]
    decided = [m.rule for m in reaching if m.verdict.value] or [m.rule for m in reaching[:1]]
    for replica in scan.replicas_of(ProductKind.ORIGINAL, Form.FILES):
        if replica.tier != area.name:
            continue
        found = [may_go(removal_of(scan, replica, policy, area, now, matches, rule=rule)) for rule in decided]
        if found and all(found):
            return found[0]
    return ()
