from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from types import SimpleNamespace

import h5py
import hdf5plugin  # noqa: F401
import numpy as np
import pytest

from tomovault.core.errors import NoRoomYet, Refused, Transient, UserError
from tomovault.core.layout import FrameKind
from tomovault.package import writer
from tomovault.package.names import leftovers
from tomovault.package.reader import PackageReader


def _fails(bench, kind, match=".", **changes):
    with pytest.raises(kind, match=match):
        bench.pack(**changes)
    assert not bench.vault.exists() or os.listdir(bench.vault) == []


def test_parts_are_numbered_verified_and_read_as_one(bench):
    for i in range(12):
        bench.edf(f"p{i:02d}.edf", FrameKind.PROJECTION, i, angle=float(i))
    bench.stack("more.h5", FrameKind.PROJECTION, 12, 20)
    written = bench.pack(part_bytes=6000)
    names = [os.path.basename(f.location) for f in written.files]
    assert len(names) > 3
    assert names[:3] == ["scan.tomo.h5", "scan.tomo.001.h5", "scan.tomo.002.h5"]
    assert bench.verify(written) == ""
    with h5py.File(written.files[0].location, "r") as package:
        data = package["/entry/instrument/detector/data"][()]
    for order, frame in bench.frames.items():
        np.testing.assert_array_equal(data[order], frame)
    with PackageReader.open(written.files[0].location) as reader:
        for order, frame in bench.frames.items():
            np.testing.assert_array_equal(reader.read(order), frame)
    assert bench.verify(type(written)(**{**vars(written), "files": written.files[:-1]})) != ""


def test_parts_that_have_no_room_all_together_are_not_begun(bench, monkeypatch):
    """Room for the first parts alone: else they would be written and removed at every attempt."""
    for i in range(12):
        bench.edf(f"p{i:02d}.edf", FrameKind.PROJECTION, i, angle=float(i))
    bench.vault.mkdir()
    size = sum(path.stat().st_size for path in bench.root.rglob("*") if path.is_file())
    room = list(os.statvfs(bench.vault))
    room[3] = room[4] = size // 2 // room[1] + 1
    assert room[1] * room[4] > 6000
    monkeypatch.setattr(os, "statvfs", lambda _path: os.statvfs_result(room))
    spent = []
    throttle = SimpleNamespace(spend=spent.append)
    _fails(bench, NoRoomYet, match="would cross the floor", part_bytes=6000, floor_bytes=size // 4, throttle=throttle)
    assert spent == []


class Killed(BaseException):
    pass


CHECKPOINTS = ["pack.begin", "pack.frame", "pack.written", "pack.synced", "pack.renamed", "pack.manifest"]


@pytest.mark.parametrize("part_bytes", [10**9, 5000])
@pytest.mark.parametrize("name", CHECKPOINTS)
def test_killed_anywhere_and_run_again_ends_the_same(series, name, part_bytes):
    series.stack("late.h5", FrameKind.PROJECTION, 100, 6)
    seen = []

    def kill(at):
        seen.append(at)
        if at == name and seen.count(name) == (5 if name == "pack.frame" else 1):
            raise Killed

    with pytest.raises(Killed):
        series.pack(checkpoint=kill, part_bytes=part_bytes)
    written = series.pack(part_bytes=part_bytes)
    assert series.verify(written) == ""
    assert leftovers(str(series.vault), "job1") == []
    assert sorted(os.listdir(series.vault)) == sorted(
        ["scan.manifest.json", *[os.path.basename(f.location) for f in written.files]]
    )
    with PackageReader.open(written.files[0].location) as reader:
        for order, frame in series.frames.items():
            np.testing.assert_array_equal(reader.read(order), frame)


def test_a_killed_attempt_goes_on_after_the_parts_it_closed(bench):
    bench.stack("big.h5", FrameKind.PROJECTION, 0, 40)
    for i in range(40, 60):
        bench.edf(f"p{i}.edf", FrameKind.PROJECTION, i)
    stored = []

    def kill(at):
        stored.append(at)
        if stored.count("pack.frame") == 55:
            raise Killed

    with pytest.raises(Killed):
        bench.pack(checkpoint=kill, part_bytes=20000)
    again = []
    written = bench.pack(checkpoint=again.append, part_bytes=20000)
    assert again.count("pack.frame") < 30
    assert bench.verify(written) == ""


def test_a_resumed_attempt_starts_over_if_a_file_changed(bench):
    for i in range(20):
        bench.edf(f"p{i:02d}.edf", FrameKind.PROJECTION, i)
    count = []

    def kill(at):
        count.append(at)
        if count.count("pack.frame") == 15:
            raise Killed

    with pytest.raises(Killed):
        bench.pack(checkpoint=kill, part_bytes=6000)
    changed = bench.noise()
    with open(bench.path("p00.edf"), "r+b") as out:
        out.seek(1024)
        out.write(changed.tobytes())
    written = bench.pack(part_bytes=6000)
    assert bench.verify(written) == ""
    with PackageReader.open(written.files[0].location) as reader:
        np.testing.assert_array_equal(reader.read(0), changed)


def test_kill_minus_nine_leaves_only_temporary_names(series, tmp_path):
    script = tmp_path / "pack.py"
    script.write_text(
        textwrap.dedent("""
        import importlib.util, os, signal, sys
        from pathlib import Path
        spec = importlib.util.spec_from_file_location("c", sys.argv[1])
        c = importlib.util.module_from_spec(spec); sys.modules["c"] = c; spec.loader.exec_module(c)
        b = c.Bench(Path(sys.argv[2]), Path(sys.argv[3])).series()
        b.pack(checkpoint=lambda n: os.kill(os.getpid(), signal.SIGKILL) if n == "pack.synced" else None)
    """)
    )
    conftest = os.path.join(os.path.dirname(__file__), "conftest.py")
    done = subprocess.run([sys.executable, str(script), conftest, str(series.root), str(series.vault)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert [n for n in os.listdir(series.vault) if not n.startswith(".")] == []
    assert len(leftovers(str(series.vault), "job1")) == 1
    assert leftovers(str(series.vault), "job") == []
    written = series.pack()
    assert series.verify(written) == ""
    assert leftovers(str(series.vault), "job1") == []


def test_a_package_of_something_else_is_never_replaced(series):
    first = series.pack()
    again = series.pack(job="job2")
    assert again.digest == first.digest
    series.side("extra", b"new")
    with pytest.raises(Refused):
        series.pack(job="job3")
    assert series.verify(again) == ""
    assert leftovers(str(series.vault), "job3") == []


def test_two_packers_of_one_name_at_once_never_replace_each_other(bench):
    """The one that comes second to a name has to ask again for one."""
    for i in range(12):
        bench.edf(f"p{i:02d}.edf", FrameKind.PROJECTION, i, angle=float(i))
    bench.stack("more.h5", FrameKind.PROJECTION, 12, 20)
    mine, layout = bench.files(), bench.layout()
    bench.edf("q.edf", FrameKind.PROJECTION, 32, angle=12.0)
    others, first = (bench.files(), bench.layout()), []

    def come_between(name):
        if name == "pack.synced":
            first.append(bench.pack(files=others[0], layout=others[1], job="job2"))

    with pytest.raises(Transient, match="came there meanwhile"):
        bench.pack(files=mine, layout=layout, checkpoint=come_between, part_bytes=6000)
    assert bench.verify(first[0]) == ""
    assert sorted(os.listdir(bench.vault)) == ["scan.manifest.json", "scan.tomo.h5"]


def test_a_package_that_comes_while_the_names_are_given_stays(bench, monkeypatch):
    """The parts that were placed before it came are taken back."""
    for i in range(12):
        bench.edf(f"p{i:02d}.edf", FrameKind.PROJECTION, i, angle=float(i))
    bench.stack("more.h5", FrameKind.PROJECTION, 12, 20)
    place, placed = writer.place_entry, []

    def come_between(folder, temporary, name, *, overwrite):
        if name == "scan.tomo.h5":
            (bench.vault / name).write_bytes(b"another's")
        place(folder, temporary, name, overwrite=overwrite)
        placed.append(name)

    monkeypatch.setattr(writer, "place_entry", come_between)
    with pytest.raises(Transient, match="came there meanwhile"):
        bench.pack(part_bytes=6000)
    assert len(placed) > 2
    assert os.listdir(bench.vault) == ["scan.tomo.h5"]
    assert (bench.vault / "scan.tomo.h5").read_bytes() == b"another's"


def test_killed_between_the_names_of_its_parts_it_ends_the_same(bench, monkeypatch):
    for i in range(12):
        bench.edf(f"p{i:02d}.edf", FrameKind.PROJECTION, i, angle=float(i))
    bench.stack("more.h5", FrameKind.PROJECTION, 12, 20)
    place, placed = writer.place_entry, []

    def kill(folder, temporary, name, *, overwrite):
        if len(placed) == 2:
            raise Killed
        place(folder, temporary, name, overwrite=overwrite)
        placed.append(name)

    monkeypatch.setattr(writer, "place_entry", kill)
    with pytest.raises(Killed):
        bench.pack(part_bytes=6000)
    assert set(placed) < set(os.listdir(bench.vault))
    assert "scan.tomo.h5" not in placed
    monkeypatch.undo()
    written = bench.pack(part_bytes=6000)
    assert bench.verify(written) == ""
    assert leftovers(str(bench.vault), "job1") == []


@pytest.mark.parametrize(
    ("key", "value"), [("stem", "a/b"), ("stem", ""), ("stem", ".hidden"), ("job", "a.b"), ("job", "../x")]
)
def test_names_that_cannot_be_are_refused(series, key, value):
    _fails(series, UserError, **{key: value})


def test_progress_reaches_the_end(series):
    seen = []
    written = series.pack(progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (written.original_bytes, written.original_bytes)
    assert [d for d, _ in seen] == sorted(d for d, _ in seen)
