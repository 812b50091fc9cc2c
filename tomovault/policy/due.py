"""When a scan is to be looked at again, and which of its copies are to be re-read. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from tomovault.core.known import KnownScan
from tomovault.core.replica import Form, Replica, TierClass
from tomovault.policy.area_facts import AreaFacts
from tomovault.policy.awaited import awaited
from tomovault.policy.calendar import Months, later_by, turning_points
from tomovault.policy.document import Policy, Rule
from tomovault.policy.expression import Compare, Replicas, Value
from tomovault.policy.matching import Match, matches_of

_INSTANT = timedelta(microseconds=1)


def next_look(scan: KnownScan, policy: Policy, area: AreaFacts, now: datetime) -> datetime | None:
    """When the passing of time alone will change what the rules say, or what holds it back; None for never.

    A rule's own dates are met to the moment.
    """
    start = scan.acquired_at or scan.first_seen_at
    moments = [pin.until for pin in scan.pins]
    verified = [(r, r.verified_at) for r in scan.replicas if r.good and r.verified_at is not None]
    moments.extend(later_by(at, policy.recency.of(r.tier_class)) for r, at in verified)
    for rule in policy.rules:
        for leaf in rule.terms:
            if isinstance(leaf, Compare) and leaf.term == "age":
                moments.extend((start, *_ages(start, leaf.value)))
            elif isinstance(leaf, Replicas) and leaf.within is not None:
                moments.extend(later_by(at, leaf.within) for _, at in verified)
    # A period ends with its last instant: the first moment at which the answer differs comes right after it.
    ahead = [later_by(moment, _INSTANT) for moment in moments if moment >= now]
    dates = [date for rule in policy.rules for date in (rule.starts, rule.until) if date is not None and date > now]
    return min((*ahead, *dates), default=None)


def overdue(
    scan: KnownScan,
    policy: Policy,
    area: AreaFacts,
    now: datetime,
    matches: Sequence[Match] | None = None,
    *,
    places: Sequence[AreaFacts] = (),
) -> tuple[Replica, ...]:
    """Good packages that were re-read too long ago (or in the future) to be counted on when something is removed,
    or longer ago than a `verify` rule that holds for the scan asks, or a `prune` rule that else would let something of
    it go from one of the `places`, by default its area. A fast area relies on files in other areas, too.

    `matches`: as `matches_of` says, where the caller has asked already.
    """
    asks_more = any(rule.do == "verify" for rule in policy.rules)
    if matches is None:
        matches = matches_of(scan, policy, area, now) if asks_more else ()
    rules = [m.rule for m in matches if m.rule.do == "verify" and m.verdict.value]
    waited_for = awaited(scan, policy, places or (area,), now)
    return tuple(
        r
        for r in scan.replicas
        if r.good
        and _is_relied_on(r, area)
        and (r.id in waited_for or not r.read_within(_scrub_period(r, policy, rules), now))
    )


def asked_by_rules(policy: Policy) -> tuple[timedelta, ...]:
    """How lately `verify` rules want copies re-read, where they hold."""
    asked = (rule.settings.verified_within for rule in policy.rules if rule.do == "verify")
    return tuple(period for period in asked if period is not None)


def _is_relied_on(replica: Replica, area: AreaFacts) -> bool:
    """Whether something may be removed from the area because of a copy."""
    return replica.form is Form.PACKAGE or (area.tier_class is TierClass.FAST and replica.tier != area.name)


def _scrub_period(replica: Replica, policy: Policy, rules: Iterable[Rule]) -> timedelta:
    asked = [
        rule.settings.verified_within
        for rule in rules
        if not rule.settings.tiers or {replica.tier, replica.tier_class.value} & set(rule.settings.tiers)
    ]
    return min([policy.recency.of(replica.tier_class), *(period for period in asked if period is not None)])


def _ages(start: datetime, age: Value) -> tuple[datetime, ...]:
    """The last moments before what began at `start` is that old, and older."""
    if isinstance(age, Months):
        return turning_points(start, age)
    return (later_by(start, age),) if isinstance(age, timedelta) else ()
