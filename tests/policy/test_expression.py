import pytest
from hypothesis import given
from hypothesis import strategies as st

from tomovault.core.errors import UserError
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
