from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tomovault.policy.quantity import (
    parse_duration,
    parse_percent,
    parse_size,
    parse_switch,
    show_duration,
    show_percent,
    show_size,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7d", 604800),
        ("30s", 30),
        ("0.5s", 0.5),
        ("1h30m", 5400),
        ("2w", 1209600),
        ("250ms", 0.25),
        ("5min", 300),
        ("1h 30m", 5400),
        (90, 90),
        (0.25, 0.25),
        ("45", 45),
        (0, 0),
    ],
)
def test_durations(text, seconds):
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "wrong", ["7 days", "d", "", "-3d", -1, True, None, float("nan"), float("inf"), "1h30", [], "1e3s", "999999d"]
)
def test_wrong_durations(wrong):
    with pytest.raises(ValueError, match=r"duration|hundred"):
        parse_duration(wrong)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("8TB", 8 * 10**12),
        ("64MB", 64 * 10**6),
        ("1.5GiB", 3 * 2**29),
        ("500 GB", 5 * 10**11),
        ("2gb", 2 * 10**9),
        ("12", 12),
        (4096, 4096),
        ("7B", 7),
        (2.0, 2),
    ],
)
def test_sizes(text, count):
    assert parse_size(text) == count


@pytest.mark.parametrize("wrong", ["8T", "-1GB", -5, "1.5", 1.5, True, None, "GB", "1e3", {}, "٣GB"])
def test_wrong_sizes(wrong):
    with pytest.raises(ValueError, match="is not a size"):
        parse_size(wrong)


@pytest.mark.parametrize(
    ("text", "share"), [("85%", 0.85), (0.85, 0.85), ("0.5", 0.5), ("100 %", 1.0), (0, 0.0), (1, 1)]
)
def test_percents(text, share):
    assert parse_percent(text) == share


@pytest.mark.parametrize("wrong", [85, "185%", "-1%", True, "85", None, float("nan"), "%"])
def test_wrong_percents(wrong):
    with pytest.raises(ValueError, match="is not a share"):
        parse_percent(wrong)


def test_switches():
    assert [parse_switch(v) for v in ("on", "off", True, False, "ON", "true")] == [True, False, True, False, True, True]
    for wrong in ("yes", 1, None, "0"):
        with pytest.raises(ValueError, match="neither on nor off"):
            parse_switch(wrong)


@given(st.integers(0, 10**16))
def test_a_size_in_bytes_is_itself(count):
    assert parse_size(str(count)) == parse_size(f"{count}B") == parse_size(count) == count


@given(st.integers(0, 3000), st.integers(0, 23), st.integers(0, 59))
def test_parts_of_a_duration_add_up(days, hours, minutes):
    assert parse_duration(f"{days}d{hours}h{minutes}m") == timedelta(days=days, hours=hours, minutes=minutes)


def test_what_a_person_reads():
    assert show_duration(timedelta(days=12, hours=12)) == "12.5 d"
    assert show_duration(timedelta(minutes=3)) == "3 min"
    assert show_duration(timedelta(seconds=0.5)) == "0.5 s"
    assert show_size(16_100_000_000) == "16.1 GB"
    assert show_size(12) == "12 B"
    assert show_percent(0.914) == "91.4 %"
