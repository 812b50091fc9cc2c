"""The outbox is emptied by threads that hang for themselves alone."""

import threading
import time
from datetime import timedelta

import pytest

from tomovault.catalog.outbox import list_outbox, post_notice
from tomovault.catalog.owner_warnings import Running
from tomovault.core.errors import Transient
from tomovault.core.record import Outcome, Result
from tomovault.daemon import courier
from tomovault.daemon.courier import Courier, Postman
from tomovault.daemon.upkeep import Upkeep
from tomovault.vault.foreman import Foreman
from tomovault.vault.notices import message_of

HOOK = {"kind": "webhook", "url": "http://127.0.0.1:9/"}
NOTIFY = {
    "site": "ID19",
    "channels": {"chat": HOOK, "pager": dict(HOOK)},
    "alarms": {"channels": ["chat", "pager"]},
    "failures": {"channels": ["chat"]},
    "digest": {"channels": ["chat"]},
}
FACTS = {"area": "inhouse", "text": "full", "began_at": "2026-03-01T12:00:00+00:00"}


class Far:
    """What is at the other end of every channel."""

    def __init__(self):
        self.taken = []
        self.broken = set()
        self.hanging = set()
        self.released = threading.Event()

    def open(self, conf):
        self.name = conf.name
        return Line(self, conf.name)


class Line:
    def __init__(self, far, name):
        self.far, self.name = far, name

    def send(self, message):
        if self.name in self.far.hanging:
            self.far.released.wait(30)
        if self.name in self.far.broken:
            raise Transient("connection refused")
        self.far.taken.append((self.name, message.id, message.subject))


@pytest.fixture
def far(monkeypatch):
    made = Far()
    monkeypatch.setattr(courier, "open_channel", made.open)
    yield made
    made.released.set()


@pytest.fixture
def postman(town, far):
    town.change(notify=NOTIFY)
    clock = [town.now]
    made = Postman(
        town.vault,
        town.vault.site.notify.channels["chat"],
        now=lambda: clock[0],
        running=lambda: Running("b", clock[0].timestamp()),
    )
    made.clock = clock
    return made


def post(town, *channels):
    with town.vault.catalogue.writing() as tx:
        return post_notice(tx, "alarms", "alarm_begun", FACTS, [(c, "") for c in channels], town.now)


def outbox(town):
    with town.vault.catalogue.reading() as tx:
        return [(row.channel, row.state, row.count, row.error) for row in list_outbox(tx)]


def test_what_is_due_is_sent_once(town, far, postman):
    notice = post(town, "chat")
    assert (postman.round(), postman.round()) == (1, 0)
    assert far.taken == [("chat", f"{notice}.1", "[ID19] inhouse: full")]
    assert outbox(town) == []


def test_a_channel_that_fails_keeps_its_messages_and_says_why(town, far, postman):
    post(town, "chat")
    far.broken.add("chat")
    postman.round()
    assert outbox(town) == [("chat", "waiting", 1, "connection refused")]
    far.broken.clear()
    assert postman.round() == 0, "not at once"
    postman.clock[0] += timedelta(minutes=1)
    postman.round()
    assert (len(far.taken), outbox(town)) == (1, [])


def test_one_that_fails_for_a_week_is_given_up_and_status_says_so(town, far, postman, say):
    post(town, "chat")
    far.broken.add("chat")
    postman.round()
    postman.clock[0] += timedelta(days=8)
    postman.round()
    assert outbox(town) == [("chat", "given_up", 1, "connection refused")]
    assert "1 message by chat given up: never sent: connection refused" in say("status").out


def test_a_crash_after_the_sending_repeats_it_under_the_same_id(town, far, postman, monkeypatch):
    notice = post(town, "chat")
    with monkeypatch.context() as broken:
        broken.setattr(courier, "record_sent", _raise(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            postman.round()
    again = Postman(town.vault, town.vault.site.notify.channels["chat"], now=lambda: town.now)
    again.round()
    assert [one[1] for one in far.taken] == [f"{notice}.1"] * 2


def test_while_the_process_lives_one_that_could_not_be_recorded_is_not_sent_again(town, far, postman, monkeypatch):
    post(town, "chat")
    with monkeypatch.context() as broken:
        broken.setattr(courier, "record_sent", _raise(Transient("the database is locked")))
        for _ in range(3):
            with pytest.raises(Transient):
                postman.round()
    postman.round()
    assert (len(far.taken), outbox(town)) == (1, [])


def test_a_defect_of_one_message_does_not_stop_the_others(town, far, postman):
    with town.vault.catalogue.writing() as tx:
        post_notice(tx, "alarms", "alarm_begun", {"nothing": "of use"}, [("chat", "")], town.now)
    post(town, "chat")
    postman.round()
    assert len(far.taken) == 1
    assert "KeyError" in outbox(town)[0][3]


def test_a_channel_that_hangs_keeps_no_other_and_not_the_end(town, far):
    town.change(notify=NOTIFY)
    far.hanging.add("pager")
    notice = post(town, "pager", "chat")
    sending = Courier(town.vault)
    assert not sending.has_untried(), "nobody sends: nothing is waited for"
    sending.start()
    _wait(lambda: far.taken)
    assert far.taken[0][:2] == ("chat", f"{notice}.2")
    assert sending.has_untried()
    began = time.monotonic()
    sending.stop()
    assert time.monotonic() - began < 10
    far.released.set()
    _wait(lambda: not any(thread.name.startswith("channel-") for thread in threading.enumerate()))


def test_a_job_that_fails_for_good_is_told_with_others(town, far, postman):
    town.change(retries={"attempts": 1})
    postman._vault = town.vault
    foreman = Foreman(town.vault, "somebody")
    for name in ("one", "two"):
        scan = town.scan(name)
        with town.vault.catalogue.writing() as tx:
            town.vault.catalogue.queue_job(
                tx, "pack", scan, {}, dedup_key=name, rule="pack@standard:1", now=town.now, place="inhouse"
            )
        claimed = foreman.claim(town.now + timedelta(seconds=1), actions=frozenset({"pack"}))
        foreman._end(claimed, Result(Outcome.TRANSIENT, error="no room\x1b[31m", hint="make some"))
    assert postman.round() == 0, "more may follow"
    postman.clock[0] += timedelta(hours=1)
    with town.vault.catalogue.reading() as tx:
        (delivery,) = courier.list_deliveries(tx, "chat", postman.clock[0], 9)
    told = message_of(town.vault.site, delivery, postman.clock[0])
    assert told.subject == "[ID19] 2 jobs failed"
    assert told.text.count("no room\\x1b[31m") == 2
    assert all(word in told.text for word in ("pack of one", "pack of two", "make some", "tomovault retry"))


def test_the_digest_is_told_once_a_day(town, far, postman):
    town.scan("one")
    upkeep = Upkeep(town.vault)
    for _ in range(2):
        upkeep.ask("digest")
        upkeep.take()
    postman.clock[0] += timedelta(minutes=1)
    postman.round()
    (got,) = far.taken
    assert f"[ID19] {town.now:%Y}" in got[2]


def _raise(problem):
    def fail(*_arguments, **_named):
        raise problem

    return fail


def _wait(done, seconds=60):
    until = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < until
        time.sleep(0.02)
