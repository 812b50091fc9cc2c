import errno
import os
import shutil
import stat as st_
import tempfile
import time

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from tomovault.core.scan import Candidate
from tomovault.watch.listing import list_folder
from tomovault.watch.sweep import missing_brake
from tomovault.watch.walker import Walker

QUIET, RECENT = 60.0, 600.0


@pytest.fixture(autouse=True)
def no_descriptor_leaks():
    before = len(os.listdir("/proc/self/fd"))
    yield
    assert len(os.listdir("/proc/self/fd")) == before


def names(items):
    return sorted(os.path.basename(getattr(i, "candidate", i).folder) for i in items)


def settle(watch, clock):
    """Sweep until everything is settled for long and the gates are closed."""
    for _ in range(3):
        watch.sweep()
        clock.pass_(RECENT + 1)
    next_tick()
    return watch.sweep()


def next_tick():
    """The kernel stamps folders with a clock of 4 ms or so; virtual time is no excuse for changes within one tick."""
    time.sleep(0.011)


# --- gone ---


def test_vanished_is_told_once_and_counted_until_forgotten(area, watch, clock, write_scan):
    write_scan(area / "p" / "q" / "s")
    write_scan(area / "p" / "t")
    write_scan(area / "stay")
    settle(watch, clock)
    shutil.rmtree(area / "p")
    sweep = watch.sweep()
    assert names(sweep.vanished) == ["s", "t"]
    assert sweep.stopped == ""
    sweep = watch.sweep()
    assert sweep.vanished == ()
    assert [count for _, count in sweep.absent] == [2, 2]
    watch.forget(c for c, _ in sweep.absent)
    assert watch.sweep().absent == ()


def test_absence_is_not_confirmed_where_the_place_cannot_be_read(area, watch, clock, write_scan, failing_open):
    write_scan(area / "p" / "s")
    write_scan(area / "p" / "t")
    settle(watch, clock)
    shutil.rmtree(area / "p" / "s")
    assert [n for _, n in watch.sweep().absent] == [1]
    failing_open["p"] = errno.EACCES
    assert [n for _, n in watch.sweep(full=True).absent] == [1]


def test_what_comes_back_is_a_first_sight(area, watch, clock, tmp_path, write_scan):
    write_scan(area / "s")
    write_scan(area / "t")
    settle(watch, clock)
    os.rename(area / "s", tmp_path / "s")
    assert names(watch.sweep().vanished) == ["s"]
    os.rename(tmp_path / "s", area / "s")
    sweep = watch.sweep()
    assert names(sweep.unsettled) == ["s"] == names(sweep.changed)
    assert sweep.absent == ()


def test_removal_of_the_members_alone_is_a_vanished_scan(area, watch, clock, write_scan):
    write_scan(area / "s")
    settle(watch, clock)
    for path in (area / "s").glob("*.edf"):
        path.unlink()
    (area / "s" / "notes.txt").touch()
    assert names(watch.sweep().vanished) == ["s"]


def test_our_own_removals_are_not_missing(area, watch, clock, write_scan):
    for index in range(10):
        write_scan(area / f"s{index}")
    sweep = settle(watch, clock)
    gone = [s.candidate for s in sweep.seen[:6]]
    for candidate in gone:
        shutil.rmtree(candidate.folder)
    watch.forget(gone)
    sweep = watch.sweep()
    assert (sweep.vanished, sweep.stopped) == ((), "")
    assert len(sweep.seen) == 4


def test_what_we_take_away_during_a_sweep_is_not_missing(area, watch, clock, write_scan):
    for index in range(10):
        write_scan(area / f"s{index}")
    gone = [s.candidate for s in settle(watch, clock).seen[:6]]
    for candidate in gone:
        shutil.rmtree(candidate.folder)
    sweep = watch.sweep(listen=lambda: watch.forget(gone))
    assert (sweep.vanished, sweep.absent, sweep.stopped) == ((), (), "")
    assert watch.sweep().vanished == ()


def test_what_is_leaving_is_not_missing_until_it_is_said_to_stay(area, watch, clock, write_scan):
    for index in range(10):
        write_scan(area / f"s{index}")
    leaving = [s.candidate for s in settle(watch, clock).seen[:6]]
    watch.let_leave(leaving)
    for candidate in leaving[:5]:
        shutil.rmtree(candidate.folder)
    for _ in range(2):
        sweep = watch.sweep()
        assert (sweep.vanished, sweep.absent, sweep.stopped) == ((), (), "")
    watch.forget(leaving[:1])
    watch.keep(leaving[1:])
    sweep = watch.sweep()
    assert len(sweep.vanished) == 4
    assert "scans are missing in one sweep" in sweep.stopped
    assert len(sweep.seen) == 5, "one that stayed is seen as ever"


def test_forgetting_what_is_still_there_makes_it_a_first_sight(area, watch, clock, write_scan):
    write_scan(area / "s")
    sweep = settle(watch, clock)
    watch.forget([sweep.seen[0].candidate])
    assert not watch.sweep().seen[0].settled


def test_too_many_missing_at_once_stop_until_they_are_back_or_forgotten(area, watch, clock, tmp_path, write_scan):
    for index in range(10):
        write_scan(area / f"s{index}")
    settle(watch, clock)
    for index in range(4):
        os.rename(area / f"s{index}", tmp_path / f"s{index}")
    for _ in range(2):
        sweep = watch.sweep()
        assert sweep.stopped == "4 of 10 scans are missing in one sweep"
        assert len(sweep.vanished) == 4
        assert sweep.absent == (), "what is not believed is not confirmed"
    os.rename(tmp_path / "s0", area / "s0")
    sweep = watch.sweep()
    assert sweep.stopped == ""
    assert len(sweep.vanished) == 3


@pytest.mark.parametrize(
    ("before", "gone", "stops"),
    [(0, 0, False), (3, 3, False), (4, 4, True), (300, 3, False), (300, 4, True), (1000, 10, False), (1000, 11, True)],
)
def test_brake(before, gone, stops):
    assert missing_brake(before, gone) is stops


# --- any history ---


class AnyHistory(RuleBasedStateMachine):
    """Whatever writers do, the walker agrees with a plain reading of the tree, and settles only what rests."""

    folders = st.sampled_from(["a", "b", "a/c", "a/d", "a/c/e"])

    @initialize()
    def start(self):
        self.top = tempfile.mkdtemp()
        os.mkdir(os.path.join(self.top, "anchor"))
        self.now = 0.0
        self.walker = Walker(self.top, [Series()], clock=lambda: self.now, quiet_s=10.0, recent_s=50.0)
        self.changed_at = {}
        self.known = set()

    def teardown(self):
        shutil.rmtree(getattr(self, "top", ""), ignore_errors=True)

    @rule(folder=folders, name=st.sampled_from("xy"), replace=st.booleans())
    def write(self, folder, name, replace):
        next_tick()
        path = os.path.join(self.top, folder)
        os.makedirs(path, exist_ok=True)
        target = os.path.join(path, name + ".edf")
        if replace and os.path.exists(target):
            os.unlink(target)
        with open(target, "ab") as stream:
            stream.write(b"z")
        self.changed_at[path] = self.now

    @rule(folder=folders)
    def remove(self, folder):
        next_tick()
        path = os.path.join(self.top, folder)
        shutil.rmtree(path, ignore_errors=True)
        self.changed_at = {f: t for f, t in self.changed_at.items() if f != path and not f.startswith(path + "/")}

    @rule(seconds=st.sampled_from([1.0, 9.0, 11.0, 60.0, 130.0]))
    def wait(self, seconds):
        self.now += seconds

    @rule(full=st.booleans())
    def sweep(self, full):
        self.look(full)

    def look(self, full):
        sweep = self.walker.sweep(full=full)
        assert sweep.unreadable == ()
        there = {s.candidate.folder: s for s in sweep.seen}
        if sweep.stopped:
            assert len(sweep.vanished) > 3
        assert set(there) == set(self.changed_at)
        for folder, seen in there.items():
            assert not seen.settled or self.now - self.changed_at[folder] >= 10.0 or not full
        told = {c.folder for c in sweep.vanished}
        assert told.isdisjoint(there)
        assert self.known - set(there) <= told
        self.known = set(there) | (told if sweep.stopped else set())
        return sweep

    @rule()
    def everything_settles_in_the_end(self):
        self.look(True)
        self.now += 10.0
        assert self.look(True).unsettled == ()


class Series:
    name = "series"

    def recognise(self, listing):
        return [Candidate("series", listing.folder)] if any(n.endswith(".edf") for n in listing.files) else []

    def members(self, candidate, listing):
        return list(listing.files), []


AnyHistory.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
TestAnyHistory = AnyHistory.TestCase


def test_states_are_those_of_lstat(area, watch, kinds):
    (area / "s").mkdir()
    (area / "s" / "f.edf").write_bytes(b"abc")
    os.symlink("f.edf", area / "s" / "l")
    listing = list_folder(str(area / "s"))
    assert sorted(listing.files) == ["f.edf", "l"]
    assert len(listing.files) == 2
    assert "f.edf" in listing.files
    assert "none" not in listing.files
    state, real = listing.files["f.edf"], os.lstat(area / "s" / "f.edf")
    assert (state.path, state.size, state.mtime_ns, state.ctime_ns, state.inode, state.device, state.mode) == (
        "f.edf",
        3,
        real.st_mtime_ns,
        real.st_ctime_ns,
        real.st_ino,
        real.st_dev,
        real.st_mode,
    )
    assert (state.uid, state.gid, state.link_target) == (real.st_uid, real.st_gid, None)
    assert listing.files["l"].link_target == "f.edf"
    assert st_.S_ISLNK(listing.files["l"].mode)
    with pytest.raises(OSError, match="s/l"):
        list_folder(str(area / "s" / "l"))
