from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tomovault.core.errors import UserError
from tomovault.policy.calendar import Months
from tomovault.policy.expression import And, Flag, Not, Or, parse_expression


def test_precedence():
    tree = parse_expression("complete or packed and not archived")
    assert isinstance(tree, Or)
    assert isinstance(tree.parts[1], And)
    assert tree.parts[1].parts[1] == Not(Flag("archived", "archived"))
    assert isinstance(parse_expression("(complete or packed) and not archived"), And)


@pytest.mark.parametrize(
    "text",
    [
        "true",
        "complete and age > 30d and area in (inhouse, inhouse1) and replicas(tape) >= 2 and usage > high",
        "replicas(archive, verified within 365d) >= 2",
        "volume accepted or not volume",
        "beamline = ID19 and sample != 'a b' and proposal not in (ma1, \"x y\")",
        "size < 2 GB and size >= 1.5GiB and usage < 85%",
        "usage > 85 % and age > 6 months and not (age > 1 year or age >= 2y)",
        "width == 2048 and height > 100 and pixels < 4e6 and n_projections >= 1500 and files > 10",
        "owner = notable",
        "sample = information and owner = origin",
        "((complete))",
        "complete\n  and\tpacked",
        "sample = été",
    ],
)
def test_sentences(text):
    parse_expression(text)


@pytest.mark.parametrize(
    ("text", "place", "word"),
    [
        ("complet", "1:1", "did you mean 'complete'"),
        ("complete and", "1:13", "stops here"),
        ("", "1:1", "stops here"),
        ("(complete", "1:10", "stops here"),
        ("complete)", "1:9", "cannot"),
        ("complete packed", "1:10", "'and' or 'or' is missing"),
        ("complete an packed", "1:10", "did you mean 'and'"),
        ("complete && packed", "1:10", "'&'"),
        ("age > 30x", "1:7", "not a duration"),
        ("size < 30d", "1:8", "not a size"),
        ("age > 30 days", "1:7", "write it as 36h, 30d, 2w, 6 months or 1 year"),
        ("age > 6 monhts", "1:7", "write it as 36h, 30d, 2w, 6 months or 1 year"),
        ("age > 6M", "1:7", "write it as"),
        ("age > 101 years", "1:7", "longer than a hundred years"),
        ("size > 85 %", "1:8", "not a size"),
        ("size > 8 TX", "1:8", "'8 TX' is not a size"),
        ("files > 6 months", "1:9", "not a number"),
        ("replicas(tape, verified within 1y) > 1", "1:32", "write 365d"),
        ("usage > hihg", "1:9", "did you mean 'high'"),
        ("usage > 185%", "1:9", "not a share"),
        ("area > x", "1:6", "cannot be '>'"),
        ("age", "1:1", "such as age > 30d"),
        ("area", "1:1", "such as area = x"),
        ("complete = 3", "1:1", "yes or no by itself"),
        ("age in (3d, 4d)", "1:1", "'in' is for names"),
        ("complete accepted", "1:1", "only a volume"),
        ("replicas(tape) >= 1.5", "1:19", "whole numbers"),
        ("replicas(tape) >= x", "1:19", "not a number"),
        ("replicas(tape, verified within x) > 1", "1:32", ""),
        ("replicas(tape, verified withn 3d) > 1", "1:25", "did you mean 'within'"),
        ("replica(tape) > 1", "1:8", ""),
        ("complete and\n  sampl = x", "2:3", "did you mean 'sample'"),
        ("area in ()", "1:10", ""),
        ("true = 3", "1:6", ""),
    ],
)
def test_mistakes_have_a_place_and_a_hint(text, place, word):
    with pytest.raises(UserError) as caught:
        parse_expression(text, name="when")
    first = caught.value.message.splitlines()[0]
    assert first.startswith(f"when:{place}: "), first
    assert word in first


def test_an_age_in_months_stays_one():
    assert parse_expression("age > 6 months").value == Months(6)
    assert parse_expression("age < 2 years").value == Months(24)
    assert parse_expression("age < 5m").value == timedelta(minutes=5)


def test_a_word_after_a_number_is_no_unit_where_it_joins_terms():
    assert isinstance(parse_expression("files > 3 and complete"), And)
    assert isinstance(parse_expression("files > 3 or complete"), Or)


def test_every_wrong_term_is_reported():
    with pytest.raises(UserError) as caught:
        parse_expression("age > 30x and sise < 2GB and area > x")
    assert [line.split(":")[2] for line in caught.value.message.splitlines() if line.startswith("expression:")] == [
        "7",
        "15",
        "35",
    ]


def test_the_caret_stands_under_the_place():
    with pytest.raises(UserError) as caught:
        parse_expression("complete and sise < 2GB")
    _, line, caret = caught.value.message.splitlines()
    assert line[caret.index("^") :].startswith("sise")


def complaint_about(text):
    try:
        parse_expression(text)
    except UserError as error:
        return error.message
    return None


@given(st.text(max_size=40) | st.text("()=<>! andortcmplesizgfhw0123%,'\"", max_size=40))
def test_any_text_is_read_or_refused(text):
    message = complaint_about(text)
    assert message is None or message.startswith("expression:")


@pytest.mark.parametrize("text", ["(" * 3000 + "complete" + ")" * 3000, "not " * 3000 + "complete"])
def test_deep_nesting_is_refused(text):
    assert "deep" in complaint_about(text)


def test_many_terms_are_not_deep():
    assert complaint_about(" and ".join(["complete"] * 3000)) is None
