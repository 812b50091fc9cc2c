"""Telling people of alarms: once when one begins, again while it lasts, and once when it is over."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import NamedTuple

from tomovault.catalog.owner_warnings import Running, see_time_pass
from tomovault.catalog.standing_alarms import (
    StandingAlarm,
    alarm_name,
    begin_alarm,
    end_alarm,
    list_standing,
    tell_alarm_again,
)
from tomovault.core.notice import Topic
from tomovault.daemon.clock import machine_running
from tomovault.vault.notices import addressees, post
from tomovault.vault.vault import Vault

#: Alarms are looked at this often.
_PERIOD_S = 1.0

#: One that was not raised for so long is over: what comes and goes is one alarm.
_OVER_S = 300.0

#: One of an earlier daemon, which this one may look at again only after some hours.
_INHERITED_OVER_S = 7 * 3600.0

#: Alarms of these kinds begin only once they have been raised for so long.
_PATIENCE_S = {"unwatched": 120.0}

#: Where an alarm is about no area alone.
_EVERY_AREA = "every area"

#: The time that passes is noted this often.
_SEEN_EVERY_S = 60.0


class Raised(NamedTuple):
    """Something that is wrong now. Those of one kind in one area are one alarm."""

    kind: str
    area: str
    text: str


def list_raised(
    *,
    clock: str,
    absent: Mapping[str, str],
    trouble: Mapping[str, str],
    unwatched: Iterable[str],
    alarms: Mapping[str, tuple[str, str]],
) -> Iterator[Raised]:
    """Everything that is wrong now. `alarms` has (area, text) by a name that begins with their kind."""
    if clock:
        yield Raised("clock", _EVERY_AREA, f"nothing is removed: {clock}")
    for kind, told in (("absent", absent), ("trouble", trouble)):
        yield from (Raised(kind, area, text) for area, text in told.items())
    yield from (Raised("unwatched", area, "no daemon watches it and finds it well") for area in unwatched)
    yield from (Raised(name.partition(" ")[0], area, text) for name, (area, text) in alarms.items())


class Teller:
    """Compares the alarms that are raised with those that people know of. Does nothing where nobody is told."""

    def __init__(
        self,
        vault: Vault,
        *,
        steady: Callable[[], float] = time.monotonic,
        running: Callable[[], Running] = machine_running,
    ) -> None:
        self._vault = vault
        self._steady = steady
        self._running = running
        self._looked_at = self._noted_at = float("-inf")
        self._standing: dict[str, StandingAlarm] | None = None
        self._raised_since: dict[str, float] = {}
        self._last_raised: dict[str, float] = {}
        self._over_after: dict[str, float] = {}

    def look(self, raised: Callable[[], Iterable[Raised]], now: datetime, *, at_once: bool = False) -> None:
        """What began, lasts or is over will be told; once in a while at most, but `at_once`. Raises Transient."""
        conf = self._vault.site.notify
        at = self._steady()
        if conf is None or (at - self._looked_at < _PERIOD_S and not at_once):
            return
        self._note_time(at)
        if addressees(conf, Topic.ALARMS):
            self._compare(_joined(raised()), timedelta(seconds=conf.repeat_s), at, now)
        self._looked_at = at

    def _note_time(self, at: float) -> None:
        """What daemons have seen pass is in the catalogue: warnings of owners are counted by that."""
        if at - self._noted_at < _SEEN_EVERY_S:
            return
        with self._vault.catalogue.writing() as tx:
            see_time_pass(tx, self._running())
        self._noted_at = at

    def _compare(self, raised: Mapping[str, Raised], repeat: timedelta, at: float, now: datetime) -> None:
        standing = self._load(at)
        for name in raised:
            self._raised_since.setdefault(name, at)
            self._last_raised[name] = at
            self._over_after[name] = _OVER_S
        for name in self._raised_since.keys() - raised.keys():
            del self._raised_since[name]
        begun = [name for name in raised.keys() - standing.keys() if self._is_ripe(raised[name], name, at)]
        lasting = [name for name in raised.keys() & standing.keys() if now - standing[name].told_at >= repeat]
        over = [n for n in standing.keys() - raised.keys() if at - self._last_raised[n] >= self._over_after[n]]
        if begun or lasting or over:
            self._standing = self._tell(standing, raised, sorted(begun), sorted(lasting), sorted(over), now)

    def _load(self, at: float) -> dict[str, StandingAlarm]:
        """The alarms that people know of."""
        if self._standing is None:
            with self._vault.catalogue.reading() as tx:
                self._standing = {alarm.name: alarm for alarm in list_standing(tx)}
            self._last_raised = dict.fromkeys(self._standing, at)
            self._over_after = dict.fromkeys(self._standing, _INHERITED_OVER_S)
        return self._standing

    def _is_ripe(self, one: Raised, name: str, at: float) -> bool:
        return at - self._raised_since[name] >= _PATIENCE_S.get(one.kind, 0.0)

    def _tell(
        self,
        standing: Mapping[str, StandingAlarm],
        raised: Mapping[str, Raised],
        begun: list[str],
        lasting: list[str],
        over: list[str],
        now: datetime,
    ) -> dict[str, StandingAlarm]:
        """The alarms that stand afterwards: each is recorded with the notice of it, or none is."""
        after = dict(standing)
        with self._vault.catalogue.writing() as tx:
            for name in begun:
                after[name] = begin_alarm(tx, name, raised[name].area, raised[name].text, now)
                post(self._vault, tx, Topic.ALARMS, "alarm_begun", _facts(after[name]), now)
            for name in lasting:
                after[name] = replace(after[name], text=raised[name].text, told_at=now)
                tell_alarm_again(tx, name, raised[name].text, now)
                post(self._vault, tx, Topic.ALARMS, "alarm_lasts", _facts(after[name]), now)
            for name in over:
                end_alarm(tx, name)
                post(self._vault, tx, Topic.ALARMS, "alarm_over", _facts(after.pop(name)), now)
        return after


def _joined(raised: Iterable[Raised]) -> dict[str, Raised]:
    """By name, one for each kind and area: a hundred scans with the same trouble are one alarm."""
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for one in raised:
        groups[one.kind, one.area].append(one.text)
    return {
        alarm_name(kind, area): Raised(kind, area, texts[0] + (f" (and {len(texts) - 1} more)" if texts[1:] else ""))
        for (kind, area), texts in groups.items()
    }


def _facts(alarm: StandingAlarm) -> dict[str, str]:
    return {
        "alarm": alarm.name[:16],
        "area": alarm.area,
        "text": alarm.text,
        "began_at": alarm.began_at.isoformat(),
    }
