"""Whether a removal waits for the warning of its owner. Pure; it can only delay what the laws and the rules let go."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from tomovault.core.known import KnownScan
from tomovault.core.life import Stage, Wants
from tomovault.core.notice import OwnerWarning
from tomovault.core.replica import Form, ProductKind
from tomovault.policy.area_facts import AreaFacts
from tomovault.policy.document import Policy, Rule
from tomovault.policy.removing import prune_rule_of

#: So long after its days are over a warning counts; who was told earlier than that is told anew.
COUNTS_FOR = timedelta(days=30)


@dataclass(frozen=True)
class Hold:
    """Why a replica does not go yet; `ask` where its owner is to be warned first, or anew. `until` is the earliest
    moment, None where that is not known.
    """

    reason: str
    ask: bool = False
    until: datetime | None = None


def days_of(rule: Rule, area: AreaFacts) -> timedelta:
    """How long before a removal by the rule the owner is told of it."""
    return area.warn if rule.settings.warn is None else rule.settings.warn


def why_unwarned(
    scan: KnownScan, replica: str, rule: Rule, area: AreaFacts, now: datetime, *, leaving: bool = False
) -> Hold | None:
    """What a replica of the scan waits for that is to go by the rule; None where it has waited enough.

    Both must have passed since the warning was sent: the days by the clock, and as much time as daemons have seen
    pass, so that no clock that is set makes it earlier. A promise that was longer than the rule is now is kept. A pin
    that held after a warning makes it void. What is `leaving` was warned of before, however long that takes.
    """
    days = days_of(rule, area)
    warned = _valid(scan, replica, days, now, leaving=leaving)
    if not days and warned is None:
        return None
    above = rule.settings.unwarned_above
    if above is not None and area.used_fraction >= above:
        return None
    if warned is None:
        return Hold("its owner is to be warned first", ask=True)
    if warned.sent_at is None:
        return Hold(f"its owner is being warned: asked for on {warned.asked_at:%Y-%m-%d %H:%M}, not sent yet")
    promised = max(days, warned.days)
    until = max(warned.sent_at + promised, now + (promised - warned.passed))
    if until <= now and warned.passed >= promised:
        return None
    return Hold(f"warned on {warned.sent_at:%Y-%m-%d}, goes not before {until:%Y-%m-%d %H:%M} UTC", until=until)


def with_warning(wants: Wants, scan: KnownScan, policy: Policy, area: AreaFacts, now: datetime) -> Wants:
    """The same wants, but that a prune of the files which nothing else holds is held by the warning of their owner."""
    stage = Stage.PRUNED
    if stage not in wants.by or stage in wants.held or stage in wants.later:
        return wants
    rule = prune_rule_of(scan, Form.FILES, policy, area, now)
    if rule is None:
        return wants
    files = (r for r in scan.replicas_of(ProductKind.ORIGINAL, Form.FILES) if r.tier == area.name)
    hold = next((hold for r in files if (hold := why_unwarned(scan, r.id, rule, area, now))), None)
    return wants if hold is None else replace(wants, held={**wants.held, stage: hold.reason})


def _valid(scan: KnownScan, replica: str, days: timedelta, now: datetime, *, leaving: bool) -> OwnerWarning | None:
    """The warning of a replica that counts still."""
    warned = next((w for w in scan.warnings if w.replica == replica), None)
    if warned is None:
        return None
    told_at = warned.sent_at or warned.asked_at
    if any(pin.until > told_at for pin in scan.pins):
        return None
    if not leaving and warned.sent_at is not None and now - told_at > max(days, warned.days) + COUNTS_FOR:
        return None
    return warned
