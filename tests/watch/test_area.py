import dataclasses
import errno
import json
import os
from datetime import UTC, datetime, timedelta, timezone

import pytest

from tomovault.core.errors import AreaAbsent, Refused, UserError
from tomovault.core.wire import from_plain, to_plain
from tomovault.watch import area as area_module
from tomovault.watch.area import (
    AreaIdentity,
    Rights,
    check_area,
    disk_space,
    read_identity,
    rights,
    sane_space,
    write_marker,
)

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)


@pytest.fixture
def area(tmp_path):
    folder = tmp_path / "area"
    folder.mkdir()
    return folder


def mark(area, name="inhouse", simulated=False, now=NOW):
    return write_marker(str(area), name=name, simulated=simulated, now=now)


def marker_of(area):
    return json.loads((area / ".tomovault" / "area.json").read_text())


# --- marker ---


def test_the_marker_says_who_and_since_when(area):
    identity = mark(area, now=NOW.astimezone(timezone(timedelta(hours=2))))
    assert marker_of(area) == {
        "uuid": identity.uuid,
        "name": "inhouse",
        "simulated": False,
        "written_at": "2026-03-04T05:06:07+00:00",
    }
    assert os.listdir(area / ".tomovault") == ["area.json"]
    assert read_identity(str(area)) == identity
    assert identity.name == "inhouse"
    assert identity.mount_source
    assert identity.fsid.partition(":")[0] not in ("", "unknown")
    assert from_plain(AreaIdentity, to_plain(identity)) == identity


def test_the_same_marker_is_kept(area):
    first = mark(area, simulated=True)
    written = (area / ".tomovault" / "area.json").read_bytes()
    assert mark(area, simulated=True, now=NOW + timedelta(days=1)) == first
    assert (area / ".tomovault" / "area.json").read_bytes() == written


def test_two_areas_differ(area, tmp_path):
    (tmp_path / "other").mkdir()
    assert mark(area).uuid != mark(tmp_path / "other", name="other").uuid


@pytest.mark.parametrize(
    ("first", "second", "law"),
    [
        ({"name": "a"}, {"name": "b"}, "law 3"),
        ({"simulated": False}, {"simulated": True}, "law 4"),
        ({"simulated": True}, {"simulated": False}, "law 4"),
    ],
)
def test_a_marker_of_another_meaning_is_refused_and_left(area, first, second, law):
    before = mark(area, **first)
    with pytest.raises(Refused) as caught:
        mark(area, **second)
    assert caught.value.by == law
    assert caught.value.hint
    assert read_identity(str(area)) == before


def test_a_marker_written_meanwhile_by_another_command_wins(area, monkeypatch):
    real = area_module._publish

    def publish(own, temporary):
        monkeypatch.setattr(area_module, "_publish", real)
        mark(area, name="inhouse")
        real(own, temporary)

    monkeypatch.setattr(area_module, "_publish", publish)
    identity = mark(area)
    assert marker_of(area)["uuid"] == identity.uuid
    assert os.listdir(area / ".tomovault") == ["area.json"]


def test_without_hard_links_the_marker_is_renamed_into_place(area, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    assert mark(area).uuid
    assert os.listdir(area / ".tomovault") == ["area.json"]


@pytest.mark.parametrize("text", [b"", b"{}", b"[1]", b'{"uuid": 1, "name": "a", "simulated": false}', b"\xff"])
def test_a_damaged_marker_is_an_error_and_is_not_replaced(area, text):
    mark(area)
    (area / ".tomovault" / "area.json").write_bytes(text)
    with pytest.raises(UserError, match="damaged"):
        mark(area)
    with pytest.raises(AreaAbsent, match="damaged"):
        read_identity(str(area))
    assert (area / ".tomovault" / "area.json").read_bytes() == text


def test_a_folder_that_is_none_is_the_callers_mistake(area):
    (area / "file").touch()
    for path in (area / "none", area / "file"):
        with pytest.raises(UserError, match="not a folder"):
            mark(path)


def test_links_in_place_of_our_folder_or_marker_are_not_followed(area, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    mark(other)
    os.symlink(other / ".tomovault", area / ".tomovault")
    with pytest.raises(UserError, match="cannot be written"):
        mark(area)
    with pytest.raises(AreaAbsent):
        read_identity(str(area))
    (area / ".tomovault").unlink()
    (area / ".tomovault").mkdir()
    os.symlink(other / ".tomovault" / "area.json", area / ".tomovault" / "area.json")
    with pytest.raises(AreaAbsent):
        read_identity(str(area))
    with pytest.raises(UserError, match="symbolic links"):
        mark(area)


def test_a_pipe_in_place_of_the_marker_does_not_block(area):
    (area / ".tomovault").mkdir()
    os.mkfifo(area / ".tomovault" / "area.json")
    with pytest.raises(AreaAbsent, match="not a file"):
        read_identity(str(area))


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES])
def test_an_area_that_cannot_be_written_has_no_uuid_and_cannot_be_simulated(area, monkeypatch, code):
    def refuse(*_, **__):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "mkdir", refuse)
    identity = mark(area)
    assert (identity.uuid, identity.simulated) == (None, False)
    check_area(str(area), identity)
    with pytest.raises(Refused) as caught:
        mark(area, simulated=True)
    assert caught.value.by == "law 4"


def test_a_full_disk_leaves_no_half_marker(area, monkeypatch):
    def fail(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    (area / ".tomovault").mkdir()
    with pytest.raises(UserError, match="No space"):
        mark(area)
    assert os.listdir(area / ".tomovault") == []


# --- recognising ---


def test_the_recorded_area_is_recognised(area):
    check_area(str(area), mark(area))


def test_a_marker_added_later_does_no_harm_to_an_area_known_without(area):
    recorded = read_identity(str(area))
    assert recorded.uuid is None
    mark(area)
    check_area(str(area), recorded)


def test_each_way_of_being_absent_has_its_reason(area, tmp_path):
    recorded = mark(area)
    area.rename(tmp_path / "away")
    with pytest.raises(AreaAbsent, match="is missing") as caught:
        check_area(str(area), recorded)
    assert "mounted" in caught.value.hint
    area.touch()
    with pytest.raises(AreaAbsent, match="cannot be opened"):
        check_area(str(area), recorded)
    area.unlink()
    area.mkdir()
    with pytest.raises(AreaAbsent, match=r"marker is missing .* not mounted"):
        check_area(str(area), recorded)
    mark(area)
    with pytest.raises(AreaAbsent, match="another area"):
        check_area(str(area), recorded)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"mount_source": "server:/other"}, "mounted from"),
        ({"fsid": "nfs4:0"}, "file system"),
        ({"simulated": True}, "meaning"),
    ],
)
def test_another_mount_file_system_or_meaning_is_absent(area, change, reason):
    recorded = dataclasses.replace(mark(area), **change)
    with pytest.raises(AreaAbsent, match=reason):
        check_area(str(area), recorded)


@pytest.mark.parametrize(
    ("kind", "marked", "same"),
    [("ext4", True, False), ("xfs", True, True), ("nfs4", True, True), ("xfs", False, False)],
)
def test_the_number_of_a_file_system_counts_where_it_outlives_a_remount(kind, marked, same):
    assert area_module._same_file_system(f"{kind}:1", f"{kind}:2", marked=marked) is same
    assert not area_module._same_file_system("ext4:1", f"{kind}2:1", marked=marked)


def test_an_unreadable_marker_is_absence(area, monkeypatch):
    recorded = mark(area)
    real = os.open

    def fail(path, *args, **kwargs):
        if path == "area.json":
            raise OSError(errno.EIO, "Input/output error")
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", fail)
    with pytest.raises(AreaAbsent, match="Input/output error"):
        check_area(str(area), recorded)


# --- room and rights ---


def test_disk_space(area, monkeypatch):
    real = os.statvfs(area)
    found = disk_space(str(area))
    assert found.total == real.f_blocks * real.f_frsize
    assert 0 <= found.free <= found.total
    assert disk_space(str(area / "none")) is None


@pytest.mark.parametrize(("total", "free"), [(0, 0), (10, 11), (-1, -1), (10, -1)])
def test_room_that_cannot_be_true_is_not_known(total, free):
    assert sane_space(total, free) is None


def test_rights_are_really_tried_and_leave_nothing(area):
    assert rights(str(area)) == Rights(True, False, False, "there is no folder .tomovault")
    mark(area)
    assert rights(str(area)) == Rights(True, True, True)
    assert os.listdir(area / ".tomovault") == ["area.json"]
    missing = rights(str(area / "none"))
    assert (missing.read, missing.rename, missing.unlink) == (False, False, False)


@pytest.mark.parametrize(("call", "expected"), [("rename", (True, False, False)), ("unlink", (True, True, False))])
def test_what_fails_is_said(area, monkeypatch, call, expected):
    mark(area)
    real = os.unlink

    def refuse(name, *_, **kwargs):
        if call == "unlink" and not str(name).endswith(".renamed"):
            return real(name, **kwargs)
        raise OSError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, call, refuse)
    found = rights(str(area))
    assert (found.read, found.rename, found.unlink) == expected
    assert found.detail == f"{call}: Permission denied"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_rights_without_write_permission(area):
    mark(area)
    os.chmod(area / ".tomovault", 0o555)
    try:
        assert rights(str(area)) == Rights(True, False, False, "create: Permission denied")
    finally:
        os.chmod(area / ".tomovault", 0o755)
