from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap

import h5py
import hdf5plugin  # noqa: F401
import numpy as np
import pytest

from tomovault.core.layout import FrameKind
from tomovault.core.manifest import manifest_digest
from tomovault.core.scan import FileRole
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
