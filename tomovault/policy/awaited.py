"""Which copies are to be re-read before something goes: a 'prune' rule may ask for that more lately than its policy
does, and else nothing would ever be eligible by it. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from tomovault.core.known import KnownScan, Permit, RemovalPhase, files_lost
from tomovault.core.life import Removal, Stage, may_go
from tomovault.core.replica import ProductKind, Replica, ReplicaState, TierClass
from tomovault.policy.area_facts import AreaFacts, bytes_to_free
from tomovault.policy.decide import forbidden
from tomovault.policy.document import Policy, Rule
from tomovault.policy.matching import Match, matches_of
from tomovault.policy.removing import prune_rule_of, removal_of, still_lets_go, went_for_room


def asked_before_removal(policy: Policy, area: str, places: Sequence[AreaFacts]) -> tuple[timedelta, ...]:
    """How lately 'prune' rules that may act now, in that area or on the tiers among `places`, want copies re-read."""
    asked = ((rule, rule.settings.verified_within) for rule in policy.rules if rule.do == "prune")
    return tuple(p for rule, p in asked if p is not None and any(_may_act(rule, area, place) for place in places))


def _may_act(rule: Rule, area: str, place: AreaFacts) -> bool:
    named = place.name in rule.settings.tiers if place.of_tier else place.name == area and bool(rule.removes)
    leaves = rule.by_evidence or place.quarantine_bytes > 0 or bytes_to_free(place) > 0
    return place.prune_on and named and leaves


def awaited(scan: KnownScan, policy: Policy, places: Sequence[AreaFacts], now: datetime) -> frozenset[str]:
    """The copies of a scan whose re-read is all that a 'prune' rule still asks before something of it goes from one of
    the `places`, its area and tiers: none where anything else keeps it, or the policy asks for as much.
    """
    if not any(rule.do == "prune" and rule.settings.verified_within is not None for rule in policy.rules):
        return frozenset()
    return frozenset(
        copy
        for place in places
        if place.prune_on and (place.of_tier or place.name == scan.area)
        for copy in (*_of_standing(scan, policy, place, now), *_of_leaving(scan, policy, place, now))
    )


def _of_standing(scan: KnownScan, policy: Policy, place: AreaFacts, now: datetime) -> Iterator[str]:
    """Of what a rule would let go now: by evidence, and for room where there is too little."""
    if files_lost(scan):
        return
    ways = [(place, True), *([(replace(place, draining=True), False)] if bytes_to_free(place) > 0 else [])]
    for there, by_evidence in ways:
        matches = matches_of(scan, policy, there, now, told=False)
        if Stage.PRUNED in forbidden(scan, policy, there, now, matches):
            continue
        for victim in scan.replicas:
            if victim.tier != place.name or not _stands(scan, victim):
                continue
            form, kind = victim.form, victim.product
            rule = prune_rule_of(scan, form, policy, there, now, matches, kind=kind, by_evidence=by_evidence)
            if rule is not None:
                yield from _lacking(scan, victim, rule, policy, there, now, matches)


def _stands(scan: KnownScan, replica: Replica) -> bool:
    return replica.state in (ReplicaState.VERIFIED, ReplicaState.PRESENT) and not scan.is_elsewhere(replica)


def _of_leaving(scan: KnownScan, policy: Policy, place: AreaFacts, now: datetime) -> Iterator[str]:
    """Of what is on its way out, and is looked at again now."""
    there = {r.id: r for r in scan.replicas}
    for permit in scan.permits:
        victim = there.get(permit.replica)
        rule = next((r for r in policy.rules if r.do == "prune" and r.name == permit.rule.partition("@")[0]), None)
        if victim is None or victim.tier != place.name or rule is None or not _is_looked_at(permit, now):
            continue
        for_room = went_for_room(scan, permit)
        if still_lets_go(scan, victim.id, rule, policy, place, now, for_room=for_room):
            yield from _lacking(scan, victim, rule, policy, place, now, None)


def _is_looked_at(permit: Permit, now: datetime) -> bool:
    if permit.phase is RemovalPhase.QUARANTINED:
        return not permit.ordered_by and (permit.hold_until is None or permit.hold_until <= now)
    return not permit.ordered_by and permit.phase in (RemovalPhase.GRANTED, RemovalPhase.LEAVING)


def _lacking(
    scan: KnownScan,
    victim: Replica,
    rule: Rule,
    policy: Policy,
    place: AreaFacts,
    now: datetime,
    matches: Sequence[Match] | None,
) -> Iterator[str]:
    """The copies that law 4 would count for the removal if they were re-read now, where it lacks nothing else."""
    asked = rule.settings.verified_within
    found = removal_of(scan, victim, policy, place, now, matches, rule=rule)
    if asked is None or not may_go(found) or may_go(removal_of(scan, victim, policy, place, now, matches, rule=None)):
        return
    for copy in scan.replicas:
        if copy.good and copy.id != victim.id and not copy.read_within(asked, now):
            read = tuple(replace(r, verified_at=now) if r.id == copy.id else r for r in scan.replicas)
            after = replace(scan, replicas=read)
            if _copies(removal_of(after, victim, policy, place, now, matches, rule=rule)) != _copies(found):
                yield copy.id


def _copies(removal: Removal) -> tuple[int, int]:
    """The copies elsewhere that law 4 asks for of such a removal: in archives, and those that may do in their place."""
    archived = removal.archive_copies_elsewhere
    if removal.product is not ProductKind.ORIGINAL and removal.made_by_us:
        return archived, removal.good_copies_elsewhere
    return archived, removal.server_copies_elsewhere if removal.tier_class is TierClass.FAST else 0
