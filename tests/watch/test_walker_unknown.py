import errno
import os
import shutil
import time

import pytest

from tomovault.core.scan import Candidate
from tomovault.watch import walker as walker_module
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
