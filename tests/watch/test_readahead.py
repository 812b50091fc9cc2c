import os
import time

import pytest

from tomovault.watch import readahead, walker
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


def drain(ahead):
    until = time.monotonic() + 10.0
    while ahead._wanted.qsize():
        assert time.monotonic() < until
        time.sleep(0.005)


def read(ahead):
    ahead.begin()
    ahead.end(1000)


PENDING = [f"s{number:02d}" for number in range(11, 0, -1)]


def test_nobody_reads_ahead_where_looks_do_not_wait(tree, looked, waits):
    with ReadAhead(str(tree)) as ahead:
        read(ahead)
        ahead.expect(PENDING)
        assert not ahead.active
        assert ahead._threads == []
    assert looked == []


def test_the_next_folders_are_looked_at_once_each(tree, looked, waits):
    waits["a file"] = 1
    with ReadAhead(str(tree)) as ahead:
        read(ahead)
        assert ahead.active
        for _ in range(2):
            ahead.expect(PENDING)
        drain(ahead)
    assert sorted(looked) == ["s02", "s03", "s04", "s05"]


def test_it_is_judged_anew_after_some_folders(tree, looked, waits, monkeypatch):
    monkeypatch.setattr(readahead, "_FOLDERS_AHEAD", 2)
    waits["a file"] = 1
    with ReadAhead(str(tree)) as ahead:
        read(ahead)
        ahead.expect(PENDING)
        ahead.expect(PENDING[:-1])
        assert not ahead.active
        waits["a file"] = 0
        read(ahead)
        assert not ahead.active


def test_a_folder_that_cannot_be_read_ends_nothing(tree, looked, waits):
    waits["a file"] = 1
    with ReadAhead(str(tree)) as ahead:
        read(ahead)
        ahead.expect(["s03", "nowhere", "s01"])
        drain(ahead)
    assert looked == ["s03"]


@pytest.mark.parametrize("gone", [False, True])
def test_a_sweep_that_reads_ahead_sees_the_same(tree, clock, kinds, waits, looked, gone, monkeypatch):
    waits["a file"] = 1
    real = walker.read_folder

    def read_slowly(descriptor, folder):
        time.sleep(0.01)
        return real(descriptor, folder)

    monkeypatch.setattr(walker, "read_folder", read_slowly)
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
