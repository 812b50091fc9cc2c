"""The `when` of a rule: a sentence over what is known of a scan, read aloud as it is written.

    complete and age > 30d and area in (inhouse, inhouse1) and replicas(tape) >= 2 and usage > high

What is not known is neither true nor false: `not (proposal = x)` does not hold for a scan whose proposal
is unknown. A sentence holds only when it is true for certain. `tomovault.policy.reading` evaluates it.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any, cast

from lark import Lark, Token, Transformer, v_args
from lark.exceptions import UnexpectedInput, VisitError

from tomovault.core.errors import UserError
from tomovault.policy.calendar import Months, parse_months
from tomovault.policy.quantity import parse_duration, parse_percent, parse_size
from tomovault.policy.yaml_text import Fault, Spot, nearest, point_at


class Kind(enum.StrEnum):
    """What a term holds, which decides what it can be compared with."""

    FLAG = "yes or no"
    TEXT = "a name"
    NUMBER = "a number"
    SIZE = "a size"
    DURATION = "a duration"
    USAGE = "a share"


#: Every term by name. `true` and `replicas(TIER)` are written in the grammar.
TERMS: dict[str, Kind] = {
    "complete": Kind.FLAG,
    "aborted": Kind.FLAG,
    "packed": Kind.FLAG,
    "archived": Kind.FLAG,
    "previewed": Kind.FLAG,
    "volume": Kind.FLAG,
    "area": Kind.TEXT,
    "format": Kind.TEXT,
    "beamline": Kind.TEXT,
    "proposal": Kind.TEXT,
    "owner": Kind.TEXT,
    "sample": Kind.TEXT,
    "age": Kind.DURATION,
    "size": Kind.SIZE,
    "files": Kind.NUMBER,
    "pixels": Kind.NUMBER,
    "width": Kind.NUMBER,
    "height": Kind.NUMBER,
    "n_projections": Kind.NUMBER,
    "usage": Kind.USAGE,
}

#: The most parentheses, or negations, in one sentence: each may be a level of its tree.
DEEPEST = 50

VOLUME_ACCEPTED = "volume accepted"
CHEAPER = "cheaper to recompute"

_GRAMMAR = r"""
?start: any
?any: all ("or" all)*                                          -> either
?all: one ("and" one)*                                         -> both
?one: "not" one                                                -> negate
    | "(" any ")"
    | "true"                                                   -> always
    | "replicas" "(" NAME ["," "verified" "within" QUANTITY] ")" SIGN value   -> replicas
    | NAME SIGN value                                          -> compare
    | NAME [NOT] "in" "(" value ("," value)* ")"               -> listed
    | NAME "accepted"                                          -> accepted
    | "cheaper" "to" "recompute"                               -> cheaper
    | NAME                                                     -> flag
value: NAME | QUANTITY | QUOTED
NOT: "not"
SIGN: "<=" | ">=" | "==" | "!=" | "=" | "<" | ">"
NAME.-1: /[^\W\d][\w.*-]*/
QUANTITY: /\d[\d.]*[ ](?!(and|or|not|in)\b)[A-Za-z]+|\d[\d.]*[ ]?%|\d[\w.]*/
QUOTED: /"[^"\n]*"|'[^'\n]*'/
%import common.WS
%ignore WS
"""

Value = bool | str | int | float | timedelta | Months


@dataclass(frozen=True)
class Always:
    """`true`."""

    text: str = "true"


@dataclass(frozen=True)
class Flag:
    """A term that is yes or no."""

    term: str
    text: str


@dataclass(frozen=True)
class Compare:
    """A term, a sign and a value of its kind. `high` and `low` stay words, for they belong to the area, and an age in
    months or years stays one by the calendar.
    """

    term: str
    sign: str
    value: Value
    text: str


@dataclass(frozen=True)
class Listed:
    """A name that is, or is not, one of several."""

    term: str
    values: tuple[str, ...]
    negated: bool
    text: str


@dataclass(frozen=True)
class Replicas:
    """The number of good copies on a tier (or a class of tiers), each in a failure domain of its own."""

    tier: str
    within: timedelta | None
    sign: str
    value: int
    text: str


@dataclass(frozen=True)
class Not:
    """The opposite."""

    part: Expression


@dataclass(frozen=True)
class And:
    """All of them."""

    parts: tuple[Expression, ...]


@dataclass(frozen=True)
class Or:
    """At least one of them."""

    parts: tuple[Expression, ...]


Leaf = Always | Flag | Compare | Listed | Replicas
Expression = Leaf | Not | And | Or


class WrongExpression(ValueError):
    """A sentence that cannot be read; `found` has each problem with its (line, column) in the sentence."""

    def __init__(self, found: Sequence[Fault]) -> None:
        super().__init__("; ".join(fault.text for fault in found))
        self.found = tuple(found)


def parse_expression(text: str, *, name: str = "expression") -> Expression:
    """The tree of a sentence. Raises UserError with `name:line:column`, the sentence and a caret for each problem."""
    try:
        return read_expression(text)
    except WrongExpression as wrong:
        shown = [point_at(text, name, Spot(*(f.offset or (0, 0))), f.text) for f in wrong.found]
        raise UserError("\n".join(shown), hint=f"terms: {', '.join(TERMS)}, replicas(TIER), {CHEAPER}, true") from None


def read_expression(text: str) -> Expression:
    """The tree of a sentence. Raises WrongExpression."""
    if text.count("(") > DEEPEST or text.count("not") > DEEPEST:
        raise WrongExpression([Fault("nested too deep to be read aloud", offset=(0, 0))])
    try:
        tree = _parser().parse(text)
    except UnexpectedInput as wrong:
        raise WrongExpression([_explain_syntax(text, wrong)]) from None
    builder = _Builder(text)
    try:
        result = cast(Expression, builder.transform(tree))
    except VisitError as wrong:
        raise wrong.orig_exc from None
    if builder.found:
        raise WrongExpression(builder.found)
    return result


@cache
def _parser() -> Lark:
    return Lark(_GRAMMAR, parser="lalr", propagate_positions=True, maybe_placeholders=True)


def _explain_syntax(text: str, wrong: UnexpectedInput) -> Fault:
    token = getattr(wrong, "token", None)
    if not text.strip() or (token is not None and token.type == "$END"):
        before = text.rstrip()
        line = before.count("\n")
        at = (line, len(before) - (before.rfind("\n") + 1))
        return Fault("the sentence stops here; a term or a value is missing, or a ')'", offset=at)
    at = (wrong.line - 1, wrong.column - 1)
    if token is None:
        return Fault(f"{text[wrong.pos_in_stream or 0]!r} cannot stand here", offset=at)
    expected: set[str] = getattr(wrong, "accepts", None) or getattr(wrong, "expected", None) or set()
    if expected & {"AND", "OR"}:
        return Fault(f"{str(token)!r} cannot follow here; 'and' or 'or' is missing{_hint(str(token))}", offset=at)
    return Fault(f"{str(token)!r} cannot stand here{_hint(str(token))}", offset=at)


def _hint(word: str) -> str:
    close = nearest(word, ["and", "or", "not", "in", "verified", "within", "accepted", "cheaper", "to", "recompute"])
    return close if "did you mean" in close else ""


@v_args(meta=True)
class _Builder(Transformer[Token, Any]):
    """Checks names and kinds, and builds the tree; every problem goes to `found`."""

    def __init__(self, text: str) -> None:
        super().__init__(visit_tokens=False)
        self._text = text
        self.found: list[Fault] = []

    def either(self, _meta: Any, parts: list[Expression]) -> Expression:
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def both(self, _meta: Any, parts: list[Expression]) -> Expression:
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def negate(self, _meta: Any, parts: list[Expression]) -> Expression:
        return Not(parts[0])

    def always(self, _meta: Any, _parts: list[Any]) -> Expression:
        return Always()

    def value(self, _meta: Any, parts: list[Token]) -> Token:
        return parts[0]

    def flag(self, meta: Any, parts: list[Token]) -> Expression:
        (term,) = parts
        kind = self._kind(term)
        if kind not in (None, Kind.FLAG):
            self._wrong(term, f"{str(term)!r} is {kind}; compare it with something, such as {_example(str(term))}")
        return Flag(str(term), self._said(meta))

    def accepted(self, meta: Any, parts: list[Token]) -> Expression:
        if parts[0] != "volume":
            self._wrong(parts[0], f"only a volume is accepted, not {str(parts[0])!r}")
        return Flag(VOLUME_ACCEPTED, self._said(meta))

    def cheaper(self, meta: Any, _parts: list[Any]) -> Expression:
        return Flag(CHEAPER, self._said(meta))

    def compare(self, meta: Any, parts: list[Token]) -> Expression:
        term, sign, value = parts
        kind = self._kind(term)
        if kind is Kind.FLAG:
            self._wrong(term, f"{str(term)!r} is yes or no by itself; write it alone or after 'not'")
            kind = None
        if kind is Kind.TEXT and sign not in ("=", "==", "!="):
            self._wrong(sign, f"a name cannot be {str(sign)!r} another; use =, != or in")
        read = str(value) if kind is None else self._read(kind, value)
        return Compare(str(term), "=" if sign == "==" else str(sign), read, self._said(meta))

    def listed(self, meta: Any, parts: list[Token | None]) -> Expression:
        term, negation, *values = parts
        kind = self._kind(cast(Token, term))
        if kind not in (None, Kind.TEXT):
            self._wrong(cast(Token, term), f"{str(term)!r} is {kind}; 'in' is for names")
        named = tuple(_unquoted(cast(Token, v)) for v in values)
        return Listed(str(term), named, negation is not None, self._said(meta))

    def replicas(self, meta: Any, parts: list[Token | None]) -> Expression:
        tier, within, sign, value = (cast(Token, part) for part in parts)
        period = None if within is None else cast(timedelta, self._fixed(within))
        count = self._read(Kind.NUMBER, value)
        if not isinstance(count, int):
            self._wrong(value, "copies are counted in whole numbers")
            count = 0
        return Replicas(str(tier), period, "=" if sign == "==" else str(sign), count, self._said(meta))

    def _kind(self, term: Token) -> Kind | None:
        kind = TERMS.get(str(term))
        if kind is None:
            names = [*TERMS, "replicas", "true"]
            self._wrong(term, f"unknown term {str(term)!r}{nearest(str(term), names)}")
        return kind

    def _read(self, kind: Kind, token: Token) -> Value:
        text = _unquoted(token)
        if kind is Kind.USAGE and text in ("high", "low"):
            return text
        try:
            return _VALUE_OF[kind](text)
        except ValueError as wrong:
            extra = f"; or the words high and low{nearest(text, ['high', 'low'])}" if kind is Kind.USAGE else ""
            self._wrong(token, f"{wrong}{extra}")
        return 0

    def _fixed(self, token: Token) -> Value:
        """A period whose length is the same whenever it begins."""
        period = self._read(Kind.DURATION, token)
        if isinstance(period, Months):
            self._wrong(token, f"for copies a period of fixed length is needed: write {period.usual.days}d")
            return timedelta(0)
        return period

    def _wrong(self, token: Token, text: str) -> None:
        self.found.append(Fault(text, offset=((token.line or 1) - 1, (token.column or 1) - 1)))

    def _said(self, meta: Any) -> str:
        return " ".join(self._text[meta.start_pos : meta.end_pos].split())


def _unquoted(token: Token) -> str:
    return str(token)[1:-1] if token.type == "QUOTED" else str(token)


def _parse_number(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a number") from None


def _parse_age(text: str) -> timedelta | Months:
    try:
        return parse_months(text) or parse_duration(text)
    except ValueError as wrong:
        if "hundred years" in str(wrong):
            raise
        raise ValueError(f"{text!r} is not a duration; write it as 36h, 30d, 2w, 6 months or 1 year") from None


_VALUE_OF: dict[Kind, Callable[[str], Value]] = {
    Kind.TEXT: str,
    Kind.NUMBER: _parse_number,
    Kind.SIZE: parse_size,
    Kind.DURATION: _parse_age,
    Kind.USAGE: parse_percent,
}

_EXAMPLES = {
    Kind.TEXT: "{} = x",
    Kind.NUMBER: "{} > 100",
    Kind.SIZE: "{} < 2GB",
    Kind.DURATION: "{} > 30d",
    Kind.USAGE: "{} > high",
}


def _example(term: str) -> str:
    return _EXAMPLES[TERMS[term]].format(term)
