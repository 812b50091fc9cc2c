"""Messages are committed with their facts, sent at least once, and lost never."""

import contextlib
from datetime import timedelta

import pytest
from sqlalchemy import func, select, update

from tomovault.catalog import outbox, tables
from tomovault.catalog.outbox import (
    add_to_notice,
    count_untried,
    forget_in_turns,
    forget_notices,
    give_up_unknown,
    is_posted,
    list_deliveries,
    list_outbox,
    post_notice,
    record_sent,
    record_unsent,
)
from tomovault.catalog.owner_warnings import Running, ask_warnings, count_warnings, see_time_pass
from tomovault.catalog.standing_alarms import alarm_name, begin_alarm, end_alarm, list_standing, tell_alarm_again

HERE = Running("boot", 100.0)
WEEK = timedelta(days=7)
PAUSES = [*(timedelta(minutes=2**n) for n in range(9)), outbox.LONGEST_PAUSE]
MAIL, CHAT = ("mail", "anna@example.org"), ("chat", "")


def post(tx, now, *to, **more):
    return post_notice(tx, "alarms", "alarm_begun", {"text": "full\udcff"}, to or [MAIL], now, **more)


def due(tx, now, channel="mail"):
    return [d.id for d in list_deliveries(tx, channel, now, 10)]


def unsent(tx, delivery, now, patience=WEEK):
    return record_unsent(tx, delivery, "busy", HERE, now, give_up_after=patience)


def test_each_recipient_has_a_delivery_with_an_id_of_its_own(catalogue, now):
    with catalogue.writing() as tx:
        notice = post(tx, now, MAIL, ("mail", "bob@example.org"), CHAT)
    with catalogue.reading() as tx:
        (first, second) = list_deliveries(tx, "mail", now, 10)
        assert (first.id, second.id, due(tx, now, "chat")) == (f"{notice}.1", f"{notice}.2", [f"{notice}.3"])
        assert (first.recipient, first.facts, first.topic) == ("anna@example.org", {"text": "full\udcff"}, "alarms")
        assert count_untried(tx, now) == 3


def test_what_is_rolled_back_is_not_told(catalogue, now):
    with contextlib.suppress(ZeroDivisionError), catalogue.writing() as tx:
        post(tx, now)
        raise ZeroDivisionError
    with catalogue.reading() as tx:
        assert due(tx, now) == []


def test_one_that_was_sent_is_not_due_again(catalogue, now):
    with catalogue.writing() as tx:
        notice = post(tx, now, MAIL, CHAT)
        record_sent(tx, f"{notice}.1", HERE, now)
        record_sent(tx, f"{notice}.1", HERE, now)
        assert (due(tx, now), due(tx, now, "chat")) == ([], [f"{notice}.2"])


def test_a_try_that_failed_is_followed_by_others_ever_more_seldom_until_it_is_given_up(catalogue, now):
    pauses, at = [], now
    with catalogue.writing() as tx:
        delivery = post(tx, now) + ".1"
        while not unsent(tx, delivery, at):
            assert due(tx, at) == [], "it is not tried at once"
            pauses.append(next(p for p in PAUSES if due(tx, at + p)))
            at += pauses[-1]
        assert due(tx, at + WEEK) == []
        (row,) = list_outbox(tx)
        assert (row.channel, row.state, row.count, row.error) == ("mail", "given_up", 1, "busy")
        assert not unsent(tx, delivery, at), "it is over once"
    assert pauses[:3] == [timedelta(minutes=n) for n in (1, 2, 4)]
    assert pauses == sorted(pauses)
    assert max(pauses) == outbox.LONGEST_PAUSE
    assert WEEK <= at - now <= WEEK + outbox.LONGEST_PAUSE


def test_what_follows_soon_is_told_in_the_same_text(catalogue, now):
    with catalogue.writing() as tx:
        notice = post_notice(
            tx, "failures", "failures", {"jobs": [1]}, [MAIL], now, key="k", not_before=now + timedelta(minutes=10)
        )
        since = now - timedelta(days=1)
        assert add_to_notice(tx, "k", "jobs", [2, 3], now + timedelta(minutes=9), made_since=since) == notice
        assert add_to_notice(tx, "other", "jobs", [4], now, made_since=since) is None
        assert add_to_notice(tx, "k", "jobs", [4], now + timedelta(minutes=10), made_since=since) is None, "it is due"
        assert add_to_notice(tx, "k", "jobs", [0] * 98, now, made_since=since) is None, "a text has an end"
        (delivery,) = list_deliveries(tx, "mail", now + timedelta(minutes=10), 9)
        assert delivery.facts == {"jobs": [1, 2, 3]}
        unsent(tx, delivery.id, now + timedelta(minutes=10))
        assert add_to_notice(tx, "k", "jobs", [4], now, made_since=since) is None, "it may have arrived"


def test_deliveries_of_a_channel_that_is_no_more_are_given_up(catalogue, now):
    with catalogue.writing() as tx:
        post(tx, now, MAIL, CHAT)
        assert give_up_unknown(tx, ["chat"], HERE, now) == 1
        assert (due(tx, now), len(due(tx, now, "chat"))) == ([], 1)


def test_old_notices_are_forgotten_but_not_what_waits(catalogue, now):
    with catalogue.writing() as tx:
        sent, waiting = post(tx, now, key="a"), post(tx, now, key="b")
        record_sent(tx, f"{sent}.1", HERE, now)
        assert forget_notices(tx, now) == 0
        assert forget_notices(tx, now + timedelta(days=1)) == 1
        assert (is_posted(tx, "a"), is_posted(tx, "b")) == (False, True)
        assert due(tx, now) == [f"{waiting}.1"]


# --- warnings ----------------------------------------------------------------------------------------


@pytest.fixture
def warn(site, make, now):
    """Called for a notice of a warning of the first scan's replica on tape, in a transaction."""
    with site.writing() as tx:
        scan = site.record_inspected(tx, "inhouse", make.inspected(make.report()), now)[0]
        site.apply_records(tx, [make.made(), make.stored()], now, scan_id=scan)
        replica = site.known(tx, scan).replicas[0].id

    def ask(tx, *to):
        notice = post_notice(tx, "warnings", "warning", {"scans": []}, to or [MAIL, CHAT], now)
        ask_warnings(tx, notice, [(scan, replica, "room@standard:1", WEEK)], now)
        return notice

    ask.scan = scan
    return ask


def test_a_warning_counts_once_all_was_sent(site, warn, now):
    later = now + timedelta(hours=1)
    with site.writing() as tx:
        notice = warn(tx)
        record_sent(tx, f"{notice}.1", HERE, now)
        (one,) = site.known(tx, warn.scan).warnings
        assert (one.sent_at, count_warnings(tx)) == (None, (1, 0))
        record_sent(tx, f"{notice}.2", HERE, later)
        (one,) = site.known(tx, warn.scan).warnings
        assert (one.sent_at, one.days, count_warnings(tx)) == (later, WEEK, (0, 1))
        told = [row for row in site.list_audit(tx, limit=9) if row.op == "owner warned"]
        assert [row.scan for row in told] == [warn.scan]


def test_one_of_which_nothing_arrived_is_none_and_one_that_arrived_in_part_counts_late(site, warn, now):
    late = now + WEEK
    with site.writing() as tx:
        notice = warn(tx)
        unsent(tx, f"{notice}.1", late)
        assert site.known(tx, warn.scan).warnings != ()
        unsent(tx, f"{notice}.2", late)
        assert site.known(tx, warn.scan).warnings == ()
        notice = warn(tx)
        record_sent(tx, f"{notice}.1", HERE, now)
        unsent(tx, f"{notice}.2", late)
        (one,) = site.known(tx, warn.scan).warnings
        assert one.sent_at == late


def test_a_new_warning_takes_the_place_of_the_old_one(site, warn, now):
    with site.writing() as tx:
        record_sent(tx, warn(tx, MAIL) + ".1", HERE, now)
        warn(tx, MAIL)
        (one,) = site.known(tx, warn.scan).warnings
        assert one.sent_at is None


def test_time_passes_as_far_as_one_machine_saw_it(site, warn, now):
    with site.writing() as tx:
        assert see_time_pass(tx, Running("a", 50.0)) == 0.0
        assert see_time_pass(tx, Running("a", 60.0)) == 10.0
        assert see_time_pass(tx, Running("b", 5000.0)) == 10.0, "another boot: nobody saw the time between"
        assert see_time_pass(tx, Running("b", 5001.5)) == 11.5
        assert see_time_pass(tx, Running("b", 4000.0)) == 11.5, "it never goes back"
        record_sent(tx, warn(tx, MAIL) + ".1", Running("b", 4100.0), now)
        see_time_pass(tx, Running("b", 4200.0))
        (one,) = site.known(tx, warn.scan).warnings
        assert timedelta(seconds=98) <= one.passed <= timedelta(seconds=100), "since it was sent, and not before"


def test_everything_old_is_forgotten_in_short_turns_with_the_warnings_of_copies_that_are_gone(site, warn, now):
    replica, warning = tables.replica, tables.owner_warning
    with site.writing() as tx:
        for number in range(7):
            record_sent(tx, post(tx, now, key=str(number)) + ".1", HERE, now)
        waiting, notice = post(tx, now, key="waits"), warn(tx, MAIL)
        record_sent(tx, f"{notice}.1", HERE, now)

    def turns(before):
        return sum(1 for _ in forget_in_turns(site.writing, before, size=3))

    def left():
        with site.reading() as tx:
            notices = {row.id for row in tx.rows(select(tables.notice.c.id))}
            return notices, tx.value(select(func.count()).select_from(warning))

    assert turns(now) == 0
    assert (len(left()[0]), left()[1]) == (9, 1), "nothing is old yet"
    assert turns(now + WEEK) == 2
    assert left() == ({waiting, notice}, 1), "a warning of a copy that is there is kept, with its notice"
    with site.writing() as tx:
        tx.run(update(replica).values(state="gone"))
    turns(now)
    assert left() == ({waiting, notice}, 1), "it is gone, but not for long"
    turns(now + WEEK)
    assert left() == ({waiting}, 0)


# --- alarms ------------------------------------------------------------------------------------------


def test_alarms_stand_from_their_beginning_to_their_end(catalogue, now):
    name = alarm_name("room", "inhouse")
    with catalogue.writing() as tx:
        begin_alarm(tx, name, "inhouse", "full", now)
        tell_alarm_again(tx, name, "fuller", now + WEEK)
        (one,) = list_standing(tx)
        assert (one.area, one.text, one.began_at, one.told_at) == ("inhouse", "fuller", now, now + WEEK)
        end_alarm(tx, name)
        assert list_standing(tx) == []
