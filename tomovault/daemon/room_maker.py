"""Watermarks: in an area over its high mark, removals down to the low mark are queued, in short turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

import structlog

from tomovault.core.errors import Refused, Transient
from tomovault.daemon.planner import Alarm
from tomovault.policy.area_facts import AreaFacts, bytes_to_free
from tomovault.policy.room import Going, Waiting
from tomovault.vault.owner_warnings import Leaving, warn_owners
from tomovault.vault.removals import grant
from tomovault.vault.room import Room, look_for_room, why_not_now
from tomovault.vault.sizes import show_bytes
from tomovault.vault.staying import Stays, why_nothing_goes
from tomovault.vault.tier_facts import marked_tiers, may_be_pruned, place_facts, why_no_rule_reaches
from tomovault.vault.vault import Vault

log = structlog.get_logger(__name__)

T = TypeVar("T")

#: Permits that one turn grants: each is a few milliseconds of the catalogue's one writer.
_GRANTED_AT_ONCE = 10

#: After a look at an area the next waits for so many times as long as that one took, so that an area with very many
#: scans of which none may go does not keep the catalogue busy; but never for longer than this.
_REST = {"granted": 1.0, "nothing": 20.0}
_LONGEST_REST_S = 600.0

#: A look at an area that broke is tried again after so long.
_BROKEN_REST_S = 600.0

#: A share of the quota that is no scan's is worth telling.
_WORTH_TELLING = 0.05

#: Looks that are shorter need no rest.
_SHORT_S = 5.0


@dataclass
class _Look:
    """A look at an area that is under way; each step of it is short, and it ends with what was granted."""

    area: str
    steps: Generator[None, None, int]
    took_s: float = 0.0


class RoomMaker:
    """Knows which areas are to be looked at, and is in the middle of one look at most."""

    def __init__(self, vault: Vault, is_measured: Callable[[str], bool] = lambda _area: True) -> None:
        """`is_measured` says whether what is known of an area's room is not older than what was last asked for."""
        self._vault = vault
        self._is_measured = is_measured
        self.alarms: dict[str, Alarm] = {}
        self._due: dict[str, None] = {}
        self._look: _Look | None = None
        self._rests_until: dict[str, float] = {}
        self._draining: set[str] = set()
        self._now = datetime.now(UTC)
        self._braked = ""
        self._resting: frozenset[str] = frozenset()

    def brake(self, reason: str, resting: frozenset[str]) -> None:
        """While there is a reason, no removal is permitted anywhere; in areas that rest, none either (laws 3, 5)."""
        self._braked = reason
        self._resting = resting

    def ask(self) -> None:
        """Every area, and every tier with marks, is to be looked at, since something changed; one that is being looked
        at, once more.
        """
        self._due |= dict.fromkeys((*self._vault.site.areas, *marked_tiers(self._vault.site)))

    def begin_anew(self) -> None:
        """What was being chosen was so by rules that do not hold any more."""
        self._look = None
        self._rests_until.clear()
        self.ask()

    def is_draining(self, place: str) -> bool:
        """Whether an area or a tier was over its high mark, and is on its way to its low one."""
        return place in self._draining

    @property
    def over(self) -> bool:
        """Whether nothing was asked for that was not done."""
        return self._look is None and not self._due

    def turn(self, now: datetime) -> int:
        """One short turn of a look was taken, if one is under way or due: returns how many.

        Raises Transient where the catalogue is busy: that look begins anew.
        """
        if self._look is not None and (self._braked or self._look.area in self._resting):
            self._due[self._look.area] = None  # a look that begins anew tells why nothing goes
            self._look = None
        while look := self._look or self._begin(now):
            self._look = look
            if self._step(look, now):
                return 1
        return 0

    def _begin(self, now: datetime) -> _Look | None:
        area = next(filter(self._is_ready, self._due), None)
        if area is None:
            return None
        del self._due[area]
        return _Look(area, self._make_room(area, now))

    def _is_ready(self, area: str) -> bool:
        """By figures of before the last removal, more would go than must; where nothing goes, none are needed."""
        measured = area in self._resting or self._is_measured(area)
        return measured and self._rests_until.get(area, 0.0) <= time.monotonic()

    def _step(self, look: _Look, now: datetime) -> bool:
        """Whether the look goes on after one more step of it."""
        self._now = now
        began = time.monotonic()
        try:
            next(look.steps)
            look.took_s += time.monotonic() - began
        except StopIteration as end:
            look.took_s += time.monotonic() - began
            self._end(look, int(end.value))
            return False
        except Transient:
            self._look = None
            self._due[look.area] = None
            raise
        except Exception as problem:  # what is wrong with one area must not end the daemon
            log.exception("room cannot be made", area=look.area)
            self.alarms[look.area] = Alarm(look.area, f"no room can be made: {problem}")
            self._rests_until[look.area] = time.monotonic() + _BROKEN_REST_S
            self._look = None
            return False
        return True

    def _end(self, look: _Look, granted: int) -> None:
        if look.took_s > _SHORT_S:
            rest = _REST["granted" if granted else "nothing"] * look.took_s
            self._rests_until[look.area] = time.monotonic() + min(rest, _LONGEST_REST_S)
        self._look = None

    def _make_room(self, area: str, now: datetime) -> Generator[None, None, int]:
        """Removals are queued, with a pause for the caller after each short step; returns how many."""
        facts = self._over_its_mark(area)
        if facts is None or self._stays_as_it_is(facts):
            return 0
        room = yield from look_for_room(self._vault, self._vault.catalogue.reading, facts, now)
        granted = 0
        to_come = sum(waiting.going.choice.bytes for waiting in room.waiting)
        for batch in _batches(room.going):
            with self._vault.catalogue.writing() as tx:
                facts = place_facts(self._vault, tx, area, self._now, draining=True)
                if bytes_to_free(facts) <= to_come:
                    break  # room came in another way meanwhile
                granted += self._grant(tx, batch, room, facts, bytes_to_free(facts) - to_come)
            yield
        for waiting in _batches([w for w in room.waiting if w.hold.ask]):
            with self._vault.catalogue.writing() as tx:
                self._warn(tx, waiting, room, facts)
            yield
        self._tell(facts, room, granted)
        return granted

    def _over_its_mark(self, area: str) -> AreaFacts | None:
        """The facts of an area over its mark; None for one with room enough."""
        with self._vault.catalogue.reading() as tx:
            facts = place_facts(self._vault, tx, area, self._now, draining=area in self._draining)
        if bytes_to_free(facts) > 0:
            return facts
        self._draining.discard(area)
        self.alarms.pop(area, None)
        return None

    def _stays_as_it_is(self, facts: AreaFacts) -> bool:
        """Whether nothing may go from the area now, whatever its scans are; why is told."""
        over = _over(facts)
        if not may_be_pruned(facts):
            told = "nothing is removed there by a mark: give it more media or a larger quota"
            self.alarms[facts.name] = Alarm(facts.name, f"{over}; {told}")
            return True
        if not facts.prune_on:
            self.alarms[facts.name] = Alarm(facts.name, f"{over}; `prune` is off for this {_kind(facts)}")
            return True
        self._draining.add(facts.name)
        if facts.name in self._resting:
            return True
        if self._braked:
            self.alarms[facts.name] = Alarm(facts.name, f"{over}, but nothing is removed: {self._braked}")
            return True
        return False

    def _grant(self, tx: Any, batch: list[Going], room: Room, facts: AreaFacts, wanted: int) -> int:
        """Permits were given, each on what is known of its scan now, until so many bytes go; returns how many."""
        granted = 0
        for going in batch:
            if wanted <= 0:
                break
            scan = self._vault.catalogue.known(tx, going.choice.scan)
            reason = f"nothing is removed in area {scan.area} now" if scan.area in self._resting else ""
            reason = reason or why_not_now(self._vault, scan, going, facts, self._now)
            if not reason:
                try:
                    grant(self._vault, tx, scan, going.choice.replica, rule=going.rule, now=self._now)
                except Refused as refusal:
                    reason = refusal.message.removeprefix(f"{scan.name}: ")
                else:
                    granted += 1
                    wanted -= going.choice.bytes
            if reason:
                room.stays[going.choice.replica] = Stays(scan.name, reason, going.choice.bytes)
        return granted

    def _warn(self, tx: Any, batch: list[Waiting], room: Room, facts: AreaFacts) -> None:
        """The owners of what would go will be told, by what is known of the scans now."""
        rules = {w.going.choice.replica: w.going.rule for w in batch}
        scans = self._vault.catalogue.known_many(tx, [w.going.choice.scan for w in batch])
        leaving = [Leaving(scan, r, rules[r.id]) for scan in scans for r in scan.replicas if r.id in rules]
        unheard = warn_owners(self._vault, tx, facts, leaving, self._now)
        for one in leaving:
            if reason := unheard.get(one.replica.id):
                room.stays[one.replica.id] = Stays(one.scan.name, reason, one.replica.bytes)

    def _tell(self, facts: AreaFacts, room: Room, granted: int) -> None:
        over = _over(facts)
        if room.full:
            self.alarms[facts.name] = Alarm(facts.name, f"{over} and {room.full}: pruning waits for its hold")
        elif granted:
            self.alarms.pop(facts.name, None)
        elif room.waiting:
            self.alarms[facts.name] = Alarm(facts.name, f"{over} and nothing may go yet: {_words(room)}")
        elif not facts.quarantine_bytes:
            why = why_no_rule_reaches(self._vault, facts) or why_nothing_goes(room.stays.values())
            self.alarms[facts.name] = Alarm(facts.name, f"{over} and nothing may go: {why}")


def _kind(facts: AreaFacts) -> str:
    return "tier" if facts.of_tier else "area"


def _over(facts: AreaFacts) -> str:
    if facts.used_fraction >= facts.high:
        over = f"over its high mark ({facts.used_fraction:.0%}"
    else:
        over = f"on its way to its low mark ({facts.used_fraction:.0%} of {facts.low:.0%}"
    if facts.unknown_bytes > _WORTH_TELLING * facts.quota_bytes:
        over += f"; {show_bytes(facts.unknown_bytes)} of it by the count of the file system, not of scans"
    return over + ")"


def _words(room: Room) -> str:
    """What is waited for before anything goes, and until when or why in vain."""
    count = len({w.going.choice.scan for w in room.waiting})
    told = f"{count} {'scan waits' if count == 1 else 'scans wait'} for a warning of the owner"
    dates = [w.hold.until for w in room.waiting if w.hold.until is not None]
    if dates:
        return f"{told}, the first goes not before {min(dates):%Y-%m-%d %H:%M} UTC"
    stays = (room.stays.get(w.going.choice.replica) for w in room.waiting)
    why = sorted({one.reason for one in stays if one is not None and "notify: warnings" in one.reason})
    return f"{told}: {why[0]}" if why else f"{told}, which is on its way"


def _batches(going: list[T]) -> Iterator[list[T]]:
    for start in range(0, len(going), _GRANTED_AT_ONCE):
        yield going[start : start + _GRANTED_AT_ONCE]
