import pytest
from hypothesis import given
from hypothesis import strategies as st

from tomovault.formats.spec_text import number, parse_info, parse_xml, whole


def test_info_is_read_tolerantly():
    values = parse_info(b"! comment = 1\r\nTOMO_N= 1500.0 \r\nComment= a=b\xe9\rno separator\nDim_1 = 5 ;\n= x\n")
    assert values == {"tomo_n": "1500.0", "comment": "a=b\xe9", "dim_1": "5"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1500.0", 1500),
        (" 7 projections", 7),
        ("1,500", None),
        ("15OO", None),
        ("-1", None),
        ("1.5", None),
        ("nan", None),
        ("", None),
        (None, None),
        ("1e400", None),
        ("inf", None),
        ("10000000000000", None),
    ],
)
def test_whole(text, value):
    assert whole(text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [("-1.5e3 mm", -1500.0), ("20 ;", 20.0), ("20;", 20.0), ("20,5", None), ("1,500", None), ("20abc", None)],
)
def test_number_is_a_whole_word_with_its_sign_and_exponent(text, value):
    assert number(text) == value


def test_xml_below_any_root():
    found = parse_xml(
        b"<tomo><acquisition><tomo_N>5</tomo_N><projectionSize><DIM_1>7</DIM_1></projectionSize><listMotors><motor>"
        b"<motorName>sx</motorName><motorPosition>1.5</motorPosition></motor></listMotors></acquisition></tomo>"
    )
    assert found.whole
    assert found.values["tomo_n"] == "5"
    assert found.values["dim_1"] == "7"
    assert found.motors == {"sx": "1.5"}


def test_half_an_xml_keeps_only_closed_elements():
    found = parse_xml(b"<tomodb2><acquisition><ref_N>3</ref_N><tomo_N>15")
    assert not found.whole
    assert "XML" in found.problem
    assert found.values == {"ref_n": "3"}


def test_latin1_without_declaration():
    found = parse_xml(b"<t><acquisition><scanName>\xe9</scanName></acquisition></t>")
    assert found.whole
    assert found.values["scanname"] == "\xe9"


def test_entities_are_refused():
    bomb = b'<!DOCTYPE a [<!ENTITY x "xxxx"><!ENTITY y "&x;&x;">]><a><acquisition><k>&y;</k></acquisition></a>'
    assert not parse_xml(bomb).whole


@given(st.binary(max_size=300))
def test_any_bytes_are_read_without_an_error(raw):
    parse_info(raw)
    parse_xml(raw)
