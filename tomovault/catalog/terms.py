"""What each term of a rule's sentence asks of the catalogue's rows, as `tomovault.policy.values.values_of` says it.

A term about copies adds up those of one scan: it stands where `PRODUCT`, `COPY` and `PLACE` are joined to each scan.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    Double,
    ScalarSelect,
    and_,
    case,
    cast,
    distinct,
    false,
    func,
    literal,
    literal_column,
    not_,
    null,
    or_,
    select,
    true,
)

from tomovault.catalog import tables
from tomovault.catalog.measured import cpu_of_volume
from tomovault.core.replica import LEAST_COPIES, Form, ProductKind, ReplicaState, TierClass
from tomovault.core.scan import Verdict
from tomovault.policy.area_facts import AreaFacts
from tomovault.policy.calendar import Months, months_before
from tomovault.policy.expression import (
    CHEAPER,
    TERMS,
    VOLUME_ACCEPTED,
    Always,
    Flag,
    Kind,
    Leaf,
    Listed,
    Replicas,
)
from tomovault.policy.values import MOST_COUNTED

Condition = ColumnElement[bool]

#: The newest product of a kind, its good copies and their tiers: what `over_scans` joins to each scan.
PRODUCT = tables.product.alias("newest")
COPY = tables.replica.alias("copy")
PLACE = tables.tier.alias("place")

#: Written out and not bound: a database adds up once what is asked in the same words by several rules.
IS_VERIFIED = COPY.c.state == literal_column(f"'{ReplicaState.VERIFIED.value}'")

#: Whole numbers that both databases keep exactly.
_LARGEST = 2**63 - 1

_SIGNS: Mapping[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt,
    "<=": operator.le,
    "=": operator.eq,
    "!=": operator.ne,
    ">=": operator.ge,
    ">": operator.gt,
}

#: The same comparison with its two sides exchanged.
_MIRRORED = {"<": ">", "<=": ">=", "=": "=", "!=": "!=", ">=": "<=", ">": "<"}


@dataclass(frozen=True)
class Moment:
    """What a sentence is read against besides the catalogue: the time, and each area as it stands.

    `copies` says how many copies 'archived' means: the number of the first condition that holds for a scan, else the
    least that the laws accept.
    """

    now: datetime
    areas: Mapping[str, AreaFacts]
    copies: Sequence[tuple[Condition, int]] = ()


def condition_of(leaf: Leaf, at: Moment) -> Condition:
    """Whether a term holds for a scan: true, false, or NULL where that is not known."""
    scan = tables.scan
    if isinstance(leaf, Always):
        return true()
    if isinstance(leaf, Replicas):
        return _number_of_domains(_counted_by(leaf, at.now), leaf.sign, leaf.value)
    if isinstance(leaf, Flag):
        return _flag(leaf.term, at)
    if isinstance(leaf, Listed):
        column = scan.c[leaf.term]
        return column.not_in(leaf.values) if leaf.negated else column.in_(leaf.values)
    if leaf.term == "age":
        return _age(leaf.sign, leaf.value, at.now)
    if leaf.term == "usage":
        return _usage(leaf.sign, leaf.value, at.areas)
    if TERMS[leaf.term] is Kind.TEXT:
        compared: Condition = _SIGNS[leaf.sign](scan.c[leaf.term], leaf.value)
        return compared
    return _compared(_NUMBERS[leaf.term](), leaf.sign, leaf.value)


def _flag(term: str, at: Moment) -> Condition:
    scan = tables.scan
    verdict = func.coalesce(scan.c.declared_verdict, scan.c.verdict)
    if term == "complete":
        return and_(scan.c.settled, verdict.in_([Verdict.COMPLETE.value, Verdict.ABORTED.value]))
    if term == "aborted":
        return verdict == Verdict.ABORTED.value
    if term == "packed":
        return _any_copy(_is_good(ProductKind.ORIGINAL), COPY.c.form == _word(Form.PACKAGE))
    if term == "archived":
        return _archived(at)
    if term == CHEAPER:
        return _cheaper(at.areas)
    if term == VOLUME_ACCEPTED:
        return and_(scan.c.accepted_by.is_not(None), scan.c.accepted_digest.is_not_distinct_from(_newest_volume()))
    return _any_copy(_is_good(_MADE[term]))


_MADE = {"previewed": ProductKind.PREVIEW, "volume": ProductKind.VOLUME}


def _cheaper(areas: Mapping[str, AreaFacts]) -> Condition:
    """As `costs_of_volume` says; NULL where a price, the run or a volume is not known."""
    scan = tables.scan
    priced = {name: facts.prices for name, facts in areas.items() if facts.prices is not None}
    if not priced:
        return cast(null(), Boolean)
    here = and_(_is_good(ProductKind.VOLUME), COPY.c.tier == scan.c.area)
    size = cast(func.max(case((here, COPY.c.bytes))), Double)
    kept = case({name: literal(prices.byte_kept, Double) for name, prices in priced.items()}, value=scan.c.area)
    second = case({name: literal(prices.cpu_second, Double) for name, prices in priced.items()}, value=scan.c.area)
    return cpu_of_volume() * second < size * kept


def _archived(at: Moment) -> Condition:
    counted = and_(_is_good(ProductKind.ORIGINAL), PRODUCT.c.lossless, _is_of(TierClass.ARCHIVE))
    least = _at_least(counted, LEAST_COPIES)
    if not at.copies:
        return least
    return case(*((asked, _at_least(counted, number)) for asked, number in at.copies), else_=least)


def _age(sign: str, period: Any, now: datetime) -> Condition:
    scan = tables.scan
    start = func.coalesce(scan.c.acquired_at, scan.c.first_seen_at)
    before = months_before(now, period) if isinstance(period, Months) else now - period
    return case((start <= now, _SIGNS[_MIRRORED[sign]](start, before)))


def _usage(sign: str, wanted: Any, areas: Mapping[str, AreaFacts]) -> Condition:
    def is_so(facts: AreaFacts) -> bool:
        marks = {"high": facts.mark, "low": facts.low}
        return bool(_SIGNS[sign](facts.usage, marks.get(wanted, wanted)))

    named = sorted(name for name, facts in areas.items() if is_so(facts))
    if len(named) in (0, len(areas)):
        return true() if named else false()
    return tables.scan.c.area.in_(named)


def _condition_number(name: str) -> ScalarSelect[int]:
    """A count among the conditions of the scan; NULL where there is none."""
    condition = tables.condition
    number = condition.c.value_number
    return (
        select(cast(number, BigInteger))
        .where(
            condition.c.scan_id == tables.scan.c.id,
            condition.c.name == name,
            condition.c.value_type.in_(("int", "float")),
            number.between(0, MOST_COUNTED),
            number == func.round(number),
        )
        .correlate(tables.scan)
        .scalar_subquery()
    )


_NUMBERS: Mapping[str, Callable[[], ColumnElement[int]]] = {
    "size": lambda: tables.scan.c.bytes,
    "files": lambda: tables.scan.c.files,
    "width": lambda: _condition_number("frame_width"),
    "height": lambda: _condition_number("frame_height"),
    "pixels": lambda: _condition_number("frame_width") * _condition_number("frame_height"),
    "n_projections": lambda: _condition_number("n_projections"),
}


def _compared(number: ColumnElement[int], sign: str, value: Any) -> Condition:
    """A whole number, or NULL, against any number: a fraction lies between two whole ones."""
    if abs(value) <= _LARGEST and value == math.floor(value):
        compared: Condition = _SIGNS[sign](number, int(value))
        return compared
    if abs(value) <= _LARGEST and sign not in ("=", "!="):
        above = sign in ("<", ">=")
        between: Condition = _SIGNS[sign](number, math.ceil(value) if above else math.floor(value))
        return between
    # No whole number equals a fraction; and every one that is stored is less than what is too large, or no number.
    return case((number.is_not(None), true() if _SIGNS[sign](0, value) else false()))


# --- copies --------------------------------------------------------------------------------------------


def kinds_of(leaf: Leaf) -> tuple[ProductKind, ...]:
    """The products about whose copies a term asks."""
    if isinstance(leaf, Replicas) or (isinstance(leaf, Flag) and leaf.term in ("packed", "archived")):
        return (ProductKind.ORIGINAL,)
    if isinstance(leaf, Flag) and leaf.term in _MADE:
        return (_MADE[leaf.term],)
    if isinstance(leaf, Flag) and leaf.term == CHEAPER:
        return (ProductKind.VOLUME,)
    return ()


def is_newest() -> Condition:
    """Whether `PRODUCT` is the newest of its kind; of two that were made at once, the first by id is."""
    newer = tables.product.alias("newer")
    later = or_(
        newer.c.created_at > PRODUCT.c.created_at,
        and_(newer.c.created_at == PRODUCT.c.created_at, newer.c.id < PRODUCT.c.id),
    )
    found = select(newer.c.id).where(newer.c.scan_id == PRODUCT.c.scan_id, newer.c.kind == PRODUCT.c.kind, later)
    return ~found.correlate(PRODUCT).exists()


def _newest_volume() -> ScalarSelect[str]:
    product = tables.product
    return (
        select(product.c.digest)
        .where(product.c.scan_id == tables.scan.c.id, product.c.kind == ProductKind.VOLUME.value)
        .order_by(product.c.created_at.desc(), product.c.id)
        .limit(1)
        .correlate(tables.scan)
        .scalar_subquery()
    )


def _is_good(kind: ProductKind) -> Condition:
    return and_(PRODUCT.c.kind == _word(kind), IS_VERIFIED)


def _is_on(place: str) -> Condition:
    """Whether a copy is on the tier of that name or on one of that class."""
    return or_(COPY.c.tier == place, PLACE.c.tier_class == place)


def _is_of(tier_class: TierClass) -> Condition:
    """Whether a copy is on a tier of that class; one that only has its name is another."""
    return PLACE.c.tier_class == _word(tier_class)


def _word(value: ProductKind | Form | TierClass) -> ColumnElement[str]:
    return literal_column(f"'{value.value}'")


def _counted_by(leaf: Replicas, now: datetime) -> Condition:
    counted = and_(_is_good(ProductKind.ORIGINAL), PRODUCT.c.lossless, _is_on(leaf.tier))
    return counted if leaf.within is None else and_(counted, _was_read(leaf.within, now))


def _was_read(within: timedelta, now: datetime) -> Condition:
    return COPY.c.verified_at.between(now - within, now)


def _any_copy(*of: Condition) -> Condition:
    return func.count(case((and_(*of), literal_column("1")))) > 0


def _number_of_domains(counted: Condition, sign: str, value: int) -> Condition:
    reached, passed = _at_least(counted, value), _at_least(counted, value + 1)
    answers = {
        ">=": reached,
        ">": passed,
        "<": not_(reached),
        "<=": not_(passed),
        "=": and_(reached, not_(passed)),
        "!=": or_(not_(reached), passed),
    }
    return answers[sign]


def _at_least(counted: Condition, number: int) -> Condition:
    """Whether the copies that are counted lie in so many failure domains."""
    domain = case((counted, COPY.c.domain))
    if number <= 0:
        return true()
    if number == 1:
        return func.count(domain) > 0
    if number == 2:  # by far the most usual question, and much cheaper than to tell all domains apart
        return func.coalesce(func.min(domain) < func.max(domain), false())
    return func.count(distinct(domain)) >= number if number <= _LARGEST else false()
