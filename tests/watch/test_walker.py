import os
import shutil
import time

import pytest

from tomovault.core.scan import Candidate
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
    known.append((Candidate("series", str(area / "deep" / "unsettled")), ""))
    write_scan(area / "grown", frames=4)
    again = Walker(str(area), [kinds.series], clock=clock, quiet_s=QUIET, recent_s=RECENT)
    again.prime(known)
    sweep = again.sweep()
    assert {os.path.basename(s.candidate.folder): s.settled for s in sweep.seen} == {"same": True, "grown": False}
    assert names(sweep.vanished) == ["gone", "unsettled"]
    assert again.sweep().vanished == ()


def test_what_was_no_scan_vanishes_without_a_brake_unless_it_changed_since(area, watch, clock, write_scan):
    write_scan(area / "stay")
    for n in range(4):
        write_scan(area / f"changed{n}")
    changing = [(Candidate("series", str(area / f"changed{n}")), "0" * 64) for n in range(4)]
    gone = [(Candidate("series", str(area / f"gone{n}")), "0" * 64) for n in range(6)]
    watch.prime([*gone, *changing], no_scans=True)
    sweep = watch.sweep()
    assert sweep.stopped == ""
    assert names(sweep.vanished) == [f"gone{n}" for n in range(6)]
    assert {count for _, count in sweep.absent} == {1}, "and it is believed slowly, as all that vanishes"
    for candidate, _ in changing:
        shutil.rmtree(candidate.folder)
    assert "4 of" in watch.sweep(full=True).stopped, "what changed may have been a scan"


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


@pytest.mark.parametrize("year", [1800, 2300])
def test_a_date_far_away_hides_nothing(area, watch, clock, write_scan, year):
    write_scan(area / "s", frames=3)
    write_scan(area / "t", frames=3)
    far = (year - 1970) * 31_556_952
    os.utime(next(area.glob("s/*.edf")), (far, far))
    watch.sweep(full=True)
    clock.pass_(QUIET)
    again = watch.sweep(full=True)
    assert names(again.seen) == ["s", "t"]
    assert all(s.settled for s in again.seen)


# --- symbolic links ---


def linked(sweep):
    return {os.path.basename(found.folder): dict(found.links) for found in sweep.links}


def test_links_are_told_once_and_again_where_they_change(area, watch, clock, write_scan):
    write_scan(area / "one")
    (area / "paper").mkdir()
    (area / "paper" / "figure").symlink_to("../one/s0001.edf")
    (area / "one" / "best").symlink_to("s0002.edf")
    assert linked(watch.sweep()) == {"paper": {"figure": "../one/s0001.edf"}, "one": {"best": "s0002.edf"}}
    assert settle(watch, clock).links == ()
    (area / "paper" / "figure").unlink()
    (area / "paper" / "figure").symlink_to("../one/s0000.edf")
    next_tick()
    assert linked(watch.sweep()) == {"paper": {"figure": "../one/s0000.edf"}}
    (area / "one" / "best").unlink()
    shutil.rmtree(area / "paper")
    next_tick()
    assert linked(watch.sweep()) == {"paper": {}, "one": {}}
    assert watch.sweep().links == ()
