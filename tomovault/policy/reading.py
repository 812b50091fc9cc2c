"""The first reading of a rule's sentence: does it hold for these values, and why, term by term.

Three answers, as in SQL: yes, no, and not known (None). A sentence holds only when the answer is yes.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from tomovault.policy.calendar import Months, months_before
from tomovault.policy.expression import (
    CHEAPER,
    TERMS,
    VOLUME_ACCEPTED,
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
from tomovault.policy.quantity import show_duration, show_percent, show_size

#: The number of good copies on a tier or class of tiers, of those re-read within a period if one is given.
CountReplicas = Callable[[str, timedelta | None], int]

#: What else a term may say than it does now.
_Others = Callable[[Leaf, bool | None], tuple[bool, ...]]

#: Terms that the next steps of the life, or the passing of time, may still make true.
COMING = frozenset({"complete", "packed", "archived", "previewed", "volume", VOLUME_ACCEPTED, CHEAPER})

#: What each sign asks of what was found and what is wanted.
SIGNS: Mapping[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    "=": operator.eq,
    "!=": operator.ne,
    ">=": operator.ge,
    ">": operator.gt,
}


@dataclass(frozen=True)
class Term:
    """One term as written, what was found, and whether it holds (None: it is not known)."""

    text: str
    found: str
    holds: bool | None


@dataclass(frozen=True)
class Verdict:
    """Whether the sentence holds for certain, with every term of it. `doubtful`: what is not known would decide."""

    value: bool
    terms: tuple[Term, ...]
    doubtful: bool = False

    def explain(self, *, holding: bool | None = None) -> str:
        """'age > 30d: 12 d' for each term; only those that hold, or that do not, when asked."""
        chosen = [t for t in self.terms if holding is None or (t.holds is True) is holding]
        return ", ".join(f"{t.text}: {t.found}" if t.found else t.text for t in chosen)


def evaluate(tree: Expression, values: Mapping[str, Any], *, told: bool = True) -> Verdict:
    """Whether the sentence holds for these values.

    `values` maps terms to bool, str, int, float or timedelta, or None where it is not known; 'high' and 'low'
    to the area's watermarks, 'replicas' to a `CountReplicas`, and 'now' and 'start', from which an age counts, to aware
    times, which an age in months is told from. Every term is looked at, for the explanation, which takes most of the
    time: where it is not to be `told`, there are no terms.
    """
    terms: list[Term] | None = [] if told else None
    answer = _answer(tree, values, terms)
    return Verdict(answer is True, tuple(terms or ()), answer is None)


def may_come(tree: Expression, values: Mapping[str, Any]) -> bool:
    """Whether the sentence holds now, or may hold later by itself: by a step done, by age, or by a fuller area."""
    return True in _outlook(tree, values, _later)


def holds_for_some_usage(tree: Expression, values: Mapping[str, Any]) -> bool:
    """Whether the sentence would hold now if the area were more or less full."""
    return True in _outlook(tree, values, _by_usage)


def leaves(tree: Expression) -> tuple[Leaf, ...]:
    """Every term of the sentence in the order in which it is read."""
    if isinstance(tree, Not):
        return leaves(tree.part)
    if isinstance(tree, (And, Or)):
        return tuple(leaf for part in tree.parts for leaf in leaves(part))
    return (tree,)


def asks_usage(tree: Expression) -> bool:
    """Whether the sentence asks how full the area is."""
    return any(isinstance(leaf, Compare) and leaf.term == "usage" for leaf in leaves(tree))


def _answer(tree: Expression, values: Mapping[str, Any], terms: list[Term] | None) -> bool | None:
    if isinstance(tree, Not):
        inner = _answer(tree.part, values, terms)
        return None if inner is None else not inner
    if isinstance(tree, And):
        return _join([_answer(part, values, terms) for part in tree.parts], decided_by=False)
    if isinstance(tree, Or):
        return _join([_answer(part, values, terms) for part in tree.parts], decided_by=True)
    answer = holds(tree, values)
    if terms is not None:
        terms.append(Term(tree.text, _found(tree, values), answer))
    return answer


def _join(answers: list[bool | None], *, decided_by: bool) -> bool | None:
    if decided_by in answers:
        return decided_by
    return None if None in answers else not decided_by


def holds(leaf: Leaf, values: Mapping[str, Any]) -> bool | None:
    """What a term says for these values; None where it is not known."""
    if isinstance(leaf, Always):
        return True
    if isinstance(leaf, Replicas):
        return SIGNS[leaf.sign](values["replicas"](leaf.tier, leaf.within), leaf.value)
    found = values.get(leaf.term)
    if found is None:
        return None
    if isinstance(leaf, Flag):
        return bool(found)
    if isinstance(leaf, Listed):
        return (found in leaf.values) is not leaf.negated
    wanted = leaf.value
    if isinstance(wanted, Months):
        # What is as old as six months began when it was six months earlier.
        return SIGNS[leaf.sign](months_before(values["now"], wanted), values["start"])
    if isinstance(wanted, str) and TERMS[leaf.term] is Kind.USAGE:
        wanted = values[wanted]
    return SIGNS[leaf.sign](found, wanted)


def _found(leaf: Leaf, values: Mapping[str, Any]) -> str:
    """What was found for a term, as a person reads it."""
    if isinstance(leaf, Always):
        return ""
    if isinstance(leaf, Replicas):
        return str(values["replicas"](leaf.tier, leaf.within))
    found = values.get(leaf.term)
    if found is None:
        return "not known"
    if isinstance(leaf, Flag):
        return str(values.get(f"{leaf.term}, told") or ("yes" if found else "no"))
    if isinstance(leaf, Listed):
        return str(found)
    shown = _shown(leaf.term, found)
    if isinstance(leaf.value, str) and TERMS[leaf.term] is Kind.USAGE:
        return f"{shown}, {leaf.value} is {_shown(leaf.term, values[leaf.value])}"
    return shown


def _shown(term: str, found: Any) -> str:
    kind = TERMS[term]
    if kind is Kind.DURATION:
        return show_duration(found)
    if kind is Kind.SIZE:
        return show_size(found)
    if kind is Kind.USAGE:
        return show_percent(found)
    return str(found)


def _outlook(tree: Expression, values: Mapping[str, Any], others: _Others) -> frozenset[bool | None]:
    """Answers that the sentence may have: now, and where its terms have their `others`."""
    if isinstance(tree, Not):
        return frozenset(None if a is None else not a for a in _outlook(tree.part, values, others))
    if isinstance(tree, (And, Or)):
        decided_by = isinstance(tree, Or)
        reached = _outlook(tree.parts[0], values, others)
        for part in tree.parts[1:]:
            other = _outlook(part, values, others)
            reached = frozenset(_join([a, b], decided_by=decided_by) for a in reached for b in other)
        return reached
    now = holds(tree, values)
    return frozenset({now, *others(tree, now)})


def _by_usage(leaf: Leaf, _now: bool | None) -> tuple[bool, ...]:
    return (True, False) if isinstance(leaf, Compare) and leaf.term == "usage" else ()


def _later(leaf: Leaf, now: bool | None) -> tuple[bool, ...]:
    return tuple(answer for answer in (True, False) if may_turn(leaf, answer, known=now is not None))


def may_turn(leaf: Leaf, answer: bool, *, known: bool = True) -> bool:
    """Whether a term may have that answer later by itself, whatever it says now; `known`: whether it says anything."""
    if isinstance(leaf, Flag):
        return answer and leaf.term in COMING
    if isinstance(leaf, Replicas):
        return True
    if isinstance(leaf, Compare) and leaf.term == "usage":
        return True
    if isinstance(leaf, Compare) and leaf.term == "age":
        return known and (leaf.sign in (">", ">=", "!=")) is answer
    return False


__all__ = [
    "SIGNS",
    "CountReplicas",
    "Term",
    "Verdict",
    "asks_usage",
    "evaluate",
    "holds",
    "holds_for_some_usage",
    "leaves",
    "may_come",
    "may_turn",
]
