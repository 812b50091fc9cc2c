"""prune, undo_prune and empty_quarantine on a scan that was really packed."""

import os
import shutil

import pytest

from tomovault.actions.empty_quarantine import EmptyQuarantine
from tomovault.actions.prune import Prune
from tomovault.actions.undo_prune import UndoPrune
from tomovault.core.errors import AreaAbsent, IntegrityError, Refused, Transient
from tomovault.core.record import Outcome
from tomovault.core.wire import to_plain
from tomovault.tiers.note import OPENING

NOTE = "TOMOVAULT-README.txt"


def _prune(packed, bench, form="files", **more):
    order = {
        **packed.removal(form),
        "form": form,
        "area": "inhouse",
        "manifest": packed.manifest,
        "files": to_plain(packed.files),
        "keep": [],
        "readme": f"{OPENING}one",
    }
    return Prune().perform({**order, **more}, bench)


def _undo(packed, bench, form="files", readme="", **more):
    return UndoPrune().perform({**packed.removal(form), "note": form == "files", "readme": readme, **more}, bench)


def _empty(packed, bench, form="files"):
    return EmptyQuarantine().perform({**packed.removal(form), "area": "inhouse"}, bench)


def test_files_go_with_a_note_and_come_back_without_it(packed, bench):
    result = _prune(packed, bench)
    (record,) = result.records
    assert (result.outcome, record.permit, len(record.moved), record.left) == (Outcome.SUCCEEDED, "m1", 5, ())
    assert record.bytes == sum(len(packed.before[n]) for n in packed.names[:4]) + len("f0.edf")
    assert (packed.root / NOTE).read_text() == f"{OPENING}one"
    (back,) = _undo(packed, bench).records
    assert (back.files, back.bytes, back.conflicts) == (5, record.bytes, ())
    assert {n: (packed.root / n).read_bytes() for n in packed.names} == packed.before
    assert not (packed.root / NOTE).exists()


def test_a_package_that_is_known_to_be_bad_goes_as_it_is(packed, bench):
    where = packed.files[0].location
    with open(where, "r+b") as file:
        file.truncate(100)
    with pytest.raises(Refused):
        _prune(packed, bench, "package")
    (record,) = _prune(packed, bench, "package", as_it_is=True).records
    assert len(record.moved) == len(packed.files)
    assert not os.path.exists(where)
    (back,) = _undo(packed, bench, "package").records
    assert (back.files, back.conflicts) == (len(packed.files), ())
    _prune(packed, bench, "package", as_it_is=True)
    os.chmod(packed.vault / ".tomovault" / "quarantine" / "m1" / "files" / os.path.basename(where), 0o600)
    (gone,) = _empty(packed, bench, "package").records
    assert gone.files == len(packed.files)


def test_an_undo_after_all_was_removed_says_so(packed, bench):
    """The attempt that removed it died before it could tell, and its journal was gone with the last file."""
    (there,) = _prune(packed, bench).records
    _empty(packed, bench)
    (back,) = _undo(packed, bench, moved=there.moved, moved_bytes=there.bytes).records
    assert sorted(back.conflicts) == sorted(f"{path}: was removed already" for path in there.moved)
    assert (back.files, back.kept, back.removed_files, back.removed_bytes) == (0, (), 5, there.bytes)
    assert (packed.root / NOTE).exists()


def test_an_undo_that_was_over_before_it_could_tell_is_one(packed, bench):
    (there,) = _prune(packed, bench).records
    _undo(packed, bench)
    (again,) = _undo(packed, bench, moved=there.moved, moved_bytes=there.bytes).records
    assert (again.files, again.conflicts, again.removed_files) == (5, (), 0)


def test_the_note_stays_for_other_scans(packed, bench):
    _prune(packed, bench)
    _undo(packed, bench, readme=f"{OPENING}another")
    assert (packed.root / NOTE).read_text() == f"{OPENING}another"


def test_a_file_of_a_user_by_that_name_stays(packed, bench):
    (packed.root / NOTE).write_text("mine")
    (record,) = _prune(packed, bench).records
    assert len(record.moved) == 5
    assert (packed.root / NOTE).read_text() == "mine"
    _undo(packed, bench)
    assert (packed.root / NOTE).read_text() == "mine"


def test_a_conflict_keeps_the_note(packed, bench):
    _prune(packed, bench)
    (packed.root / "f0.edf").write_bytes(b"new")
    (back,) = _undo(packed, bench).records
    assert back.conflicts == ("f0.edf: something else stands in its place",)
    assert (packed.root / NOTE).exists()


def test_phase_two_removes_what_was_moved(packed, bench):
    (moved,) = _prune(packed, bench).records
    (gone,) = _empty(packed, bench).records
    assert (gone.files, gone.bytes) == (5, moved.bytes)
    assert [p.name for p in packed.root.iterdir()] == [NOTE]
    assert _empty(packed, bench).records[0].files == 0, "again, after it was recorded"


def test_a_package_goes_without_a_note(packed, bench):
    (record,) = _prune(packed, bench, "package").records
    assert record.bytes == sum(f.size for f in packed.files)
    assert not (packed.vault / NOTE).exists()
    assert not list(packed.vault.glob("*.tomo.h5"))
    _undo(packed, bench, "package")
    assert list(packed.vault.glob("*.tomo.h5"))


def test_a_package_that_is_missing_is_not_removed(packed, bench):
    for file in packed.vault.glob("*.tomo.h5"):
        file.unlink()
    with pytest.raises(Refused, match="missing"):
        _prune(packed, bench, "package")


def test_an_unmounted_area_is_absent(packed, bench):
    """An empty folder in its place: nothing there is read as missing."""
    packed.area.rename(packed.area.with_name("was"))
    packed.area.mkdir()
    for step in (_prune, _undo, _empty):
        with pytest.raises(AreaAbsent, match="marker"):
            step(packed, bench)
    assert list(packed.area.iterdir()) == []


def test_another_area_in_its_place_is_absent(packed, bench):
    marker = packed.area / ".tomovault" / "area.json"
    marker.write_text(marker.read_text().replace(packed.identity.uuid, "0" * 8 + packed.identity.uuid[8:]))
    with pytest.raises(AreaAbsent, match="another area"):
        _prune(packed, bench)


def test_a_lost_claim_moves_nothing(packed, bench):
    bench.current = False
    with pytest.raises(Transient, match="claim"):
        _prune(packed, bench)
    assert {n: (packed.root / n).read_bytes() for n in packed.names} == packed.before


def test_an_unmounted_vault_is_absent(packed, bench):
    shutil.rmtree(packed.vault)
    with pytest.raises(Transient):
        _prune(packed, bench, "package")


def test_what_changed_in_quarantine_is_not_removed(packed, bench):
    _prune(packed, bench)
    inside = packed.area / ".tomovault" / "quarantine" / "m1" / "files" / "f1.edf"
    inside.write_bytes(b"z" * 2000)
    with pytest.raises(IntegrityError, match="1 files"):
        _empty(packed, bench)
    assert inside.read_bytes() == b"z" * 2000


def test_files_that_came_later_stay(packed, bench):
    (packed.root / "scan.par").write_text("parameters")
    (packed.root / "sub" / "notes.txt").write_text("mine")
    _prune(packed, bench)
    _empty(packed, bench)
    left = {str(p.relative_to(packed.root)) for p in packed.root.rglob("*") if p.is_file()}
    assert left == {NOTE, "scan.par", "sub/notes.txt"}


def test_what_other_scans_need_stays(packed, bench):
    (record,) = _prune(packed, bench, keep=["f1.edf"]).records
    assert record.left == ("f1.edf: another scan needs it",)
    assert (packed.root / "f1.edf").exists()


def test_a_removal_that_is_confined_to_a_folder_touches_nothing_else(packed, bench):
    """Of a split scan the texts stand outside of its area, where nothing of this removal may reach."""
    removal = packed.removal()
    removal["place"]["root"] = str(packed.root / "sub")
    (record,) = _prune(packed, bench, within="sub", keep=["f0.edf"], place=removal["place"]).records
    assert (record.moved, record.left, record.missing) == (("g.txt",), (), ())
    assert sorted(p.name for p in packed.root.iterdir()) == ["f0.edf", "f1.edf", "f2.edf", "link", "sub"]
    assert [p.name for p in (packed.root / "sub").iterdir()] == [NOTE]
