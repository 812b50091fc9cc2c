"""What a policy and the laws let go of one scan, and in which order it goes when an area is too full. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from tomovault.core.known import JobStatus, KnownScan, Permit
from tomovault.core.life import Removal, may_go
from tomovault.core.replica import Form, ProductKind, Replica, ReplicaState, TierClass
from tomovault.core.weighing import weigh_removal
from tomovault.policy.area_facts import AreaFacts
from tomovault.policy.document import Policy, Rule
from tomovault.policy.matching import Match, asks_of, copies_of, first_of, matches_of, wanted_of
from tomovault.policy.reading import holds_for_some_usage
from tomovault.policy.values import values_of

#: The key of a removal's wish that says whether its permit was given however full the place was.
BY_EVIDENCE = "by_evidence"

#: An archiving that has waited in vain for so long is not counted on.
_HOPED_FOR = timedelta(days=1)


_FORM_ORDER = {form: place for place, form in enumerate(Form)}


@dataclass(frozen=True)
class PruneChoice:
    """A replica that a rule and the laws let go; `rank` is the place of the rule among those that are asked."""

    scan: str
    replica: str
    form: Form
    bytes: int
    acquired_at: datetime
    rank: int = 0
    largest_first: bool = False

    @property
    def turn(self) -> tuple[object, ...]:
        """What is less goes first: by rule, then files before packages, then as the rule says, else the oldest scan."""
        within = -self.bytes if self.largest_first else 0
        return (self.rank, _FORM_ORDER[self.form], within, self.acquired_at, self.scan, self.replica)


def choice_of(scan: KnownScan, replica: Replica, rule: Rule, policy: Policy) -> PruneChoice:
    """A replica that a rule of the policy lets go."""
    return PruneChoice(
        scan.id,
        replica.id,
        replica.form,
        replica.bytes,
        scan.acquired_at or scan.first_seen_at,
        rank=policy.ordered().index(rule),
        largest_first=rule.settings.first == "largest",
    )


def turns_of(policy: Policy) -> Iterator[tuple[int, Rule, ProductKind, Form]]:
    """The prune rules in the order in which what they let go goes, each with one form of a product, and its rank."""
    for rank, rule in enumerate(policy.ordered()):
        yield from ((rank, rule, kind, form) for kind, form in rule.removes)


def removable_kinds(policy: Policy) -> tuple[ProductKind, ...]:
    """The products that rules may let go; the original in any case."""
    named = {kind for rule in policy.rules for kind, _ in rule.removes} | {ProductKind.ORIGINAL}
    return tuple(kind for kind in ProductKind if kind in named)


def reaches(rule: Rule, kind: ProductKind, form: Form, area: AreaFacts) -> bool:
    """Whether a rule lets go of such copies there: one that names tiers of the packages on those, any other of its
    forms in the area of the scan.
    """
    if area.of_tier:
        is_package = (kind, form) == (ProductKind.ORIGINAL, Form.PACKAGE)
        return rule.do == "prune" and is_package and area.name in rule.settings.tiers
    return (kind, form) in rule.removes


def prune_rule_of(
    scan: KnownScan,
    form: Form,
    policy: Policy,
    area: AreaFacts,
    now: datetime,
    matches: Sequence[Match] | None = None,
    *,
    kind: ProductKind = ProductKind.ORIGINAL,
    by_evidence: bool = False,
) -> Rule | None:
    """The first rule that lets a form of a product of this scan go now, if there is one; `by_evidence`: the first of
    those that let it go however empty the area is.
    """
    matches = matches_of(scan, policy, area, now) if matches is None else matches
    held = (m for m in matches if m.verdict.value and m.rule.do == "prune" and (m.rule.by_evidence or not by_evidence))
    return next((m.rule for m in held if reaches(m.rule, kind, form, area)), None)


def went_for_room(scan: KnownScan, permit: Permit) -> bool:
    """Whether a permit was given since the place was above its mark; False, too, where its job does not say how."""
    jobs = (j for j in scan.jobs if j.action == "prune" and j.order.get("permit") == permit.id)
    return any(j.order.get(BY_EVIDENCE) is False for j in jobs)


def still_lets_go(
    scan: KnownScan, replica: str, rule: Rule, policy: Policy, area: AreaFacts, now: datetime, *, for_room: bool
) -> bool:
    """Whether a rule lets go what left for the quarantine by it, if it stood where it was: its form, its dates and its
    sentence are asked again, and all but the watermark, since what is in quarantine counts as freed.

    What did not leave to make room (`went_for_room`) was never asked for how full the area is. A rule that asks for it
    since lets it go only where the area would be above its low mark with all that is in quarantine.
    """
    if not (for_room or rule.by_evidence) and area.used_fraction <= area.low:
        return False
    there = {r.id: r for r in scan.replicas}
    leaving = there.get(replica)
    if leaving is None or not reaches(rule, leaving.product, leaving.form, area) or not rule.is_in_force(now):
        return False
    stood = replace(leaving, state=ReplicaState.VERIFIED)
    before = replace(scan, replicas=tuple(stood if r.id == replica else r for r in scan.replicas))
    copies = asks_of(before, policy, area, now).copies
    return holds_for_some_usage(rule.condition, values_of(before, area, now, copies=copies))


def removal_of(
    scan: KnownScan,
    replica: Replica,
    policy: Policy,
    area: AreaFacts,
    now: datetime,
    matches: Sequence[Match] | None = None,
    *,
    rule: Rule | None,
) -> Removal:
    """What law 4 asks about one replica of the scan that is to go from the area by that rule, which may ask for
    copies that were re-read more recently than the policy does; None: by no rule yet.
    """
    matches = matches_of(scan, policy, area, now) if matches is None else matches
    asked = rule.settings.verified_within if rule is not None else None

    def period(tier_class: TierClass) -> timedelta:
        usual = policy.recency.of(tier_class)
        return usual if asked is None else min(usual, asked)

    return weigh_removal(
        scan,
        replica,
        enabled=area.prune_on,
        copies_asked=copies_of(matches),
        period=period,
        archiving_hopeful=bool(wanted_of(matches, "archive")) and not archiving_failed(scan, now),
        now=now,
    ).removal


def fates_of_made(
    scan: KnownScan, policy: Policy, area: AreaFacts, now: datetime, matches: Sequence[Match]
) -> tuple[str, ...]:
    """Of each volume and preview in the area that rules may let go, by which it may, or why it stays."""
    told = []
    for kind in removable_kinds(policy):
        match = first_of(m for m in matches if any(kind is one for one, _ in m.rule.removes))
        if kind is ProductKind.ORIGINAL or match is None:
            continue
        for replica in (r for r in scan.replicas_of(kind) if r.tier == area.name):
            rule, terms = policy.cite(match.rule), match.verdict
            why = f"{rule} waits for: {terms.explain(holding=False)}"
            if terms.value:
                reasons = may_go(removal_of(scan, replica, policy, area, now, matches, rule=match.rule))
                why = "; ".join(reasons) or f"may go by {rule} ({terms.explain()})"
            told.append(f"{kind}: {why}")
    return tuple(told)


def archiving_failed(scan: KnownScan, now: datetime) -> bool:
    """The last job that was to archive the scan failed or was cancelled, or has waited for longer than a day for
    what it lacks, such as room: nothing may go in the hope of it.
    """
    last = max((j for j in scan.jobs if j.action == "archive"), key=lambda j: j.queued_at, default=None)
    if last is None or last.status in (JobStatus.FAILED, JobStatus.CANCELLED):
        return last is not None
    return last.status is JobStatus.TODO and bool(last.error) and now - last.queued_at > _HOPED_FOR


def choose_for_watermark(candidates: Sequence[PruneChoice], *, bytes_to_free: int) -> Sequence[PruneChoice]:
    """The replicas to prune so that at least that much room comes, and none beyond it.

    They go in the order of `PruneChoice.turn`; a replica named twice counts once.
    """
    chosen: dict[str, PruneChoice] = {}
    freed = 0
    for choice in sorted(candidates, key=lambda c: c.turn):
        if freed >= bytes_to_free:
            break
        if choice.replica in chosen or choice.bytes <= 0:
            continue
        chosen[choice.replica] = choice
        freed += choice.bytes
    return tuple(chosen.values())
