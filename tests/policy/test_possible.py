from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tomovault.policy.expression import parse_expression
from tomovault.policy.possible import covers, find_clash, implies
from tomovault.policy.reading import evaluate

NOW = datetime(2031, 3, 31, 12, tzinfo=UTC)


def words(text, areas=None):
    return [claim.text for claim in find_clash(parse_expression(text), areas)]


@pytest.mark.parametrize(
    ("text", "clash"),
    [
        ("age > 30d and age < 10d", ["age > 30d", "age < 10d"]),
        ("complete and area = a and packed and area = b", ["area = a", "area = b"]),
        ("area in (a, b) and area not in (a, b, c)", ["area in (a, b)", "area not in (a, b, c)"]),
        ("packed and not packed", ["packed", "not (packed)"]),
        ("not true", ["not (true)"]),
        ("replicas(tape) < 0", ["replicas(tape) < 0"]),
        ("replicas(tape) >= 2 and not replicas(tape) >= 1", ["replicas(tape) >= 2", "not (replicas(tape) >= 1)"]),
        ("size < 0B", ["size < 0B"]),
        ("files > 3 and files < 4", ["files > 3", "files < 4"]),
        ("usage > high and usage < low", ["usage > high", "usage < low"]),
        ("usage > 90% and usage < 80 %", ["usage > 90%", "usage < 80 %"]),
        ("age > 1 year and age < 6 months", ["age > 1 year", "age < 6 months"]),
        ("age > 1 year and age < 12 months", ["age > 1 year", "age < 12 months"]),
        ("age > 6 months and age < 150d", ["age > 6 months", "age < 150d"]),
        ("(age > 30d or age > 20d) and age < 10d", ["age > 30d", "age < 10d"]),
        ("not (age < 30d or age > 20d)", ["not (age < 30d)", "not (age > 20d)"]),
        ("width > 10 and width <= 10", ["width > 10", "width <= 10"]),
    ],
)
def test_what_no_scan_can_be(text, clash):
    assert words(text) == clash


@pytest.mark.parametrize(
    "text",
    [
        "age > 30d and age < 10000d",
        "age > 6 months and age < 182d",
        "age >= 1 year and age <= 12 months",
        "usage > high and usage < 50%",
        "usage >= low and usage < high",
        "usage > low and usage < high and usage = 80%",
        "area = a or area = b",
        "replicas(tape) >= 2 and replicas(tape, verified within 30d) < 2",
        "volume and not volume accepted",
        "usage > 100%",
        "not (packed and not packed)",
        "width = 10 and height = 10 and pixels = 1",
    ],
)
def test_what_some_scan_may_be(text):
    assert words(text) == []


def test_areas_are_those_that_there_are():
    assert words("packed and area = a", ["b", "c"]) == ["area = a"]
    assert words("packed and area != a", ["a"]) == ["area != a"]
    assert words("area in (a, b)", ["b"]) == []


def test_a_sentence_with_more_ways_than_anybody_writes_is_not_looked_into():
    text = " and ".join(f"(files > {n} or packed)" for n in range(40)) + " and packed and not packed"
    assert words(text) == []
    assert not implies(parse_expression(text), parse_expression("archived"))


@pytest.mark.parametrize(
    ("first", "then", "answer"),
    [
        ("packed and size < 1GB", "packed", True),
        ("packed", "packed and size < 1GB", False),
        ("age > 1 year", "age > 6 months", True),
        ("age > 6 months", "age > 150d", True),
        ("age > 6 months", "age > 183d", False),
        ("area = a", "area in (a, b)", True),
        ("packed", "true", True),
        ("true", "packed or not packed", True),
        ("true", "proposal = x or proposal != x", False),
        ("usage > high", "usage >= low", True),
        ("size < 1GB", "proposal != x", False),
    ],
)
def test_what_follows(first, then, answer):
    assert implies(parse_expression(first), parse_expression(then)) is answer


def test_what_cannot_be_answered_does_not_hold_but_may_forbid():
    packed, mine = parse_expression("packed"), parse_expression("proposal = x or proposal != x")
    assert not implies(packed, mine)
    assert covers(packed, mine)


LEAVES = st.one_of(
    st.sampled_from(["complete", "packed", "not packed", "archived", "true", "not true"]),
    st.builds("{} {} {}".format, st.just("area"), st.sampled_from(["=", "!="]), st.sampled_from("ab")),
    st.builds("proposal {} ({})".format, st.sampled_from(["in", "not in"]), st.sampled_from(["a", "a, b", "c"])),
    st.builds(
        "age {} {}".format,
        st.sampled_from(["<", "<=", ">", ">=", "=", "!="]),
        st.sampled_from(["0d", "30d", "31d", "1 month", "2mo", "59d", "60d", "1 year", "365d", "366d"]),
    ),
    st.builds("files {} {}".format, st.sampled_from(["<", ">", ">=", "="]), st.sampled_from([0, 1, 1.5, 2, 3])),
    st.builds("usage {} {}".format, st.sampled_from("<>="), st.sampled_from(["high", "low", "50%", "0%", "100%"])),
    st.builds("replicas(tape) {} {}".format, st.sampled_from(["<", ">=", "="]), st.integers(0, 3)),
)
SENTENCES = st.recursive(
    LEAVES,
    lambda inner: (
        st.builds("({} and {})".format, inner, inner)
        | st.builds("({} or {})".format, inner, inner)
        | inner.map("not ({})".format)
    ),
    max_leaves=6,
)


@st.composite
def scans(draw):
    """Values as a scan and its area may have them, near the limits that the sentences above name."""
    age = draw(
        st.none()
        | st.builds(
            lambda days, micro: max(timedelta(0), timedelta(days=days, microseconds=micro)),
            st.sampled_from([0, 1, 28, 29, 30, 31, 32, 59, 60, 61, 62, 90, 364, 365, 366, 367, 900]),
            st.integers(-1, 1),
        )
    )
    now = NOW + timedelta(days=draw(st.integers(-800, 800)))
    marks = sorted(draw(st.tuples(*[st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])] * 2)))
    count = draw(st.integers(0, 4))
    return {
        "now": now,
        "start": now - (age if age is not None else timedelta(days=-3)),
        "age": age,
        "area": draw(st.sampled_from("abz")),
        "proposal": draw(st.sampled_from(["a", "b", "c", "z", None])),
        "files": draw(st.integers(0, 4)),
        "usage": draw(st.sampled_from([0.0, 0.1, 0.25, 0.3, 0.5, 0.6, 0.75, 0.9, 1.0, 1.2])),
        "low": marks[0],
        "high": marks[1],
        "replicas": lambda _tier, _within: count,
        **{flag: draw(st.booleans()) for flag in ("complete", "packed", "archived")},
    }


@settings(deadline=None)
@given(SENTENCES, scans())
def test_what_a_scan_satisfies_is_never_called_impossible(text, values):
    tree = parse_expression(text)
    if evaluate(tree, values).value:
        assert find_clash(tree) == ()
        assert find_clash(tree, [values["area"]]) == ()


@settings(deadline=None)
@given(SENTENCES, SENTENCES, scans())
def test_what_is_said_to_follow_does_for_every_scan(first, then, values):
    one, other = parse_expression(first), parse_expression(then)
    held, also = evaluate(one, values), evaluate(other, values)
    assume(held.value or held.doubtful)
    if held.value and implies(one, other):
        assert also.value
    if held.value and covers(one, other):
        assert also.value or also.doubtful
    if implies(one, other, in_doubt=True):
        assert also.value or also.doubtful
