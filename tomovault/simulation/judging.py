"""The daemon's decisions over what a simulation knows: `policy` and `core` are asked, and nothing is decided here."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from tomovault.core.known import KnownScan, facts_of
from tomovault.core.life import Stage, Standing, Status, Wants, standings
from tomovault.core.replica import Form, ProductKind, Replica, ReplicaState, TierClass
from tomovault.policy.area_facts import AreaFacts
from tomovault.policy.decide import wants_of
from tomovault.policy.document import Policy, Rule
from tomovault.policy.due import next_look
from tomovault.policy.expression import Compare
from tomovault.policy.matching import Asks, Match, asks_of, matches_of
from tomovault.policy.reading import evaluate, leaves
from tomovault.policy.removing import PruneChoice, choice_of, prune_rule_of, removable_kinds, turns_of
from tomovault.policy.room import why_it_stays
from tomovault.simulation.scenario import Scenario, TapePlan
from tomovault.simulation.world import World

#: What an unfinished job of a scan says about why nothing of it goes.
_CAUSE_OF = {"pack": "packing", "archive": "drives", "restore": "pins"}


@dataclass(frozen=True)
class Stood:
    """What the rules say of a scan, what they want and ask for, and where its stages stand."""

    matches: Sequence[Match]
    wants: Wants
    asks: Asks
    standings: dict[Stage, Standing]

    def due(self, stage: Stage) -> bool:
        """Whether a step should run now."""
        return self.standings[stage].status is Status.DUE


@dataclass(frozen=True)
class _Looked:
    """The rule by which a replica goes, or what keeps it: as of one version of its scan, and until a moment."""

    version: int
    by_usage: tuple[bool, ...]
    until: datetime | None
    rule: Rule | None
    cause: str


class Judge:
    """Asks the policy about scans and areas. What was answered of a removal is kept for as long as it must hold."""

    def __init__(self, scenario: Scenario, world: World) -> None:
        self._scenario = scenario
        self._world = world
        self._looked: dict[tuple[str, str], _Looked] = {}
        self._by_usage = {
            name: tuple(
                leaf
                for rule in plan.policy.rules
                for leaf in leaves(rule.condition)
                if isinstance(leaf, Compare) and leaf.term == "usage"
            )
            for name, plan in scenario.areas.items()
        }
        self.asked = 0

    def facts(self, area: str, *, draining: bool = False) -> AreaFacts:
        """The area as it is now."""
        plan, used = self._scenario.areas[area], self._world.used[area]
        return AreaFacts(
            name=area,
            tier_class=plan.tier_class,
            prune_on=plan.prune,
            reduce_on=False,
            used_fraction=used / plan.quota if plan.quota else 0.0,
            high=plan.high,
            low=plan.low,
            quota_bytes=plan.quota,
            used_bytes=used,
            quarantine_bytes=self._world.quarantined[area],
            draining=draining,
        )

    def policy(self, area: str) -> Policy:
        """The policy of an area."""
        return self._scenario.areas[area].policy

    def stand(self, scan: KnownScan, facts: AreaFacts, now: datetime) -> Stood:
        """Where every stage of a scan stands."""
        self.asked += 1
        policy = self.policy(scan.area)
        matches = matches_of(scan, policy, facts, now)
        wants = wants_of(scan, policy, facts, now, matches)
        asks = asks_of(scan, policy, facts, now, matches)
        if Stage.RECONSTRUCTED in wants.by and Stage.ACCEPTED not in wants.by:
            wants = replace(wants, by={**wants.by, Stage.ACCEPTED: wants.by[Stage.RECONSTRUCTED]})
        counted = {tape.name for tape in self.archives(asks.archive_tiers)}
        known = facts_of(
            scan,
            now=now,
            keep_after=self._scenario.keep_after,
            wanted_tiers=frozenset(asks.tiers),
            wanted_files=frozenset(move.to for move in asks.moves),
            archive_wanted=asks.copies,
            uncounted=frozenset(tape.name for tape in self._scenario.tapes if tape.name not in counted),
        )
        return Stood(matches, wants, asks, standings(known, wants))

    def archives(self, named: Collection[str] = ()) -> tuple[TapePlan, ...]:
        """The archive tiers that copies go to: of the `named` ones, if any is named, those that count if any does."""
        chosen = [tape for tape in self._scenario.tapes if not named or tape.name in named]
        return tuple([tape for tape in chosen if tape.counts] or chosen)

    def choices(self, area: str, facts: AreaFacts, now: datetime) -> Iterator[tuple[PruneChoice, Rule | None, str]]:
        """Each replica of the originals in an area with the rule by which it may go, or with what keeps it: in the
        order in which they are chosen from.
        """
        values = {"usage": facts.usage, "high": facts.mark, "low": facts.low}
        by_usage = tuple(evaluate(leaf, values).value for leaf in self._by_usage[area])
        policy, told = self.policy(area), set[tuple[ProductKind, Form]]()
        for _, turn, kind, form in turns_of(policy):
            for scan, replica in self._removable(area, kind, form, largest_first=turn.settings.first == "largest"):
                looked = self._look(scan, replica, by_usage, facts, now)
                if looked.rule is turn:
                    yield choice_of(scan, replica, turn, policy), turn, ""
                elif looked.rule is None and (kind, form) not in told:
                    yield _stays(scan, replica), None, looked.cause
            told.add((kind, form))
        for form in (form for form in Form if (ProductKind.ORIGINAL, form) not in told):
            for scan, replica in self._removable(area, ProductKind.ORIGINAL, form):
                yield _stays(scan, replica), None, self._look(scan, replica, by_usage, facts, now).cause

    def _removable(
        self, area: str, kind: ProductKind, form: Form, *, largest_first: bool = False
    ) -> Iterator[tuple[KnownScan, Replica]]:
        """The replicas of a product that stand in an area, oldest scans or largest replicas first."""
        good = (ReplicaState.VERIFIED, ReplicaState.PRESENT)
        found = (
            (scan, replica)
            for scan in self._world.removable(area, kind, form)
            for replica in scan.replicas_of(kind, form)
            if replica.tier == area and replica.state in good
        )
        return iter(sorted(found, key=lambda pair: -pair[1].bytes)) if largest_first else found

    def by_evidence(self, scan: KnownScan, facts: AreaFacts, now: datetime) -> list[tuple[PruneChoice, Rule]]:
        """What of the original goes from its area however empty that is, and by which rule."""
        policy = self.policy(scan.area)
        stood = self.stand(scan, facts, now)
        standing = stood.standings[Stage.PRUNED]
        found = []
        for replica in (r for kind in removable_kinds(policy) for r in scan.replicas_of(kind)):
            if replica.tier != scan.area or replica.state not in (ReplicaState.VERIFIED, ReplicaState.PRESENT):
                continue
            rule = prune_rule_of(
                scan, replica.form, policy, facts, now, stood.matches, kind=replica.product, by_evidence=True
            )
            if rule is None or why_it_stays(
                scan, replica, rule, standing, stood.wants, policy, facts, now, stood.matches
            ):
                continue
            found.append((choice_of(scan, replica, rule, policy), rule))
        return found

    def _look(
        self, scan: KnownScan, replica: Replica, by_usage: tuple[bool, ...], facts: AreaFacts, now: datetime
    ) -> _Looked:
        """The answer changes with what is known of the scan, with a date that passes (`next_look`), and with the
        side of each mark that the area's usage is on; else the last one holds.
        """
        version = self._world.versions[scan.id]
        kept = self._looked.get((scan.id, replica.id))
        if kept is not None and (kept.version, kept.by_usage) == (version, by_usage):
            if kept.until is None or now < kept.until:
                return kept
        policy = self.policy(scan.area)
        stood = self.stand(scan, facts, now)
        rule = prune_rule_of(scan, replica.form, policy, facts, now, stood.matches, kind=replica.product)
        standing = stood.standings[Stage.PRUNED]
        reason = why_it_stays(scan, replica, rule, standing, stood.wants, policy, facts, now, stood.matches)
        until, cause = next_look(scan, policy, facts, now), _cause(scan, reason) if reason else ""
        looked = _Looked(version, by_usage, until, None if reason else rule, cause)
        self._looked[scan.id, replica.id] = looked
        return looked


def _stays(scan: KnownScan, replica: Replica) -> PruneChoice:
    return PruneChoice(scan.id, replica.id, replica.form, replica.bytes, scan.acquired_at or scan.first_seen_at)


def _cause(scan: KnownScan, reason: str) -> str:
    """What keeps a scan's bytes, as `ledger.CAUSES` names it."""
    at_work = {job.action for job in scan.jobs}
    for action, cause in _CAUSE_OF.items():
        if action in at_work:
            return cause
    if reason.startswith("pinned"):
        return "pins"
    return "copies" if "law 4" in reason else "policy"


def copies_left(scan: KnownScan, victim: Replica) -> tuple[int, int]:
    """(archive copies, other copies) of the original that stay without a replica: good, lossless, and on tiers that
    count, each failure domain once. Counted here by itself, since it checks what the laws have allowed.
    """
    original = scan.product(ProductKind.ORIGINAL)
    digest = original.digest if original is not None else ""
    good = [
        r
        for r in scan.replicas
        if r.digest == digest and r.id != victim.id and r.counts and r.lossless
        if r.state is ReplicaState.VERIFIED and r.verified_at is not None and r.domain
    ]
    archive = {r.domain for r in good if r.tier_class is TierClass.ARCHIVE}
    other = {r.domain for r in good if r.tier_class is not TierClass.ARCHIVE} - {victim.domain}
    return len(archive), len(other)


def files_are_home(scan: KnownScan) -> bool:
    """Whether something of the original's files is left where they were written."""
    home = [
        r
        for r in scan.replicas_of(ProductKind.ORIGINAL, Form.FILES)
        if not scan.is_elsewhere(r) and r.state is not ReplicaState.GONE
    ]
    return bool(home)
