"""What is known of how areas and proposals grow, and what a site would have to let go for more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from functools import cached_property
from typing import Any

from tomovault.core.errors import UserError
from tomovault.policy.area_facts import AreaFacts
from tomovault.policy.document import Policy
from tomovault.policy.forecast import HISTORY_DAYS, HORIZON_DAYS, BeamTime, Growth, forecast_full, plan, weigh_addition
from tomovault.vault.room import foresee_room
from tomovault.vault.schedule import parse_day, read_schedule
from tomovault.vault.vault import Vault

#: It is said to fit where it does in so many of the drawn futures.
SURELY = 0.9

#: So many reasons why the rest stays are told.
_REASONS = 20


class Outlook:
    """How the values of one grouping grow, as far as is known; read where it is asked for first."""

    def __init__(self, vault: Vault, tx: Any, by: str, now: datetime) -> None:
        self._vault, self._tx, self._by, self._now = vault, tx, by, now

    def growth(self, value: str) -> Growth:
        """How one value grows, with what is planned for it. Raises UserError for a schedule with a problem."""
        settings = self._vault.site.quotas
        today = self._now.astimezone(UTC).date()
        planned: dict[int, int] = {}
        if self._by in ("area", "proposal"):
            planned = plan(self._schedule, today, **{self._by: value})
        last = max(planned, default=0) if settings.schedule_is_all else 0
        return Growth(self._by_value.get(value, ()), planned, last)

    @cached_property
    def _by_value(self) -> Mapping[str | None, tuple[int, ...]]:
        return self._vault.catalogue.growth(self._tx, self._by, self._now, days=HISTORY_DAYS)

    @cached_property
    def _schedule(self) -> tuple[BeamTime, ...]:
        return read_schedule(self._vault.site.quotas, self._vault.site.areas)


@dataclass(frozen=True)
class Addition:
    """So many bytes more on a day."""

    size: int
    on: date


@dataclass(frozen=True)
class _Subject:
    name: str
    used: int
    limit: int
    facts: AreaFacts | None


def parse_on(text: str, now: datetime) -> date:
    """The day of a what-if. Raises UserError for one that is none, is over, or is beyond the horizon."""
    try:
        day = parse_day(text)
    except ValueError as problem:
        raise UserError(str(problem)) from None
    ahead = (day - now.astimezone(UTC).date()).days
    if ahead < 0:
        raise UserError(f"{day} is over", hint="a forecast is about a day to come, or today")
    if ahead > HORIZON_DAYS:
        raise UserError(f"{day} is more than {HORIZON_DAYS} days away", hint="nothing is told of days beyond that")
    return day


def forecast_page(
    vault: Vault, tx: Any, by: str, now: datetime, addition: Addition | None = None, *, only: str | None = None
) -> dict[str, Any]:
    """When each area or limited proposal, or one of them, is full, and whether an addition fits. Raises UserError."""
    outlook = Outlook(vault, tx, by, now)
    subjects = _areas(vault, tx, now) if by == "area" else _proposals(vault, tx)
    if only is not None:
        subjects = [s for s in subjects if s.name == only]
        if not subjects:
            raise UserError(f"there is no {by} {only!r} with a limit", hint=f"tomovault quota --by {by} lists them")
    rows = [_row(by, subject, outlook.growth(subject.name), now) for subject in subjects]
    for row, subject in zip(rows, subjects, strict=True):
        row["not_counted"] = None if subject.facts is None else _removals(vault.policy_of(subject.name), subject.facts)
    page: dict[str, Any] = {"at": _text(now), "by": by, "horizon_days": HORIZON_DAYS, "rows": rows}
    if addition is None:
        return page
    ahead = (addition.on - now.astimezone(UTC).date()).days
    for row, subject in zip(rows, subjects, strict=True):
        row |= _what_if(vault, tx, subject, outlook.growth(subject.name), addition.size, ahead, now)
    return page | {
        "add_bytes": addition.size,
        "on": addition.on.isoformat(),
        "fits": any(row["fits"] for row in rows),
    }


def _areas(vault: Vault, tx: Any, now: datetime) -> list[_Subject]:
    facts = [vault.area_facts(tx, name, now) for name in vault.site.areas]
    return [_Subject(one.name, one.used_bytes, one.quota_bytes, one) for one in facts]


def _proposals(vault: Vault, tx: Any) -> list[_Subject]:
    quotas, found = vault.site.quotas.quotas, []
    used = {row.value: row.bytes for row in vault.catalogue.usage(tx, "proposal")}
    named = [value for by, value in quotas.limits if by == "proposal"]
    for value in dict.fromkeys([*used, *named]):
        limit = quotas.of("proposal", value)
        if value is not None and limit is not None and limit.bytes is not None:
            found.append(_Subject(value, used.get(value, 0), limit.bytes, None))
    return found


def _row(by: str, subject: _Subject, growth: Growth, now: datetime) -> dict[str, Any]:
    measured = subject.limit > 0
    forecast = forecast_full(growth, subject.limit - subject.used) if measured else None
    today = now.astimezone(UTC).date()

    def day(ahead: int | None) -> str | None:
        return None if ahead is None else date.fromordinal(today.toordinal() + ahead).isoformat()

    return {
        by: subject.name,
        "bytes": subject.used,
        "limit_bytes": subject.limit or None,
        "days_to_full": forecast.median if forecast else None,
        "days_to_full_early": forecast.early if forecast else None,
        "days_to_full_late": forecast.late if forecast else None,
        "full_on": day(forecast.median) if forecast else None,
        "full_on_early": day(forecast.early) if forecast else None,
        "full_on_late": day(forecast.late) if forecast else None,
        "known": forecast.known if forecast else False,
        "why": forecast.why if forecast else "its room is not known: its file system does not answer",
        "history_days": len(growth.by_day),
        "written_per_day": round(growth.mean),
        "planned_bytes": sum(growth.planned.values()),
    }


def _removals(policy: Policy, facts: AreaFacts) -> dict[str, Any]:
    """The rules by which something goes from an area, above its high mark and however empty it is: no forecast counts
    on them.
    """
    rules = [rule for rule in policy.ordered() if rule.removes]
    return {
        "prune": "on" if facts.prune_on else "off",
        "high": facts.high,
        "above_high": [policy.cite(rule) for rule in rules if not rule.by_evidence],
        "however_empty": [policy.cite(rule) for rule in rules if rule.by_evidence],
    }


def _what_if(
    vault: Vault, tx: Any, subject: _Subject, growth: Growth, size: int, ahead: int, now: datetime
) -> dict[str, Any]:
    room = subject.limit - subject.used
    fit = weigh_addition(growth, room, size, ahead)
    early, median, late = fit.come
    lacking = max(0, size + late - room)
    fits = lacking == 0 if fit.chance is None else fit.chance >= SURELY
    told: dict[str, Any] = {
        "fits": fits and subject.limit > 0,
        "chance": fit.chance,
        "written_by_then": {"10%": early, "50%": median, "90%": late},
        "lacking_bytes": 0 if fits else lacking,
        "going": [],
        "going_bytes": 0,
        "would_fit_then": fits,
        "stays": [],
        "prune": None,
    }
    if fits or subject.facts is None or subject.limit <= 0:
        return told
    return told | _let_go(vault, tx, subject.facts, size + late, lacking, now)


def _let_go(vault: Vault, tx: Any, facts: AreaFacts, more: int, lacking: int, now: datetime) -> dict[str, Any]:
    """What would have to go first, as the rules would see the area when it holds so much more."""
    used = facts.used_bytes + more
    then = replace(facts, used_bytes=used, used_fraction=used / facts.quota_bytes, prune_on=True)
    room = foresee_room(vault, tx, then, now, wanted=lacking)
    ids = list(dict.fromkeys(going.choice.scan for going in room.going))
    names = {scan.id: scan.name for scan in vault.catalogue.known_many(tx, ids)}
    freed = sum(going.choice.bytes for going in room.going)
    policy = vault.policy_of(facts.name)
    return {
        "going": [
            {
                "scan": going.choice.scan,
                "name": names.get(going.choice.scan, ""),
                "form": going.choice.form.value,
                "bytes": going.choice.bytes,
                "rule": policy.cite(going.rule),
            }
            for going in room.going
        ],
        "going_bytes": freed,
        "would_fit_then": freed >= lacking,
        "stays": sorted({f"{one.scan}: {one.reason}" for one in room.stays.values()})[:_REASONS],
        "prune": "on" if facts.prune_on else "off",
    }


def _text(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
