"""Whether any scan at all can satisfy a sentence, and whether one sentence holds whenever another does.

A sentence is taken apart into the ways to satisfy it, each a list of claims about single terms, and for the claims
about one term a value is looked for that meets them all: at each limit that they name, beside it and between it and
the next. Terms are taken to be independent. So what is called impossible is, and something that is not called so may
be, too.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import combinations, pairwise, product
from typing import Any

from tomovault.policy.calendar import Months
from tomovault.policy.expression import (
    CHEAPER,
    TERMS,
    Always,
    And,
    Compare,
    Expression,
    Flag,
    Kind,
    Leaf,
    Listed,
    Not,
    Or,
    Replicas,
)
from tomovault.policy.reading import SIGNS, evaluate

#: What may not be known of a scan. All else is known of every scan.
UNKNOWABLE = frozenset(
    {"beamline", "proposal", "owner", "sample", "age", "width", "height", "pixels", "n_projections", CHEAPER}
)

#: A sentence that can be satisfied in more ways, or names more shares, than a person writes is not looked into.
_MOST_WAYS, _MOST_SHARES = 500, 5

#: A name that no sentence has, and shares beyond all.
_OTHER, _BELOW, _ABOVE = "\N{REPLACEMENT CHARACTER}", -1.0, 3.0

_INSTANT = timedelta(microseconds=1)


@dataclass(frozen=True)
class Claim:
    """That one term of a sentence holds, or does not; `or_unknown`: or that this is not known."""

    leaf: Leaf
    holds: bool
    or_unknown: bool = False

    @property
    def text(self) -> str:
        """As a person would write it."""
        return self.leaf.text if self.holds else f"not ({self.leaf.text})"

    def met_by(self, values: Mapping[str, Any]) -> bool:
        """Whether these values are as is claimed."""
        verdict = evaluate(self.leaf, values)
        return self.or_unknown if verdict.doubtful else verdict.value is self.holds


Way = tuple[Claim, ...]


class _TooManyWays(Exception):
    """More than anybody wrote by hand."""


def find_clash(tree: Expression, areas: Collection[str] | None = None) -> tuple[Claim, ...]:
    """Claims of a sentence that no scan meets together, in the first way to satisfy it; none where a scan may satisfy
    it. With `areas`, of the scans in those.
    """
    clashes = list(_clashes(tree, areas))
    return clashes[0] if clashes and all(clashes) else ()


def implies(first: Expression, then: Expression, *, in_doubt: bool = False) -> bool:
    """Whether for every scan for which the first sentence holds the other one holds, too.

    `in_doubt`: what cannot be answered counts as holding, as it does where something is forbidden: for both.
    """
    return _never_together(_ways(first, True, in_doubt), _ways(then, False, not in_doubt))


def covers(first: Expression, then: Expression) -> bool:
    """Whether for every scan for which the first sentence holds the other one holds or cannot be answered."""
    return _never_together(_ways(first, True, False), _ways(then, False, False))


def _never_together(first: Iterator[Way], then: Iterator[Way]) -> bool:
    try:
        others = _few(then)
        return all(_clash_of((*one, *other), None) for one in _few(first) for other in others)
    except _TooManyWays:
        return False


def _clashes(tree: Expression, areas: Collection[str] | None) -> Iterator[tuple[Claim, ...]]:
    try:
        yield from (_clash_of(way, areas) for way in _few(_ways(tree, True, False)))
    except _TooManyWays:
        yield ()


def _few(ways: Iterator[Way]) -> list[Way]:
    found = []
    for way in ways:
        found.append(way)
        if len(found) > _MOST_WAYS:
            raise _TooManyWays
    return found


def _ways(tree: Expression, holds: bool, or_unknown: bool) -> Iterator[Way]:
    """The ways in which a sentence is true, or false where it is not to hold; one of them at least is met by a scan of
    which it is so, or of which it is not known if that is enough.
    """
    if isinstance(tree, Not):
        yield from _ways(tree.part, not holds, or_unknown)
    elif isinstance(tree, (And, Or)):
        if isinstance(tree, And) is holds:
            parts = [_few(_ways(part, holds, or_unknown)) for part in tree.parts]
            if math.prod(map(len, parts)) > _MOST_WAYS:
                raise _TooManyWays
            yield from (tuple(claim for way in chosen for claim in way) for chosen in product(*parts))
        else:
            for part in tree.parts:
                yield from _ways(part, holds, or_unknown)
    else:
        yield (Claim(tree, holds, or_unknown),)


def _clash_of(way: Way, areas: Collection[str] | None) -> tuple[Claim, ...]:
    """Claims about one term that cannot all be met, as few as say so; none where each term can have a value."""
    groups: dict[Hashable, list[Claim]] = defaultdict(list)
    for claim in dict.fromkeys(way):
        groups[_subject(claim.leaf)].append(claim)
    for claims in groups.values():
        if not _can_be_met(claims, areas):
            few = (chosen for size in (1, 2) for chosen in combinations(claims, size))
            return next((chosen for chosen in few if not _can_be_met(chosen, areas)), tuple(claims))
    return ()


def _subject(leaf: Leaf) -> Hashable:
    if isinstance(leaf, Replicas):
        return ("replicas", leaf.tier, leaf.within)
    return leaf.text if isinstance(leaf, Always) else leaf.term


def _can_be_met(claims: Sequence[Claim], areas: Collection[str] | None) -> bool:
    """Whether a term can be so that all these claims about it are met."""
    leaf = claims[0].leaf
    if isinstance(leaf, Always):
        return all(claim.holds for claim in claims)
    if isinstance(leaf, Flag):
        answers = (True, False, None) if leaf.term in UNKNOWABLE else (True, False)
        return _met_by_one(claims, ({leaf.term: answer} for answer in answers))
    if isinstance(leaf, Replicas):
        counts = _whole_numbers(claims, least=0)
        return _met_by_one(claims, ({"replicas": lambda _tier, _within, n=n: n} for n in counts))
    if leaf.term in UNKNOWABLE and all(claim.or_unknown for claim in claims):
        return True
    kind = TERMS[leaf.term]
    if kind is Kind.USAGE:
        return _met_by_one(claims, _shares(claims))
    if kind is Kind.DURATION:
        return _ages_can_be_met(claims)
    values: Iterable[Any]
    if kind is Kind.TEXT:
        values = areas if leaf.term == "area" and areas is not None else _names(claims)
    else:
        values = _whole_numbers(claims, least=0 if leaf.term in ("size", "files") else None)
    return _met_by_one(claims, ({leaf.term: value} for value in values))


def _met_by_one(claims: Sequence[Claim], witnesses: Iterable[Mapping[str, Any]]) -> bool:
    return any(all(claim.met_by(values) for claim in claims) for values in witnesses)


def _names(claims: Iterable[Claim]) -> set[str]:
    named = {_OTHER}
    for claim in claims:
        if isinstance(claim.leaf, Listed):
            named.update(claim.leaf.values)
        elif isinstance(claim.leaf, Compare):
            named.add(str(claim.leaf.value))
    return named


def _limits(claims: Iterable[Claim]) -> list[Any]:
    return [claim.leaf.value for claim in claims if isinstance(claim.leaf, (Compare, Replicas))]


def _whole_numbers(claims: Iterable[Claim], *, least: int | None) -> set[int]:
    """Every limit, as far as it is a whole number, and what is just beside it."""
    limits = [limit for limit in _limits(claims) if math.isfinite(limit)]
    near = {n + by for limit in limits for n in (math.floor(limit), math.ceil(limit)) for by in (-1, 0, 1)} | {0}
    return near if least is None else {n for n in near if n >= least}


def _shares(claims: Sequence[Claim]) -> Iterator[Mapping[str, Any]]:
    """How full an area may be, and its watermarks: any between 0 and 1, the low one not above the high one."""
    limits = set(_limits(claims))
    words = limits & {"high", "low"}
    inner = sorted((limits - words) | {0.0, 1.0})
    between = {a + (b - a) * part for a, b in pairwise(inner) for part in (0.25, 0.5, 0.75)}
    points = sorted({*inner, *between})
    usages = [_BELOW, *points, _ABOVE]
    if not words:
        yield from ({"usage": usage} for usage in usages)
        return
    if len(inner) > _MOST_SHARES + 2:
        raise _TooManyWays
    for low, high in ((low, high) for low in points for high in points if low <= high):
        yield from ({"usage": usage, "low": low, "high": high} for usage in usages)


def _ages_can_be_met(claims: Sequence[Claim]) -> bool:
    """An age by the calendar is between its shortest and its longest, and more months are longer than fewer."""
    by_calendar = [
        (claim, limit.count) for claim, limit in zip(claims, _limits(claims), strict=True) if isinstance(limit, Months)
    ]
    ages_in_months = {0.0, *(count + by for _, count in by_calendar for by in (-0.5, 0.0, 0.5) if count + by >= 0)}
    if not any(all(_is_met(claim, _sign_of(n, count)) for claim, count in by_calendar) for n in ages_in_months):
        return False
    edges = {timedelta(0)}
    for limit in _limits(claims):
        for edge in (limit.shortest, limit.longest) if isinstance(limit, Months) else (limit,):
            edges |= {edge - _INSTANT, edge, edge + _INSTANT}
    ages = [age for age in edges if age >= timedelta(0)]
    return any(all(_may_be_met(claim, age) for claim in claims) for age in ages)


def _may_be_met(claim: Claim, age: timedelta) -> bool:
    """Whether some scan of that age is as is claimed."""
    (limit,) = _limits([claim])
    if not isinstance(limit, Months):
        return claim.met_by({"age": age})
    signs = (-1, 0, 1) if limit.shortest <= age <= limit.longest else (_sign_of(age, limit.longest),)
    return any(_is_met(claim, sign) for sign in signs)


def _sign_of(found: Any, limit: Any) -> int:
    return int(found > limit) - int(found < limit)


def _is_met(claim: Claim, sign: int) -> bool:
    """Whether an age that is less than the limit (-1), it exactly (0) or more (1) is as is claimed."""
    return isinstance(claim.leaf, Compare) and SIGNS[claim.leaf.sign](sign, 0) is claim.holds
