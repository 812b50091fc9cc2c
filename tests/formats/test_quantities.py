"""A number in a text is the whole value with a unit that is known; anything else is no fact."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tomovault.formats.quantities import is_known, measure, split_quantity
from tomovault.formats.spec_text import number
from tomovault.formats.tiff_texts import conditions_of, parse_text
from tomovault.formats.volume_texts import parse_volume_info


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [
        ("20.5", "keV", 20.5),
        (" 20.5 keV ", "keV", 20.5),
        ("20500 eV", "keV", 20.5),
        ("20.5 [keV]", "keV", 20.5),
        ("0.1 MeV", "keV", 100.0),
        ("100 MEV", "keV", 100_000.0),
        ("25 meV", "keV", 25e-6),
        ("20,5", "keV", 20.5),
        ("20,5 keV", "keV", 20.5),
        ("0,125", "mm", 0.125),
        ("-1.5e3mm", "mm", -1500.0),
        ("30 cm", "mm", 300.0),
        ("0.03 m", "mm", 30.0),
        ("700 nm", "um", 0.7),
        ("0.7 \xb5m", "um", 0.7),
        ("0.7 \xc2\xb5m", "um", 0.7),
        ("50 ms", "s", 0.05),
        ("180 degrees", "deg", 180.0),
        ("7", None, 7.0),
        # What may be two things, or is none, is no fact.
        ("1,500", "keV", None),
        ("1,2,3", "keV", None),
        ("20,5,1", "keV", None),
        ("20.5.1", "keV", None),
        ("20 or 30", "keV", None),
        ("20 furlongs", "mm", None),
        ("20 keV", "mm", None),
        ("about 20", "keV", None),
        ("20 keV (white)", "keV", None),
        ("1e400", "mm", None),
        ("1e308 m", "mm", None),
        ("nan", "mm", None),
        ("7 images", None, None),
        ("", "mm", None),
        (None, "mm", None),
    ],
)
def test_a_number_is_the_whole_text(text, unit, value):
    assert measure(text, unit) == (None if value is None else pytest.approx(value))


@given(st.text(max_size=30), st.sampled_from(["keV", "mm", "um", "s", "deg", "mA", None]))
def test_any_text_is_a_finite_number_or_none(text, unit):
    value = measure(text, unit)
    assert value is None or math.isfinite(value)


def test_what_cannot_be_zero_is_not_known_where_it_is():
    assert not is_known("pixel_size", 0.0)
    assert is_known("distance", 0.0)
    assert not is_known("distance", -1)
    assert not is_known("exposure", math.nan)


def test_an_info_of_an_edf_series_states_its_units(edf_folder):
    folder = edf_folder()
    folder.write()
    folder.info(Energy="20,5", Distance="30 cm", PixelSize="700 nm", Count_time="50 ms", SrCurrent="about 200")
    found = folder.report().conditions
    values = {name: found[name].value for name in ("energy", "distance", "pixel_size")}
    assert values == pytest.approx({"energy": 20.5, "distance": 300.0, "pixel_size": 0.7})
    assert found["exposure"].value == pytest.approx(0.05)
    assert ".info" not in getattr(found.get("current"), "source", "")


def test_a_text_of_a_tiff_stack_states_its_units():
    raw = b"Beam energy [keV] : 20500 eV\nExposure time [ms] : 0.2 s\nActual pixel size [um] : 0,65\nDistance: 3 feet\n"
    found = conditions_of(parse_text("a.log", raw))
    values = {name: condition.value for name, condition in found.items()}
    assert values == pytest.approx({"energy": 20.5, "exposure": 0.2, "pixel_size": 0.65})


@pytest.mark.parametrize(("text", "value"), [("1.4", 1.4), ("700 nm", 0.7), ("0", None), ("-1", None), ("nan", None)])
def test_the_voxels_of_a_vol_info(text, value):
    found = parse_volume_info(f"voxelSize = {text}\n".encode(), "a.vol").voxel_um
    assert found == (None if value is None else pytest.approx(value))


@pytest.mark.timeout(20)
@pytest.mark.parametrize("ending", ["", "x", " ", "!", ".", "e", " " * 10**6 + "!"])
def test_a_long_row_of_digits_takes_no_time(ending):
    assert split_quantity("9" * 10**6 + ending) is None
    assert number("9" * 10**6 + ending) is None
    assert number("." + "9" * 10**6 + ending) in (None, 1.0)
