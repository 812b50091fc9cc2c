from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tomovault.policy.expression import And, Flag, Not, Or, parse_expression
from tomovault.policy.reading import Term, evaluate, leaves, may_come

DAY = timedelta(days=1)


def values(**known):
    return {"high": 0.85, "low": 0.75, "replicas": lambda tier, within: {"tape": 2}.get(tier, 0), **known}


def holds(text, **known):
    return evaluate(parse_expression(text), values(**known)).value


@pytest.mark.parametrize(
    ("text", "known", "answer"),
    [
        ("complete", {"complete": True}, True),
        ("not complete", {"complete": True}, False),
        ("age > 30d", {"age": 31 * DAY}, True),
        ("age > 30d", {"age": 30 * DAY}, False),
        ("age >= 30d", {"age": 30 * DAY}, True),
        ("area in (a, b)", {"area": "b"}, True),
        ("area not in (a, b)", {"area": "b"}, False),
        ("area = 'a b'", {"area": "a b"}, True),
        ("area != a", {"area": "b"}, True),
        ("replicas(tape) >= 2", {}, True),
        ("replicas(tape) > 2 or replicas(s3) = 0", {}, True),
        ("usage > high", {"usage": 0.86}, True),
        ("usage > high", {"usage": 0.85}, False),
        ("usage > low and usage < 80%", {"usage": 0.76}, True),
        ("size < 2GB", {"size": 2 * 10**9 - 1}, True),
        ("size < 2GB", {"size": 2 * 10**9}, False),
        ("true", {}, True),
        ("volume accepted", {"volume accepted": True, "volume": False}, True),
        ("pixels > 4e6", {"pixels": 2048 * 2048}, True),
    ],
)
def test_answers(text, known, answer):
    assert holds(text, **known) is answer


@pytest.mark.parametrize(
    "text", ["proposal = x", "proposal != x", "not (proposal = x)", "proposal not in (x)", "age < 3d"]
)
def test_what_is_not_known_holds_for_nothing(text):
    verdict = evaluate(parse_expression(text), values())
    assert verdict.value is False
    assert verdict.doubtful
    assert verdict.terms[0].holds is None
    assert verdict.terms[0].found == "not known"


def test_what_is_not_known_may_not_matter():
    assert holds("proposal = x or complete", complete=True)
    assert not evaluate(parse_expression("proposal = x and complete"), values(complete=False)).doubtful


def test_the_explanation_has_every_term_as_written_with_what_was_found():
    verdict = evaluate(
        parse_expression("complete and  (age > 30d or usage > high)"),
        values(complete=True, age=12 * DAY, usage=0.914),
    )
    assert verdict.terms == (
        Term("complete", "yes", True),
        Term("age > 30d", "12 d", False),
        Term("usage > high", "91.4 %, high is 85 %", True),
    )
    assert verdict.explain(holding=False) == "age > 30d: 12 d"


@pytest.mark.parametrize(
    ("text", "known", "answer"),
    [
        ("packed and size < 2GB", {"packed": False, "size": 1}, True),
        ("packed and size < 2GB", {"packed": False, "size": 10**10}, False),
        ("age > 30d", {"age": DAY}, True),
        ("age < 30d", {"age": 31 * DAY}, False),
        ("usage > high", {"usage": 0.1}, True),
        ("not usage > high", {"usage": 0.9}, True),
        ("not packed", {"packed": True}, False),
        ("replicas(tape) >= 3", {}, True),
        ("area = a", {"area": "b"}, False),
        ("proposal = x", {}, False),
        ("aborted", {"aborted": False}, False),
    ],
)
def test_what_may_come_by_itself(text, known, answer):
    assert may_come(parse_expression(text), values(**known)) is answer


FLAGS = st.sampled_from(["complete", "packed", "archived", "volume", "aborted"])
TREES = st.recursive(
    FLAGS.map(lambda name: Flag(name, name)),
    lambda inner: (
        inner.map(Not)
        | st.lists(inner, min_size=1, max_size=3).map(lambda parts: And(tuple(parts)))
        | st.lists(inner, min_size=1, max_size=3).map(lambda parts: Or(tuple(parts)))
    ),
    max_leaves=8,
)


def in_python(tree, known):
    if isinstance(tree, Not):
        return not in_python(tree.part, known)
    if isinstance(tree, And):
        return all(in_python(p, known) for p in tree.parts)
    if isinstance(tree, Or):
        return any(in_python(p, known) for p in tree.parts)
    return known[tree.term]


@given(
    TREES, st.fixed_dictionaries({f: st.booleans() for f in ("complete", "packed", "archived", "volume", "aborted")})
)
def test_known_values_give_the_answers_of_logic(tree, known):
    verdict = evaluate(tree, values(**known))
    assert verdict.value is in_python(tree, known)
    assert len(verdict.terms) == len(leaves(tree))
    assert not verdict.doubtful
    if verdict.value:
        assert may_come(tree, values(**known))


@given(
    TREES, st.fixed_dictionaries({}, optional={f: st.booleans() for f in ("complete", "packed", "archived", "volume")})
)
def test_a_sentence_that_holds_in_doubt_holds_whatever_the_truth_is(tree, known):
    if evaluate(tree, values(**known)).value:
        for rest in (True, False):
            full = {f: known.get(f, rest) for f in ("complete", "packed", "archived", "volume", "aborted")}
            assert in_python(tree, full)
