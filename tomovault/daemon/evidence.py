"""Removals by rules that do not ask how full an area is: queued where a scan is planned, since what its rules say
changes with its facts and with a date, and the planner looks at a scan whenever one of them does.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from tomovault.core.errors import Refused
from tomovault.core.known import KnownScan
from tomovault.policy.area_facts import AreaFacts
from tomovault.policy.room import Going, Waiting
from tomovault.vault.evidence import Chosen, choose_by_evidence, within_limits
from tomovault.vault.owner_warnings import Leaving, warn_owners
from tomovault.vault.removals import grant
from tomovault.vault.room import on_their_way
from tomovault.vault.vault import Vault

#: What something stops that is no fact of the scan is looked at again so often: a full quarantine, a brake, a warning
#: that is on its way; and what waits only for others by the same rule.
_STOPPED_AGAIN = timedelta(hours=1)
_LIMITED_AGAIN = timedelta(minutes=5)

#: Permits that are granted in one turn of the planner.
_GRANTED_AT_ONCE = 10


@dataclass(frozen=True)
class _Stopped:
    """A scan that would go, and what it is told to wait for."""

    scan: str
    text: str


class EvidencePruner:
    """Grants what goes by evidence, some in each turn. Of each area one scan is kept that is stopped, to be told."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._stopped: dict[str, _Stopped] = {}
        self._awake: set[str] = set()
        self._left = 0

    def wake(self, resting: Collection[str], now: datetime) -> None:
        """Once after a start, what goes by evidence is looked at in each area that does not rest: that it may go can be
        new, since `prune` was switched on or a setting is another.
        """
        for name, area in self._vault.site.areas.items():
            rules = [rule.name for rule in self._vault.policy_of(name).rules if rule.by_evidence]
            if name in self._awake or name in resting or not area.prune or not rules:
                continue
            with self._vault.catalogue.writing() as tx:
                facts = self._vault.area_facts(tx, name, now)
                self._vault.catalogue.wake_leaving(tx, self._vault.policy_of(name), rules, facts, now)
            self._awake.add(name)
            return

    def begin_turn(self) -> None:
        """Another turn, in which some may be granted again."""
        self._left = _GRANTED_AT_ONCE

    @property
    def texts(self) -> dict[str, str]:
        """What stops removals by evidence now, by area."""
        return {area: stopped.text for area, stopped in self._stopped.items()}

    def let_go(self, tx: Any, scan: KnownScan, facts: AreaFacts, braked: str, now: datetime) -> datetime | None:
        """What of the scan goes however empty its area is has a permit and a job, unless the removals are `braked`;
        returns when to look again at what is stopped by nothing that is a fact of the scan, None for nothing.
        """
        chosen = choose_by_evidence(self._vault, scan, facts, now)
        if not chosen.choices:
            self._forget(scan)
            return None
        if braked:
            self._tell(scan, f"nothing is removed: {braked}")
            return now + _STOPPED_AGAIN
        if self._left <= 0:
            return now
        return self._grant(tx, scan, chosen, now)

    def _grant(self, tx: Any, scan: KnownScan, chosen: Chosen, now: datetime) -> datetime | None:
        facts = self._vault.area_facts(tx, scan.area, now)
        braked = within_limits(self._vault, chosen, facts, on_their_way(tx, facts))
        dates = [self._wait(tx, scan, facts, waiting, now) for waiting in braked.waiting]
        refused = [self._permit(tx, scan, going, now) for going in braked.going]
        dates += [now + _STOPPED_AGAIN] * any(refused)
        if braked.full:
            self._tell(scan, f"{braked.full}: pruning waits for its hold")
            dates.append(now + _STOPPED_AGAIN)
        elif any("alone more" in reason for reason in braked.stopped.values()):
            self._tell(scan, next(iter(braked.stopped.values())))
            dates.append(now + _STOPPED_AGAIN)
        elif braked.stopped:
            dates.append(now + _LIMITED_AGAIN)
        elif not braked.waiting:
            self._forget(scan)
        return min(dates, default=None)

    def _permit(self, tx: Any, scan: KnownScan, going: Going, now: datetime) -> str:
        """Why a permit was not granted; '' where it was."""
        fresh = self._vault.catalogue.known(tx, scan.id)
        try:
            grant(self._vault, tx, fresh, going.choice.replica, rule=going.rule, now=now, by_evidence=True)
        except Refused as refusal:
            return refusal.message
        self._left -= 1
        self._stopped.pop(scan.area, None)
        return ""

    def _wait(self, tx: Any, scan: KnownScan, facts: AreaFacts, waiting: Waiting, now: datetime) -> datetime:
        """The owner will be told, if that was not asked for yet; returns when to look again."""
        if waiting.hold.ask:
            replica = next(r for r in scan.replicas if r.id == waiting.going.choice.replica)
            unheard = warn_owners(self._vault, tx, facts, [Leaving(scan, replica, waiting.going.rule)], now)
            for why in unheard.values():
                self._tell(scan, why)
        until = waiting.hold.until
        return until if until is not None and until > now else now + _STOPPED_AGAIN

    def _tell(self, scan: KnownScan, why: str) -> None:
        self._stopped[scan.area] = _Stopped(scan.id, f"{scan.name}, and maybe others, may go, but {why}")

    def _forget(self, scan: KnownScan) -> None:
        stopped = self._stopped.get(scan.area)
        if stopped is not None and stopped.scan == scan.id:
            del self._stopped[scan.area]
