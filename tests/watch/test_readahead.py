import errno
import os
import threading
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tomovault.watch import readahead, walker
from tomovault.watch.listing import Descent, key_of, list_folder
from tomovault.watch.readahead import ReadAhead
from tomovault.watch.walker import Walker

QUIET = 60.0


@pytest.fixture
def looked(monkeypatch):
    """The folders that threads looked at, in order."""
    seen = []
    real = readahead.read_folder

    def note(descriptor, folder):
        seen.append(folder)
        return real(descriptor, folder)

    monkeypatch.setattr(readahead, "read_folder", note)
    return seen


@pytest.fixture
def waits(monkeypatch):
    """How often each look waits from now on, as far as anybody can tell."""
    told = {"a file": 0, "so far": 0}

    def count():
        told["so far"] += told["a file"] * 1000
        return told["so far"]

    monkeypatch.setattr(readahead, "_waits_of_this_thread", count)
    monkeypatch.setattr(readahead, "_JUDGED_BY", 1)
    return told


@pytest.fixture
def tree(tmp_path, write_scan):
    for number in range(12):
        write_scan(tmp_path / "area" / f"s{number:02d}", frames=3)
    return tmp_path / "area"


@pytest.fixture
def ahead(tree, clock, waits):  # the waits of this process so far do not count
    with Descent(str(tree)) as descent, ReadAhead(descent, clock) as reading:
        yield reading


@pytest.fixture(autouse=True)
def nothing_is_left():
    descriptors = len(os.listdir("/proc/self/fd"))
    yield
    assert len(os.listdir("/proc/self/fd")) == descriptors
    assert [thread for thread in threading.enumerate() if thread.name == "read-ahead"] == []


def drain(ahead):
    until = time.monotonic() + 10.0
    while ahead._wanted or ahead._reading:
        assert time.monotonic() < until
        time.sleep(0.005)


PENDING = [f"s{number:02d}" for number in range(11, 0, -1)]


def test_nobody_reads_ahead_where_looks_do_not_wait(ahead, looked, waits):
    ahead.judge(1000)
    ahead.expect(PENDING)
    assert not ahead.active
    assert ahead._threads == []
    assert ahead.take("s02") is None
    assert looked == []


def test_where_no_thread_may_be_started_the_walker_reads_alone(ahead, looked, waits, monkeypatch):
    def refuse(_thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    waits["a file"] = 1
    ahead.judge(1000)
    ahead.expect(PENDING)
    assert not ahead.active
    assert ahead.take("s02") is None
    assert looked == []


def test_the_next_folders_are_read_once_each_and_no_more_than_are_allowed(ahead, looked, waits, monkeypatch):
    monkeypatch.setattr(readahead, "_AHEAD", 4)
    waits["a file"] = 1
    ahead.judge(1000)
    assert ahead.active
    for _ in range(2):
        ahead.expect(PENDING)
        drain(ahead)
    assert sorted(looked) == ["s02", "s03", "s04", "s05"]
    assert len(ahead._threads) == readahead._THREADS


def test_what_was_read_is_what_a_look_would_say_and_is_told_once(ahead, tree, looked, waits, clock):
    waits["a file"] = 1
    ahead.judge(1000)
    ahead.expect(["s02", "s01"])
    drain(ahead)
    clock.pass_(5.0)
    reading = ahead.take("s02")
    listing = list_folder(str(tree / "s02"))
    assert (reading.began, reading.files) == (clock.now - 5.0, 3)
    assert reading.key == key_of(os.lstat(tree / "s02"))
    assert reading.digest == readahead.digest_of(listing, {n: os.lstat(tree / "s02" / n) for n in listing.files})
    assert ahead.take("s02") is None


def test_what_a_thread_is_reading_is_waited_for_and_what_none_began_is_not(ahead, waits, monkeypatch):
    monkeypatch.setattr(readahead, "_THREADS", 2)
    begun, go = threading.Semaphore(0), threading.Event()
    real = readahead.read_folder

    def wait(descriptor, folder):
        begun.release()
        assert go.wait(10.0)
        return real(descriptor, folder)

    monkeypatch.setattr(readahead, "read_folder", wait)
    waits["a file"] = 1
    ahead.judge(1000)
    ahead.expect(PENDING)
    for _ in range(2):
        assert begun.acquire(timeout=10.0)
    assert ahead.take("s04") is None
    threading.Timer(0.05, go.set).start()
    assert ahead.take("s02").files == 3
    assert ahead.take("s03").files == 3
    drain(ahead)
    assert ahead.take("s04") is None, "it was left to the walker"


def test_it_is_judged_anew_after_some_files(ahead, looked, waits, monkeypatch):
    monkeypatch.setattr(readahead, "_FILES_AHEAD", 1500)
    waits["a file"] = 1
    ahead.judge(1000)
    ahead.judge(1000)
    assert ahead.active
    ahead.judge(1000)
    assert not ahead.active
    waits["a file"] = 0
    ahead.judge(1000)
    assert not ahead.active


def test_a_folder_that_cannot_be_read_is_left_to_the_walker_and_ends_nothing(ahead, tree, looked, waits):
    os.symlink("s05", tree / "link")
    waits["a file"] = 1
    ahead.judge(1000)
    ahead.expect(["s03", "link", "nowhere", "s01"])
    drain(ahead)
    assert looked == ["s03"]
    assert ahead.take("nowhere") is None
    assert ahead.take("link") is None
    assert ahead.take("s03") is not None


def test_a_defect_in_a_thread_keeps_nobody_waiting(ahead, waits, monkeypatch):
    def fail(descriptor, folder):
        raise MemoryError

    monkeypatch.setattr(threading, "excepthook", lambda what: None)
    monkeypatch.setattr(readahead, "read_folder", fail)
    waits["a file"] = 1
    ahead.judge(1000)
    ahead.expect(PENDING)
    for relative in reversed(PENDING):
        assert ahead.take(relative) is None


# --- in a sweep ---


@pytest.fixture
def slow_walker(monkeypatch):
    """Gives the threads time to be ahead of the walker."""
    real = walker.read_folder

    def read_slowly(descriptor, folder):
        time.sleep(0.01)
        return real(descriptor, folder)

    monkeypatch.setattr(walker, "read_folder", read_slowly)


@pytest.mark.parametrize("gone", [False, True])
def test_a_sweep_that_reads_ahead_sees_the_same(tree, clock, kinds, waits, looked, gone, slow_walker):
    waits["a file"] = 1
    watch = Walker(str(tree), [kinds.series, kinds.master], clock=clock, quiet_s=QUIET)
    first = watch.sweep(full=True)
    assert looked == [], "what is being written may be anywhere"
    clock.pass_(QUIET)
    watch.sweep(full=True)
    clock.pass_(QUIET)
    if gone:
        for name in os.listdir(tree / "s07"):
            os.unlink(tree / "s07" / name)
        os.rmdir(tree / "s07")
    again = watch.sweep(full=True)
    assert looked
    assert [s.snapshot for s in again.seen] == [
        s.snapshot for s in first.seen if not (gone and "s07" in s.candidate.folder)
    ]
    assert [c.folder for c in again.vanished] == ([str(tree / "s07")] if gone else [])
    assert again.unreadable == ()
    assert (again.folders, again.listed) == (13 - gone, 13 - gone)
    assert again.stats == 13 + 36 - 4 * gone


def test_a_sweep_that_is_stopped_stops_the_threads(tree, clock, kinds, waits, looked, slow_walker):
    waits["a file"] = 1
    watch = Walker(str(tree), [kinds.series], clock=clock, quiet_s=QUIET)
    for _ in range(2):
        watch.sweep(full=True)
        clock.pass_(QUIET)
    sweep = watch.sweep(full=True, stop=lambda: len(looked) > 2)
    assert sweep.stopped == "asked to stop"
    assert sweep.vanished == ()


def test_an_error_that_a_thread_met_first_is_told_once(tree, clock, kinds, waits, looked, slow_walker, failing_open):
    waits["a file"] = 1
    watch = Walker(str(tree), [kinds.series], clock=clock, quiet_s=QUIET)
    for _ in range(2):
        watch.sweep(full=True)
        clock.pass_(QUIET)
    failing_open["s06"] = errno.EACCES
    sweep = watch.sweep(full=True)
    assert looked
    assert sweep.unreadable == ((str(tree / "s06"), os.strerror(errno.EACCES)),)
    assert (len(sweep.seen), sweep.vanished) == (11, ())


CHANGES = st.dictionaries(
    st.integers(0, 11), st.sampled_from(["grow", "add", "drop", "replace", "link", "nothing"]), max_size=6
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=CHANGES)
def test_no_change_is_missed_while_reading_ahead(
    tmp_path_factory, kinds, write_scan, waits, looked, slow_walker, changes
):
    area = tmp_path_factory.mktemp("area")
    for number in range(12):
        write_scan(area / f"s{number:02d}", frames=3)
    waits["a file"] = 1
    clock = kinds.Clock()
    watch = Walker(str(area), [kinds.series], clock=clock, quiet_s=QUIET)
    for _ in range(2):
        watch.sweep(full=True)
        clock.pass_(QUIET)
    looked.clear()
    expected = set()
    for number, change in changes.items():
        _change(area / f"s{number:02d}", change)
        if change != "nothing":
            expected.add(str(area / f"s{number:02d}"))
    sweep = watch.sweep(full=True)
    assert looked
    assert {seen.candidate.folder for seen in sweep.unsettled} == expected
    assert {seen.candidate.folder for seen in sweep.changed} == expected
    assert len(sweep.seen) == 12


def _change(folder, change):
    first, *_, last = sorted(folder.glob("*.edf"))
    if change == "grow":
        with first.open("ab") as stream:
            stream.write(b"more")
    elif change == "add":
        (folder / "x0000.edf").write_bytes(b"new")
    elif change == "drop":
        last.unlink()
    elif change == "replace":
        was = first.stat()
        other = folder / "other"
        other.write_bytes(b"y" * was.st_size)
        os.utime(other, ns=(was.st_atime_ns, was.st_mtime_ns))
        os.replace(other, first)
    elif change == "link":
        os.symlink(first.name, folder / "l0000.edf")
