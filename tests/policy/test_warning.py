"""A removal waits for the warning of its owner, and for nothing less than its days."""

from datetime import timedelta

import pytest

from tomovault.core.errors import UserError
from tomovault.core.known import Pin
from tomovault.core.life import Stage, Status, standings
from tomovault.core.notice import OwnerWarning
from tomovault.core.replica import Form, TierClass
from tomovault.policy.decide import wants_of
from tomovault.policy.warning import COUNTS_FOR, why_unwarned, with_warning

DAY = timedelta(days=1)
WEEK = 7 * DAY
RULE = "{name: room, do: prune, when: archived and usage > high, with: {warn: 7d}}"
FULL = {"used_fraction": 0.9, "used_bytes": 900}


@pytest.fixture
def archived(scan, replica):
    def make(*warnings, **more):
        files = replica("f", Form.FILES, "inhouse", TierClass.SERVER, domain="disk")
        return scan(files, replica("t1"), replica("t2"), warnings=warnings, **more)

    return make


@pytest.fixture
def hold(archived, area, policy, now):
    def ask(warning=None, rule=RULE, pins=(), leaving=False, **facts):
        known = archived(*([warning] if warning else []), pins=pins)
        return why_unwarned(known, "f", policy(rule).rules[0], area(**(FULL | facts)), now, leaving=leaving)

    return ask


@pytest.fixture
def warned(now):
    def make(ago, *, sent=True, passed=None, days=WEEK, replica="f"):
        since = (ago if passed is None else passed) if sent else timedelta(0)
        return OwnerWarning(replica, "room@test:7", days, now - ago, now - ago if sent else None, since)

    return make


def test_without_a_warning_its_owner_is_asked_for(hold):
    assert hold().ask
    assert hold(rule=RULE.replace(", with: {warn: 7d}", "")) is None


def test_the_sites_period_is_for_rules_that_say_nothing_and_a_rule_may_say_none(hold):
    silent = RULE.replace(", with: {warn: 7d}", "")
    assert hold(rule=silent, warn=WEEK).ask
    assert hold(rule=RULE.replace("7d", "0s"), warn=WEEK) is None


def test_one_that_was_not_sent_yet_does_not_count(hold, warned):
    asked = hold(warned(30 * DAY, sent=False))
    assert not asked.ask
    assert "not sent yet" in asked.reason


@pytest.mark.parametrize("ago", [timedelta(0), DAY, WEEK - timedelta(microseconds=1)])
def test_until_its_days_are_over_it_holds(hold, warned, now, ago):
    held = hold(warned(ago))
    assert held.until == now - ago + WEEK
    assert held.reason.startswith(f"warned on {now - ago:%Y-%m-%d}, goes not before {now - ago + WEEK:%Y-%m-%d}")


def test_after_its_days_it_goes(hold, warned):
    assert hold(warned(WEEK)) is None


def test_days_of_a_clock_that_jumped_are_none(hold, warned, now):
    held = hold(warned(30 * DAY, passed=2 * DAY))
    assert held.until == now + 5 * DAY


def test_a_clock_that_was_set_back_makes_it_later(hold, warned):
    assert hold(warned(-DAY, passed=30 * DAY)) is not None


def test_a_longer_promise_is_kept_and_a_longer_rule_too(hold, warned):
    assert hold(warned(10 * DAY, days=14 * DAY)) is not None
    assert hold(warned(10 * DAY, days=14 * DAY), rule=RULE.replace("7d", "0s")) is not None
    assert hold(warned(10 * DAY), rule=RULE.replace("7d", "14d")) is not None
    assert hold(warned(14 * DAY, days=14 * DAY)) is None


def test_a_pin_that_held_since_makes_it_void(hold, warned, now):
    pin = Pin("k", "anna", "mine", now - DAY)
    assert hold(warned(30 * DAY), pins=(pin,)).ask
    before = Pin("k", "anna", "mine", now - 31 * DAY)
    assert hold(warned(30 * DAY), pins=(before,)) is None


def test_one_of_long_ago_is_said_anew_but_not_of_what_is_leaving(hold, warned):
    old = warned(WEEK + COUNTS_FOR + DAY)
    assert hold(old).ask
    assert hold(old, leaving=True) is None


def test_a_warning_of_another_replica_is_none(hold, warned):
    assert hold(warned(30 * DAY, replica="p")).ask


def test_only_where_the_rule_says_so_a_full_area_does_not_wait(hold):
    rule = RULE.replace("7d", "7d, unwarned_above: 95%")
    assert hold(rule=rule, used_fraction=0.94).ask
    assert hold(rule=rule, used_fraction=0.95) is None
    assert hold(used_fraction=0.99).ask


def test_other_rules_warn_of_nothing(policy):
    with pytest.raises(UserError, match="does not understand 'warn'"):
        policy("{name: a, do: archive, with: {warn: 7d}}")


def test_a_prune_that_waits_for_its_warning_is_held_and_nothing_else_changes(archived, area, policy, now, warned):
    rules = policy(RULE, "{name: pack, do: pack}")

    def standing(*warnings):
        known = archived(*warnings)
        plain = wants_of(known, rules, area(**FULL), now)
        wants = with_warning(plain, known, rules, area(**FULL), now)
        assert (wants.by, wants.later) == (plain.by, plain.later)
        assert wants.held.keys() - {Stage.PRUNED} == plain.held.keys()
        from tomovault.core.known import facts_of

        return standings(facts_of(known, now=now, keep_after=WEEK), wants)[Stage.PRUNED]

    # `packed` is by a package here: the archived ones.
    assert standing().status is Status.HELD
    assert "goes not before" in standing(warned(DAY)).reason
    assert standing(warned(WEEK)).status is Status.DUE
