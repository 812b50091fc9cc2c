"""Why nothing goes from an area that is too full, in one line, and what would let something go."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from tomovault.vault.sizes import show_bytes

#: How a reason begins or ends, what is said of all scans that have it, and what would change it.
_KINDS = (
    ("pinned by", "pinned", "tomovault unpin SCAN"),
    ("law 4", "without enough verified copies", "their archiving has to end: tomovault status says what it waits for"),
    ("needs ", "not far enough in their life", "tomovault explain SCAN says what is next"),
    ("the scan is not complete", "not complete", "tomovault scan declare SCAN, if a person knows better"),
    ("forbidden by", "kept by a rule", "change that rule"),
    ("warned on", "whose owners were warned", "their days have to be over: tomovault policy preview"),
    ("its owner is", "whose owners have to be warned first", "tomovault doctor says whether anybody can be"),
    ("its export to", "to be sent first", "their transfers have to be over: tomovault status says what stops them"),
    ("its last removal failed", "with a removal that failed", "tomovault verify SCAN, then it is tried again"),
)
_BY_END = (" is not over", "being worked on", "wait for that work")
_BY_RULE = ("not reached by a rule", "a rule that lets younger or other scans go")

#: What only waits: of every other kind a date on which a scan is looked at again promises nothing.
_WAITING = frozenset({"pinned", "kept by a rule", "whose owners were warned", _BY_RULE[0]})

#: So many kinds of reasons are told, those of most bytes first.
_TOLD = 3


@dataclass(frozen=True)
class Stays:
    """A copy that may not go now: of which scan, why, how large, and when time alone may change it."""

    scan: str
    reason: str
    bytes: int = 0
    until: datetime | None = None


def why_nothing_goes(stays: Iterable[Stays]) -> str:
    """One clause for each kind of reason, with its scans and bytes, and what would make something eligible."""
    kinds: dict[tuple[str, str], list[Stays]] = {}
    for one in stays:
        kinds.setdefault(_kind_of(one.reason), []).append(one)
    if not kinds:
        return "no scan is there to prune"
    told = sorted(kinds.items(), key=lambda item: -sum(s.bytes for s in item[1]))
    clauses = [_clause(kind, help_, members) for (kind, help_), members in told[:_TOLD]]
    if more := sum(len(members) for _, members in told[_TOLD:]):
        clauses.append(f"{more} more for other reasons")
    return "; ".join(clauses)


def _kind_of(reason: str) -> tuple[str, str]:
    for start, kind, help_ in _KINDS:
        if reason.startswith(start):
            return kind, help_
    if reason.endswith(_BY_END[0]):
        return _BY_END[1:]
    if "waits for: " in reason or "does not apply: " in reason or reason.startswith("no rule"):
        return _BY_RULE
    return reason, ""


def _clause(kind: str, help_: str, members: list[Stays]) -> str:
    scans = {one.scan for one in members}
    named = min(scans) if len(scans) == 1 else f"{len(scans)} scans"
    dates = [one.until for one in members if one.until is not None and kind in _WAITING]
    first = f"time alone may change it from {min(dates):%Y-%m-%d} on" if dates else ""
    what_helps = ", or ".join(filter(None, (first, help_)))
    size = show_bytes(sum(one.bytes for one in members))
    return f"{named} ({size}) {kind}" + (f" [{what_helps}]" if what_helps else "")
