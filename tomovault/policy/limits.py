"""Limits of what a proposal, an owner, a beamline or a tier may hold, and where usage stands against them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from tomovault.core.known import KnownScan
from tomovault.policy.quantity import show_duration, show_size

#: (grouping, value), such as ("proposal", "ma1234").
Subject = tuple[str, str]


class Level(StrEnum):
    """How bad it is; a soft limit whose grace is over is as a hard one."""

    WITHIN = "within"
    SOFT = "soft"
    GRACE_OVER = "grace over"
    HARD = "hard"


@dataclass(frozen=True)
class Limit:
    """Bytes and files that something may hold. Above `soft` it may stay for as long as the grace lasts."""

    soft: int | None = None
    hard: int | None = None
    files: int | None = None
    grace: timedelta = timedelta(days=7)

    @property
    def bytes(self) -> int | None:
        """The limit that counts in the end: the hard one, or the soft one where there is no other."""
        return self.hard if self.hard is not None else self.soft


@dataclass(frozen=True)
class Standing:
    """Where one subject stands. `since` is when it was first seen above its soft limit; None until it was."""

    subject: Subject
    limit: Limit
    bytes: int
    files: int
    since: datetime | None
    grace_left: timedelta | None
    level: Level
    text: str

    @property
    def holds(self) -> bool:
        """Whether tomovault makes nothing for it that could as well be made later."""
        return self.level in (Level.HARD, Level.GRACE_OVER)


@dataclass(frozen=True)
class Quotas:
    """The limits of a site. `default` is that of every proposal that has none of its own."""

    limits: Mapping[Subject, Limit] = field(default_factory=dict)
    default: Limit | None = None

    @property
    def groupings(self) -> tuple[str, ...]:
        """What is limited at all."""
        named = {by for by, _ in self.limits} | ({"proposal"} if self.default else set())
        return tuple(sorted(named))

    def of(self, by: str, value: str | None) -> Limit | None:
        """The limit of a subject; None where it has none, and for what belongs to nobody that is known."""
        if value is None:
            return None
        return self.limits.get((by, value), self.default if by == "proposal" else None)


@dataclass(frozen=True)
class Exceeded:
    """Every limit that is exceeded now, by its subject."""

    by_subject: Mapping[Subject, Standing] = field(default_factory=dict)

    def of(self, scan: KnownScan) -> list[Standing]:
        """Those that a scan's data count in."""
        subjects = (
            ("proposal", scan.proposal),
            ("owner", scan.owner),
            ("beamline", scan.beamline),
            ("tier", scan.area),
        )
        return [self.by_subject[by, name] for by, name in subjects if name and (by, name) in self.by_subject]

    def texts(self, scan: KnownScan) -> tuple[str, ...]:
        """What `explain` says of them."""
        return tuple(standing.text for standing in self.of(scan))

    def holding(self, scan: KnownScan) -> str:
        """Why nothing that can be made later is made for a scan; '' where no limit holds it."""
        return "; ".join(standing.text for standing in self.of(scan) if standing.holds)


def stand(subject: Subject, limit: Limit, size: int, files: int, since: datetime | None, now: datetime) -> Standing:
    """Where so many bytes and files stand against a limit. Exactly at a limit is within it."""
    over_soft = limit.soft is not None and size > limit.soft
    left = max(timedelta(0), limit.grace - (now - (since or now))) if over_soft else None
    level, why = Level.WITHIN, ""
    if limit.hard is not None and size > limit.hard:
        level, why = Level.HARD, f"{show_size(size)} of {show_size(limit.hard)}, its hard limit"
    elif limit.files is not None and files > limit.files:
        level, why = Level.HARD, f"{files} of {limit.files} files"
    elif left is not None and limit.soft is not None:
        level = Level.SOFT if left > timedelta(0) else Level.GRACE_OVER
        told = f"{show_duration(left)} of grace left" if left else "and its grace is over"
        why = f"{show_size(size)} of {show_size(limit.soft)}, its soft limit, {told}"
    text = f"{subject[0]} {subject[1]} holds {why}" if why else ""
    return Standing(subject, limit, size, files, since if over_soft else None, left, level, text)
