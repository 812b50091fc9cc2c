from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap

import h5py
import hdf5plugin  # noqa: F401
import numpy as np
import pytest

from tomovault.core.errors import NoSpace, Refused, SourceChanged, Transient, UserError
from tomovault.core.layout import FileLayout, FrameKind, FrameSegment, Layout
from tomovault.core.manifest import manifest_digest
from tomovault.core.scan import FileRole
from tomovault.package import container
from tomovault.package.names import leftovers
from tomovault.package.reader import PackageReader


def test_a_package_verifies_and_says_what_it_holds(series, meter):
    written = series.pack(throttle=meter)
    assert series.verify(written) == ""
    assert written.digest == manifest_digest(written.hashed)
    assert written.original_files == len(series.roles)
    assert written.original_bytes == sum(len(series.content(n)) for n in series.roles)
    assert meter.spent == written.original_bytes
    assert [os.path.basename(f.location) for f in written.files] == ["scan.tomo.h5"]
    assert written.bytes == os.path.getsize(written.files[0].location)
    assert (series.vault / "scan.manifest.json").read_text() == written.manifest
    assert sorted(os.listdir(series.vault)) == ["scan.manifest.json", "scan.tomo.h5"]


def test_the_manifest_inside_is_a_plain_json_string(series):
    written = series.pack()
    with h5py.File(written.files[0].location, "r") as package:
        assert h5py.check_string_dtype(package["/tomovault/manifest"].dtype).encoding == "utf-8"
        assert package["/tomovault/manifest"].shape == ()
        plain = json.loads(package["/tomovault/manifest"][()])
        assert json.loads(package["/tomovault/manifest"].asstr()[()]) == plain
    assert plain["product"] == written.digest
    by_path = {f["path"]: f for f in plain["files"]}
    assert by_path["scan.info"]["size"] == len(series.content("scan.info"))
    assert {"path", "size", "mode", "mtime_ns", "sha256"} <= set(by_path["dark.edf"])


def test_frames_can_be_cut_out_by_the_manifest_alone(series):
    """What the manifest says in words is enough to rebuild a file without this package's code."""
    import blosc2
    import zstandard

    written = series.pack()
    plain = json.loads(written.manifest)
    with open(written.files[0].location, "rb") as source:
        stored = source.read()
    literals = b""
    for _, offset, length, _, raw in plain["literals"]["chunks"]:
        block = stored[offset : offset + length]
        whole = block if length == plain["literals"]["block"] else zstandard.decompress(block)
        literals += whole[:raw]
    for file in plain["files"]:
        rebuilt = b""
        for kind, first, second in file["segments"]:
            if kind == "L":
                rebuilt += literals[first : first + second]
                continue
            _, offset, length, _ = plain["groups"][first]["chunks"][second]
            data = stored[offset : offset + length]
            coded = plain["groups"][first]["codec"] == "blosc2"
            rebuilt += blosc2.schunk_from_cframe(data)[:] if coded else data
        assert rebuilt == series.content(file["path"])


def test_the_view_reads_with_h5py_alone(series):
    written = series.pack()
    script = textwrap.dedent("""
        import sys, h5py, hdf5plugin, numpy as np
        with h5py.File(sys.argv[1], "r") as f:
            d = f["/entry/instrument/detector/data"]
            keys = f["/entry/instrument/detector/image_key"][()].tolist()
            print(d.shape, d.dtype, keys, int(d[3].sum()), int(d[0].sum()))
    """)
    out = subprocess.run(
        [sys.executable, "-c", script, written.files[0].location],
        capture_output=True,
        text=True,
        check=True,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
    )
    expected = int(series.frames[3].sum())
    divided = int((series.frames[0] // 10).sum())
    assert out.stdout.strip() == f"(8, 32, 40) uint16 [2, 1, 0, 0, 0, 0, 0, 0] {expected} {divided}"


def test_an_inexact_sum_makes_the_view_float(bench):
    bench.edf("dark.edf", FrameKind.DARK, 0, bench.noise(level=100).astype("<u4"), summed=7)
    bench.edf("p.edf", FrameKind.PROJECTION, 1)
    written = bench.pack()
    assert bench.verify(written) == ""
    with h5py.File(written.files[0].location, "r") as package:
        data = package["/entry/instrument/detector/data"]
        assert data.dtype == np.float32
        np.testing.assert_array_equal(data[0], (bench.frames[0] / 7).astype(np.float32))
        np.testing.assert_array_equal(data[1], bench.frames[1].astype(np.float32))
        assert data.attrs["derived"].tolist() == [0]
    with PackageReader.open(written.files[0].location) as reader:
        np.testing.assert_array_equal(reader.read(0), bench.frames[0])


def test_the_view_is_in_acquisition_order_over_mixed_types(bench):
    bench.edf("b.edf", FrameKind.PROJECTION, 3, bench.noise(dtype=">u2"), angle=1.0)
    bench.edf("a.edf", FrameKind.PROJECTION, 2, angle=0.0)
    bench.edf("f.edf", FrameKind.FLAT, 0)
    bench.edf("s.edf", FrameKind.ALIGNMENT, 4, bench.noise(shape=(32, 40)), angle=0.0)
    bench.edf("roi.edf", FrameKind.PROJECTION, 5, bench.noise(shape=(8, 40)), angle=2.0)
    written = bench.pack()
    assert bench.verify(written) == ""
    with h5py.File(written.files[0].location, "r") as package:
        detector = package["/entry/instrument/detector"]
        assert detector["image_key_control"][()].tolist() == [1, 0, 0, -1]
        assert detector["image_key"][()].tolist() == [1, 0, 0, 0]
        for row, order in enumerate((0, 2, 3, 4)):
            np.testing.assert_array_equal(detector["data"][row], bench.frames[order])


def test_nxtomo_reads_the_view_and_flat_fields_to_the_same_pixels(series):
    pytest.importorskip("nxtomo")
    from nxtomo.application.nxtomo import NXtomo

    written = series.pack()
    found = NXtomo().load(written.files[0].location, "entry", detector_data_as="as_numpy_array")
    keys = np.array([int(k.value) for k in found.instrument.detector.image_key_control])
    data = np.asarray(found.instrument.detector.data)
    dark = data[keys == 2].astype(float).mean(axis=0)
    flat = data[keys == 1].astype(float).mean(axis=0)
    mine = (data[keys == 0] - dark) / (flat - dark)
    own_dark = series.frames[0] / 10
    for row, order in enumerate(range(2, 8)):
        expected = (series.frames[order] - own_dark) / (series.frames[1] - own_dark)
        np.testing.assert_allclose(mine[row], expected, rtol=1e-12)
    assert found.energy.to("keV").magnitude == 20.0


def test_frames_that_do_not_shrink_are_stored_as_they_are(bench):
    rng = np.random.default_rng(3)
    for i in range(5):
        bench.edf(f"n{i}.edf", FrameKind.PROJECTION, i, rng.integers(0, 65536, (64, 64), dtype="<u2"))
    written = bench.pack()
    assert bench.verify(written) == ""
    with h5py.File(written.files[0].location, "r") as package:
        data = package["/tomovault/frames/g0"]
        assert data.id.get_create_plist().get_nfilters() == 0
        np.testing.assert_array_equal(data[4], bench.frames[4])


def test_literals_read_as_one_dataset_and_any_size_comes_back(bench):
    rng = np.random.default_rng(1)
    bench.side("noise.bin", rng.bytes(3 * (1 << 20) + 17))
    bench.side("zeros.bin", bytes(5_000_000))
    written = bench.pack()
    assert bench.verify(written) == ""
    with h5py.File(written.files[0].location, "r") as package:
        assert "entry" not in package
        literals = package["/tomovault/literals"][()].tobytes()
    assert literals == bench.content("noise.bin") + bench.content("zeros.bin")
    assert written.bytes < 3_300_000


def test_an_empty_scan_and_zero_length_files_are_packages_too(bench):
    bench.side("nothing", b"")
    written = bench.pack()
    assert bench.verify(written) == ""
    assert written.original_files == 1


def test_links_names_and_attributes_are_recorded(bench):
    bench.edf("a.edf", FrameKind.PROJECTION, 0)
    os.link(bench.path("a.edf"), bench.path("also.edf"))
    bench.roles["also.edf"] = FileRole.SIDE
    os.symlink("../elsewhere", bench.path("sym"))
    bench.roles["sym"] = FileRole.SIDE
    odd = os.fsdecode(b"caf\xe9 \n'\".txt")
    bench.side(odd, b"x")
    os.chmod(bench.path(odd), 0o640)
    written = bench.pack()
    assert bench.verify(written) == ""
    by_path = {m.path: m for m in written.hashed}
    assert by_path["also.edf"].hardlink_of == "a.edf"
    assert by_path["also.edf"].sha256 == by_path["a.edf"].sha256
    assert by_path["sym"].link_target == "../elsewhere"
    assert by_path["sym"].sha256 == ""
    assert by_path[odd].mode == 0o640
    plain = json.loads(written.manifest)
    assert sum("path_b64" in f for f in plain["files"]) == 1


def test_a_manifest_of_two_thousand_files_stays_small(bench):
    frame = bench.noise(shape=(4, 4))
    for i in range(2000):
        bench.edf(f"a_rather_long_scan_name_{i:04d}.edf", FrameKind.PROJECTION, i, frame, angle=i * 0.09)
    written = bench.pack()
    assert bench.verify(written) == ""
    assert len(written.manifest) < 2_000_000


# --- a source that changes ------------------------------------------------------------------------


def _fails(bench, kind, match=".", **changes):
    with pytest.raises(kind, match=match):
        bench.pack(**changes)
    assert not bench.vault.exists() or os.listdir(bench.vault) == []


def test_a_file_changed_since_it_was_seen_is_not_packed(series):
    files = series.files()
    with open(series.path("scan_0003.edf"), "r+b") as out:
        out.write(b"{")
    _fails(series, SourceChanged, "scan_0003.edf", files=files)


def test_a_file_changed_while_it_is_read_is_not_packed(series):
    def disturb(name):
        if name == "pack.frame":
            with open(series.path("scan_0005.edf"), "ab") as out:
                out.write(b"more")

    _fails(series, SourceChanged, "scan_0005.edf", checkpoint=disturb)


def test_a_file_that_is_written_between_its_first_and_last_byte_is_noticed(bench):
    bench.stack("big.h5", FrameKind.PROJECTION, 0, 30)

    def disturb(name):
        if name == "pack.frame":
            with open(bench.path("big.h5"), "r+b") as out:
                out.seek(0)
                out.write(b"\x89")

    _fails(bench, SourceChanged, "big.h5", checkpoint=disturb)


def test_a_file_that_shrinks_while_it_is_read_is_noticed(bench):
    bench.stack("big.h5", FrameKind.PROJECTION, 0, 40)

    def disturb(name):
        if name == "pack.frame":
            os.truncate(bench.path("big.h5"), 2000)

    _fails(bench, SourceChanged, "big.h5", checkpoint=disturb)


def test_a_removed_file_a_link_in_its_place_and_a_replaced_folder_are_named(series, tmp_path):
    files = series.files()
    os.unlink(series.path("scan.info"))
    _fails(series, SourceChanged, "scan.info", files=files)
    outside = tmp_path / "outside"
    outside.write_bytes(b"not of this scan")
    os.symlink(outside, series.path("scan.info"))
    _fails(series, SourceChanged, "scan.info", files=files)
    assert outside.read_bytes() == b"not of this scan"
    os.unlink(series.path("scan.info"))
    series.side("scan.info", b"again")
    os.rename(series.path("notes"), tmp_path / "moved")
    os.symlink(tmp_path / "moved", series.path("notes"))
    _fails(series, SourceChanged, "notes", files=[f for f in files if f.state.path != "scan.info"])


def test_a_root_replaced_by_a_link_is_refused(series, tmp_path):
    files = series.files()
    os.rename(series.root, tmp_path / "moved")
    os.symlink(tmp_path / "moved", series.root)
    _fails(series, SourceChanged, "link", files=files)


def test_a_pipe_in_the_place_of_a_file_does_not_hang(series):
    files = series.files()
    os.unlink(series.path("scan.info"))
    os.mkfifo(series.path("scan.info"))
    _fails(series, SourceChanged, "scan.info", files=files)


def test_an_unreadable_file_is_named(series, monkeypatch):
    real = os.open

    def refuse(path, *args, **kwargs):
        if path == "scan.info":
            raise PermissionError(13, "Permission denied")
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", refuse)
    _fails(series, UserError, "scan.info")


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a//b", "a/../b", "", "."])
def test_paths_that_leave_the_root_are_refused(bench, path):
    bench.side("a", b"x")
    (file,) = bench.files()
    bad = type(file)(
        type(file.state)(
            path, *[getattr(file.state, n) for n in ("size", "mtime_ns", "ctime_ns", "inode", "device", "mode")]
        ),
        file.role,
    )
    _fails(bench, UserError, files=[bad])


@pytest.mark.parametrize(
    "segment",
    [
        FrameSegment(0, 8, "<u2", (2, 3), FrameKind.PROJECTION, 0),
        FrameSegment(90, 12, "<u2", (2, 3), FrameKind.PROJECTION, 0),
        FrameSegment(0, 12, "<c8", (2, 3), FrameKind.PROJECTION, 0),
        FrameSegment(0, 0, "<u2", (0, 3), FrameKind.PROJECTION, 0),
        FrameSegment(-1, 12, "<u2", (2, 3), FrameKind.PROJECTION, 0),
    ],
)
def test_a_layout_that_contradicts_itself_is_refused(bench, segment):
    bench.side("a", bytes(100))
    _fails(bench, UserError, layout=Layout((FileLayout("a", 100, (segment,)),)))


def test_a_layout_made_for_another_size_or_file_is_refused(bench):
    bench.side("a", bytes(100))
    _fails(bench, SourceChanged, layout=Layout((FileLayout("a", 99),)))
    _fails(bench, UserError, layout=Layout((FileLayout("b", 99),)))


# --- space ------------------------------------------------------------------------------------------


def test_the_floor_is_kept(series):
    state = os.statvfs(series.root)
    _fails(series, NoSpace, floor_bytes=state.f_bavail * state.f_frsize)


def test_a_disk_that_fills_up_leaves_nothing_behind(series, monkeypatch):
    calls = []

    def full(self, name, place, data, mask):
        calls.append(name)
        if len(calls) > 3:
            raise OSError("[Errno 28] Can't write data (file write failed: errno = 28, error message = 'No space')")
        return real(self, name, place, data, mask)

    real = container.PartFile._write
    monkeypatch.setattr(container.PartFile, "_write", full)
    _fails(series, NoSpace)
    assert len(calls) == 4


def test_other_write_errors_are_transient(series, monkeypatch):
    def broken(self, name, place, data, mask):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(container.PartFile, "_write", broken)
    _fails(series, Transient)


# --- parts, kills, names ----------------------------------------------------------------------------


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
