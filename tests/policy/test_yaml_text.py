from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tomovault.core.errors import UserError
from tomovault.policy.yaml_text import Duration, Fault, Percent, Size, Strict, Switch, Whole, Word, parse


class Inner(Strict):
    quota: Size | None = None
    high: Percent = 0.85
    prune: Switch = False


class Outer(Strict):
    name: Word = "x"
    count: Whole = 1
    poll: Duration | None = None
    areas: Mapping[Word, Inner] = {}
    listed: tuple[Inner, ...] = ()
    needed: str


def problems_of(text, **kwargs):
    with pytest.raises(UserError) as caught:
        parse(text, "f.yaml", Outer, **kwargs)
    return [line for line in caught.value.message.splitlines() if line.startswith("f.yaml:")]


def test_values():
    found = parse("needed: a\npoll: 1h\nareas: {a: {quota: 8TB, high: 90%, prune: on}}\n", "f.yaml", Outer)
    assert found.poll.total_seconds() == 3600
    assert found.areas["a"] == Inner(quota=8 * 10**12, high=0.9, prune=True)


def test_every_problem_at_once_in_the_order_of_the_file():
    text = (
        "name: a b\n"
        "count: '3'\n"
        "needed: a\n"
        "areas:\n"
        "  a: {qota: 8TB, high: 185%}\n"
        "  a: {}\n"
        "  b: {prune: maybe, prune: on}\n"
        "listed:\n"
        "  - quota: big\n"
        "  - 7\n"
        "extra: 1\n"
    )
    assert [p.split(": ", 1)[0] for p in problems_of(text)] == [
        "f.yaml:1:7",
        "f.yaml:2:8",
        "f.yaml:5:7",
        "f.yaml:5:24",
        "f.yaml:6:3",
        "f.yaml:7:14",
        "f.yaml:7:21",
        "f.yaml:9:12",
        "f.yaml:10:5",
        "f.yaml:11:1",
    ]


def test_the_nearest_key_and_the_caret():
    with pytest.raises(UserError) as caught:
        parse("needed: a\nareas:\n\t \n", "f.yaml", Outer)
    assert "not YAML" in caught.value.message
    with pytest.raises(UserError) as caught:
        parse("needed: a\nareas:\n  b: {qota: 8TB}\n", "f.yaml", Outer)
    assert caught.value.message == (
        "f.yaml:3:7: unknown key 'qota'; did you mean 'quota'?\n      b: {qota: 8TB}\n          ^"
    )
    assert caught.value.exit_code == 2


def test_a_missing_key():
    assert problems_of("name: x\n") == ["f.yaml:1:1: the key 'needed' is missing"]
    assert problems_of("") == ["f.yaml:1:1: the key 'needed' is missing"]


@pytest.mark.parametrize(
    ("text", "place", "word"),
    [
        ("needed: [a\n", "f.yaml:2:1", "not YAML"),
        ("needed: a\n---\nb: c\n", "f.yaml:2:1", "another document"),
        ("needed: \x07\n", "f.yaml:1:9", "control character"),
        ("needed: &a b\n", "f.yaml:1:9", "anchors"),
        ("needed: !!python/name:os.system x\n", "f.yaml:1:9", "tag"),
        ("? [a]\n: b\n", "f.yaml:1:3", "must be a word"),
        ("- a\n", "f.yaml:1:1", "a mapping of keys"),
        ("needed: {a: b}\n", "f.yaml:1:9", "string"),
        ("a: &x [*x]\n", "f.yaml:1:4", "anchors"),
        ("[" * 5000, "f.yaml:1:1", "deep"),
    ],
)
def test_what_is_not_used_here(text, place, word):
    found = problems_of(text)
    assert any(line.startswith(place) and word in line for line in found), found


def test_yaml_1_2_words():
    assert parse("needed: no\ncount: 010\n", "f", Outer).needed == "no"
    assert parse("needed: 12:30\n", "f", Outer).needed == "12:30"
    assert parse("needed: 2020-01-01\n", "f", Outer).needed == "2020-01-01"


def test_checks_of_one_value_against_another():
    def check(found):
        yield Fault("not that one", ("areas", "b"), at_key=True)
        yield Fault("too high", ("areas", "b", "high"))
        yield Fault("nowhere", ("areas", "c"))

    assert problems_of("needed: a\nareas:\n  b: {high: 90%}\n", check=check) == [
        "f.yaml:3:3: not that one",
        "f.yaml:3:3: nowhere",
        "f.yaml:3:13: too high",
    ]


def test_a_long_line_is_shown_in_part():
    with pytest.raises(UserError) as caught:
        parse("needed: a\nlisted: [" + "{quota: 1GB}, " * 100 + "{quota: bad}]\n", "f.yaml", Outer)
    _, shown, caret = caught.value.message.splitlines()
    assert len(shown) <= 170
    assert shown[caret.index("^") :].startswith("bad")


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused_with_a_place(text):
    message = "f.yaml:"
    try:
        parse(text, "f.yaml", Outer)
    except UserError as error:
        message = error.message
    assert message.startswith("f.yaml:")
