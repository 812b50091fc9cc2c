"""What comes to stand in a target while a restore writes there: somebody's file is never replaced."""

from __future__ import annotations

import errno
import os

import pytest

from tomovault.core.errors import Refused, Transient
from tomovault.core.layout import FrameKind
from tomovault.core.scan import FileRole
from tomovault.package import place
from tomovault.package.reader import PackageReader


@pytest.fixture
def opened(series):
    """A scan with a symbolic and a hard link, packed."""
    os.symlink("scan_0001.edf", series.path("soft"))
    series.roles["soft"] = FileRole.SIDE
    os.link(series.path("scan_0001.edf"), series.path("twin.edf"))
    series.roles["twin.edf"] = FileRole.SIDE
    with PackageReader.open(series.pack().files[0].location) as reader:
        yield reader


@pytest.fixture(params=["renameat2", "link", "neither"])
def disk(request, monkeypatch):
    """File systems that can move an entry without replacing another in one step, or not (NFS, some others)."""
    if request.param != "renameat2":
        monkeypatch.setattr(place, "_move_alone", _refuse(errno.EINVAL))
    if request.param == "neither":
        monkeypatch.setattr(place, "_link_alone", _refuse(errno.EPERM))
    return request.param


def _refuse(code):
    def refuse(*_arguments):
        raise OSError(code, os.strerror(code))

    return refuse


def _plant(folder, name, make):
    """A checkpoint at which somebody's entry appears, once."""

    def checkpoint(step):
        if step == "restore.file" and not os.path.lexists(folder / name):
            make(folder / name)

    return checkpoint


def _strangers(folder):
    return sorted(p.name for p in folder.rglob("*") if p.name.startswith(".tomovault"))


@pytest.mark.parametrize("name", ["scan_0005.edf", "soft", "twin.edf", "notes/empty.txt"])
@pytest.mark.parametrize(
    "make", [lambda p: p.write_bytes(b"new"), lambda p: p.symlink_to("elsewhere")], ids=["file", "link"]
)
def test_what_appears_while_it_runs_is_left_and_refuses(opened, tmp_path, quiet, disk, name, make):
    out = tmp_path / "out"
    with pytest.raises(Refused, match=name):
        opened.restore(str(out), job="r1", **{**quiet, "checkpoint": _plant(out, name, make)})
    assert os.readlink(out / name) == "elsewhere" if (out / name).is_symlink() else (out / name).read_bytes() == b"new"
    assert _strangers(out) == []


@pytest.mark.parametrize("name", ["scan_0005.edf", "twin.edf"])
def test_the_same_bytes_that_appear_are_kept(series, opened, tmp_path, quiet, disk, name):
    out = tmp_path / "out"
    same = _plant(out, name, lambda p: p.write_bytes(series.content(name)))
    restored = opened.restore(str(out), job="r1", **{**quiet, "checkpoint": same})
    assert restored.kept == (name,)
    assert sorted((*restored.paths, *restored.kept)) == sorted(series.roles)
    assert _strangers(out) == []


def test_the_same_link_that_appears_is_kept(opened, tmp_path, quiet, disk):
    out = tmp_path / "out"
    same = _plant(out, "soft", lambda p: p.symlink_to("scan_0001.edf"))
    assert opened.restore(str(out), job="r1", **{**quiet, "checkpoint": same}).kept == ("soft",)
    assert _strangers(out) == []


def test_overwriting_replaces_what_appears_too(series, opened, tmp_path, quiet, disk):
    out = tmp_path / "out"
    new = _plant(out, "scan_0005.edf", lambda p: p.write_bytes(b"new"))
    opened.restore(str(out), job="r1", overwrite=True, **{**quiet, "checkpoint": new})
    assert (out / "scan_0005.edf").read_bytes() == series.content("scan_0005.edf")


def test_what_appears_and_goes_again_is_tried_later(opened, tmp_path, quiet, monkeypatch):
    monkeypatch.setattr(place, "_move_alone", _refuse(errno.EEXIST))
    with pytest.raises(Transient, match="came and went"):
        opened.restore(str(tmp_path / "out"), job="r1", **quiet)
    assert _strangers(tmp_path / "out") == []


def test_a_derived_file_replaces_nothing_that_appeared(bench, tmp_path, quiet, disk):
    bench.stack("cam.h5", FrameKind.PROJECTION, 1, 4)
    out = tmp_path / "out"

    def appear(done, total):
        if done == total:
            (out / "scan.some.nx").write_bytes(b"new")

    with PackageReader.open(bench.pack().files[0].location) as reader:
        indices = reader.frames_between(FrameKind.PROJECTION, 0, 2)
        with pytest.raises(Refused, match="there already"):
            reader.write_frames(str(out), indices, label="some", job="r1", **{**quiet, "progress": appear})
        assert {p.name: p.read_bytes() for p in out.iterdir()} == {"scan.some.nx": b"new"}
        reader.write_frames(str(out), indices, label="some", job="r1", overwrite=True, **quiet)
    assert (out / "scan.some.nx").stat().st_size > 1000
