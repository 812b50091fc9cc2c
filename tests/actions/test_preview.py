"""preview and reconstruct on a small series, with an engine that makes a flat slice."""

import os
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest

from tomovault.actions.pack import Pack
from tomovault.actions.preview import Preview
from tomovault.actions.reconstruct import Reconstruct
from tomovault.core.errors import IntegrityError, UserError
from tomovault.core.known import CODED_FRAMES
from tomovault.core.layout import FrameKind, Layout
from tomovault.core.ports import Estimate
from tomovault.core.record import Made, Moot, Stored, Unfinished
from tomovault.core.scan import Candidate
from tomovault.core.wire import to_plain
from tomovault.formats.family import load
from tomovault.package import preview as previews
from tomovault.testing.bliss_scan import write_bliss_scan
from tomovault.testing.edf_scan import write_edf_scan

WHOSE = {"whose": {"scan": "s1", "locations": []}}


class Engine:
    name = "flat"

    def version(self):
        return "1"

    def resolve(self, source, parameters):
        rows = parameters.get("rows") or list(range(source.frame_shape[0]))
        return {"centre": 8.0, **parameters, "rows": rows}

    def estimate(self, _source, resolved):
        return Estimate(memory_bytes=1000 * len(resolved["rows"]), cpu_s=1.0)

    def slices(self, source, _resolved, rows, progress):
        width = source.frame_shape[1]
        source.read(source.indices(FrameKind.PROJECTION)[0])
        for done, row in enumerate(rows, 1):
            progress(done, len(rows))
            yield row, np.full((width, width), row, dtype=np.float32)


@pytest.fixture
def order(tmp_path, bench):
    """A series as it was written, and the order of its preview from its files."""
    write_edf_scan(str(tmp_path), "one_", shape=(16, 16), projections=8, flats=1, darks=1, fast=True)
    bench.formats = load("edf")
    bench.engine = Engine
    candidate = Candidate(bench.formats.name, str(tmp_path / "one_"), "one_")
    (report,) = bench.formats.inspect(candidate, settled=True)
    vault = tmp_path / "vault"
    vault.mkdir()
    where = {"area": "inhouse", "folder": str(vault), "stem": "one_", "domain": "d"}
    source = {"candidate": to_plain(candidate), "entry": report.entry, "identity": report.identity}
    return SimpleNamespace(
        preview={"frames": {**source, "package": None, "digest": ""}, **where, "parameters": {}, **WHOSE},
        where=where,
        source=source,
    )


@pytest.fixture
def package(order, bench):
    """The series packed; where it is."""
    wanted = {**order.source, **order.where, "scan": {"name": "one_"}, "files_domain": "d"}
    records = Pack().perform({**wanted, "part_bytes": 1 << 30, "floor_bytes": 0, "threads": 1}, bench).records
    return next(r for r in records if isinstance(r, Stored) and r.form.value == "package")


def _volume(order, package, **parameters):
    """The order of a volume from the package alone."""
    nowhere = {"candidate": None, "entry": "", "identity": "", "digest": ""}
    frames = {**nowhere, "package": package.location, "replica": "r1", "files": to_plain(package.files)}
    return {"frames": frames, **order.where, **WHOSE, "threads": 1, "parameters": parameters}


def _check(records, kind, rows):
    made, stored = records
    assert isinstance(made, Made)
    assert (made.kind.value, stored.kind.value, stored.digest) == (kind, kind, made.digest)
    assert stored.verified_at is not None
    assert stored.bytes == sum(os.path.getsize(file.location) for file in stored.files)
    run = made.processing
    assert (run.engine, run.engine_version, run.outputs) == ("flat", "1", (made.digest,))
    assert (run.parameters["purpose"], run.parameters["centre"], run.parameters["rows"]) == (kind, 8.0, rows)


def test_a_preview_is_recorded_with_what_made_it(order, bench):
    _check(Preview().perform(order.preview, bench).records, "preview", [8])


def test_a_preview_that_does_not_re_read_is_damaged(order, bench, monkeypatch):
    monkeypatch.setattr(previews, "verify_preview", lambda *_a, **_k: "another")
    with pytest.raises(IntegrityError, match="the preview of one_ does not re-read"):
        Preview().perform(order.preview, bench)


def test_a_volume_is_made_from_the_package(order, package, bench):
    _check(Reconstruct().perform(_volume(order, package, rows=[2, 3]), bench).records, "volume", [2, 3])


def test_a_volume_of_counts_is_made_with_what_gives_its_values_back(order, package, bench):
    made, stored = Reconstruct().perform({**_volume(order, package, rows=[2, 3]), "dtype": "uint8"}, bench).records
    told = made.processing.parameters["cast"]
    assert told == {
        "dtype": "uint8",
        "scale": 1 / 255,
        "offset": 2.0,
        "low": 2.0,
        "high": 3.0,
        "largest_error": 0.0,
    }
    with h5py.File(stored.files[0].location, "r") as file:
        data = file["/entry/reconstruction/results/data"]
        assert data.dtype == np.uint8
        values = data[()] * data.attrs["scale"] + data.attrs["offset"]
    assert np.array_equal(values, np.broadcast_to(np.array([2.0, 3.0])[:, None, None], values.shape))


@pytest.mark.parametrize("dtype", ["float32", "uint16"])
def test_the_progress_of_a_volume_goes_once_from_nothing_to_all(order, package, bench, dtype, monkeypatch):
    seen = []
    monkeypatch.setattr(bench, "progress", lambda done, total: seen.append(done / total))
    wanted = _volume(order, package, rows=[2, 3, 4, 5])
    Reconstruct().perform({**wanted, "dtype": dtype}, bench)
    made = [share for share in seen if share <= 1]
    assert made == sorted(made) == seen
    assert (len(set(made)), made[-1]) == (len(made), 1.0)


def test_a_volume_that_needs_more_memory_than_jobs_may_use_is_not_begun(order, package, bench):
    wanted = _volume(order, package)
    with pytest.raises(UserError, match="needs 16000 bytes of memory, and jobs may use 15999"):
        Reconstruct().perform({**wanted, "memory_bytes": 15_999}, bench)
    assert Reconstruct().perform({**wanted, "memory_bytes": 16_000}, bench).records


@pytest.mark.parametrize("action", [Preview, Reconstruct])
def test_a_package_that_turns_out_bad_is_told(order, package, bench, action):
    path = Path(package.location)
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[: len(content) * 3 // 4] = bytes(len(content) * 3 // 4)
    path.write_bytes(content)
    volume = _volume(order, package)
    wanted = volume if action is Reconstruct else {**order.preview, "frames": volume["frames"]}
    with pytest.raises(Unfinished) as caught:
        action().perform(wanted, bench)
    (bad,) = caught.value.records
    assert (bad.replica, bad.ok) == ("r1", False)


@pytest.fixture
def whole(tmp_path, bench):
    """A scan with compressed frames, packed: orders for it, and what the package said."""
    scan = write_bliss_scan(
        str(tmp_path), "bone", variant="camera-gzip", shape=(16, 16), projections=8, flats=1, darks=1
    )
    bench.formats = load("bliss")
    bench.engine = Engine
    candidate = Candidate("bliss", scan.scans[-1].folder, "bone_0001.h5")
    (report,) = bench.formats.inspect(candidate, settled=True)
    vault = tmp_path / "vault"
    vault.mkdir()
    where = {"area": "inhouse", "folder": str(vault), "stem": "bone", "domain": "d"}
    source = {"candidate": to_plain(candidate), "entry": report.entry, "identity": report.identity}
    wanted = {**source, **where, "scan": {"name": "bone"}, "files_domain": "d"}
    made, package, _ = Pack().perform({**wanted, "part_bytes": 1 << 30, "floor_bytes": 0, "threads": 1}, bench).records
    frames = {**source, "package": package.location, "digest": made.digest}
    order = {"frames": frames, **where, **WHOSE, "parameters": {}, "threads": 1}
    return SimpleNamespace(order=order, made=made, candidate=candidate)


def _order_of(whole, action, **frames):
    wanted = {key: value for key, value in whole.order.items() if key != "threads" or action is Reconstruct}
    return {**wanted, "frames": {**wanted["frames"], **frames}}


def test_a_package_tells_how_many_frames_it_keeps_within_whole_files(whole):
    assert whole.made.details == {CODED_FRAMES: 10}


@pytest.mark.parametrize("action", [Preview, Reconstruct])
def test_frames_that_a_package_keeps_within_whole_files_come_from_the_files(whole, bench, action):
    made, stored = action().perform(_order_of(whole, action), bench).records
    assert stored.verified_at is not None
    again = {**_order_of(whole, action, package=None), "stem": "again"}
    assert action().perform(again, bench).records[0].digest == made.digest


@pytest.mark.parametrize("action", [Preview, Reconstruct])
def test_where_the_files_were_taken_away_there_is_nothing_to_do(whole, bench, action):
    """The files are there in this test, and nobody looks."""
    bench.formats = None
    with pytest.raises(Moot, match="keeps its files whole, and they are not on disk"):
        action().perform(_order_of(whole, action, candidate=None), bench)


def test_files_without_a_frame_that_can_be_read_are_nothing_to_do_either(whole, bench):
    bench.formats = SimpleNamespace(inspect=bench.formats.inspect, layout=lambda _report: Layout())
    with pytest.raises(Moot, match="no projection in its files can be read as a frame"):
        Preview().perform(_order_of(whole, Preview), bench)


VOLUME = np.random.default_rng(2).normal(0, 1, (4, 6, 8)).astype("<f4")


@pytest.fixture
def foreign(tmp_path, bench):
    """A volume in HDF5 that others made, compressed or not: orders for it, packed, and what the package said."""

    def make(**storage):
        bench.formats = load("volume_hdf5")
        with h5py.File(tmp_path / "bone_rec.h5", "w") as file:
            file.create_dataset("exchange/data", data=VOLUME, **storage)
        candidate = Candidate("volume_hdf5", str(tmp_path), "bone_rec.h5")
        (report,) = bench.formats.inspect(candidate, settled=True)
        vault = tmp_path / "vault"
        vault.mkdir()
        where = {"area": "inhouse", "folder": str(vault), "stem": "bone_rec", "domain": "d"}
        source = {"candidate": to_plain(candidate), "entry": report.entry, "identity": report.identity}
        wanted = {**source, **where, "scan": {"name": "bone_rec"}, "files_domain": "d"}
        more = {"part_bytes": 1 << 30, "floor_bytes": 0, "threads": 1}
        made, package, _ = Pack().perform({**wanted, **more}, bench).records
        frames = {**source, "package": package.location, "digest": made.digest}
        return SimpleNamespace(
            order={"frames": frames, **where, **WHOSE, "parameters": {}, "of_slices": True}, made=made
        )

    return make


def _from(foreign, **frames):
    return {**foreign.order, "frames": {**foreign.order["frames"], **frames}}


def test_the_preview_of_a_volume_is_of_its_middle_planes_and_no_engine_is_asked(foreign, bench):
    volume = foreign()
    assert volume.made.details == {CODED_FRAMES: 0}
    formats, bench.formats, bench.names = bench.formats, None, []
    made, stored = Preview().perform(_from(volume, candidate=None), bench).records
    assert bench.names == ["preview.written", "preview.named"]
    assert (made.kind.value, made.processing, stored.digest) == ("preview", None, made.digest)
    assert stored.verified_at is not None
    with h5py.File(stored.location) as file:
        for name, expected in (("slice", VOLUME[2]), ("cut_row", VOLUME[:, 3]), ("cut_column", VOLUME[:, :, 4])):
            np.testing.assert_array_equal(file[f"entry/preview/{name}/data"][()], expected)
    bench.formats = formats
    assert Preview().perform(_from(volume, package=None), bench).records[0].digest == made.digest


def test_the_preview_of_a_compressed_volume_is_made_from_its_files(foreign, bench):
    volume = foreign(compression="gzip")
    assert volume.made.details == {CODED_FRAMES: 4}
    _, stored = Preview().perform(_from(volume, package=None), bench).records
    with h5py.File(stored.location) as file:
        np.testing.assert_array_equal(file["entry/preview/cut_row/data"][()], VOLUME[:, 3])
    with pytest.raises(Moot, match="keeps its files whole"):
        Preview().perform(_from(volume, candidate=None), bench)
    bench.formats = SimpleNamespace(inspect=bench.formats.inspect, layout=lambda _report: Layout())
    with pytest.raises(Moot, match="no slice in its files can be read as a frame"):
        Preview().perform(volume.order, bench)
