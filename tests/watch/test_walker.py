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
from tomovault.watch import walker as walker_module
from tomovault.watch.listing import list_folder
from tomovault.watch.sweep import missing_brake
from tomovault.watch.walker import Walker

QUIET, RECENT = 60.0, 600.0


@pytest.fixture
def area(tmp_path):
    folder = tmp_path / "area"
    folder.mkdir()
    (folder / ".tomovault").mkdir()
    (folder / ".tomovault" / "hidden.edf").touch()
    return folder


@pytest.fixture
def watch(area, clock, kinds):
    return Walker(str(area), [kinds.series, kinds.master], clock=clock, quiet_s=QUIET, recent_s=RECENT)


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


# --- finding and settling ---


def test_finds_scans_at_any_depth_and_settles_them_after_the_quiet_time(area, watch, clock, write_scan):
    write_scan(area / "p" / "one", frames=3, size=10)
    write_scan(area / "two")
    first = watch.sweep()
    assert names(first.seen) == ["one", "two"] == names(first.changed) == names(first.unsettled)
    one = next(s for s in first.seen if s.candidate.folder.endswith("one"))
    assert one.listing_bytes == 30
    assert one.newest == max(os.lstat(area / "p" / "one" / n).st_mtime_ns for n in os.listdir(area / "p" / "one"))
    clock.pass_(QUIET - 1)
    assert not any(s.settled for s in watch.sweep().seen)
    clock.pass_(1)
    second = watch.sweep()
    assert all(s.settled and s.quiet_for_s >= QUIET for s in second.seen)
    assert names(second.changed) == ["one", "two"]
    assert watch.sweep().changed == ()
    assert second.stopped == ""
    assert (second.unreadable, second.vanished) == ((), ())


def test_a_new_file_and_a_grown_file_start_the_clock_again(area, watch, clock, write_scan):
    folder = write_scan(area / "s")
    settle(watch, clock)
    with open(os.path.join(folder, "s0003.edf"), "wb") as stream:
        stream.write(b"x")
    sweep = watch.sweep()
    assert not sweep.seen[0].settled
    assert sweep.changed == sweep.seen
    clock.pass_(QUIET - 1)
    with open(os.path.join(folder, "s0003.edf"), "ab") as stream:
        stream.write(b"x")
    watch.sweep()
    clock.pass_(QUIET - 1)
    assert not watch.sweep().seen[0].settled
    clock.pass_(1)
    assert watch.sweep().seen[0].settled


def test_files_that_are_no_members_do_not_unsettle(area, watch, clock, write_scan):
    folder = write_scan(area / "s")
    settle(watch, clock)
    with open(os.path.join(folder, "s.vol"), "wb") as stream:
        stream.write(b"x")
    assert watch.sweep().seen[0].settled


@pytest.mark.parametrize("years", [-10, 0, 10])
def test_times_of_the_server_do_not_matter(area, watch, clock, write_scan, years):
    folder = write_scan(area / "s")
    when = 1_700_000_000 + years * 31_000_000
    for name in os.listdir(folder):
        os.utime(os.path.join(folder, name), (when, when))
    assert not watch.sweep().seen[0].settled
    clock.pass_(QUIET)
    assert watch.sweep().seen[0].settled


def test_a_rewrite_with_the_old_size_and_time_restored_is_seen_by_the_inode(area, watch, clock, write_scan):
    folder = write_scan(area / "s")
    path = os.path.join(folder, "s0000.edf")
    old = os.stat(path)
    settle(watch, clock)
    with open(path + ".new", "wb") as stream:
        stream.write(b"y" * old.st_size)
    os.utime(path + ".new", ns=(old.st_atime_ns, old.st_mtime_ns))
    os.replace(path + ".new", path)
    assert not watch.sweep().seen[0].settled


def test_files_in_member_folders_belong_to_the_candidate(area, watch, clock):
    (area / "d" / "scan0001").mkdir(parents=True)
    (area / "d" / "other").mkdir()
    (area / "d" / "d.h5").write_bytes(b"m")
    (area / "d" / "scan0001" / "cam_0000.h5x").write_bytes(b"12345")
    sweep = settle(watch, clock)
    assert sweep.seen[0].listing_bytes == 6
    gated = watch.sweep()
    assert gated.listed == 0
    (area / "d" / "scan0001" / "cam_0001.h5x").write_bytes(b"1")
    (area / "d" / "other" / "note.txt").write_bytes(b"1")
    sweep = watch.sweep()
    assert (sweep.seen[0].settled, sweep.seen[0].listing_bytes) == (False, 7)


def test_several_candidates_in_one_folder_settle_apart(area, watch, clock):
    for name in ("a.h5", "b.h5"):
        (area / name).write_bytes(b"1")
    watch.sweep()
    clock.pass_(QUIET)
    (area / "b.h5").write_bytes(b"22")
    assert {s.candidate.key: s.settled for s in watch.sweep().seen} == {"a.h5": True, "b.h5": False}


def test_prime_settles_what_was_inspected_and_tells_what_is_gone(area, watch, clock, kinds, write_scan):
    write_scan(area / "same")
    write_scan(area / "grown")
    known = [(s.candidate, s.snapshot) for s in watch.sweep().seen]
    known.append((Candidate("series", str(area / "deep" / "gone")), "0" * 64))
    write_scan(area / "grown", frames=4)
    again = Walker(str(area), [kinds.series], clock=clock, quiet_s=QUIET, recent_s=RECENT)
    again.prime(known)
    sweep = again.sweep()
    assert {os.path.basename(s.candidate.folder): s.settled for s in sweep.seen} == {"same": True, "grown": False}
    assert names(sweep.vanished) == ["gone"]
    assert again.sweep().vanished == ()


def test_prime_refuses_what_is_outside(area, watch):
    with pytest.raises(ValueError, match="not in the area"):
        watch.prime([(Candidate("series", str(area) + "2/s"), "0")])


def test_a_format_that_is_not_watched_any_more_makes_nothing_vanish(area, watch):
    (area / "s").mkdir()
    watch.prime([(Candidate("other", str(area / "s")), "0")])
    sweep = watch.sweep()
    assert (sweep.vanished, sweep.stopped) == ((), "")


# --- the gate ---


def test_a_full_sweep_asks_for_each_file_and_folder_once(area, watch, clock, write_scan):
    for index in range(10):
        write_scan(area / f"s{index}", frames=7)
    settle(watch, clock)
    sweep = watch.sweep(full=True)
    assert (sweep.folders, sweep.listed, sweep.stats) == (11, 11, 11 + 70)


def test_a_quiet_tree_costs_one_stat_a_folder_and_no_listing(area, watch, clock, write_scan):
    for index in range(50):
        write_scan(area / f"p{index % 5}" / f"s{index}", frames=4)
    settle(watch, clock)
    sweep = watch.sweep()
    assert (sweep.folders, sweep.listed, sweep.stats) == (56, 0, 56)
    assert len(sweep.seen) == 50


def test_recent_scans_are_listed_again_although_settled(area, watch, clock, write_scan):
    write_scan(area / "s")
    watch.sweep()
    clock.pass_(RECENT - 1)
    sweep = watch.sweep()
    assert sweep.seen[0].settled
    with open(area / "s" / "s0000.edf", "r+b") as stream:
        stream.truncate(3)  # in place: the folder's time stays
    assert not watch.sweep().seen[0].settled


def test_a_new_scan_below_gated_folders_is_found_at_once(area, watch, clock, write_scan):
    write_scan(area / "p" / "q" / "old")
    settle(watch, clock)
    assert watch.sweep().listed == 0
    write_scan(area / "p" / "q" / "new")
    sweep = watch.sweep()
    assert names(sweep.changed) == ["new"]
    assert sweep.listed == 2


def test_only_a_full_sweep_sees_a_rewrite_in_place_of_a_gated_scan(area, watch, clock, write_scan):
    write_scan(area / "s")
    settle(watch, clock)
    with open(area / "s" / "s0000.edf", "r+b") as stream:
        stream.truncate(3)
    assert watch.sweep().seen[0].settled
    assert not watch.sweep(full=True).seen[0].settled
    assert not watch.sweep().seen[0].settled, "once open the gate stays open until it is quiet again"


def test_a_folder_time_put_back_does_not_close_the_gate(area, watch, clock, write_scan):
    folder = write_scan(area / "s")
    old = os.stat(folder)
    settle(watch, clock)
    write_scan(area / "s", frames=5)
    os.utime(folder, ns=(old.st_atime_ns, old.st_mtime_ns))
    assert not watch.sweep().seen[0].settled


def test_folders_without_scans_are_gated_too(area, watch, clock):
    (area / "empty").mkdir()
    (area / "s.txt").touch()
    watch.sweep()
    clock.pass_(QUIET)
    assert watch.sweep().listed == 2, "a listing may be older than the folder's time"
    clock.pass_(RECENT)
    watch.sweep()
    assert watch.sweep().listed == 0


# --- hostile ground ---


def test_hostile_names_links_and_loops(area, watch, clock, tmp_path, write_scan):
    outside = write_scan(tmp_path / "outside")
    odd = os.fsencode(area) + b"/a\nb'\"\xff\\ ;$(rm)"
    os.mkdir(odd)
    open(odd + b"/\xfe\n.edf", "wb").close()
    write_scan(area / "s")
    os.symlink(outside, area / "to_outside")
    os.symlink(area, area / "s" / "loop")
    os.symlink("nowhere", area / "s" / "dangling.edf")
    os.mkfifo(area / "s" / "pipe.edf")
    sweep = watch.sweep()
    folders = {os.fsencode(s.candidate.folder) for s in sweep.seen}
    assert folders == {odd, os.fsencode(area / "s")}
    assert sweep.unreadable == ()
    clock.pass_(QUIET)
    assert all(s.settled for s in watch.sweep().seen)


def test_ignored_names_are_not_looked_at(area, clock, kinds, write_scan):
    for name in (".tomovault", "lost+found", ".snapshot", "s"):
        write_scan(area / name)
    (area / "s" / "TOMOVAULT-README.txt").touch()
    watch = Walker(str(area), [kinds.series], clock=clock, quiet_s=QUIET)
    sweep = watch.sweep()
    assert names(sweep.seen) == ["s"]
    assert sweep.folders == 2


def test_a_scan_replaced_by_a_link_has_vanished_and_is_reported(area, watch, clock, tmp_path, write_scan):
    write_scan(area / "s")
    write_scan(area / "keep")
    settle(watch, clock)
    shutil.move(area / "s", tmp_path / "elsewhere")
    os.symlink(tmp_path / "elsewhere", area / "s")
    sweep = watch.sweep()
    assert names(sweep.vanished) == ["s"]
    assert names(sweep.seen) == ["keep"]
    [(path, reason)] = sweep.unreadable
    assert path == str(area / "s")
    assert "link" in reason


def test_a_link_put_in_place_between_listing_and_visit_is_not_followed(
    area, watch, clock, tmp_path, write_scan, monkeypatch
):
    write_scan(area / "s")
    write_scan(tmp_path / "elsewhere")
    real = walker_module.read_folder

    def swap_after(descriptor, folder):
        result = real(descriptor, folder)
        if folder == str(area) and not os.path.islink(area / "s"):
            shutil.rmtree(area / "s")
            os.symlink(tmp_path / "elsewhere", area / "s")
        return result

    monkeypatch.setattr(walker_module, "read_folder", swap_after)
    sweep = watch.sweep()
    assert sweep.seen == ()
    assert [path for path, _ in sweep.unreadable] == [str(area / "s")]
    monkeypatch.undo()
    assert "link" in watch.sweep().unreadable[0][1]
    assert watch.sweep().unreadable == ()


def test_another_file_system_is_not_entered(area, watch, clock, monkeypatch, write_scan):
    write_scan(area / "s")
    write_scan(area / "mounted" / "t")
    settle(watch, clock)
    inode = os.stat(area / "mounted").st_ino
    real = os.fstat

    def elsewhere(descriptor):
        found = real(descriptor)
        if found.st_ino != inode:
            return found
        values = list(found)
        values[2] = found.st_dev + 1
        return os.stat_result(values)

    monkeypatch.setattr(os, "fstat", elsewhere)
    sweep = watch.sweep(full=True)
    assert names(sweep.seen) == ["s"]
    assert sweep.vanished == ()
    [(path, reason)] = sweep.unreadable
    assert path == str(area / "mounted")
    assert "another file system" in reason


def test_a_bind_mount_of_the_same_file_system_is_not_entered(area, watch, monkeypatch, write_scan):
    write_scan(area / "s")
    write_scan(area / "bound" / "t")
    monkeypatch.setattr(walker_module, "mounted_below", lambda root, mounts: frozenset({"bound"}))
    sweep = watch.sweep()
    assert names(sweep.seen) == ["s"]
    assert [path for path, _ in sweep.unreadable] == [str(area / "bound")]


def test_a_very_deep_tree_needs_neither_recursion_nor_many_descriptors(area, watch, clock, write_scan):
    depth = 300
    at = os.open(area, os.O_RDONLY)
    for level in range(depth):
        os.mkdir("d", dir_fd=at)
        if level % 50 == 0:
            os.mkdir("e.side", dir_fd=at)
            os.close(os.open("e.side/x.edf", os.O_CREAT | os.O_WRONLY, dir_fd=at))
        below = os.open("d", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(os.open("x.edf", os.O_CREAT | os.O_WRONLY, dir_fd=at))
    os.close(at)
    sweep = watch.sweep()
    assert len(sweep.seen) == 7
    assert sweep.folders == 1 + depth + 6
    assert sweep.unreadable == ()
    settle(watch, clock)
    assert watch.sweep().listed == 0


# --- unknown is not gone ---


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_folder_without_rights_is_unknown(area, watch, clock, write_scan):
    write_scan(area / "p" / "s")
    settle(watch, clock)
    os.chmod(area / "p", 0)
    try:
        sweep = watch.sweep()
    finally:
        os.chmod(area / "p", 0o755)
    assert (sweep.seen, sweep.vanished) == ((), ())
    assert sweep.unreadable[0][0] == str(area / "p")


@pytest.fixture
def failing_open(monkeypatch):
    """Makes os.open of folders of some names fail."""
    real, failing = os.open, {}

    def open_(path, flags, *args, **kwargs):
        if path in failing:
            raise OSError(failing[path], os.strerror(failing[path]), path)
        return real(path, flags, *args, **kwargs)

    monkeypatch.setattr(os, "open", open_)
    return failing


@pytest.mark.parametrize("code", [errno.EACCES, errno.ESTALE, errno.EMFILE, errno.ETIMEDOUT])
def test_an_unreadable_folder_is_unknown_with_all_below_it(area, watch, clock, write_scan, failing_open, code):
    write_scan(area / "p" / "s")
    write_scan(area / "t")
    settle(watch, clock)
    failing_open["p"] = code
    for _ in range(3):
        sweep = watch.sweep(full=True)
        assert names(sweep.seen) == ["t"]
        assert (sweep.vanished, sweep.absent, sweep.stopped) == ((), (), "")
        assert sweep.unreadable == ((str(area / "p"), os.strerror(code)),)
    failing_open.clear()
    sweep = watch.sweep(full=True)
    assert all(s.settled for s in sweep.seen)
    assert names(sweep.seen) == ["s", "t"]


def test_an_io_error_stops_the_sweep_and_nothing_is_missing(area, watch, clock, write_scan, failing_open):
    write_scan(area / "a")
    write_scan(area / "b")
    settle(watch, clock)
    shutil.rmtree(area / "a")
    failing_open["b"] = errno.EIO
    sweep = watch.sweep(full=True)
    assert str(area / "b") in sweep.stopped
    assert sweep.vanished == ()
    failing_open.clear()
    assert names(watch.sweep().vanished) == ["a"]


def test_an_unreadable_member_folder_makes_the_candidate_unknown(area, watch, clock, failing_open):
    (area / "d" / "scan0001").mkdir(parents=True)
    (area / "d" / "d.h5").write_bytes(b"m")
    settle(watch, clock)
    failing_open["scan0001"] = errno.EACCES
    sweep = watch.sweep(full=True)
    assert (sweep.seen, sweep.vanished) == ((), ())
    assert {path for path, _ in sweep.unreadable} == {str(area / "d"), str(area / "d" / "scan0001")}
    failing_open.clear()
    assert watch.sweep().seen[0].settled


def test_a_format_that_fails_on_one_folder_blinds_nothing_else(area, clock, kinds, write_scan):
    write_scan(area / "odd")
    write_scan(area / "s")
    watch = Walker(str(area), [kinds.broken, kinds.series], clock=clock, quiet_s=QUIET)
    sweep = watch.sweep()
    assert names(sweep.seen) == ["odd", "s"]
    [(path, reason)] = sweep.unreadable
    assert path == str(area / "odd")
    assert "broken" in reason
    assert settle(watch, clock).unreadable == sweep.unreadable, "no gate hides it"


def test_a_missing_root_and_an_empty_root_stop(area, watch, clock, tmp_path, write_scan):
    assert watch.sweep().stopped == "", "an empty new area is just empty"
    write_scan(area / "s")
    settle(watch, clock)
    os.rename(area, tmp_path / "unmounted")
    sweep = watch.sweep()
    assert str(area) in sweep.stopped
    assert (sweep.seen, sweep.vanished) == ((), ())
    area.mkdir()
    sweep = watch.sweep()
    assert "empty" in sweep.stopped
    assert (sweep.seen, sweep.vanished, sweep.absent) == ((), (), ())
    area.rmdir()
    os.rename(tmp_path / "unmounted", area)
    sweep = watch.sweep()
    assert sweep.stopped == ""
    assert sweep.seen[0].settled


def test_an_empty_root_stops_after_a_restart_too(area, clock, watch):
    watch.prime([(Candidate("series", str(area / "s")), "0")])
    assert "empty" in watch.sweep().stopped


def test_asked_to_stop(area, watch, write_scan):
    write_scan(area / "s")
    sweep = watch.sweep(stop=lambda: True)
    assert sweep.stopped == "asked to stop"
    assert sweep.vanished == ()


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


# --- what did not change is not read anew ---


class Counting:
    """A format that counts how often it is asked what names mean."""

    def __init__(self, kind):
        self._kind = kind
        self.name = kind.name
        self.asked = 0

    def recognise(self, listing):
        self.asked += 1
        return self._kind.recognise(listing)

    def members(self, candidate, listing):
        return self._kind.members(candidate, listing)


def test_a_full_sweep_asks_no_format_about_a_folder_that_is_as_it_was(area, clock, kinds, write_scan):
    write_scan(area / "s", frames=3)
    kind = Counting(kinds.series)
    watch = Walker(str(area), [kind], clock=clock, quiet_s=QUIET)
    first = watch.sweep(full=True)
    asked = kind.asked
    clock.pass_(QUIET)
    again = watch.sweep(full=True)
    assert kind.asked == asked
    assert [(s.candidate, s.snapshot, s.listing_bytes, s.newest) for s in again.seen] == [
        (s.candidate, s.snapshot, s.listing_bytes, s.newest) for s in first.seen
    ]
    assert all(s.settled for s in again.seen)
    with open(area / "s" / "note.txt", "w", encoding="ascii") as note:
        note.write("new")
    watch.sweep(full=True)
    assert kind.asked == asked + 1


def test_a_file_rewritten_in_place_is_seen_by_a_full_sweep(area, watch, clock, write_scan):
    write_scan(area / "s", frames=3)
    settle(watch, clock)
    frame = next(area.glob("s/*.edf"))
    before = os.lstat(frame)
    frame.write_bytes(b"x" * before.st_size)
    os.utime(frame, ns=(before.st_mtime_ns, before.st_mtime_ns + 1))
    [seen] = watch.sweep(full=True).seen
    assert not seen.settled
