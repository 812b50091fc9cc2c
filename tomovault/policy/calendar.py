"""Months, years and dates by the calendar, all in UTC, where no hour is ever skipped or repeated."""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from tomovault.policy.quantity import show_found

#: How many months each unit has. 'm' alone is a minute.
_MONTHS = {"month": 1, "months": 1, "mo": 1, "year": 12, "years": 12, "y": 12}
_CALENDAR = re.compile(rf"(\d+)\s*({'|'.join(sorted(_MONTHS, key=len, reverse=True))})", re.ASCII)
_MOST_MONTHS = 1200

#: The mean month of the Gregorian calendar, whose cycle is 400 years, and how far any row of months is from it at most.
_MEAN_DAYS, _OFF_DAYS = 146097 / 4800, 5

_INSTANT = timedelta(microseconds=1)
_FIRST = datetime.min.replace(tzinfo=UTC)
_LAST = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, order=True)
class Months:
    """A duration by the calendar: six months, or a year, which is twelve."""

    count: int

    @property
    def usual(self) -> timedelta:
        """So long on the average, in whole days."""
        return timedelta(days=round(self.count * _MEAN_DAYS))

    @property
    def shortest(self) -> timedelta:
        """No stretch of so many months is shorter."""
        return timedelta(days=max(28 * self.count, self.count * _MEAN_DAYS - _OFF_DAYS))

    @property
    def longest(self) -> timedelta:
        """No stretch of so many months is longer."""
        return timedelta(days=min(31 * self.count, self.count * _MEAN_DAYS + _OFF_DAYS))


def parse_months(text: str) -> Months | None:
    """'6 months', '6mo', '1 year' or '2y'; None for what is no duration by the calendar. Raises ValueError where it is
    longer than a hundred years.
    """
    found = _CALENDAR.fullmatch(text.strip())
    if found is None:
        return None
    count = int(found[1][:6]) * _MONTHS[found[2]]
    if count > _MOST_MONTHS:
        raise ValueError(f"{text!r} is longer than a hundred years")
    return Months(count)


def months_before(moment: datetime, months: Months) -> datetime:
    """The same day and time so many months earlier; where that month has no such day, its last instant.

    What began then is exactly so old at `moment`. It never goes back while `moment` goes on, so that nothing that was
    old enough once is too young later. The first moment that there is stands for all before it.
    """
    return _moved(moment, -months.count)


def months_after(moment: datetime, months: Months) -> datetime:
    """The same day and time so many months later; where that month has no such day, its last instant.

    So 31 August and six months is the last day of February, and 29 February and a year the 28th.
    The last moment that there is stands for all after it.
    """
    return _moved(moment, months.count)


def turning_points(start: datetime, months: Months) -> tuple[datetime, ...]:
    """The last moments before what began at `start` becomes as old, and older, than so many months.

    For what began in the very last instant of a month that may be at the end of the month in question.
    """
    due = months_after(start, months)
    if start < _LAST and (start + _INSTANT).month != start.month:
        return due, _end_of_month(due.year, due.month)
    return (due,)


def later_by(moment: datetime, period: timedelta) -> datetime:
    """`moment` and a period; the last moment that there is, where that would be later still."""
    return moment + period if _LAST - moment >= period else _LAST


def parse_moment(value: object) -> datetime:
    """A date, which means its first instant in UTC, or a full time with its zone, as aware UTC.

    Raises ValueError that says what is legal.
    """
    if isinstance(value, datetime):
        return value
    wrong = ValueError(f"{show_found(value)} is not a date; write it as 2027-03-01 or 2027-03-01T12:00Z")
    if not isinstance(value, str):
        raise wrong
    text = value.strip()
    try:
        if re.fullmatch(r"\d{4}-\d\d-\d\d", text, re.ASCII):
            return datetime.combine(date.fromisoformat(text), time(), tzinfo=UTC)
        moment = datetime.fromisoformat(text) if re.match(r"\d{4}-\d\d-\d\d[T ]\d", text, re.ASCII) else None
    except ValueError as problem:
        raise ValueError(f"{show_found(value)} is no day or time that there is: {problem}") from None
    if moment is None:
        raise wrong
    if moment.tzinfo is None:
        raise ValueError(f"{show_found(value)} has no zone; end it with Z for UTC, or with one such as +01:00")
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise wrong from None


def show_moment(moment: datetime) -> str:
    """'2027-03-01' for a midnight in UTC, else with the time."""
    if moment.timetz() == time(tzinfo=UTC):
        return moment.date().isoformat()
    return moment.isoformat().replace("+00:00", "Z")


def _moved(moment: datetime, months: int) -> datetime:
    year, month = divmod(moment.year * 12 + moment.month - 1 + months, 12)
    month += 1
    if year < _FIRST.year:
        return _FIRST
    if year > _LAST.year:
        return _LAST
    if moment.day > calendar.monthrange(year, month)[1]:
        return _end_of_month(year, month)
    return moment.replace(year=year, month=month)


def _end_of_month(year: int, month: int) -> datetime:
    last = date(year, month, calendar.monthrange(year, month)[1])
    return datetime.combine(last, time.max, tzinfo=UTC)
