import errno
import os
import stat
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tomovault.core.errors import AreaAbsent, Refused, Transient, UserError
from tomovault.tiers import ground as grounds
from tomovault.tiers import quarantine as q
from tomovault.tiers.note import NOTE, OPENING, leave_note


def test_everything_goes_in_and_comes_back_as_it_was(scan):
    before = scan.tree(scan.root)
    states = {n: os.lstat(scan.root / n) for n in scan.names}
    outcome = scan.move()
    assert sorted(outcome.moved) == sorted(scan.names)
    assert outcome.bytes == sum(s.st_size for s in states.values())
    assert (outcome.left, outcome.missing) == ([], [])
    assert scan.tree(scan.root) == {}
    assert scan.tree(scan.inside) == before
    assert scan.back() == (6, outcome.bytes, [])
    assert scan.tree(scan.root) == before
    after = {n: os.lstat(scan.root / n) for n in scan.names}
    assert {n: (s.st_ino, s.st_mtime_ns, s.st_mode) for n, s in after.items()} == {
        n: (s.st_ino, s.st_mtime_ns, s.st_mode) for n, s in states.items()
    }
    assert not os.path.exists(scan.place.quarantine)


def test_subfolders_stay_for_the_hold_and_go_with_the_bytes(scan):
    scan.move()
    assert (scan.root / "sub" / "deep").is_dir()
    files, size, left = scan.empty()
    assert (files, left) == (6, [])
    assert size > 400
    assert list(scan.root.iterdir()) == []
    assert scan.root.is_dir()
    assert not os.path.exists(scan.place.quarantine)


def test_others_cannot_look_into_quarantine(scan):
    scan.move()
    for folder in (scan.area / ".tomovault" / "quarantine", scan.inside, scan.inside / "sub" / "deep"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    journal = scan.inside.parent / "journal.jsonl"
    assert stat.S_IMODE(journal.stat().st_mode) == 0o600


def test_files_that_are_not_of_the_scan_stay_and_keep_their_folder(scan):
    (scan.root / "sub" / "notes.txt").write_text("mine")
    scan.move()
    scan.empty()
    assert scan.tree(scan.root) == {"sub/notes.txt": b"mine"}
    assert not (scan.root / "sub" / "deep").exists()


def test_what_another_scan_needs_stays(scan):
    outcome = scan.move(keep=["f1.edf"])
    assert outcome.left == ["f1.edf: another scan needs it"]
    assert scan.tree(scan.root) == {"f1.edf": b"\x01" * 101}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda f: f.write_bytes(f.read_bytes() + b"more"), "has grown"),
        (lambda f: f.write_bytes(b"x" * f.stat().st_size), "has other content"),
        (lambda f: f.write_bytes(b"x"), "has become shorter"),
        (lambda f: (f.unlink(), f.mkdir()), "is not a regular file any more"),
        (lambda f: (f.unlink(), f.symlink_to("f1.edf")), "is not a regular file any more"),
        (lambda f: (f.unlink(), os.mkfifo(f)), "is not a regular file any more"),
    ],
)
def test_a_file_that_changed_stays_and_is_reported(scan, change, why):
    change(scan.root / "f0.edf")
    outcome = scan.move(scan.victims)
    assert outcome.left == [f"f0.edf: {why}"]
    assert os.path.lexists(scan.root / "f0.edf")
    assert "f0.edf" not in outcome.moved


def test_a_touched_file_with_the_same_bytes_goes(scan, bucket):
    os.utime(scan.root / "f2.edf", ns=(1, 1))
    assert "f2.edf" in scan.move(scan.victims).moved
    assert bucket.spent == 102


def test_a_link_that_points_elsewhere_stays(scan):
    (scan.root / "link").unlink()
    os.symlink("f3.edf", scan.root / "link")
    assert scan.move(scan.victims).left == ["link: points elsewhere now"]


def test_unknown_times_force_a_re_hash(scan, bucket):
    victims = [scan.victim(n, known=False) for n in scan.names]
    assert len(scan.move(victims).moved) == 6
    assert bucket.spent == sum(v.size for v in victims if v.link_target is None)


def test_hard_links_of_one_file_go_and_come_back(scan):
    os.link(scan.root / "f0.edf", scan.root / "f0again.edf")
    names = [*scan.names, "f0again.edf"]
    assert len(scan.move([scan.victim(n) for n in names]).moved) == 7
    assert scan.back()[0] == 7
    assert (scan.root / "f0.edf").samefile(scan.root / "f0again.edf")
    scan.move([scan.victim(n) for n in names])
    assert scan.empty()[0::2] == (7, [])


# --- absence is never an order -----------------------------------------------------------------------


def test_a_missing_package_is_no_removal(scan):
    """One missing file of one: nothing of it may be called removed."""
    with pytest.raises(Refused, match="missing") as refused:
        scan.move([q.Victim("gone.tomo.h5", 10, "0" * 64)])
    assert refused.value.by.startswith("law 3")


@pytest.mark.parametrize(("total", "wrong", "brake"), [(1, 1, True), (3, 1, False), (2, 1, True), (7, 3, False)])
def test_half_of_a_small_scan_missing_is_not_believed(total, wrong, brake):
    assert q.too_many(wrong, total) is brake


@given(st.integers(1, 5000))
@settings(max_examples=50, deadline=None)
def test_more_than_three_and_one_percent_is_too_many(total):
    allowed = max(3, total // 100)
    assert q.too_many(allowed + 1, total)
    assert not q.too_many(0, total)
    assert q.too_many(allowed, total) is (2 * allowed >= total)


def test_a_few_missing_files_are_reported(scan):
    (scan.root / "f0.edf").unlink()
    outcome = scan.move(scan.victims)
    assert outcome.missing == ["f0.edf"]
    assert len(outcome.moved) == 5


def test_a_scan_folder_replaced_by_a_link_moves_nothing(scan, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    scan.root.rename(elsewhere)
    scan.root.symlink_to(elsewhere)
    with pytest.raises(Refused):
        scan.move(scan.victims)
    assert len(scan.tree(elsewhere)) == 6


def test_a_subfolder_replaced_by_a_link_is_left(scan, tmp_path):
    (scan.root / "sub").rename(tmp_path / "sub")
    (scan.root / "sub").symlink_to(tmp_path / "sub")
    outcome = scan.move(scan.victims)
    assert outcome.left == ["sub/deep/g.edf: a link or a file stands where a folder was"]
    assert (tmp_path / "sub" / "deep" / "g.edf").exists()


def test_a_quarantine_that_is_a_link_is_not_entered(scan, tmp_path):
    (scan.area / ".tomovault").mkdir()
    (tmp_path / "trap").mkdir()
    (scan.area / ".tomovault" / "quarantine").symlink_to(tmp_path / "trap")
    with pytest.raises(OSError, match=r"Not a directory|Too many levels"):
        scan.move(scan.victims)
    assert len(scan.tree(scan.root)) == 6


def test_an_area_that_is_not_there_is_absent(scan):
    scan.area.rename(scan.area.with_name("unmounted"))
    with pytest.raises(AreaAbsent):
        scan.move(scan.victims)


@pytest.mark.parametrize("path", ["../escape", "a/../../b", "/etc/passwd", "a//b", "."])
def test_a_path_that_leads_out_is_refused(scan, path):
    with pytest.raises((UserError, Refused)):
        scan.move([q.Victim(path, 1, "0" * 64)])


def test_a_root_that_is_not_in_the_area_is_refused(scan, tmp_path):
    with pytest.raises(UserError, match="is not below"):
        _ = q.Place(str(scan.area), str(tmp_path / "areal"), "").scan_parts


def test_nothing_as_it_was_packed_is_no_removal(scan):
    for name in scan.names[:4]:
        (scan.root / name).write_bytes(b"z" * 500)
    with pytest.raises(Refused, match="has grown"):
        scan.move([v for v in scan.victims if v.path.startswith("f")])


def test_an_io_error_stops_all(scan, monkeypatch):
    def fail(*_args, **_more):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(q, "move", fail)
    with pytest.raises(Transient, match="Input/output"):
        scan.move()
    assert len(scan.tree(scan.root)) == 6


def test_many_refusals_of_the_file_system_brake(scan, monkeypatch):
    def fail(*_args, **_more):
        raise OSError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(q, "move", fail)
    with pytest.raises(Refused, match="Permission denied") as refused:
        scan.move()
    assert "brake" in refused.value.by


def test_a_lost_claim_stops_before_the_next_file(scan):
    answers = iter([True, True, False])
    with pytest.raises(Transient, match="claim"):
        scan.move(may_continue=lambda: next(answers))
    assert len(scan.tree(scan.inside)) == 2
    answers = iter([True, False])
    scan.move(scan.victims)
    with pytest.raises(Transient, match="claim"):
        scan.empty(may_continue=lambda: next(answers))
    assert len(scan.tree(scan.inside)) == 5


def test_a_claim_lost_while_a_file_is_read_stops_before_that_file(scan):
    """To hash one may take minutes: the claim is asked for right before the rename and before the unlink."""
    read = []
    claim = {"throttle": SimpleNamespace(spend=read.append), "may_continue": lambda: not read}
    before = scan.tree(scan.root)
    with pytest.raises(Transient, match="nothing more was moved"):
        scan.move([scan.victim(n, known=False) for n in scan.names], **claim)
    assert (len(read), scan.tree(scan.root)) == (1, before)
    scan.move(scan.victims)
    os.utime(scan.inside / "f0.edf", ns=(1, 1))
    read.clear()
    with pytest.raises(Transient, match="nothing more was removed"):
        scan.empty(**claim)
    assert (len(read), scan.tree(scan.inside)) == (1, before)


def test_an_undo_whose_claim_is_lost_puts_nothing_more_back(scan):
    scan.move()
    answers = iter([True, True, False])
    with pytest.raises(Transient, match="nothing more was put back"):
        scan.back(may_continue=lambda: next(answers))
    assert (len(scan.tree(scan.inside)), len(scan.tree(scan.root))) == (4, 2)
    assert scan.back()[0::2] == (6, [])


def test_a_file_swapped_between_check_and_move_goes_back(scan, monkeypatch):
    real = q.move

    def swap(source, target, name):
        if name == "f1.edf" and _swapped == []:
            _swapped.append(name)
            (scan.root / name).unlink()
            (scan.root / name).write_bytes(b"new and precious")
        real(source, target, name)

    _swapped = []
    monkeypatch.setattr(q, "move", swap)
    outcome = scan.move()
    assert outcome.left == ["f1.edf: was replaced while it was checked"]
    assert (scan.root / "f1.edf").read_bytes() == b"new and precious"


# --- undo and phase two ------------------------------------------------------------------------------


def test_undo_never_overwrites(scan):
    scan.move()
    (scan.root / "f0.edf").write_bytes(b"a new scan")
    files, _, conflicts = scan.back()
    assert (files, conflicts) == (5, ["f0.edf: something else stands in its place"])
    stock = q.take_stock(scan.place)
    assert (list(stock.kept), dict(stock.removed)) == (["f0.edf"], {})
    assert (scan.root / "f0.edf").read_bytes() == b"a new scan"
    assert scan.tree(scan.inside) == {"f0.edf": b"\0" * 100}
    (scan.root / "f0.edf").unlink()
    assert scan.back()[0::2] == (6, [])


def test_undo_makes_a_lost_subfolder_again(scan):
    scan.move()
    (scan.root / "sub" / "deep").rmdir()
    (scan.root / "sub").rmdir()
    assert scan.back()[0::2] == (6, [])
    assert (scan.root / "sub" / "deep" / "g.edf").read_bytes() == b"deep"


def test_undo_where_a_link_stands_for_a_folder_is_a_conflict(scan, tmp_path):
    scan.move()
    (scan.root / "sub" / "deep").rmdir()
    (scan.root / "sub").rmdir()
    (tmp_path / "trap").mkdir()
    (scan.root / "sub").symlink_to(tmp_path / "trap")
    assert len(scan.back()[2]) == 1
    assert list((tmp_path / "trap").iterdir()) == []


def test_undo_works_where_the_kernel_has_no_exclusive_rename(scan, monkeypatch):
    def old_kernel(*_arguments):
        grounds.ctypes.set_errno(errno.EINVAL)
        return -1

    monkeypatch.setattr(grounds.ctypes, "CDLL", lambda *_a, **_k: SimpleNamespace(renameat2=old_kernel))
    scan.move()
    (scan.root / "f0.edf").write_bytes(b"other")
    files, _, conflicts = scan.back()
    assert (files, len(conflicts)) == (5, 1)
    assert (scan.root / "f0.edf").read_bytes() == b"other"


def test_a_file_written_to_in_quarantine_is_not_removed(scan):
    """A program that had it open goes on writing: same size, other bytes."""
    with open(scan.root / "f3.edf", "r+b") as held:
        scan.move()
        held.write(b"late")
    files, _, left = scan.empty()
    assert files == 5
    assert left == ["f3.edf: is not the file that was put into quarantine"]
    assert (scan.inside / "f3.edf").exists()


def test_one_without_a_digest_that_was_written_to_in_quarantine_is_not_removed(scan):
    """That no digest is known of it does not mean that its bytes may be any."""
    victims = [replace(v, sha256="") if v.path == "f3.edf" else v for v in scan.victims]
    with open(scan.root / "f3.edf", "r+b") as held:
        assert "f3.edf" in scan.move(victims).moved
        held.write(b"late")
    assert scan.empty()[2] == ["f3.edf: is not the file that was put into quarantine"]


def test_odd_names_survive_the_journal(scan):
    name = os.fsdecode(b"b\xffd\n\"'\\ \xe2\x80\xae.edf")
    (scan.root / name).write_bytes(b"odd")
    victim = scan.victim(name)
    assert scan.move([*scan.victims, victim]).moved[-1] == name
    assert scan.back()[0] == 7
    assert (scan.root / name).read_bytes() == b"odd"


def test_two_removals_in_one_area_wait_for_each_other(scan):
    import threading

    order = []
    with grounds.Ground(str(scan.area)) as ground, ground.locked():
        other = threading.Thread(target=lambda: (scan.move(), order.append("moved")))
        other.start()
        other.join(0.3)
        order.append("released")
    other.join(10)
    assert order == ["released", "moved"]


# --- the note ----------------------------------------------------------------------------------------


def test_a_note_is_left_replaced_and_taken_away(scan):
    note = scan.root / NOTE
    for text in (f"{OPENING}first", f"{OPENING}second \udcff"):
        leave_note(str(scan.area), str(scan.root), text, "j1", lambda _n: None)
    assert note.read_text() == f"{OPENING}second \\udcff"
    assert stat.S_IMODE(note.stat().st_mode) == 0o644
    leave_note(str(scan.area), str(scan.root), "", "j1", lambda _n: None)
    assert not note.exists()
    assert [p.name for p in (scan.area / ".tomovault").iterdir()] == []


def test_a_note_never_follows_a_link(scan, tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("mine")
    (scan.root / NOTE).symlink_to(precious)
    leave_note(str(scan.area), str(scan.root), OPENING, "j1", lambda _n: None)
    assert precious.read_text() == "mine"
    assert (scan.root / NOTE).is_symlink(), "nor does it take the place of one"
