"""Which flats belong to which angle, and which are missing.

Single flats are `ref{frame}_{angle}.edf`; some writers of 2026 swap the two numbers. The number whose
distinct values are the announced angles is the angle; where both or neither fit, nothing is assumed.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tomovault.formats.edf_names import FlatName

#: More groups of flats than this are not a plan but a damaged number.
_MOST_GROUPS = 100_000


class FlatOrder(enum.StrEnum):
    """The order of the two numbers in the names of single flats."""

    FRAME_ANGLE = "ref{frame}_{angle}"
    ANGLE_FRAME = "ref{angle}_{frame}"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class FlatPlan:
    """What the metadata announces: `count` flats at each of `starts`, and once more at one of `ends`."""

    count: int
    starts: tuple[int, ...] = ()
    ends: tuple[int, ...] = ()

    @property
    def groups(self) -> int:
        """Number of announced groups."""
        return len(self.starts) + (1 if self.ends else 0)

    @property
    def frames(self) -> int:
        """Number of announced single flats."""
        return self.count * self.groups

    @property
    def angles(self) -> frozenset[int]:
        """Every index that a group may carry."""
        return frozenset(self.starts) | frozenset(self.ends)


@dataclass(frozen=True)
class FlatGroups:
    """Single flats by the projection index they were taken at; empty where the order of names is unknown."""

    order: FlatOrder
    by_angle: Mapping[int, Mapping[int, str]] = field(default_factory=dict)


def plan_flats(tomo_n: int, ref_n: int | None, ref_on: int | None) -> FlatPlan | None:
    """The announced flats; None where the metadata says nothing of flats, a count of 0 where it says there are none.

    The last group is named TOMO_N, or by the index rounded to the interval where that does not divide TOMO_N.
    """
    if ref_n is None:
        return None
    if ref_n == 0:
        return FlatPlan(0)
    if not ref_on or ref_on >= tomo_n or tomo_n // ref_on > _MOST_GROUPS:
        return FlatPlan(ref_n, (0,), (tomo_n,))
    rounded = ref_on * math.floor(tomo_n / ref_on + 0.5)
    return FlatPlan(ref_n, tuple(range(0, tomo_n, ref_on)), tuple(sorted({tomo_n, rounded})))


def group_flats(flats: Sequence[FlatName], plan: FlatPlan | None, interval: int | None) -> FlatGroups:
    """Sort single flats into groups by angle."""
    order = _order(flats, plan, interval)
    if order is FlatOrder.UNKNOWN:
        return FlatGroups(order)
    groups: dict[int, dict[int, str]] = {}
    for flat in flats:
        swapped = order is FlatOrder.ANGLE_FRAME and not flat.old
        frame, angle = (flat.second, flat.first) if swapped else (flat.first, flat.second)
        groups.setdefault(angle, {})[frame] = flat.name
    return FlatGroups(order, groups)


def _order(flats: Sequence[FlatName], plan: FlatPlan | None, interval: int | None) -> FlatOrder:
    pairs = {(f.first, f.second) for f in flats if not f.old}
    if pairs == {(b, a) for a, b in pairs}:
        # With both numbers equal the order does not matter; with a full square it cannot be told.
        same = all(a == b for a, b in pairs)
        return FlatOrder.FRAME_ANGLE if same else FlatOrder.UNKNOWN
    firsts, seconds = {a for a, _ in pairs}, {b for _, b in pairs}
    if plan is not None and plan.count:
        frames = frozenset(range(min(plan.count, _MOST_GROUPS)))
        classic = firsts <= frames and seconds <= plan.angles
        swapped = seconds <= frames and firsts <= plan.angles
        if classic != swapped:
            return FlatOrder.FRAME_ANGLE if classic else FlatOrder.ANGLE_FRAME
    return _order_by_interval(firsts, seconds, interval)


def _order_by_interval(firsts: set[int], seconds: set[int], interval: int | None) -> FlatOrder:
    if not interval or interval < 2:
        return FlatOrder.UNKNOWN
    first_fits = all(v % interval == 0 for v in firsts)
    second_fits = all(v % interval == 0 for v in seconds)
    if first_fits == second_fits:
        return FlatOrder.UNKNOWN
    return FlatOrder.ANGLE_FRAME if first_fits else FlatOrder.FRAME_ANGLE


def missing_flats(plan: FlatPlan, groups: FlatGroups, reduced: frozenset[int]) -> list[str]:
    """The announced groups that are neither there as singles nor as a reduced flat, in words."""
    problems = [
        _lack(plan.count, groups, start)
        for start in plan.starts
        if start not in reduced and _short(plan, groups, start)
    ]
    if plan.ends and not any(end in reduced or not _short(plan, groups, end) for end in plan.ends):
        best = max(plan.ends, key=lambda end: len(groups.by_angle.get(end, ())))
        problems.append(_lack(plan.count, groups, best) + " (the last group)")
    return problems


def _short(plan: FlatPlan, groups: FlatGroups, angle: int) -> bool:
    return len(groups.by_angle.get(angle, ())) < plan.count


def _lack(count: int, groups: FlatGroups, angle: int) -> str:
    return f"flats at projection {angle}: {len(groups.by_angle.get(angle, ()))} of {count}"
