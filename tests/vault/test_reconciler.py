"""What is known compared with what is there: absence decides nothing, and a night goes on where one ended."""

import errno
import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tomovault.catalog.outbox import list_deliveries
from tomovault.core.errors import Transient
from tomovault.core.replica import Form
from tomovault.daemon.nightly import Nightly
from tomovault.vault import census, reconciler
from tomovault.vault.census import keep_census, last_census
from tomovault.vault.notices import message_of
from tomovault.vault.places import mark_places
from tomovault.vault.reconcile_state import alarms_of, line_of, read_state, state_file
from tomovault.vault.reconciler import Reconciler
from tomovault.watch import remainder


@pytest.fixture
def kept(town):
    """Called for scans whose packages stand in the vault as they were written; returns scans and paths."""

    def make(count):
        scans = [town.scan(f"scan{n}") for n in range(count)]
        paths = [Path(town.replica(scan, Form.PACKAGE).location) for scan in scans]
        for path in paths:
            path.write_bytes(b"x" * 200)
        mark_places(town.vault)
        return scans, paths

    return make


def compare(town, *, folders=None):
    """Whether it was over, before it was asked so often whether it should be."""
    left = [10**9 if folders is None else folders]

    def is_over():
        left[0] -= 1
        return left[0] < 0

    return Reconciler(town.vault, is_over=is_over).run()


@pytest.mark.parametrize(("host", "own", "looked_at"), [
    (None, False, True),
    (None, True, False),
    ("here", True, True),
    ("here", False, True),
    ("there", False, False),
    ("there", True, False),
])  # fmt: skip
def test_the_areas_of_a_machine_are_compared_there(town, kept, host, own, looked_at):
    kept(1)
    town.change(areas={"inhouse": {"host": host}})
    town.vault.__dict__["host"] = "here"
    assert Reconciler(town.vault, is_over=lambda: False, own=own).run()
    state = read_state(town.vault)
    assert [name in state for name in ("area inhouse", "copies inhouse")] == [looked_at] * 2


def verifies(town, scans):
    return [scan for scan in scans if town.jobs(scan, "verify")]


def test_a_package_that_is_not_there_is_read_again_and_stays_what_it_was(town, kept):
    scans, paths = kept(5)
    paths[1].unlink()
    paths[3].write_bytes(b"short")
    assert compare(town)
    assert verifies(town, scans) == [scans[1], scans[3]]
    assert {town.replica(scan, Form.PACKAGE).state.value for scan in scans} == {"verified"}, "absence is no order"
    state = read_state(town.vault)
    assert (state["copies inhouse"]["seen"], state["copies inhouse"]["missing"]) == (5, 2)
    assert "2 copies not found" in line_of(state)
    compare(town)
    assert [len(town.jobs(scan, "verify")) for scan in scans] == [0, 1, 0, 1, 0], "once a day"


def test_too_many_at_once_are_told_and_not_believed(town, kept):
    scans, paths = kept(6)
    for path in paths[:4]:
        path.unlink()
    assert compare(town)
    assert verifies(town, scans) == []
    ((place, text),) = alarms_of(read_state(town.vault)).values()
    assert place == "inhouse"
    assert "4 of 6 copies of ours are not found there: too many to believe" in text
    (alarm,) = Nightly(town.vault).alarms.values()
    assert (alarm.area, alarm.text) == (place, text)


def test_a_vault_that_is_not_there_says_nothing_of_its_copies(town, kept):
    scans, _ = kept(2)
    vault = Path(town.vault.site.areas["inhouse"].vault)
    vault.rename(vault.with_name("away"))
    vault.mkdir()
    compare(town)
    assert verifies(town, scans) == []
    state = read_state(town.vault)["copies inhouse"]
    assert "marker is missing" in state["problem"]
    ((_, text),) = alarms_of(read_state(town.vault)).values()
    assert "marker is missing" in text
    assert "not compared: inhouse" in line_of(read_state(town.vault))
    assert "seen" not in state


@pytest.fixture
def fail_at(monkeypatch):
    """Called with the paths that give EIO from now on."""
    real, bad = os.lstat, set()

    def lstat(path, *more, **named):
        if str(path) in bad:
            raise OSError(errno.EIO, "Input/output error", str(path))
        return real(path, *more, **named)

    monkeypatch.setattr(reconciler.os, "lstat", lstat)
    return lambda *paths: (bad.clear(), bad.update(map(str, paths)))


def in_order(town, scans, paths):
    """(scan, path) as they are looked at."""
    pairs = zip(scans, paths, strict=True)
    return sorted(pairs, key=lambda pair: town.replica(pair[0], Form.PACKAGE).id)


def test_what_cannot_be_looked_at_is_told_and_hides_nothing_behind_it(town, kept, fail_at):
    pairs = in_order(town, *kept(5))
    assert compare(town)
    assert line_of(read_state(town.vault)).endswith("every copy is where it was put")
    pairs[3][1].unlink()
    fail_at(pairs[1][1])
    for _ in range(2):
        assert compare(town)
        assert [len(town.jobs(scan, "verify")) for scan, _ in pairs] == [0, 0, 0, 1, 0]
        state = read_state(town.vault)
        ((place, text),) = alarms_of(state).values()
        assert place == "inhouse"
        assert "not compared" in text
        assert f"{pairs[1][1]}: Input/output error" in text
        line = line_of(state)
        assert "1 copy not found; not compared: inhouse" in line
        assert "every copy" not in line
    pairs[3][1].write_bytes(b"x" * 200)
    compare(town)
    assert "every copy" not in line_of(read_state(town.vault)), "one was not seen"
    fail_at()
    compare(town)
    assert alarms_of(read_state(town.vault)) == {}
    assert line_of(read_state(town.vault)).endswith("every copy is where it was put")


def test_where_many_cannot_be_looked_at_the_night_stops_and_the_next_goes_on_behind(town, kept, fail_at):
    pairs = in_order(town, *kept(7))
    bad = [path for _, path in pairs[:4]]
    pairs[5][1].unlink()
    fail_at(*bad)
    compare(town)
    state = read_state(town.vault)
    assert state["copies inhouse"]["under_way"]["seen"] == 3
    assert "at" not in state["copies inhouse"]
    ((_, text),) = alarms_of(state).values()
    assert "3 copies cannot be looked at" in text
    assert "law 3" in text
    assert "not compared: inhouse" in line_of(state)
    assert "every copy" not in line_of(state)
    assert verifies(town, [scan for scan, _ in pairs]) == [], "nothing is concluded yet"
    compare(town)
    assert verifies(town, [scan for scan, _ in pairs]) == [pairs[5][0]]
    state = read_state(town.vault)
    assert (state["copies inhouse"]["seen"], state["copies inhouse"]["unread"]) == (7, 4)
    ((_, text),) = alarms_of(state).values()
    assert str(bad[0]) in text, "what an earlier night could not see is told still"


def test_nothing_is_said_of_every_copy_before_every_place_was_gone_through(town, kept):
    kept(2)
    assert not compare(town, folders=1)
    assert "every copy" not in line_of(read_state(town.vault))


def test_a_place_that_the_site_has_no_more_raises_no_alarm(town, kept):
    kept(1)
    state_file(town.vault).parent.mkdir(parents=True, exist_ok=True)
    state_file(town.vault).write_text(json.dumps({"copies lost": {"problem": "not mounted"}}))
    assert [place for place, _ in alarms_of(read_state(town.vault)).values()] == ["lost"]
    compare(town)
    assert alarms_of(read_state(town.vault)) == {}


def test_a_night_goes_on_where_the_one_before_ended(town, kept, monkeypatch):
    scans, paths = kept(4)
    monkeypatch.setattr(reconciler, "_AT_ONCE", 1)
    for name in ("a", "b", "c/d", "e"):
        (town.area / name).mkdir(parents=True)
        (town.area / name / "left").write_bytes(b"x" * 10)
    paths[0].unlink()
    nights = 0
    while not all("at" in read_state(town.vault).get(name, {}) for name in ("area inhouse", "copies inhouse")):
        assert not compare(town, folders=1)
        nights += 1
        assert nights < 50
    assert nights > 5
    page = last_census(town.vault, "inhouse")
    found = {os.path.relpath(row["folder"], town.area): row["bytes"] for row in page["unexplained"]}
    assert found == {"a": 10, "b": 10, "c/d": 10, "e": 10}
    assert page["bytes"] == 40, "nothing was counted twice"
    assert page["folders"] == 6
    assert verifies(town, scans) == [scans[0]]
    assert read_state(town.vault)["copies inhouse"]["seen"] == 4


def test_a_folder_that_cannot_be_read_is_told_once_however_often_a_night_ends(town, monkeypatch):
    for name in ("a/b/c/d/shut", "a/b/c/d/x", "a/b/c/d/y", "b"):
        (town.area / name).mkdir(parents=True)
        (town.area / name / "left").write_bytes(b"x")
    real = remainder.read_folder

    def read(descriptor, folder):
        if folder.endswith("shut"):
            raise OSError(errno.EIO, os.strerror(errno.EIO), folder)
        return real(descriptor, folder)

    monkeypatch.setattr(remainder, "read_folder", read)
    for folders in range(1, 30):
        compare(town, folders=folders)
        if "at" in read_state(town.vault).get("area inhouse", {}):
            break
    page = last_census(town.vault, "inhouse")
    assert [os.path.basename(row["path"]) for row in page["unreadable"]] == ["shut"]


def test_data_whose_day_is_over_is_told_with_its_owner(town):
    (town.area / "old").mkdir()
    (town.area / "old" / "junk.npy").write_bytes(b"x" * 1000)
    assert compare(town)
    assert alarms_of(read_state(town.vault)) == {}
    page = last_census(town.vault, "inhouse")
    long_ago = datetime.now(UTC) - census.EXPLAIN_WITHIN - timedelta(days=1)
    page["unexplained"][0]["since"] = long_ago.isoformat()
    keep_census(town.vault, page)
    assert compare(town)
    ((_, text),) = alarms_of(read_state(town.vault)).values()
    assert text.startswith("1 kB in 1 folder are in no scan, and the day to say what they are is over")
    assert page["unexplained"][0]["owner"] in text
    assert (town.area / "old" / "junk.npy").exists()


MAIL = {"kind": "smtp", "host": "localhost", "from": "v@example.org"}
NOTIFY = {"channels": {"mail": MAIL}, "warnings": {"channels": ["mail"], "to": ["{owner}@example.org"]}}


def _unexplained(town, *folders, left):
    """Folders that a census found, with so many days left to say what they are."""
    for name in folders:
        (town.area / name).mkdir()
        (town.area / name / "junk.npy").write_bytes(b"x" * 1000)
    compare(town)
    page = last_census(town.vault, "inhouse")
    for row in page["unexplained"]:
        row["since"] = (datetime.now(UTC) - census.EXPLAIN_WITHIN + timedelta(days=left)).isoformat()
    keep_census(town.vault, page)


def _messages(town):
    """The text of each delivery."""
    with town.vault.catalogue.reading() as tx:
        rows = list_deliveries(tx, "mail", datetime.now(UTC) + timedelta(days=1), 99)
    return [message_of(town.vault.site, row, town.now) for row in rows]


@pytest.mark.parametrize(("left", "told"), [(31, False), (29, True), (-1, True)])
def test_owners_are_told_before_the_day_is_over_and_once(town, left, told, monkeypatch):
    monkeypatch.setattr(census, "_owner", lambda _uid: "anna")
    town.change(notify=NOTIFY)
    _unexplained(town, "old", "older", left=left)
    for _ in range(3):
        compare(town)
    messages = _messages(town)
    assert len(messages) == told
    assert [bool(row["told_at"]) for row in last_census(town.vault, "inhouse")["unexplained"]] == [told] * 2
    for message in messages:
        assert message.recipients == ("anna@example.org",)
        assert "2 kB in 2 folders" in message.text
        assert str(town.area / "older") in message.text
        assert f"{datetime.now(UTC) + timedelta(days=left):%Y-%m-%d}" in message.subject


def test_what_a_night_found_is_kept_though_nobody_can_be_told_now(town, monkeypatch):
    def busy(*_of):
        raise Transient("the catalogue is busy")

    monkeypatch.setattr(reconciler, "tell_owners", busy)
    (town.area / "old").mkdir()
    (town.area / "old" / "junk.npy").write_bytes(b"x")
    compare(town)
    assert last_census(town.vault, "inhouse")["files"] == 1


def test_where_nobody_is_told_of_data_in_no_scan_nobody_was(town, monkeypatch):
    monkeypatch.setattr(census, "_owner", lambda uid: f"uid {uid}")
    town.change(notify=NOTIFY)
    _unexplained(town, "old", left=3)
    compare(town)
    assert _messages(town) == []
    assert last_census(town.vault, "inhouse")["unexplained"][0]["told_at"] is None


def test_a_damaged_state_begins_anew(town, kept):
    kept(1)
    compare(town)
    state_file(town.vault).write_text("{")
    assert read_state(town.vault) == {}
    assert compare(town)


def test_the_command_and_the_page_of_the_last_one(town, kept, say, ask, monkeypatch):
    monkeypatch.setattr("tomovault.daemon.census.give_way", lambda: None)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    assert "no census of inhouse was taken yet" in say("census", "inhouse", "--last").err
    kept(1)
    assert ask("reconcile")["over"] is True
    assert ask("status")["reconciled"]
    assert "compared with what is there: " in say("status").out
    assert ask("census", "inhouse", "--last")["area"] == "inhouse"
    assert say("census", "inhouse", "--last").out.startswith("As of ")
    assert say("reconcile", "--for", "soon").code == 2


def test_two_at_a_time_do_not_write_over_each_other(town, kept, say, ask, monkeypatch):
    monkeypatch.setattr("tomovault.daemon.census.give_way", lambda: None)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    _, paths = kept(2)
    paths[0].unlink()
    seconds = []

    def text():
        return state_file(town.vault).read_bytes() if state_file(town.vault).exists() else b""

    def second():
        if not seconds:
            before = text()
            seconds.append(say("reconcile"))
            assert text() == before
        return False

    assert Reconciler(town.vault, is_over=second).run()
    (told,) = seconds
    assert told.code == 75
    assert "another comparison" in told.err
    assert read_state(town.vault)["copies inhouse"]["missing"] == 1
    assert ask("reconcile")["over"] is True, "it ends with the one that held it"
