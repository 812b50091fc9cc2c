"""Removals by rules that do not ask how full an area is: queued where a scan is planned, since what its rules say
changes with its facts and with a date, and the planner looks at a scan whenever one of them does.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from tomovault.core.errors import Refused
from tomovault.core.known import KnownScan
from tomovault.policy.area_facts import AreaFacts
from tomovault.policy.room import Going, Waiting, is_alone_too_much
from tomovault.vault.evidence import Chosen, choose_by_evidence, within_limits
from tomovault.vault.owner_warnings import Leaving, warn_owners
from tomovault.vault.removals import grant
from tomovault.vault.room import on_their_way
from tomovault.vault.vault import Vault

#: What something stops that is no fact of the scan, such as a full quarantine or a brake, is looked at once, and then
#: waits in the order in which it came. So often the first are looked at again, so many of them; and the next at once
#: where one of those goes on.
_TRIED_AGAIN = timedelta(minutes=5)
_TRIED_AT_ONCE = 10

#: A removal that waits for a warning on its way is looked at again so often.
_UNSENT_AGAIN = timedelta(hours=1)

#: Permits that are granted in one turn of the planner.
_GRANTED_AT_ONCE = 10


@dataclass
class _Queue:
    """Scans of an area that would go and are stopped by what is no fact of theirs, each with what it is told.

    `tried` are those of them that are being looked at again.
    """

    waiting: dict[str, str] = field(default_factory=dict)
    tried: set[str] = field(default_factory=set)
    tried_at: datetime | None = None

    def add(self, scan: str, told: str, now: datetime) -> None:
        """One more waits, behind the others."""
        if not self.waiting:
            self.tried_at = now
        self.waiting[scan] = told

    def next_to_try(self, now: datetime) -> list[str]:
        """Those that waited longest, where it is their turn; they are last in the order from now on."""
        is_going_on = bool(self.tried - self.waiting.keys())
        if not is_going_on and self.tried_at is not None and timedelta(0) <= now - self.tried_at < _TRIED_AGAIN:
            return []
        first = list(self.waiting)[:_TRIED_AT_ONCE]
        self.tried, self.tried_at = set(first), now
        for scan in first:
            self.waiting[scan] = self.waiting.pop(scan)
        return first


class EvidencePruner:
    """Grants what goes by evidence, some in each turn. Knows what is stopped, of each area, and why."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._queues = {name: _Queue() for name in vault.site.areas}
        self._awake: set[str] = set()
        self._left = 0

    def wake(self, braked: str, resting: Collection[str], now: datetime) -> None:
        """Once after a start, what goes by evidence is looked at in each area that does not rest: that it may go can be
        new, since `prune` was switched on or a setting is another. What was stopped is tried again, unless removals
        are `braked`.
        """
        for name, area in self._vault.site.areas.items():
            if braked or name in resting:
                self._queues[name].tried_at = None  # at once when that is over
            else:
                self._try_again(self._queues[name].next_to_try(now), now)
            rules = [rule.name for rule in self._vault.policy_of(name).rules if rule.by_evidence]
            if name in self._awake or name in resting or not area.prune or not rules:
                continue
            with self._vault.catalogue.writing() as tx:
                facts = self._vault.area_facts(tx, name, now)
                self._vault.catalogue.wake_leaving(tx, self._vault.policy_of(name), rules, facts, now)
            self._awake.add(name)
            return

    def _try_again(self, scans: Collection[str], now: datetime) -> None:
        if scans:
            with self._vault.catalogue.writing() as tx:
                for scan in scans:
                    self._vault.catalogue.set_next_due(tx, scan, now)

    def begin_turn(self) -> None:
        """Another turn, in which some may be granted again."""
        self._left = _GRANTED_AT_ONCE

    @property
    def texts(self) -> dict[str, str]:
        """What stops removals by evidence now, by area."""
        found = {}
        for area, queue in self._queues.items():
            if told := list(filter(None, queue.waiting.values())):
                found[area] = told[-1] + (f" (and {len(told) - 1} more)" if told[1:] else "")
        return found

    def let_go(self, tx: Any, scan: KnownScan, facts: AreaFacts, braked: str, now: datetime) -> datetime | None:
        """What of the scan goes however empty its area is has a permit and a job, unless the removals are `braked`;
        returns when to look again, None for when its facts change or its turn comes.
        """
        chosen = choose_by_evidence(self._vault, scan, facts, now)
        if chosen.choices and not braked and self._left <= 0:
            return now
        for queue in self._queues.values():  # it may have moved to another area
            queue.waiting.pop(scan.id, None)
        if not chosen.choices:
            return None
        if braked:
            self._stop(scan, f"nothing is removed: {braked}", now)
            return None
        return self._grant(tx, scan, chosen, now)

    def _grant(self, tx: Any, scan: KnownScan, chosen: Chosen, now: datetime) -> datetime | None:
        facts = self._vault.area_facts(tx, scan.area, now)
        braked = within_limits(self._vault, chosen, facts, on_their_way(tx, facts))
        dates = [self._wait(tx, scan, facts, waiting, now) for waiting in braked.waiting]
        refused = [going for going in braked.going if not self._permit(tx, scan, going, now)]
        if braked.full:
            self._stop(scan, f"{braked.full}: pruning waits for its hold", now)
        elif braked.stopped or refused:
            alone = (why for why in braked.stopped.values() if is_alone_too_much(why))
            self._stop(scan, next(alone, ""), now)
        return min((date for date in dates if date is not None), default=None)

    def _permit(self, tx: Any, scan: KnownScan, going: Going, now: datetime) -> bool:
        """Whether a permit was granted."""
        fresh = self._vault.catalogue.known(tx, scan.id)
        try:
            grant(self._vault, tx, fresh, going.choice.replica, rule=going.rule, now=now, by_evidence=True)
        except Refused:
            return False
        self._left -= 1
        return True

    def _wait(self, tx: Any, scan: KnownScan, facts: AreaFacts, waiting: Waiting, now: datetime) -> datetime | None:
        """The owner will be told, if that was not asked for yet; returns when to look again, None where nobody can be
        told now: then it waits for its turn.
        """
        if waiting.hold.ask:
            replica = next(r for r in scan.replicas if r.id == waiting.going.choice.replica)
            unheard = warn_owners(self._vault, tx, facts, [Leaving(scan, replica, waiting.going.rule)], now)
            for why in unheard.values():
                self._stop(scan, why, now)
                return None
        until = waiting.hold.until
        return until if until is not None and until > now else now + _UNSENT_AGAIN

    def _stop(self, scan: KnownScan, why: str, now: datetime) -> None:
        """The scan waits for its turn; what nobody has to know has no reason."""
        self._queues[scan.area].add(scan.id, f"{scan.name} may go, but {why}" if why else "", now)
