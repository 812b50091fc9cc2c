"""What a policy wants of one scan now, and which replicas go when an area is too full. Pure: facts in, wants out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from tomovault.core.known import JobStatus, KnownScan, files_lost, frames_lacking
from tomovault.core.life import Removal, Stage, Wants, may_go
from tomovault.core.replica import LEAST_COPIES, Form, ProductKind, Replica, ReplicaState, TierClass, good_domains
from tomovault.core.scan import Verdict as ScanVerdict
from tomovault.core.scan import has_slices
from tomovault.core.weighing import weigh_removal
from tomovault.policy.calendar import Months, later_by, show_moment, turning_points
from tomovault.policy.document import STAGE_OF, Policy, Recency, Rule
from tomovault.policy.expression import VOLUME_ACCEPTED, Compare, Replicas, Value
from tomovault.policy.limits import Exceeded
from tomovault.policy.reading import Term, Verdict, evaluate, holds_for_some_usage, leaves, may_come

#: An archiving that has waited in vain for so long is not counted on.
_HOPED_FOR = timedelta(days=1)

#: A count among the conditions of a scan is whole and at most this; another number is a damaged header, and not known.
MOST_COUNTED = 2**31

_INSTANT = timedelta(microseconds=1)


@dataclass(frozen=True)
class AreaFacts:
    """An area as it stands now. `used_fraction` and `used_bytes` include the quarantine, and `unknown_bytes`, which the
    file system counts beyond what is known: data of others, or on a disk smaller than the quota.

    While `draining` a prune to the low watermark is under way, and `high` reads as `low`: the rule that began it
    holds until the low watermark is reached. `warn` is how long before a removal its owner is told of it, where the
    rule does not say.
    """

    name: str
    tier_class: TierClass = TierClass.SERVER
    prune_on: bool = False
    reduce_on: bool = False
    used_fraction: float = 0.0
    high: float = 0.85
    low: float = 0.75
    quota_bytes: int = 0
    used_bytes: int = 0
    quarantine_bytes: int = 0
    simulated: bool = False
    draining: bool = False
    unknown_bytes: int = 0
    #: Limits of proposals, owners, beamlines and tiers that are exceeded, wherever their data lie.
    exceeded: Exceeded = field(default_factory=Exceeded)
    warn: timedelta = timedelta(0)

    @property
    def usage(self) -> float:
        """The used share without the quarantine, which is space to come."""
        if self.quota_bytes <= 0:
            return self.used_fraction
        return self.used_fraction - self.quarantine_bytes / self.quota_bytes

    @property
    def mark(self) -> float:
        """The watermark above which room is made now."""
        return self.low if self.draining else self.high


@dataclass(frozen=True)
class Match:
    """A rule with what its sentence and its dates say of a scan; `coming` when it may hold later by itself. Out of its
    dates a rule says nothing, and there is no doubt about that.
    """

    rule: Rule
    verdict: Verdict
    coming: bool


@dataclass(frozen=True)
class Move:
    """The files of a scan are wanted as files in the area `to`: below the folder that `path` describes, or at the
    place that they have below their own area where it is None.
    """

    to: str
    path: str | None
    rule: Rule


@dataclass(frozen=True)
class Asks:
    """The settings that the rules ask for, joined over the rules that hold for one scan."""

    copies: int = LEAST_COPIES
    archive_tiers: tuple[str, ...] = ()
    tiers: tuple[str, ...] = ()
    moves: tuple[Move, ...] = ()
    presets: Mapping[str, str] = field(default_factory=dict)
    rules: Mapping[str, Rule] = field(default_factory=dict)
    recency: Recency = field(default_factory=Recency)


@dataclass(frozen=True)
class PruneChoice:
    """A replica that a rule and the laws let go."""

    scan: str
    replica: str
    form: Form
    bytes: int
    acquired_at: datetime


def values_of(scan: KnownScan, area: AreaFacts, now: datetime, *, copies: int = LEAST_COPIES) -> Mapping[str, Any]:
    """The value of every term of a sentence for one scan; None where it is not known.

    Age counts since the acquisition, else since the scan was first seen; one from the future is not known.
    """
    originals = scan.replicas_of(ProductKind.ORIGINAL)
    start = scan.acquired_at or scan.first_seen_at
    age = now - start
    width, height = (_whole(scan, key) for key in ("frame_width", "frame_height"))

    def count(tier: str, within: timedelta | None) -> int:
        chosen = [r for r in originals if tier in (r.tier, r.tier_class.value) and r.lossless]
        return len({r.domain for r in chosen if (r.good if within is None else r.read_within(within, now))})

    return {
        "complete": scan.complete,
        "aborted": scan.verdict is ScanVerdict.ABORTED,
        "packed": any(r.form is Form.PACKAGE and r.state is ReplicaState.VERIFIED for r in originals),
        "archived": len(good_domains(originals, TierClass.ARCHIVE)) >= copies,
        "previewed": _made(scan, ProductKind.PREVIEW),
        "volume": _made(scan, ProductKind.VOLUME),
        VOLUME_ACCEPTED: scan.accepted_by is not None,
        "area": scan.area,
        "format": scan.format,
        "beamline": scan.beamline,
        "proposal": scan.proposal,
        "owner": scan.owner,
        "sample": scan.sample,
        "now": now,
        "start": start,
        "age": age if age >= timedelta(0) else None,
        "size": scan.bytes,
        "files": scan.files,
        "width": width,
        "height": height,
        "pixels": None if width is None or height is None else width * height,
        "n_projections": _whole(scan, "n_projections"),
        "usage": area.usage,
        "high": area.mark,
        "low": area.low,
        "replicas": count,
    }


def matches_of(scan: KnownScan, policy: Policy, area: AreaFacts, now: datetime) -> tuple[Match, ...]:
    """Every rule, in order, with what its sentence says of the scan.

    'archived' means the number of copies that the policy's archive rules ask for this very scan.
    """
    matches = _read(policy, values_of(scan, area, now))
    copies = _copies(matches)
    return matches if copies == LEAST_COPIES else _read(policy, values_of(scan, area, now, copies=copies))


def asks_of(
    scan: KnownScan, policy: Policy, area: AreaFacts, now: datetime, matches: Sequence[Match] | None = None
) -> Asks:
    """The settings for the steps of one scan, from the rules that hold or may hold for it later.

    `matches`: as `matches_of` says, where the caller has asked already.
    """
    matches = matches_of(scan, policy, area, now) if matches is None else matches
    chosen = _chosen(matches)
    archive = _wanted(matches, "archive")
    return Asks(
        copies=_copies(matches),
        archive_tiers=_joined(m.rule.settings.tiers for m in archive),
        tiers=_joined(m.rule.settings.tiers for m in _wanted(matches, "replicate")),
        moves=_moves(_wanted(matches, "replicate")),
        presets={do: m.rule.settings.preset for do, m in chosen.items() if m.rule.settings.preset},
        rules={do: m.rule for do, m in chosen.items()},
        recency=policy.recency,
    )


def wants_of(
    scan: KnownScan, policy: Policy, area: AreaFacts, now: datetime, matches: Sequence[Match] | None = None
) -> Wants:
    """What the rules want of a scan: `by` cites the rule of each stage, `held` says what forbids it, and `later`
    what its sentence still waits for. A stage that no rule wants has its nearest reason in `held` alone.

    `matches`: as `matches_of` says, where the caller has asked already.
    """
    matches = matches_of(scan, policy, area, now) if matches is None else matches
    by: dict[Stage, str] = {}
    held: dict[Stage, str] = {}
    later: dict[Stage, str] = {}
    for do, stage in STAGE_OF.items():
        rules = [m for m in matches if m.rule.do == do]
        if stage is Stage.PRUNED:
            rules = [m for m in rules if Form.FILES in m.rule.settings.forms]
        wanted = _first(rules)
        if wanted is not None:
            by[stage] = policy.cite(wanted.rule)
            if not wanted.verdict.value:
                later[stage] = f"{by[stage]} waits for: {wanted.verdict.explain(holding=False)}"
        elif rules:
            why = rules[0].verdict.explain(holding=False) or rules[0].rule.when
            held[stage] = f"{policy.cite(rules[0].rule)} does not apply: {why}"
    for stage, reason in _forbidden(matches, policy).items():
        if stage in by or (stage is Stage.PRUNED and _wanted(matches, "prune")):
            held[stage] = reason
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


def still_lets_go(scan: KnownScan, replica: str, rule: Rule, policy: Policy, area: AreaFacts, now: datetime) -> bool:
    """Whether a rule lets go what left for the quarantine by it, if it stood where it was: its form, its dates and its
    sentence are asked again, and all but the watermark, since what is in quarantine counts as freed.
    """
    there = {r.id: r for r in scan.replicas}
    if replica not in there or there[replica].form not in rule.settings.forms or not rule.is_in_force(now):
        return False
    stood = replace(there[replica], state=ReplicaState.VERIFIED)
    before = replace(scan, replicas=tuple(stood if r.id == replica else r for r in scan.replicas))
    copies = asks_of(before, policy, area, now).copies
    return holds_for_some_usage(rule.condition, values_of(before, area, now, copies=copies))


def prune_rule_of(
    scan: KnownScan, form: Form, policy: Policy, area: AreaFacts, now: datetime, matches: Sequence[Match] | None = None
) -> Rule | None:
    """The first rule that lets a form of this scan's original go now, if there is one."""
    matches = matches_of(scan, policy, area, now) if matches is None else matches
    held = (m for m in matches if m.verdict.value and m.rule.do == "prune")
    return next((m.rule for m in held if form in m.rule.settings.forms), None)


def removal_of(
    scan: KnownScan,
    replica: Replica,
    policy: Policy,
    area: AreaFacts,
    now: datetime,
    matches: Sequence[Match] | None = None,
) -> Removal:
    """What law 4 asks about one replica of the scan that is to go from the area."""
    matches = matches_of(scan, policy, area, now) if matches is None else matches
    rule = _first(m for m in matches if m.rule.do == "prune" and replica.form in m.rule.settings.forms)
    asked = rule.rule.settings.verified_within if rule is not None else None

    def period(tier_class: TierClass) -> timedelta:
        usual = policy.recency.of(tier_class)
        return usual if asked is None else min(usual, asked)

    return weigh_removal(
        scan,
        replica,
        enabled=area.prune_on,
        copies_asked=_copies(matches),
        period=period,
        archiving_hopeful=bool(_wanted(matches, "archive")) and not archiving_failed(scan, now),
        now=now,
    ).removal


def overdue(scan: KnownScan, policy: Policy, area: AreaFacts, now: datetime) -> tuple[Replica, ...]:
    """Good packages that were re-read too long ago (or in the future) to be counted on when something is removed,
    or longer ago than a `verify` rule that holds for the scan asks. A fast area relies on files in other areas, too.
    """
    asks_more = any(rule.do == "verify" for rule in policy.rules)
    matches = matches_of(scan, policy, area, now) if asks_more else ()
    rules = [m.rule for m in matches if m.rule.do == "verify" and m.verdict.value]
    return tuple(
        r
        for r in scan.replicas
        if r.good and _is_relied_on(r, area) and not r.read_within(_scrub_period(r, policy, rules), now)
    )


def _is_relied_on(replica: Replica, area: AreaFacts) -> bool:
    """Whether something may be removed from the area because of a copy."""
    return replica.form is Form.PACKAGE or (area.tier_class is TierClass.FAST and replica.tier != area.name)


def next_look(scan: KnownScan, policy: Policy, area: AreaFacts, now: datetime) -> datetime | None:
    """When the passing of time alone will change what the rules say, or what holds it back; None for never.

    A rule's own dates are met to the moment.
    """
    start = scan.acquired_at or scan.first_seen_at
    moments = [pin.until for pin in scan.pins]
    verified = [(r, r.verified_at) for r in scan.replicas if r.good and r.verified_at is not None]
    moments.extend(later_by(at, policy.recency.of(r.tier_class)) for r, at in verified)
    for rule in policy.rules:
        for leaf in leaves(rule.condition):
            if isinstance(leaf, Compare) and leaf.term == "age":
                moments.extend((start, *_ages(start, leaf.value)))
            elif isinstance(leaf, Replicas) and leaf.within is not None:
                moments.extend(later_by(at, leaf.within) for _, at in verified)
    # A period ends with its last instant: the first moment at which the answer differs comes right after it.
    ahead = [later_by(moment, _INSTANT) for moment in moments if moment >= now]
    dates = [date for rule in policy.rules for date in (rule.starts, rule.until) if date is not None and date > now]
    return min((*ahead, *dates), default=None)


def _ages(start: datetime, age: Value) -> tuple[datetime, ...]:
    """The last moments before what began at `start` is that old, and older."""
    if isinstance(age, Months):
        return turning_points(start, age)
    return (later_by(start, age),) if isinstance(age, timedelta) else ()


def bytes_to_free(area: AreaFacts) -> int:
    """Bytes above the low watermark, when the area stands above the high one; the quarantine counts as freed."""
    kept = area.used_bytes - area.quarantine_bytes
    if area.quota_bytes <= 0 or kept <= area.mark * area.quota_bytes:
        return 0
    return max(0, kept - int(area.low * area.quota_bytes))


def choose_for_watermark(candidates: Sequence[PruneChoice], *, bytes_to_free: int) -> Sequence[PruneChoice]:
    """The replicas to prune so that at least that much room comes, and none beyond it.

    Originals' files go before packages, and within a form the oldest scan first; a replica named twice counts once.
    """
    order = {Form.FILES: 0, Form.PACKAGE: 1}
    chosen: dict[str, PruneChoice] = {}
    freed = 0
    for choice in sorted(candidates, key=lambda c: (order[c.form], c.acquired_at, c.scan, c.replica)):
        if freed >= bytes_to_free:
            break
        if choice.replica in chosen or choice.bytes <= 0:
            continue
        chosen[choice.replica] = choice
        freed += choice.bytes
    return tuple(chosen.values())


def _scrub_period(replica: Replica, policy: Policy, rules: Iterable[Rule]) -> timedelta:
    asked = [
        rule.settings.verified_within
        for rule in rules
        if not rule.settings.tiers or {replica.tier, replica.tier_class.value} & set(rule.settings.tiers)
    ]
    return min([policy.recency.of(replica.tier_class), *(period for period in asked if period is not None)])


def _read(policy: Policy, values: Mapping[str, Any]) -> tuple[Match, ...]:
    return tuple(_match(rule, values) for rule in policy.ordered())


def _match(rule: Rule, values: Mapping[str, Any]) -> Match:
    verdict, now = evaluate(rule.condition, values), values["now"]
    if rule.is_in_force(now):
        return Match(rule, verdict, verdict.value or may_come(rule.condition, values))
    out = Term(_why_not_in_force(rule, now), "", False)
    coming = not rule.is_over(now) and may_come(rule.condition, values)
    return Match(rule, Verdict(False, (out, *verdict.terms)), coming)


def _why_not_in_force(rule: Rule, now: datetime) -> str:
    if rule.until is not None and rule.is_over(now):
        return f"over since {show_moment(rule.until)}"
    return f"not before {show_moment(rule.starts)}" if rule.starts is not None else ""


def _first(matches: Iterable[Match]) -> Match | None:
    """The match that decides: the first that holds, else the first that may hold later."""
    listed = list(matches)
    return next((m for m in listed if m.verdict.value), None) or next((m for m in listed if m.coming), None)


def _wanted(matches: Iterable[Match], do: str) -> list[Match]:
    return [m for m in matches if m.rule.do == do and m.coming]


def _chosen(matches: Sequence[Match]) -> dict[str, Match]:
    first = {do: _first(m for m in matches if m.rule.do == do) for do in STAGE_OF}
    return {do: match for do, match in first.items() if match is not None}


def _copies(matches: Sequence[Match]) -> int:
    """Archive copies asked for: the most of any archive or prune rule that holds or may hold later."""
    asked = (m.rule.settings.copies for do in ("archive", "prune") for m in _wanted(matches, do))
    return max(LEAST_COPIES, *asked, LEAST_COPIES)


def _moves(matches: Iterable[Match]) -> tuple[Move, ...]:
    """One for each area that files are wanted in; a rule that holds comes before one that may hold later."""
    chosen: dict[str, Move] = {}
    for match in sorted(matches, key=lambda m: not m.verdict.value):
        settings = match.rule.settings
        if settings.form is Form.FILES and settings.to is not None:
            chosen.setdefault(settings.to, Move(settings.to, settings.path, match.rule))
    return tuple(chosen.values())


def _joined(groups: Iterable[Iterable[str]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for group in groups for name in group))


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
        if stage not in by and not (stage is Stage.PRUNED and _wanted(matches, "prune")):
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
    files = [r for r in scan.replicas_of(ProductKind.ORIGINAL, Form.FILES) if r.tier == area.name]
    for replica in files:
        reasons = may_go(removal_of(scan, replica, policy, area, now, matches))
        if reasons:
            return reasons
    return ()


def archiving_failed(scan: KnownScan, now: datetime) -> bool:
    """The last job that was to archive the scan failed or was cancelled, or has waited for longer than a day for
    what it lacks, such as room: nothing may go in the hope of it.
    """
    last = max((j for j in scan.jobs if j.action == "archive"), key=lambda j: j.queued_at, default=None)
    if last is None or last.status in (JobStatus.FAILED, JobStatus.CANCELLED):
        return last is not None
    return last.status is JobStatus.TODO and bool(last.error) and now - last.queued_at > _HOPED_FOR


def _made(scan: KnownScan, kind: ProductKind) -> bool:
    return any(r.state is ReplicaState.VERIFIED for r in scan.replicas_of(kind))


def _whole(scan: KnownScan, key: str) -> int | None:
    condition = scan.conditions.get(key)
    value = None if condition is None else condition.value
    if value is None or isinstance(value, (str, bool)) or not 0 <= value <= MOST_COUNTED or value != int(value):
        return None
    return int(value)
