"""The section `quotas` of `tomovault.yaml`: its model, its checks, and the way from there to `QuotaSettings`."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field

from tomovault.policy.forecast import BeamTime
from tomovault.policy.limits import Limit, Quotas, Subject
from tomovault.policy.quantity import show_found
from tomovault.policy.yaml_text import Duration, Fault, KeyPath, Size, Strict, Switch, Whole, nearest
from tomovault.vault.schedule import parse_day
from tomovault.vault.site_settings import QuotaSettings

_GRACE = timedelta(days=7)


def _parse_name(value: object) -> str:
    if isinstance(value, str) and value.strip() and "\0" not in value:
        return value
    raise ValueError(f"{show_found(value)} is not a name")


def _parse_day(value: object) -> date:
    return parse_day(value if isinstance(value, str) else show_found(value))


Name = Annotated[str, BeforeValidator(_parse_name)]
Day = Annotated[date, BeforeValidator(_parse_day)]
_NOTHING_IS_EMPTY = BeforeValidator(lambda value: {} if value is None else value)


class _Limit(Strict):
    soft: Size | None = None
    hard: Size | None = None
    files: Whole | None = Field(default=None, ge=0)
    grace: Duration | None = None

    def problems(self, here: KeyPath) -> Iterator[Fault]:
        """What is wrong with the values together."""
        if self.soft is None and self.hard is None and self.files is None:
            yield Fault("a limit of nothing: it needs soft, hard or files", here, at_key=True)
        if self.soft is not None and self.hard is not None and self.hard < self.soft:
            yield Fault("the hard limit is below the soft one, which could never be told", (*here, "hard"))
        if self.grace is not None and self.soft is None:
            yield Fault("a grace is for a soft limit, and there is none", (*here, "grace"), at_key=True)

    def limit(self) -> Limit:
        """As it is used."""
        return Limit(self.soft, self.hard, self.files, _GRACE if self.grace is None else self.grace)


class _BeamTime(Strict):
    start: Day
    end: Day
    proposal: Name | None = None
    area: Name | None = None
    size: Size


_Limits = Annotated[Mapping[Name, _Limit], _NOTHING_IS_EMPTY]


class QuotaSection(Strict):
    """The section as it is written."""

    default: _Limit | None = None
    proposal: _Limits = Field(default_factory=dict)
    owner: _Limits = Field(default_factory=dict)
    beamline: _Limits = Field(default_factory=dict)
    tier: _Limits = Field(default_factory=dict)
    schedule: tuple[_BeamTime, ...] = ()
    schedule_file: Name | None = None
    schedule_is_all: Switch = False

    def problems(self, areas: Collection[str], tiers: Collection[str]) -> Iterator[Fault]:
        """What is wrong with the section in a site with these areas and tiers; the areas are tiers, too."""
        here = ("quotas",)
        if self.default is not None:
            yield from self.default.problems((*here, "default"))
        for by, limits in self._groups():
            for name, limit in limits.items():
                yield from limit.problems((*here, by, name))
        for name in self.tier:
            if name not in areas and name not in tiers:
                told = f"there is no tier {name!r}{nearest(name, {*areas, *tiers})}"
                yield Fault(told, (*here, "tier", name), at_key=True)
        for at, time in enumerate(self.schedule):
            if time.end < time.start:
                yield Fault("it would end before it starts", (*here, "schedule", at, "end"))
            if time.area is not None and time.area not in areas:
                yield Fault(
                    f"there is no area {time.area!r}{nearest(time.area, areas)}", (*here, "schedule", at, "area")
                )

    def settings(self, folder: Path) -> QuotaSettings:
        """The settings, with the file of the schedule below the site's folder where it is named without one."""
        limits: dict[Subject, Limit] = {
            (by, name): limit.limit() for by, limits in self._groups() for name, limit in limits.items()
        }
        return QuotaSettings(
            quotas=Quotas(limits, None if self.default is None else self.default.limit()),
            schedule=tuple(BeamTime(t.start, t.end, t.proposal, t.area, t.size) for t in self.schedule),
            schedule_file=None
            if self.schedule_file is None
            else os.path.normpath(folder / os.path.expanduser(self.schedule_file)),
            schedule_is_all=self.schedule_is_all,
        )

    def _groups(self) -> tuple[tuple[str, Mapping[str, _Limit]], ...]:
        return (
            ("proposal", self.proposal),
            ("owner", self.owner),
            ("beamline", self.beamline),
            ("tier", self.tier),
        )
