from __future__ import annotations

import base64
import errno
import os
import stat

import h5py
import hdf5plugin  # noqa: F401
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tomovault.core.errors import IntegrityError, Refused, SourceChanged, UserError
from tomovault.core.layout import FrameKind
from tomovault.core.scan import FileRole
from tomovault.package.files_source import FilesSource
from tomovault.package.manifest import read_text
from tomovault.package.reader import PackageReader


def _read(path):
    with open(path, "rb") as source:
        return source.read()


def _tree(root):
    """Everything below a folder: names as bytes, kind, mode, time, content."""
    found = {}
    for folder, _, names in os.walk(os.fsencode(root)):
        for name in names:
            full = os.path.join(folder, name)
            state = os.lstat(full)
            content = os.readlink(full) if stat.S_ISLNK(state.st_mode) else _read(full)
            mode = None if stat.S_ISLNK(state.st_mode) else state.st_mode
            found[os.path.relpath(full, os.fsencode(root))] = (mode, state.st_mtime_ns, content)
    return found


@pytest.fixture
def opened(series):
    series.written = series.pack()
    with PackageReader.open(series.written.files[0].location) as reader:
        yield reader


def test_everything_comes_back_as_it_was(series, tmp_path, quiet):
    os.link(series.path("scan_0001.edf"), series.path("linked.edf"))
    series.roles["linked.edf"] = FileRole.SIDE
    os.symlink("scan_0001.edf", series.path("sym"))
    series.roles["sym"] = FileRole.SIDE
    series.side(os.fsdecode(b"odd \xff\n'\"name"), b"odd")
    series.stack("raw/cam_0000.h5", FrameKind.PROJECTION, 100, 5, gap=3)
    os.chmod(series.path("scan.info"), 0o604)
    os.utime(series.path("scan.info"), ns=(1, 123456789987654321))
    os.utime(series.path("dark.edf"), ns=(5, -5_000_000_001))
    written = series.pack()
    out = tmp_path / "out"
    with PackageReader.open(written.files[0].location) as reader:
        restored = reader.restore(str(out), job="r1", **quiet)
    assert _tree(out) == _tree(series.root)
    assert sorted(restored.paths) == sorted(series.roles)
    assert restored.kept == ()
    assert os.stat(out / "linked.edf").st_ino == os.stat(out / "scan_0001.edf").st_ino
    assert restored.read_bytes <= written.bytes


def test_attributes_and_owners_come_back_where_permitted(bench, tmp_path, quiet):
    bench.side("a", b"x")
    try:
        os.setxattr(bench.path("a"), "user.note", b"\0bin")
    except OSError:
        pytest.skip("this file system has no extended attributes")
    written = bench.pack()
    assert written.hashed[0].xattrs == (("user.note", base64.b64encode(b"\0bin").decode()),)
    with PackageReader.open(written.files[0].location) as reader:
        reader.restore(str(tmp_path / "out"), job="r1", **quiet)
    assert os.getxattr(tmp_path / "out" / "a", "user.note") == b"\0bin"


def test_an_attribute_that_cannot_be_read_hides_no_other_and_is_told(series, monkeypatch):
    values = {"security.acl": None, "user.a": b"a", "user.gone": None, "user.z": b"z"}

    def read(_handle, name):
        if values[name] is None:
            code = errno.ENODATA if name == "user.gone" else errno.EACCES
            raise OSError(code, os.strerror(code))
        return values[name]

    monkeypatch.setattr(os, "listxattr", lambda _handle: list(values))
    monkeypatch.setattr(os, "getxattr", read)
    written = series.pack()
    assert {tuple(n for n, _ in file.xattrs) for file in written.hashed} == {("user.a", "user.z")}
    assert written.notes == (f"the attribute security.acl could not be read ({len(series.roles)} files)",)


def test_an_owner_that_cannot_be_set_is_noted(series, opened, tmp_path, quiet, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(1, "Operation not permitted")

    real = os.fstat
    monkeypatch.setattr(os, "fchmod", refuse)
    restored = opened.restore(str(tmp_path / "out"), job="r1", **quiet)
    assert restored.notes == (f"modes are not what they were ({len(series.roles)} files)",)
    assert real is os.fstat


def test_set_id_bits_need_the_same_owner(bench, tmp_path, quiet, monkeypatch):
    bench.side("tool", b"x")
    os.chmod(bench.path("tool"), 0o4755)
    written = bench.pack()
    assert written.hashed[0].mode == 0o4755
    with PackageReader.open(written.files[0].location) as reader:
        reader.restore(str(tmp_path / "same"), job="r1", **quiet)
        files = reader.manifest().contents.files
        files[0] = type(files[0])(
            __import__("dataclasses").replace(files[0].meta, uid=files[0].meta.uid + 1), files[0].segments
        )

        def refuse(*args, **kwargs):
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(os, "fchown", refuse)
        reader.restore(str(tmp_path / "other"), job="r1", **quiet)
    assert stat.S_IMODE(os.stat(tmp_path / "same" / "tool").st_mode) == 0o4755
    assert stat.S_IMODE(os.stat(tmp_path / "other" / "tool").st_mode) == 0o755


def test_what_stands_is_kept_and_what_differs_is_refused_before_anything_is_written(series, opened, tmp_path, quiet):
    out = tmp_path / "out"
    out.mkdir()
    (out / "scan_0001.edf").write_bytes(series.content("scan_0001.edf"))
    restored = opened.restore(str(out), job="r1", **quiet)
    assert restored.kept == ("scan_0001.edf",)
    assert set(opened.restore(str(out), job="r1", **quiet).kept) == set(series.roles)
    other = tmp_path / "other"
    other.mkdir()
    (other / "scan_0005.edf").write_bytes(b"mine")
    with pytest.raises(Refused, match="scan_0005"):
        opened.restore(str(other), job="r1", **quiet)
    assert [p for p in os.listdir(other) if p != "notes"] == ["scan_0005.edf"]
    opened.restore(str(other), job="r1", overwrite=True, **quiet)
    assert (other / "scan_0005.edf").read_bytes() == series.content("scan_0005.edf")


def test_planted_links_are_not_followed(series, opened, tmp_path, quiet):
    out, victim = tmp_path / "out", tmp_path / "victim"
    out.mkdir()
    victim.mkdir()
    (victim / "file").write_bytes(b"keep me")
    os.symlink(victim, out / "notes")
    with pytest.raises(Refused):
        opened.restore(str(out), job="r1", overwrite=True, **quiet)
    assert os.listdir(victim) == ["file"]
    os.unlink(out / "notes")
    os.symlink(victim / "file", out / "scan.info")
    with pytest.raises(Refused):
        opened.restore(str(out), job="r1", **quiet)
    opened.restore(str(out), job="r1", overwrite=True, **quiet)
    assert (victim / "file").read_bytes() == b"keep me"
    assert not (out / "scan.info").is_symlink()
    os.symlink(victim, tmp_path / "link")
    with pytest.raises(Refused):
        opened.restore(str(tmp_path / "link"), job="r1", **quiet)


def test_a_link_of_the_scan_is_not_a_way_out(bench, tmp_path, quiet):
    """A link to a folder and a file below that name cannot both be files of one scan on disk; a manifest may lie."""
    os.symlink("/tmp", bench.path("a"))
    bench.roles["a"] = FileRole.SIDE
    bench.side("b/x", b"x")
    written = bench.pack()
    with PackageReader.open(written.files[0].location) as reader:
        files = reader.manifest().contents.files
        place = next(i for i, f in enumerate(files) if f.meta.path == "b/x")
        files[place] = type(files[place])(
            __import__("dataclasses").replace(files[place].meta, path="a/x"), files[place].segments
        )
        with pytest.raises((Refused, UserError)):
            reader.restore(str(tmp_path / "out"), job="r1", **quiet)
        files[place] = type(files[place])(
            __import__("dataclasses").replace(files[place].meta, path="../x"), files[place].segments
        )
        with pytest.raises(UserError):
            reader.restore(str(tmp_path / "out"), job="r1", **quiet)
    assert not os.path.exists("/tmp/x") or os.path.getmtime("/tmp/x") < os.path.getmtime(bench.root)


def test_selecting_files(series, opened, tmp_path, quiet):
    one = opened.restore(str(tmp_path / "a"), job="r1", select=["scan_0002.edf"], **quiet)
    assert one.paths == ("scan_0002.edf",)
    assert one.read_bytes < 10_000
    some = opened.restore(str(tmp_path / "b"), job="r1", select=lambda m: m.path.endswith(".info"), **quiet)
    assert some.paths == ("scan.info",)
    with pytest.raises(UserError, match="has no file"):
        opened.restore(str(tmp_path / "c"), job="r1", select=["nothing.edf"], **quiet)


def test_a_hard_link_alone_is_written_whole(bench, tmp_path, quiet):
    bench.edf("a.edf", FrameKind.PROJECTION, 0)
    os.link(bench.path("a.edf"), bench.path("b.edf"))
    bench.roles["b.edf"] = FileRole.SIDE
    written = bench.pack()
    with PackageReader.open(written.files[0].location) as reader:
        reader.restore(str(tmp_path / "out"), job="r1", select=["b.edf"], **quiet)
    assert (tmp_path / "out" / "b.edf").read_bytes() == bench.content("a.edf")


def test_damage_costs_one_file_and_is_named(series, tmp_path, quiet):
    written = series.pack()
    contents = read_text(written.manifest).contents
    record = next(f for f in contents.frames if f.order == 4)
    chunk = contents.groups[record.group].chunks[record.position]
    with open(written.files[0].location, "r+b") as out:
        out.seek(chunk.offset + 100)
        out.write(b"\xff\x00\xff\x00")
    target = tmp_path / "out"
    with PackageReader.open(written.files[0].location) as reader:
        with pytest.raises(IntegrityError, match=r"frame 4 \(projection\) of scan_0002.edf"):
            reader.restore(str(target), job="r1", **quiet)
    expected = {n for n in series.roles if n != "scan_0002.edf"}
    assert {os.fsdecode(n) for n in _tree(target)} == expected


def test_a_kill_leaves_temporary_names_only_and_a_second_run_ends_well(series, opened, tmp_path, quiet):
    class Killed(BaseException):
        pass

    count = []

    def kill(name):
        count.append(name)
        if count.count("restore.file") == 3:
            raise Killed

    out = tmp_path / "out"
    with pytest.raises(Killed):
        opened.restore(str(out), job="r1", **{**quiet, "checkpoint": kill})
    (out / ".tomovault.77.r1.part").write_bytes(b"what a kill -9 leaves")
    (out / ".tomovault.77.r2.part").write_bytes(b"of somebody else")
    opened.restore(str(out), job="r1", **quiet)
    (out / ".tomovault.77.r2.part").unlink()
    assert _tree(out) == _tree(series.root)


def test_a_source_for_engines_from_package_and_files(series, opened):
    with FilesSource(str(series.root), series.layout(), digest="d") as files:
        for source in (opened, files):
            assert source.frame_shape == (32, 40)
            assert list(source.indices(FrameKind.PROJECTION)) == [2, 3, 4, 5, 6, 7]
            assert list(source.indices(FrameKind.DARK)) == [0]
            assert source.angle_deg(4) == 60.0
            assert source.angle_deg(0) is None
            assert source.summed(0) == 10
            assert source.facts()["energy_kev"] == 20.0
            for rows in (None, slice(3, 7), slice(30, 99), slice(5, 5), slice(None, None, 2), slice(-4, None)):
                for order, frame in series.frames.items():
                    wanted = frame if rows is None else frame[rows]
                    got = source.read(order, rows)
                    np.testing.assert_array_equal(got, wanted)
                    assert got.dtype == frame.dtype
                    got[...] = 0
                    np.testing.assert_array_equal(source.read(order, rows), wanted, "the caller owns what it got")
            with pytest.raises(UserError):
                source.read(99)
        assert files.facts()["digest"] == "d"
    assert opened.facts()["digest"] == series.written.digest


def test_a_files_source_notices_a_shorter_file(series):
    with FilesSource(str(series.root), series.layout()) as files:
        os.truncate(series.path("scan_0001.edf"), 1100)
        with pytest.raises(SourceChanged, match="scan_0001"):
            files.read(3)


def test_frames_that_are_whole_files(series, opened, bench):
    assert opened.files_of_frames(FrameKind.PROJECTION, 1, 3) == ["scan_0001.edf", "scan_0002.edf"]
    assert opened.files_of_frames(FrameKind.FLAT) == ["ref0000.edf"]
    for start, stop in ((3, 3), (4, 2), (0, 7), (-1, 2)):
        with pytest.raises(UserError, match="projections"):
            opened.files_of_frames(FrameKind.PROJECTION, start, stop)


def test_frames_of_a_stack_become_one_derived_nxtomo_file(bench, tmp_path, quiet):
    bench.edf("flat.edf", FrameKind.FLAT, 0)
    bench.stack("cam.h5", FrameKind.PROJECTION, 1, 20)
    written = bench.pack()
    with PackageReader.open(written.files[0].location) as reader:
        assert reader.files_of_frames(FrameKind.PROJECTION, 0, 2) is None
        indices = reader.frames_between(FrameKind.PROJECTION, 4, 9)
        made = reader.write_frames(str(tmp_path / "out"), indices, label="frames_4_9", job="r1", **quiet)
        with pytest.raises(Refused):
            reader.write_frames(str(tmp_path / "out"), indices, label="frames_4_9", job="r1", **quiet)
    assert made.paths == ("scan.frames_4_9.nx",)
    chunks = [c.length for c in read_text(written.manifest).contents.groups[0].chunks[5:10]]
    assert made.read_bytes <= 1.2 * sum(chunks)
    with h5py.File(tmp_path / "out" / "scan.frames_4_9.nx", "r") as found:
        assert "derived" in found.attrs
        data = found["/entry/instrument/detector/data"]
        assert data.chunks is None
        for row, order in enumerate(indices):
            np.testing.assert_array_equal(data[row], bench.frames[order])
    assert os.listdir(tmp_path / "out") == ["scan.frames_4_9.nx"]


def test_a_range_of_projections_reads_little_more_than_it_needs(bench, tmp_path, quiet):
    rng = np.random.default_rng(5)
    for i in range(40):
        bench.edf(f"p{i:02d}.edf", FrameKind.PROJECTION, i, rng.poisson(3000, (128, 128)).astype("<u2"))
    written = bench.pack()
    group = read_text(written.manifest).contents.groups[0]
    with PackageReader.open(written.files[0].location) as reader:
        paths = reader.files_of_frames(FrameKind.PROJECTION, 10, 20)
        restored = reader.restore(str(tmp_path / "out"), select=paths, job="r1", **quiet)
    assert restored.read_bytes <= 1.2 * sum(c.length for c in group.chunks[10:20])


def test_a_damaged_inner_manifest_is_replaced_by_the_one_beside(series):
    written = series.pack()
    path = written.files[0].location
    with open(path, "r+b") as out:
        out.write(bytes(64))
    with PackageReader.open(path) as reader:
        assert reader.read(4).tobytes() == series.frames[4].tobytes()
    os.unlink(series.vault / "scan.manifest.json")
    with pytest.raises(IntegrityError):
        PackageReader.open(path)
    with pytest.raises(UserError):
        PackageReader.open(str(series.vault / "none.tomo.h5"))


DTYPES = ["<u2", ">u2", "|u1", "|i1", "<i4", "<u4", "<f4", ">f8"]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_file_cut_in_any_way_comes_back(tmp_path_factory, bench, quiet, data):
    from tomovault.core.layout import FileLayout, FrameSegment

    where = tmp_path_factory.mktemp("cut")
    made = type(bench)(where / "scan", where / "vault")
    order = 0
    for number in range(data.draw(st.integers(1, 3))):
        body, segments = b"", []
        for _ in range(data.draw(st.integers(0, 4))):
            body += data.draw(st.binary(max_size=30))
            if data.draw(st.booleans()):
                dtype = np.dtype(data.draw(st.sampled_from(DTYPES)))
                shape = (data.draw(st.integers(1, 9)), data.draw(st.integers(1, 9)))
                raw = data.draw(
                    st.binary(
                        min_size=shape[0] * shape[1] * dtype.itemsize, max_size=shape[0] * shape[1] * dtype.itemsize
                    )
                )
                kind = data.draw(st.sampled_from(list(FrameKind)))
                segments.append(
                    FrameSegment(len(body), len(raw), dtype.str, shape, kind, order, None, data.draw(st.integers(1, 3)))
                )
                body += raw
                order += 1
        made.side(f"f{number}", body)
        made.layouts.append(FileLayout(f"f{number}", len(body), tuple(segments)))
    written = made.pack(part_bytes=data.draw(st.sampled_from([1, 10**9])))
    assert made.verify(written) == ""
    with PackageReader.open(written.files[0].location) as reader:
        reader.restore(str(where / "out"), job="r1", **quiet)
    assert _tree(where / "out") == _tree(made.root)


def test_frames_are_read_within_a_share(series):
    class Share:
        spent = 0

        def spend(self, count):
            self.spent += count

    share = Share()
    with PackageReader.open(series.pack().files[0].location, throttle=share) as reader:
        reader.read(reader.indices(FrameKind.PROJECTION)[0])
        assert 0 < share.spent == reader.read_bytes
