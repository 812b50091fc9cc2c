"""Rules with dates, and ages by the calendar, as a scan meets them."""

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tomovault.core.known import KnownScan
from tomovault.core.life import Stage
from tomovault.core.replica import Form
from tomovault.core.scan import Certificate, Verdict
from tomovault.policy.area_facts import AreaFacts
from tomovault.policy.calendar import Months, later_by, months_before
from tomovault.policy.decide import forbidden, wants_of
from tomovault.policy.document import parse_policy
from tomovault.policy.due import next_look
from tomovault.policy.matching import asks_of, matches_of
from tomovault.policy.removing import prune_rule_of

DAY = timedelta(days=1)
INSTANT = timedelta(microseconds=1)


def test_a_rule_waits_for_its_date_and_says_so(scan, area, policy, now):
    rules = policy("{name: late, do: pack, from: 2030-07-01}")
    wants = wants_of(scan(), rules, area(), now)
    assert wants.later[Stage.PACKED] == "late@test:7 waits for: not before 2030-07-01"
    date = datetime(2030, 7, 1, tzinfo=UTC)
    assert next_look(scan(), rules, area(), now) == date
    assert not wants_of(scan(), rules, area(), date).later
    assert wants_of(scan(), rules, area(), date).by == {Stage.PACKED: "late@test:7"}


def test_a_rule_that_is_over_wants_nothing(scan, area, policy, now):
    rules = policy("{name: early, do: pack, until: 2030-06-01T12:00Z}")
    before = wants_of(scan(), rules, area(), now - INSTANT)
    assert before.by == {Stage.PACKED: "early@test:7"}
    assert next_look(scan(), rules, area(), now - INSTANT) == now
    after = wants_of(scan(), rules, area(), now)
    assert not after.by
    assert after.held[Stage.PACKED] == "early@test:7 does not apply: over since 2030-06-01T12:00:00Z"
    assert next_look(scan(), rules, area(), now) is None


def test_retention_holds_to_the_moment_and_doubt_is_no_permission_until_then(scan, replica, area, policy, now):
    rules = policy(
        "{name: room, do: prune}",
        "{name: keep, do: forbid, when: proposal = ma1234, until: 2030-07-01, with: {actions: [prune]}}",
    )
    end = datetime(2030, 7, 1, tzinfo=UTC)
    for known in (scan(), scan(proposal=None)):
        assert forbidden(known, rules, area(), end - INSTANT) == {Stage.PRUNED: "forbidden by keep@test:7"}
        assert forbidden(known, rules, area(), end) == {}
    assert forbidden(scan(proposal="other"), rules, area(), now) == {}


def test_an_embargo_that_has_not_begun_forbids_nothing(scan, area, policy, now):
    rules = policy("{name: e, do: forbid, from: 2030-07-01, when: proposal = x, with: {actions: [export]}}")
    assert forbidden(scan(proposal=None), rules, area(), now) == {}
    assert Stage.EXPORTED in forbidden(scan(proposal=None), rules, area(), now + 30 * DAY)


def test_a_prune_out_of_its_dates_lets_nothing_go(scan, area, policy, now):
    rules = policy("{name: room, do: prune, from: 2030-06-02, until: 2030-06-03}")
    allowed = [prune_rule_of(scan(), Form.FILES, rules, area(), now + hours * DAY / 24) for hours in (0, 12, 35, 36)]
    assert [rule is not None for rule in allowed] == [False, True, True, False]


def test_copies_that_a_later_rule_will_ask_for_are_asked_already(scan, area, policy, now):
    rules = policy("{name: a, do: archive, from: 2031-01-01, with: {copies: 3}}")
    assert asks_of(scan(), rules, area(), now).copies == 3
    over = policy("{name: a, do: archive, until: 2030-01-01, with: {copies: 3}}")
    assert asks_of(scan(), over, area(), now).copies == 2


@pytest.mark.parametrize(
    ("acquired", "age", "due"),
    [
        (datetime(2027, 8, 31, 12, tzinfo=UTC), "6 months", datetime(2028, 2, 29, 23, 59, 59, 999999, tzinfo=UTC)),
        (datetime(2028, 2, 29, 12, tzinfo=UTC), "1 year", datetime(2029, 2, 28, 23, 59, 59, 999999, tzinfo=UTC)),
        (datetime(2029, 3, 25, 1, 30, tzinfo=UTC), "1 month", datetime(2029, 4, 25, 1, 30, tzinfo=UTC)),
    ],
)
def test_an_age_by_the_calendar_is_met_to_the_moment(scan, area, policy, acquired, age, due):
    rules = policy(f"{{name: r, do: pack, when: age > {age}}}")
    old = scan(acquired_at=acquired)
    assert next_look(old, rules, area(), acquired + DAY) == due + INSTANT
    assert not matches_of(old, rules, area(), due)[0].verdict.value
    assert matches_of(old, rules, area(), due + INSTANT)[0].verdict.value
    assert next_look(old, rules, area(), due + INSTANT) is None


def test_an_age_by_the_calendar_is_told_in_days(scan, area, policy, now):
    (match,) = matches_of(scan(), policy("{name: r, do: pack, when: age > 6 months}"), area(), now)
    assert match.verdict.explain() == "age > 6 months: 12 d"
    assert match.coming
    assert not matches_of(scan(acquired_at=now + DAY), policy("{name: r, do: pack, when: age > 0mo}"), area(), now)[
        0
    ].verdict.value


SIGNS = st.sampled_from(["<", "<=", ">", ">=", "=", "!="])
AGES = st.one_of(
    st.integers(0, 30).map("{} months".format),
    st.integers(0, 3).map("{}y".format),
    st.integers(0, 900).map("{}d".format),
)
DATES = st.none() | st.dates(date(2027, 1, 1), date(2031, 1, 1))


def _rules(sentence, starts, until):
    dates = "".join(f", {key}: {date}" for key, date in (("from", starts), ("until", until)) if date is not None)
    return parse_policy(f"name: t\nversion: 1\nrules:\n  - {{name: r, do: pack, when: '{sentence}'{dates}}}\n", "t")


@settings(deadline=None)
@given(SIGNS, AGES, DATES, DATES, st.datetimes(timezones=st.just(UTC)), st.datetimes(timezones=st.just(UTC)))
def test_no_date_is_ever_an_error(sign, age, starts, until, acquired, now):
    if starts is not None and until is not None and until <= starts:
        starts = None
    rules = _rules(f"age {sign} {age}", starts, until)
    scan = _scan(acquired)
    matches_of(scan, rules, AreaFacts("a"), now)
    look = next_look(scan, rules, AreaFacts("a"), now)
    assert look is None or look > now or look == datetime.max.replace(tzinfo=UTC)


@settings(deadline=None)
@given(
    SIGNS,
    AGES,
    DATES,
    DATES,
    st.datetimes(datetime.fromisoformat("2027-01-01"), datetime.fromisoformat("2030-01-01"), timezones=st.just(UTC)),
    st.timedeltas(timedelta(0), timedelta(days=1200)),
    st.floats(0, 1),
)
def test_between_two_looks_no_answer_changes(sign, age, starts, until, acquired, passed, share):
    """What is looked at when `next_look` says so was never overlooked; an age that is met exactly lasts an instant."""
    if starts is not None and until is not None and until <= starts:
        until = None
    rules, scan, area = _rules(f"age {sign} {age}", starts, until), _scan(acquired), AreaFacts("a")
    now = acquired + passed
    look = next_look(scan, rules, area, now) or later_by(now, timedelta(days=4000))
    between = now + (look - INSTANT - now) * share
    first, then = (matches_of(scan, rules, area, at)[0] for at in (now, between))
    if _met_exactly(rules, acquired, now) or _met_exactly(rules, acquired, between):
        return
    assert (first.verdict.value, first.coming) == (then.verdict.value, then.coming)


def _met_exactly(rules, acquired, moment):
    wanted = rules.rules[0].condition.value
    if isinstance(wanted, Months):
        return months_before(moment, wanted) == acquired
    return moment - acquired == wanted


def _scan(acquired):
    return KnownScan(
        id="s",
        name="s",
        root="/s",
        area="a",
        format="edf",
        entry="",
        identity="i",
        certificate=Certificate(Verdict.COMPLETE),
        settled=True,
        first_seen_at=acquired,
        changed_at=acquired,
        acquired_at=acquired,
        bytes=1,
        files=1,
    )
