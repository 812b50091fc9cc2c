"""Folders that a site names as scans."""

from __future__ import annotations

import os
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tomovault.core.errors import NoScan, Transient, UserError
from tomovault.core.scan import Candidate, Verdict
from tomovault.formats import family, folder
from tomovault.formats.folder import GenericFolder, matches
from tomovault.testing.tiff_scan import tiff_bytes
from tomovault.watch.listing import list_folder


@pytest.fixture
def area(tmp_path):
    place = tmp_path / "area" / "other" / "exp_1"
    (place / "sub" / "deep").mkdir(parents=True)
    (place / "a.dat").write_bytes(b"first")
    (place / "sub" / "b.his").write_bytes(bytes(1000))
    (place / "sub" / "deep" / "c\udce9.log").write_bytes(b"third")
    for path in place.rglob("*"):
        os.utime(path, (1_600_000_000, 1_600_000_000))
    return tmp_path / "area"


def recognised(area, *globs, done=""):
    kind = GenericFolder(str(area), globs, done)
    return [c for d, _, _ in os.walk(area) for c in kind.recognise(list_folder(d))]


def report(candidate, *, settled=True):
    (made,) = family.load("folder").inspect(candidate, settled=settled)
    return made


@pytest.fixture
def _old(monkeypatch):
    """As if what was written just now had been written long ago."""
    now = time.time()
    monkeypatch.setattr(folder.time, "time", lambda: now + 3600)


@pytest.mark.parametrize(
    ("path", "glob", "fits"),
    [
        ("other/exp_1", "other/*", True),
        ("other/exp_1/sub", "other/*", False),
        ("other/exp_1/sub", "other/**", True),
        ("a/b/raw_1", "**/raw_?", True),
        ("raw_1", "**/raw_?", True),
        ("raw_12", "**/raw_?", False),
        ("x[1]", "x[1]", True),
        ("x1", "x[1]", False),
    ],
)
def test_globs(path, glob, fits):
    assert matches(path, glob) is fits


@given(st.text(max_size=30), st.text(max_size=30))
def test_any_glob_is_an_answer(path, glob):
    assert matches(path, glob) in (True, False)


def test_nothing_is_taken_unless_it_is_named(area):
    assert recognised(area) == []
    assert family.load("folder").recognise(list_folder(str(area / "other" / "exp_1"))) == []


def test_only_the_uppermost_folder_is_a_scan(area):
    place = str(area / "other" / "exp_1")
    assert recognised(area, "other/*") == [Candidate("folder", place)]
    assert recognised(area, "other/**") == [Candidate("folder", place)]
    assert recognised(area, "**") == [Candidate("folder", str(area / "other"))]


@pytest.mark.usefixtures("_old")
def test_every_file_comes_back(area, round_trip):
    (candidate,) = recognised(area, "other/*")
    made = report(candidate)
    assert made.certificate.verdict is Verdict.UNDECIDED
    assert "a person declares it" in made.certificate.problems[0]
    assert {f.state.path for f in made.files} == {"a.dat", "sub/b.his", "sub/deep/c\udce9.log"}
    assert made.name == "exp_1"
    assert made.metadata["no_reconstruction"]
    round_trip(made)


@pytest.mark.usefixtures("_old")
def test_a_file_that_is_written_last_completes_it(area):
    (candidate,) = recognised(area, "other/*", done="*.done")
    made = report(candidate)
    assert made.certificate.verdict is Verdict.UNDECIDED
    assert "there is no *.done" in made.certificate.problems[0]
    (area / "other" / "exp_1" / "scan.done").touch()
    assert report(candidate).certificate.verdict is Verdict.COMPLETE
    assert report(candidate, settled=False).certificate.verdict is Verdict.ACQUIRING


def test_a_change_deep_below_is_still_settling(area):
    (area / "other" / "exp_1" / "done").touch()
    (candidate,) = recognised(area, "other/*", done="done")
    assert report(candidate, settled=False).certificate.verdict is Verdict.ACQUIRING
    with pytest.raises(Transient, match="a short while ago"):
        report(candidate)


@pytest.mark.usefixtures("_old")
def test_a_change_anywhere_is_another_identity(area):
    (candidate,) = recognised(area, "other/*")
    first = report(candidate).identity
    (area / "other" / "exp_1" / "sub" / "deep" / "more").write_bytes(b"x")
    assert report(candidate).identity != first


@pytest.mark.usefixtures("_old")
def test_links_are_kept_as_links_and_our_own_names_are_not_taken(area):
    place = area / "other" / "exp_1"
    (place / "link").symlink_to("/etc/passwd")
    (place / "TOMOVAULT-README.txt").write_text("x")
    (place / "empty").mkdir()
    made = report(recognised(area, "other/*")[0])
    links = {f.state.path: f.state.link_target for f in made.files if f.state.link_target}
    assert links == {"link": "/etc/passwd"}
    assert "TOMOVAULT-README.txt" not in {f.state.path for f in made.files}
    assert "1 empty folders are not kept" in made.certificate.problems


@pytest.mark.usefixtures("_old")
def test_a_folder_with_a_scan_in_it_is_none(area):
    inner = area / "other" / "exp_1" / "sub"
    for k in range(3):
        (inner / f"img_{k:04d}.tif").write_bytes(tiff_bytes([np.ones((4, 4), "u2")]))
    (candidate,) = recognised(area, "other/*")
    with pytest.raises(NoScan, match=r"a scan of its own: sub \(tiff_stack\)"):
        report(candidate)


@pytest.mark.usefixtures("_old")
def test_what_other_formats_refuse_is_taken(area, round_trip):
    place = area / "other" / "exp_1"
    (place / "photo.tif").write_bytes(tiff_bytes([np.ones((4, 4), "u2")]))
    (place / "x.h5").write_bytes(b"no HDF5")
    made = report(recognised(area, "other/*")[0])
    assert len(made.files) == 5
    round_trip(made)


def test_an_empty_folder_is_no_scan(tmp_path):
    (tmp_path / "area" / "x").mkdir(parents=True)
    (candidate,) = recognised(tmp_path / "area", "*")
    with pytest.raises(NoScan, match="no files"):
        report(candidate)


def test_too_many_files_are_not_one_scan(area, monkeypatch):
    monkeypatch.setattr(folder, "MOST_FILES", 2)
    (candidate,) = recognised(area, "other/*")
    with pytest.raises(UserError, match="more than 2 files"):
        report(candidate)


def test_members_are_all_files_and_subfolders(area):
    (candidate,) = recognised(area, "other/*")
    assert family.load("folder").members(candidate, list_folder(candidate.folder)) == (["a.dat"], ["sub"])
