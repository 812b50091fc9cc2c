import os
import time

import pytest

from tomovault.watch import readahead
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
def slow(monkeypatch):
    """Every look waits, as far as anybody can tell."""
    monkeypatch.setattr(readahead, "WAITING_S", 0.0)
    monkeypatch.setattr(readahead, "_JUDGED_BY", 1)


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


def test_nobody_reads_ahead_where_looks_do_not_wait(tree, looked):
    with ReadAhead(str(tree)) as ahead:
        ahead.measured("s00", 0.001, 1000)
        ahead.expect(["s03", "s02", "s01"])
    assert looked == []


def test_the_next_folders_are_looked_at_once_each(tree, looked):
    with ReadAhead(str(tree)) as ahead:
        ahead.measured("s00", 1.0, 1000)
        assert ahead.active
        pending = [f"s{number:02d}" for number in range(11, 0, -1)]
        for _ in range(2):
            ahead.expect(pending)
        drain(ahead)
    assert sorted(looked) == ["s02", "s03", "s04", "s05"]


def test_threads_stop_where_they_find_that_looks_do_not_wait(tree, looked, monkeypatch):
    monkeypatch.setattr(readahead, "WAITING_S", 100.0)
    monkeypatch.setattr(readahead, "_JUDGED_BY", 3)
    with ReadAhead(str(tree)) as ahead:
        ahead.active = True
        ahead.expect(["s02", "s01"])
        drain(ahead)
    assert not ahead.active


@pytest.mark.parametrize("gone", [False, True])
def test_a_sweep_that_reads_ahead_sees_the_same(tree, clock, kinds, slow, looked, gone):
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
