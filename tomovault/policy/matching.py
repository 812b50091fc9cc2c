"""What the rules of a policy say of one scan now, and the settings of those that hold or may hold later. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tomovault.core.known import KnownScan
from tomovault.core.replica import LEAST_COPIES, Form, ProductKind
from tomovault.policy.area_facts import AreaFacts
from tomovault.policy.calendar import show_moment
from tomovault.policy.document import STAGE_OF, Policy, Recency, Rule
from tomovault.policy.reading import Term, Verdict, evaluate, may_come
from tomovault.policy.values import values_of


@dataclass(frozen=True)
class Match:
    """A rule with what its sentence and its dates say of a scan; `coming` when it may hold later by itself. Out of its
    dates a rule says nothing, and there is no doubt about that.
    """

    rule: Rule
    verdict: Verdict
    coming: bool


@dataclass(frozen=True)
class Move:
    """The files of a scan are wanted as files in the area `to`: below the folder that `path` describes, or at the
    place that they have below their own area where it is None.
    """

    to: str
    path: str | None
    rule: Rule


@dataclass(frozen=True)
class Export:
    """A product of a scan is wanted at an address, whose placeholders are not filled yet, as the match says."""

    product: ProductKind
    to: str
    match: Match


@dataclass(frozen=True)
class Asks:
    """The settings that the rules ask for, joined over the rules that hold for one scan."""

    copies: int = LEAST_COPIES
    archive_tiers: tuple[str, ...] = ()
    tiers: tuple[str, ...] = ()
    moves: tuple[Move, ...] = ()
    exports: tuple[Export, ...] = ()
    presets: Mapping[str, str] = field(default_factory=dict)
    rules: Mapping[str, Rule] = field(default_factory=dict)
    recency: Recency = field(default_factory=Recency)


def matches_of(
    scan: KnownScan, policy: Policy, area: AreaFacts, now: datetime, *, told: bool = True
) -> tuple[Match, ...]:
    """Every rule, in order, with what its sentence says of the scan; why it does is left out unless it is to be `told`.

    'archived' means the number of copies that the policy's archive rules ask for this very scan.
    """
    matches = _read(policy, values_of(scan, area, now), told=told)
    copies = copies_of(matches)
    return matches if copies == LEAST_COPIES else _read(policy, values_of(scan, area, now, copies=copies), told=told)


def asks_of(
    scan: KnownScan, policy: Policy, area: AreaFacts, now: datetime, matches: Sequence[Match] | None = None
) -> Asks:
    """The settings for the steps of one scan, from the rules that hold or may hold for it later.

    `matches`: as `matches_of` says, where the caller has asked already.
    """
    matches = matches_of(scan, policy, area, now) if matches is None else matches
    chosen = _chosen(matches)
    archive = wanted_of(matches, "archive")
    return Asks(
        copies=copies_of(matches),
        archive_tiers=_joined(m.rule.settings.tiers for m in archive),
        tiers=_joined(m.rule.settings.tiers for m in wanted_of(matches, "replicate")),
        moves=_moves(wanted_of(matches, "replicate")),
        exports=_exports(wanted_of(matches, "export")),
        presets={do: m.rule.settings.preset for do, m in chosen.items() if m.rule.settings.preset},
        rules={do: m.rule for do, m in chosen.items()},
        recency=policy.recency,
    )


def first_of(matches: Iterable[Match]) -> Match | None:
    """The match that decides: the first that holds, else the first that may hold later."""
    listed = list(matches)
    return next((m for m in listed if m.verdict.value), None) or next((m for m in listed if m.coming), None)


def wanted_of(matches: Iterable[Match], do: str) -> list[Match]:
    """The matches for an action whose rules hold or may hold later, in order."""
    return [m for m in matches if m.rule.do == do and m.coming]


def copies_of(matches: Sequence[Match]) -> int:
    """Archive copies asked for: the most of any archive or prune rule that holds or may hold later."""
    asked = (m.rule.settings.copies for do in ("archive", "prune") for m in wanted_of(matches, do))
    return max(LEAST_COPIES, *asked, LEAST_COPIES)


def _read(policy: Policy, values: Mapping[str, Any], *, told: bool) -> tuple[Match, ...]:
    return tuple(_match(rule, values, told=told) for rule in policy.ordered())


def _match(rule: Rule, values: Mapping[str, Any], *, told: bool) -> Match:
    verdict, now = evaluate(rule.condition, values, told=told), values["now"]
    if rule.is_in_force(now):
        return Match(rule, verdict, verdict.value or may_come(rule.condition, values))
    out = Term(_why_not_in_force(rule, now), "", False)
    coming = not rule.is_over(now) and may_come(rule.condition, values)
    return Match(rule, Verdict(False, (out, *verdict.terms)), coming)


def _why_not_in_force(rule: Rule, now: datetime) -> str:
    if rule.until is not None and rule.is_over(now):
        return f"over since {show_moment(rule.until)}"
    return f"not before {show_moment(rule.starts)}" if rule.starts is not None else ""


def _chosen(matches: Sequence[Match]) -> dict[str, Match]:
    first = {do: first_of(m for m in matches if m.rule.do == do) for do in STAGE_OF}
    return {do: match for do, match in first.items() if match is not None}


def _moves(matches: Iterable[Match]) -> tuple[Move, ...]:
    """One for each area that files are wanted in; a rule that holds comes before one that may hold later."""
    chosen: dict[str, Move] = {}
    for match in sorted(matches, key=lambda m: not m.verdict.value):
        settings = match.rule.settings
        if settings.form is Form.FILES and settings.to is not None:
            chosen.setdefault(settings.to, Move(settings.to, settings.path, match.rule))
    return tuple(chosen.values())


def _exports(matches: Iterable[Match]) -> tuple[Export, ...]:
    """One for each product and address; a rule that holds comes before one that may hold later."""
    chosen: dict[tuple[ProductKind, str], Export] = {}
    for match in sorted(matches, key=lambda m: not m.verdict.value):
        product, to = match.rule.settings.product, match.rule.settings.to or ""
        chosen.setdefault((product, to), Export(product, to, match))
    return tuple(chosen.values())


def _joined(groups: Iterable[Iterable[str]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for group in groups for name in group))
