"""The daemon's decisions over what a simulation knows: `policy` and `core` are asked, and nothing is decided here."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from tomovault.core.known import KnownScan, facts_of
from tomovault.core.life import Facts, Stage, Standing, Status, Wants, standing
from tomovault.core.replica import Form, ProductKind, Replica, ReplicaState, TierClass, good_domains
from tomovault.policy.area_facts import AreaFacts
from tomovault.policy.decide import held_back, wants_by
from tomovault.policy.document import Policy, Rule
from tomovault.policy.matching import Asks, Match, asks_of, matches_of
from tomovault.policy.reading import holds
from tomovault.policy.removing import PruneChoice, choice_of, prune_rule_of, removable_kinds
from tomovault.policy.room import why_it_stays
from tomovault.policy.values import values_of
from tomovault.simulation.scenario import Scenario, TapePlan
from tomovault.simulation.world import World

#: What an unfinished job of a scan says about why nothing of it goes.
_CAUSE_OF = {"pack": "packing", "archive": "drives", "restore": "pins"}


@dataclass(frozen=True)
class Stood:
    """What the rules say of a scan, what they want and ask for, and what LIFE reads of it."""

    matches: Sequence[Match]
    wants: Wants
    asks: Asks
    facts: Facts

    def standing(self, stage: Stage) -> Standing:
        """Where a stage of its life stands."""
        return standing(stage, self.facts, self.wants)

    def due(self, stage: Stage) -> bool:
        """Whether a step should run now."""
        return self.standing(stage).status is Status.DUE


@dataclass(frozen=True)
class _Said:
    """What the rules say of every scan of which each of their terms is as true."""

    matches: Sequence[Match]
    wants: Wants
    asks: Asks


class Judge:
    """Asks the policy about scans and areas. What the rules say is asked once for all scans of which their terms, their
    dates and the number of copies say the same; what holds a scan back, and what LIFE reads of it, each time.
    """

    def __init__(self, scenario: Scenario, world: World) -> None:
        self._scenario = scenario
        self._world = world
        self._said: dict[tuple[object, ...], _Said] = {}
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
            warn=plan.warn,
            prices=plan.prices,
        )

    def policy(self, area: str) -> Policy:
        """The policy of an area."""
        return self._scenario.areas[area].policy

    def stand(self, scan: KnownScan, facts: AreaFacts, now: datetime) -> Stood:
        """What is known and wanted of a scan, from which follows where it stands."""
        self.asked += 1
        policy = self.policy(scan.area)
        said = self._say(scan, policy, facts, now)
        matches, asks = said.matches, said.asks
        wants = held_back(scan, said.wants, policy, facts, now, matches)
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
        return Stood(matches, wants, asks, known)

    def _say(self, scan: KnownScan, policy: Policy, facts: AreaFacts, now: datetime) -> _Said:
        values = values_of(scan, facts, now)
        key = (
            id(policy),
            len(good_domains(scan.replicas_of(ProductKind.ORIGINAL), TierClass.ARCHIVE)),
            *(holds(leaf, values) for rule in policy.rules for leaf in rule.terms),
            *(rule.has_begun(now) for rule in policy.rules if rule.starts is not None),
            *(rule.is_over(now) for rule in policy.rules if rule.until is not None),
        )
        said = self._said.get(key)
        if said is None:
            matches = matches_of(scan, policy, facts, now, told=False)
            asks = asks_of(scan, policy, facts, now, matches)
            said = self._said[key] = _Said(matches, wants_by(matches, policy, facts), asks)
        return said

    def archives(self, named: Collection[str] = ()) -> tuple[TapePlan, ...]:
        """The archive tiers that copies go to: of the `named` ones, if any is named, those that count if any does."""
        chosen = [tape for tape in self._scenario.tapes if not named or tape.name in named]
        return tuple([tape for tape in chosen if tape.counts] or chosen)

    def weigh(
        self, scan: KnownScan, here: Sequence[Replica], facts: AreaFacts, now: datetime
    ) -> Iterator[tuple[Replica, Rule | None, str]]:
        """Each of these replicas in the scan's area with the rule by which it may go now, or with what keeps it."""
        policy = self.policy(scan.area)
        stood = self.stand(scan, facts, now)
        standing = stood.standing(Stage.PRUNED)
        for replica in here:
            rule = prune_rule_of(scan, replica.form, policy, facts, now, stood.matches, kind=replica.product)
            reason = why_it_stays(scan, replica, rule, standing, stood.wants, policy, facts, now, stood.matches)
            yield replica, None if reason else rule, _cause(scan, reason) if reason else ""

    def by_evidence(self, scan: KnownScan, facts: AreaFacts, now: datetime) -> list[tuple[PruneChoice, Rule]]:
        """What of the original goes from its area however empty that is, and by which rule."""
        policy = self.policy(scan.area)
        stood = self.stand(scan, facts, now)
        standing = stood.standing(Stage.PRUNED)
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
