"""The texts beside TIFF projections."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tomovault.formats.tiff_texts import conditions_of, parse_text

SLS = (
    b"User ID : e11126\nFAST-TOMO scan of sample R108_ started on : Mon Jul 21 2008\n"
    b"Ring current [mA]           : 401.1\nBeam energy  [keV]          : 12.600\nExposure time [ms]          : 125\n"
    b"Actual pixel size [um]      : 0.74\nSample folder                : /sls/X02DA/data/e11126/Data10/R108\n"
    b"File Prefix                  : R108\nNumber of projections        : 1501\nNumber of darks              : 5\n"
    b"Number of flats              : 20\nNumber of inter-flats        : 0\nRot Y min position  [deg]    : 45.000\n"
    b"Rot Y max position  [deg]    : 225.000\nAngular step [deg]           : 0.120\n"
)
SKYSCAN = (
    b"[System]\r\nScanner=SkyScan2211\r\nCamera Pixel Size (um)=74.800\r\n[Acquisition]\r\nNumber of Files=  601\r\n"
    b"Source Voltage (kV)=  70\r\nSource Current (uA)= 450\r\nImage Pixel Size (um)=   40.00\r\n"
    b"Object to Source (mm)=151.006\r\nCamera to Source (mm)=282.376\r\nExposure (ms)=   111\r\n"
    b"Rotation Step (deg)=0.600\r\nUse 360 Rotation=YES\r\n"
)


def values(name, raw):
    return {key: c.value for key, c in conditions_of(parse_text(name, raw)).items()}


def test_a_log_of_tomcat():
    text = parse_text("a.log", SLS)
    assert (text.projections, text.darks, text.flats, text.in_one_series) == (1501, 5, 20, True)
    assert text.angle_deg(0) == 45.0
    assert text.angle_deg(1500) == pytest.approx(225.0)
    found = values("a.log", SLS)
    assert (found["energy"], found["exposure"], found["pixel_size"]) == (12.6, 0.125, 0.74)
    assert (found["scan_range"], found["current"]) == (180.0, 401.1)


def test_a_log_of_skyscan():
    text = parse_text("a.log", SKYSCAN)
    assert (text.projections, text.darks, text.flats, text.in_one_series) == (601, None, None, False)
    found = values("a.log", SKYSCAN)
    assert found["distance"] == pytest.approx(131.37)
    assert found["source_distance"] == pytest.approx(151.006)
    assert found["scan_range"] == 360.0
    assert (found["voltage"], found["tube_current"]) == (70.0, 450.0)
    assert "energy" not in found


def test_a_text_that_says_nothing_known():
    text = parse_text("notes.log", b"we saw: nothing\nprojections: many\n")
    assert text.projections is None
    assert text.angle_deg(3) is None


@given(st.one_of(st.binary(max_size=400), st.tuples(st.sampled_from([SLS, SKYSCAN]), st.integers(0, 900), st.binary())))
def test_any_bytes_are_an_answer(made):
    raw = made if isinstance(made, bytes) else made[0][: made[1]] + made[2] + made[0][made[1] + 3 :]
    text = parse_text("x.log", raw)
    assert text.projections is None or text.projections >= 0
    for condition in conditions_of(text).values():
        assert not isinstance(condition.value, float) or math.isfinite(condition.value)
