"""What of each area may go now, and what keeps the rest: known for as long as nothing that it hangs on changes."""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tomovault.core.known import KnownScan
from tomovault.core.replica import Form, ProductKind, Replica, ReplicaState
from tomovault.policy.area_facts import AreaFacts
from tomovault.policy.document import Rule
from tomovault.policy.due import next_look
from tomovault.policy.expression import Compare
from tomovault.policy.reading import holds
from tomovault.policy.removing import PruneChoice, removable_kinds, turns_of
from tomovault.simulation.judging import Judge
from tomovault.simulation.world import World

#: A rule's place among those that are asked, and what it lets go.
_Turn = tuple[int, ProductKind, Form]

_GOOD = (ReplicaState.VERIFIED, ReplicaState.PRESENT)


@dataclass(frozen=True)
class _Kept:
    """So many bytes of a scan stay, and why."""

    cause: str
    size: int


@dataclass(frozen=True)
class _Free:
    """A replica of a scan that may go, in the turn of a rule: what has the lesser key goes first."""

    turn: _Turn
    key: tuple[Any, ...]
    choice: PruneChoice


def _key(pair: tuple[tuple[Any, ...], PruneChoice]) -> tuple[Any, ...]:
    return pair[0]


@dataclass
class _Shelf:
    """An area. `kept` are bytes by what keeps them; the answers of a scan are in `of_scan`, good until the moment in
    `until`.
    """

    free: dict[_Turn, list[tuple[tuple[Any, ...], PruneChoice]]] = field(default_factory=dict)
    kept: Counter[str] = field(default_factory=Counter)
    of_scan: dict[str, list[_Kept | _Free]] = field(default_factory=dict)
    until: list[tuple[datetime, str]] = field(default_factory=list)
    by_usage: tuple[bool, ...] | None = None

    def put(self, scan_id: str, answers: list[_Kept | _Free]) -> None:
        """These answers, and no others, are known of a scan."""
        for old in self.of_scan.pop(scan_id, ()):
            if isinstance(old, _Free):
                free = self.free[old.turn]
                del free[bisect_left(free, old.key, key=_key)]
            else:
                self.kept[old.cause] -= old.size
        for new in answers:
            if isinstance(new, _Free):
                insort(self.free.setdefault(new.turn, []), (new.key, new.choice), key=_key)
            else:
                self.kept[new.cause] += new.size
        if answers:
            self.of_scan[scan_id] = answers


class Shelves:
    """Every area with what may go from it. A scan is asked about again when it changed, when a date has passed, or when
    the area crossed a mark that a rule names.
    """

    def __init__(self, areas: Iterable[str], world: World, judge: Judge) -> None:
        self._world, self._judge = world, judge
        self._shelves = {area: _Shelf() for area in areas}
        self._turns = {area: list(turns_of(judge.policy(area))) for area in self._shelves}
        self._usage = {
            area: [
                leaf
                for rule in judge.policy(area).rules
                for leaf in rule.terms
                if isinstance(leaf, Compare) and leaf.term == "usage"
            ]
            for area in self._shelves
        }

    def look(self, area: str, facts: AreaFacts, now: datetime) -> None:
        """What is told of the area is right as of now."""
        shelf, stale = self._shelves[area], self._world.unweighed.pop(area, {})
        values = {"usage": facts.usage, "high": facts.mark, "low": facts.low}
        by_usage = tuple(holds(leaf, values) is True for leaf in self._usage[area])
        if by_usage != shelf.by_usage:
            shelf.by_usage = by_usage
            stale |= dict.fromkeys(shelf.of_scan)
        while shelf.until and shelf.until[0][0] <= now:
            stale[heapq.heappop(shelf.until)[1]] = None
        for scan_id in stale:
            self._weigh(shelf, area, self._world.scans[scan_id], facts, now)

    def choices(self, area: str) -> Iterator[tuple[PruneChoice, Rule]]:
        """What may go by the last look, in the order in which it goes, each with its rule."""
        free = self._shelves[area].free
        for rank, rule, kind, form in self._turns[area]:
            for _, choice in free.get((rank, kind, form), ()):
                yield choice, rule

    def kept(self, area: str) -> Counter[str]:
        """Bytes that stay by the last look, by what keeps them."""
        return +self._shelves[area].kept

    def _weigh(self, shelf: _Shelf, area: str, scan: KnownScan, facts: AreaFacts, now: datetime) -> None:
        here = [
            replica
            for kind in removable_kinds(self._judge.policy(area))
            for replica in scan.replicas_of(kind)
            if scan.area == area and replica.tier == area and replica.state in _GOOD
        ]
        shelf.put(scan.id, self._answers(area, scan, here, facts, now) if here else [])
        until = next_look(scan, self._judge.policy(area), facts, now) if here else None
        if until is not None:
            heapq.heappush(shelf.until, (until, scan.id))

    def _answers(
        self, area: str, scan: KnownScan, here: list[Replica], facts: AreaFacts, now: datetime
    ) -> list[_Kept | _Free]:
        begun = scan.acquired_at or scan.first_seen_at
        answers: list[_Kept | _Free] = []
        for replica, rule, cause in self._judge.weigh(scan, here, facts, now):
            turn = next(
                (t for t in self._turns[area] if t[1] is rule and t[2:] == (replica.product, replica.form)), None
            )
            if turn is None:
                answers.append(_Kept(cause, replica.bytes))
                continue
            largest = turn[1].settings.first == "largest"
            choice = PruneChoice(scan.id, replica.id, replica.form, replica.bytes, begun, turn[0], largest)
            key = (-replica.bytes if largest else 0, begun, scan.id, replica.id)
            answers.append(_Free((turn[0], *turn[2:]), key, choice))
        return answers
