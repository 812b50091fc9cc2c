from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tomovault.policy.calendar import (
    Months,
    later_by,
    months_after,
    months_before,
    parse_moment,
    parse_months,
    show_moment,
    turning_points,
)

INSTANT = timedelta(microseconds=1)
MOMENTS = st.datetimes(timezones=st.just(UTC))
SANE = st.datetimes(datetime.fromisoformat("1900-01-01"), datetime.fromisoformat("2400-01-01"), timezones=st.just(UTC))
MONTHS = st.integers(0, 1200).map(Months)
ENDS = st.builds(
    lambda year, month, micro: datetime(year, month, 1, tzinfo=UTC) + micro * INSTANT,
    st.integers(1990, 2110),
    st.integers(1, 12),
    st.integers(-2, 2),
)


def day(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "count"), [("6 months", 6), ("1 month", 1), ("6mo", 6), ("1y", 12), ("1 year", 12), ("100 years", 1200)]
)
def test_durations_by_the_calendar(text, count):
    assert parse_months(text) == Months(count)


@pytest.mark.parametrize("text", ["6", "6m", "6M", "30d", "1.5 years", "-1 month", "months", "1 y 6 mo", ""])
def test_what_is_no_duration_by_the_calendar(text):
    assert parse_months(text) is None


@pytest.mark.parametrize("text", ["101 years", "1201mo", "9" * 400 + "y"])
def test_more_than_a_hundred_years(text):
    with pytest.raises(ValueError, match="hundred years"):
        parse_months(text)


@pytest.mark.parametrize(
    ("start", "months", "end"),
    [
        ("2026-08-31", 6, "2027-02-28"),
        ("2027-08-31", 6, "2028-02-29"),
        ("2028-02-29", 12, "2029-02-28"),
        ("2028-02-29", 48, "2032-02-29"),
        ("2096-02-29", 48, "2100-02-28"),
        ("2027-01-15", 13, "2028-02-15"),
        ("2027-12-31", 2, "2028-02-29"),
    ],
)
def test_the_end_of_a_month_stays_one(start, months, end):
    assert months_after(day(start), Months(months)).date() == day(end).date()


@settings(deadline=None)
@given(MOMENTS, MONTHS, MOMENTS)
def test_no_date_is_an_error_and_time_never_goes_back(moment, months, other):
    first, second = sorted((moment, other))
    assert months_before(first, months) <= months_before(second, months) <= second
    assert months_after(second, months) >= months_after(first, months) >= first
    assert later_by(moment, timedelta(days=36600)) >= moment


@settings(deadline=None)
@given(SANE | ENDS, st.tuples(st.integers(0, 1200), st.integers(0, 1200)))
def test_more_months_are_longer_and_as_long_as_is_said(now, counts):
    fewer, more = (Months(n) for n in sorted(counts))
    assert months_before(now, more) <= months_before(now, fewer)
    for months in (fewer, more):
        assert months.shortest <= now - months_before(now, months) <= months.longest


@settings(deadline=None)
@given(ENDS | SANE, st.integers(0, 40).map(Months))
def test_between_its_turning_points_the_age_of_a_scan_says_the_same(start, months):
    points = sorted({start, *turning_points(start, months)})
    spans = [(a + INSTANT, b) for a, b in pairwise(points)] + [
        (points[-1] + INSTANT, later_by(points[-1], timedelta(days=4000)))
    ]
    for first, last in spans:
        inside = [first + (last - first) * part / 7 for part in range(8)]
        # The moment itself may be the one at which the age is met exactly.
        older = {months_before(moment, months) > start for moment in inside}
        assert len(older) == 1, (first, last)
    assert months_before(points[-1] + INSTANT, months) > start


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2027-03-01", datetime(2027, 3, 1, tzinfo=UTC)),
        ("2027-03-01T12:00Z", datetime(2027, 3, 1, 12, tzinfo=UTC)),
        ("2027-03-28T02:30:00+01:00", datetime(2027, 3, 28, 1, 30, tzinfo=UTC)),
        (" 2028-02-29 ", datetime(2028, 2, 29, tzinfo=UTC)),
    ],
)
def test_moments(text, moment):
    assert parse_moment(text) == moment
    assert parse_moment(show_moment(moment)) == moment


@pytest.mark.parametrize(
    ("value", "word"),
    [
        ("2027-02-30", "no day or time that there is"),
        ("2027-02-29", "no day or time that there is"),
        ("2027-13-01", "no day or time that there is"),
        ("2027-03-01T25:00Z", "no day or time that there is"),
        ("2027-03-01T12:00", "has no zone"),
        ("1 March 2027", "is not a date"),
        ("01/03/2027", "is not a date"),
        ("20270301", "is not a date"),
        ("2027-3-1", "is not a date"),
        (2027, "is not a date"),
        (None, "is not a date"),
        (True, "is not a date"),
        ("0001-01-01T00:00+14:00", "is not a date"),
    ],
)
def test_what_is_no_moment(value, word):
    with pytest.raises(ValueError, match=word):
        parse_moment(value)


def test_moments_are_shown_as_short_as_they_are():
    assert show_moment(datetime(2027, 3, 1, tzinfo=UTC)) == "2027-03-01"
    assert show_moment(datetime(2027, 3, 1, 12, tzinfo=UTC)) == "2027-03-01T12:00:00Z"
