"""What a mark says of a report: everything in it may be forged, and nothing in it is believed but the comparison."""

from __future__ import annotations

import hashlib
import json
import os

import pytest

from tomovault.core.errors import UserError
from tomovault.core.mark import MARK, Marked, MarkedFile, add_marked, read_mark, write_mark
from tomovault.core.scan import Certificate, FileRole, FileState, ScanFile, ScanReport, Verdict
from tomovault.tiers.restored_mark import find_mark, leave_mark, match_report

TIME = 1_700_000_000_123_456_789


def _file(path="a.edf", content=b"a" * 10, mtime_ns=TIME, **more):
    return MarkedFile(path, len(content), mtime_ns, hashlib.sha256(content).hexdigest(), **more)


def _marked(*files, job="j1", **more):
    return Marked(**({"area": "u", "scan": "s1", "digest": "d", "whole": True, "at": "t"} | more), job=job, files=files)


@pytest.fixture
def place(tmp_path):
    """A folder of an area, with one file as it was restored."""
    area = tmp_path / "area"
    (area / ".tomovault").mkdir(parents=True)
    folder = area / "back"
    folder.mkdir()
    (folder / "a.edf").write_bytes(b"a" * 10)
    os.utime(folder / "a.edf", ns=(TIME, TIME))
    return folder


def _report(root, *names):
    files = []
    for name in names:
        s = os.lstat(root / name)
        link = os.readlink(root / name) if (root / name).is_symlink() else None
        state = FileState(
            name, s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino, s.st_dev, s.st_mode, link_target=link
        )
        files.append(ScanFile(state, FileRole.PROJECTION))
    return ScanReport("edf", "x", str(root), "", "i", Certificate(Verdict.COMPLETE), tuple(files))


def test_a_file_as_restored_is_not_read(place, bucket):
    found = match_report(_report(place, "a.edf"), str(place), [_marked(_file())], bucket, settled=True)
    assert (found.digests, found.hashed) == (("d",), {})
    assert bucket.spent == 0


def test_a_file_of_another_time_is_read(place, bucket):
    os.utime(place / "a.edf", ns=(1, 1))
    found = match_report(_report(place, "a.edf"), str(place), [_marked(_file())], bucket, settled=True)
    assert found.hashed == {"a.edf": _file().sha256}
    assert bucket.spent == 10
    (place / "a.edf").write_bytes(b"b" * 10)
    assert match_report(_report(place, "a.edf"), str(place), [_marked(_file())], bucket, settled=True) is None


def test_what_has_not_settled_is_not_read(place, bucket):
    """A restored volume may have hundreds of GB, and one inspection goes on at a time."""
    os.utime(place / "a.edf", ns=(1, 1))
    found = match_report(_report(place, "a.edf"), str(place), [_marked(_file())], bucket, settled=False)
    made = [_marked(MarkedFile("a.edf", -1, 0, ""))]
    also = match_report(_report(place, "a.edf"), str(place), made, bucket, settled=False)
    assert (found.hashed, found.unread, also.hashed, also.unread) == ({}, ("a.edf",), {}, ("a.edf",))
    assert bucket.spent == 0
    assert match_report(_report(place, "a.edf"), str(place), made, bucket, settled=True).hashed


@pytest.mark.parametrize(
    "marked",
    [
        _marked(),
        _marked(_file("b.edf")),
        _marked(_file(content=b"a" * 11)),
        _marked(_file(link_target="elsewhere")),
    ],
)
def test_what_is_not_listed_so_is_not_excused(place, bucket, marked):
    assert match_report(_report(place, "a.edf"), str(place), [marked], bucket, settled=True) is None


def test_an_empty_report_is_excused_by_nothing(place, bucket):
    assert match_report(_report(place), str(place), [_marked(_file())], bucket, settled=True) is None


def test_a_link_is_compared_by_where_it_points(place, bucket):
    os.symlink("a.edf", place / "l")
    listed = _marked(_file(), MarkedFile("l", 0, 0, "", "a.edf"))
    assert match_report(_report(place, "a.edf", "l"), str(place), [listed], bucket, settled=True) is not None
    other = _marked(_file(), MarkedFile("l", 0, 0, "", "b.edf"))
    assert match_report(_report(place, "a.edf", "l"), str(place), [other], bucket, settled=True) is None


def test_the_mark_is_found_from_below_and_not_above_the_area(place):
    area = str(place.parent)
    leave_mark(area, str(place), _marked(_file()), lambda _n: None)
    (place / "in" / "ner").mkdir(parents=True)
    assert find_mark(str(place / "in" / "ner"))[0] == str(place)
    (place.parent / "other").mkdir()
    (place.parent.parent / MARK).write_bytes(write_mark((_marked(_file()),)))
    assert find_mark(str(place.parent / "other")) is None
    assert find_mark(str(place.parent / "nowhere")) is None


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b'{"tomovault": 2, "restored": []}',
        b'{"tomovault": 1}',
        b'{"tomovault": 1, "restored": [1]}',
        b'{"tomovault": 1, "restored": [{"scan": "s1"}]}',
        b"[" * 200_000,
        b"\xff\xfe",
        json.dumps({"tomovault": 1, "restored": [{"files": "all"}]}).encode(),
    ],
)
def test_a_mark_that_is_none_is_told(place, text):
    (place / MARK).write_bytes(text)
    with pytest.raises(UserError, match="tomovault-restored"):
        find_mark(str(place))


@pytest.mark.parametrize("kind", ["link", "folder", "pipe", "huge"])
def test_a_mark_that_is_no_plain_file_is_told(place, kind):
    at = place / MARK
    if kind == "link":
        at.symlink_to("/etc/passwd")
    elif kind == "folder":
        at.mkdir()
    elif kind == "pipe":
        os.mkfifo(at)
    else:
        with at.open("wb") as file:
            file.truncate(1 << 40)
    with pytest.raises(UserError, match="tomovault-restored"):
        find_mark(str(place))


def test_names_of_any_bytes_come_back():
    file = _file(os.fsdecode(b"caf\xe9\n'\""))
    assert read_mark(write_mark((_marked(file),)))[0].files == (file,)


def test_two_restores_into_one_folder_are_both_listed():
    first, second = _marked(_file("a")), _marked(_file("b"), scan="s2", digest="e", job="j2")
    both = add_marked(add_marked((), first), second)
    assert both == (first, second)
    again = add_marked(both, _marked(_file("a", b"new"), _file("c"), whole=False, job="j3"))
    assert [(m.scan, m.whole, [f.path for f in m.files]) for m in again] == [
        ("s2", True, ["b"]),
        ("s1", True, ["a", "c"]),
    ]
