"""Previews: what is shown, how it lies on disk, and that damage is noticed."""

import json
import os
import struct
import subprocess
import sys
import zlib
from datetime import UTC, datetime
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tomovault.core.errors import IntegrityError, NoSpace, Refused, Transient, UserError
from tomovault.core.flatfield import plan_flatfield
from tomovault.core.layout import FrameKind
from tomovault.package.binning import bin_image
from tomovault.package.landing import reread_file
from tomovault.package.names import Whose
from tomovault.package.png import encode_png, enlarge, side_by_side, stretch
from tomovault.package.preview import make_preview, read_binned, verify_preview

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Frames:
    """A `FrameSource` over frames in memory, each (kind, image, angle)."""

    def __init__(self, frames):
        self.frames = frames

    @property
    def frame_shape(self):
        return next((image.shape for kind, image, _ in self.frames if kind is FrameKind.PROJECTION), (0, 0))

    def indices(self, kind):
        return [i for i, frame in enumerate(self.frames) if frame[0] is kind]

    def angle_deg(self, index):
        return self.frames[index][2]

    def summed(self, _index):
        return 1

    def read(self, index, rows=None):
        image = self.frames[index][1]
        return (image if rows is None else image[rows]).copy()

    def facts(self):
        return {}


def scan(shape=(12, 20), angles=(0.0, 45.0, 90.0, 135.0)):
    rng = np.random.default_rng(3)
    frames = [(FrameKind.DARK, np.full(shape, 10, "<u2"), None), (FrameKind.FLAT, np.full(shape, 1010, "<u2"), None)]
    frames += [(FrameKind.PROJECTION, rng.integers(10, 1010, shape).astype("<u2"), angle) for angle in angles]
    return Frames(frames)


def make(source, folder, image=None, **changes):
    wishes = {
        "parameters": {"centre": 9.5},
        "job": "job-7",
        "whose": Whose("s1"),
        "now": NOW,
        "checkpoint": lambda _name: None,
    }
    return make_preview(source, image, folder, "scan", **{**wishes, **changes})


def decode_png(data):
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, body, size = 8, b"", None
    while at < len(data):
        (length,), name = struct.unpack(">I", data[at : at + 4]), data[at + 4 : at + 8]
        content = data[at + 8 : at + 8 + length]
        assert struct.unpack(">I", data[at + 8 + length : at + 12 + length])[0] == zlib.crc32(name + content)
        if name == b"IHDR":
            size = struct.unpack(">IIBBBBB", content)
        if name == b"IDAT":
            body += content
        at += 12 + length
    columns, rows, *kind = size
    assert kind == [8, 0, 0, 0, 0]
    lines = np.frombuffer(zlib.decompress(body), np.uint8).reshape(rows, columns + 1)
    assert not lines[:, 0].any()
    return lines[:, 1:]


def test_projections_are_transmissions_at_0_and_90_degrees(tmp_path):
    source = scan(angles=(135.0, 90.3, 45.0, 359.8, 1.0))
    made = make(source, tmp_path, np.ones((20, 20), np.float32))
    with h5py.File(made.files[0].location, "r") as file:
        preview = file["entry/preview"]
        notes = json.loads(preview["parameters"][()])
        assert notes["centre"] == 9.5
        assert notes["preview"]["projection_0"] == {"frame": 5, "angle_deg": 359.8, "binning": 1}
        assert notes["preview"]["projection_90"]["frame"] == 3
        expected = (source.frames[5][1] - 10.0) / 1000.0
        assert preview["projection_0/data"][()] == pytest.approx(expected, rel=1e-6)
        assert preview["projection_0/data"].dtype == np.float32
        for name in ("projection_0", "projection_90", "slice"):
            assert preview[name].attrs["NX_class"] == "NXdata"
            assert preview[name].attrs["signal"] == "data"
            assert decode_png(preview[f"{name}_png"][()].tobytes()).shape == preview[f"{name}/data"].shape
        assert file["entry"].attrs["NX_class"] == "NXentry"


def test_the_digest_is_of_content_and_the_files_of_bytes(tmp_path):
    image = np.arange(400, dtype=np.float32).reshape(20, 20)
    first = make(scan(), tmp_path / "a", image)
    second = make(scan(), str(tmp_path / "b"), image, job="other", parameters={"centre": 1.0})
    other = make(scan(), tmp_path / "c", image + 1)
    assert first.digest == second.digest != other.digest
    assert verify_preview(first.files[0].location) == first.digest
    assert [f.location for f in first.files] == [str(tmp_path / "a" / f"scan.preview.{e}") for e in ("h5", "png")]
    for file in first.files:
        assert reread_file(type(tmp_path)(file.location)) == file
    assert sorted(os.listdir(tmp_path / "a")) == ["scan.preview.h5", "scan.preview.png"]


def test_the_picture_shows_all_three_side_by_side(tmp_path):
    made = make(scan(), tmp_path, np.eye(20, dtype=np.float32))
    with open(made.files[1].location, "rb") as file:
        picture = decode_png(file.read())
    times = 256 // 20
    assert picture.shape == (20 * times + 16, 3 * 20 * times + 32)


def test_without_a_slice_there_are_two_images(tmp_path):
    made = make(scan(), tmp_path)
    with h5py.File(made.files[0].location, "r") as file:
        assert "slice" not in file["entry/preview"]
    assert verify_preview(made.files[0].location) == made.digest


def test_angles_resolved_by_the_engine_come_first(tmp_path):
    source = scan(angles=(None, None, None, None))
    made = make(source, tmp_path, parameters={"projections": [[2, 6]], "angles_deg": [270.0, 0.0, 90.0, 180.0]})
    with h5py.File(made.files[0].location, "r") as file:
        notes = json.loads(file["entry/preview/parameters"][()])["preview"]
    assert (notes["projection_0"]["frame"], notes["projection_90"]["frame"]) == (3, 4)
    made = make(source, tmp_path)
    with h5py.File(made.files[0].location, "r") as file:
        notes = json.loads(file["entry/preview/parameters"][()])["preview"]
    assert (notes["projection_0"]["frame"], notes["projection_90"]["frame"]) == (2, 4)


def test_large_frames_are_binned_and_it_is_said(tmp_path):
    source = scan(shape=(30, 2050), angles=(0.0, 90.0))
    made = make(source, tmp_path, np.ones((2050, 2050), np.float32))
    with h5py.File(made.files[0].location, "r") as file:
        preview = file["entry/preview"]
        assert preview["projection_0/data"].shape == (10, 684)
        assert preview["slice/data"].shape == (684, 684)
        notes = json.loads(preview["parameters"][()])["preview"]
        assert notes["slice"] == {"binning": 3}
        assert notes["projection_0"]["binning"] == 3


@given(st.integers(1, 23), st.integers(1, 23), st.integers(1, 6))
def test_bins_are_means(rows, columns, factor):
    image = np.random.default_rng(rows * 31 + columns).uniform(size=(rows, columns)).astype(np.float32)
    binned = bin_image(image, factor)
    assert binned.shape == (-(-rows // factor), -(-columns // factor))
    for i in range(binned.shape[0]):
        for j in range(binned.shape[1]):
            block = image[i * factor : (i + 1) * factor, j * factor : (j + 1) * factor]
            assert binned[i, j] == pytest.approx(block.mean(), rel=1e-5)


def test_reading_in_bands_gives_the_same_bins(monkeypatch):
    source = scan(shape=(37, 20))
    plan = plan_flatfield(source)
    whole = read_binned(source, plan, 3, 4)
    monkeypatch.setattr("tomovault.package.preview._BAND_BYTES", 20 * 32 * 9)
    assert np.array_equal(read_binned(source, plan, 3, 4), whole)


def test_a_scan_without_projections_has_no_preview(tmp_path):
    with pytest.raises(UserError):
        make(Frames(scan().frames[:2]), tmp_path)
    assert os.listdir(tmp_path) == []


def test_a_full_disk_leaves_nothing(tmp_path):
    with pytest.raises(NoSpace):
        make(scan(), tmp_path, floor_bytes=1 << 60)
    assert os.listdir(tmp_path) == []


FULL = """
import resource, sys
sys.path.insert(0, sys.argv[1])
import test_preview as t
from tomovault.core.errors import NoSpace
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), -1))
try:
    t.make(t.scan((64, 64)), sys.argv[2], t.np.ones((64, 64), t.np.float32))
except NoSpace as problem:
    print("NoSpace", problem.message)
"""


@pytest.mark.parametrize("limit", [100, 20_000, 40_000])
def test_a_file_that_cannot_grow_is_no_space_and_leaves_nothing(tmp_path, limit):
    place = tmp_path / "vault"
    here = os.path.dirname(__file__)
    run = subprocess.run(
        [sys.executable, "-c", FULL, here, str(place), str(limit)], capture_output=True, text=True, check=False
    )
    assert run.stdout.startswith("NoSpace"), run.stderr
    assert run.returncode == 0, run.stderr
    assert os.listdir(place) == []


def test_a_crash_before_the_names_leaves_nothing_and_a_second_run_ends_the_same(tmp_path):
    class Killed(BaseException):
        pass

    def kill(name):
        if name == "preview.written":
            raise Killed

    with pytest.raises(Killed):
        make(scan(), tmp_path, checkpoint=kill)
    assert os.listdir(tmp_path) == []
    first = make(scan(), tmp_path)
    assert make(scan(), tmp_path).digest == first.digest


def test_damage_is_noticed(tmp_path):
    made = make(scan(), tmp_path, np.ones((20, 20), np.float32))
    path = made.files[0].location
    with h5py.File(path, "r+") as file:
        file["entry/preview/slice/data"][3, 4] = 2.0
    with pytest.raises(IntegrityError, match="digest"):
        verify_preview(path)
    with open(path, "r+b") as file:
        file.truncate(3000)
    with pytest.raises(IntegrityError):
        verify_preview(path)
    with pytest.raises(IntegrityError):
        verify_preview(tmp_path / "absent.h5")


def test_a_plain_reader_opens_it(tmp_path):
    made = make(scan(), tmp_path, np.full((20, 20), 2.5, np.float32))
    code = "import sys, h5py; print(h5py.File(sys.argv[1])['entry/preview/slice/data'][()].sum())"
    run = subprocess.run(
        [sys.executable, "-c", code, made.files[0].location], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "1000.0"


def test_png_keeps_every_grey():
    image = np.arange(256, dtype=np.uint8).reshape(8, 32)
    assert np.array_equal(decode_png(encode_png(image)), image)


def test_stretch_spans_the_greys_and_survives_odd_images():
    image = np.linspace(-1, 1, 10_000).reshape(100, 100)
    grey = stretch(image)
    assert grey.min() == 0
    assert grey.max() == 255
    assert (np.diff(grey.astype(int).reshape(-1)) >= 0).all()
    assert stretch(np.full((3, 3), np.nan)).max() == 0
    assert stretch(np.full((3, 3), 7.0)).shape == (3, 3)
    assert stretch(np.array([[np.inf, 1.0, 2.0]]))[0, 0] == 255


def test_small_and_flat_pictures_are_enlarged():
    assert enlarge(np.zeros((16, 16), np.uint8), 256).shape == (256, 256)
    assert enlarge(np.zeros((2, 640), np.uint8), 256).shape == (32, 640)
    assert side_by_side([np.zeros((4, 4), np.uint8), np.ones((8, 2), np.uint8)]).shape == (24, 30)


def test_rereading_a_preview_is_within_a_share(tmp_path):
    class Share:
        spent = 0

        def spend(self, count):
            self.spent += count

    share = Share()
    made = make(scan(), tmp_path)
    assert verify_preview(made.files[0].location, throttle=share) == made.digest
    assert share.spent == os.path.getsize(made.files[0].location)


def test_a_preview_of_another_scan_is_never_replaced(tmp_path):
    """One of the same scan is, and so is one that is known to be of it, whatever the file says."""
    other = make(scan(), tmp_path, whose=Whose("s2"))
    before = {f.location: Path(f.location).read_bytes() for f in other.files}
    with pytest.raises(Refused, match=r"scan.preview.h5 is there"):
        make(scan(angles=(0.0, 90.0)), tmp_path)
    assert {str(p): p.read_bytes() for p in tmp_path.iterdir()} == before
    known = make(scan(angles=(0.0, 30.0)), tmp_path, whose=Whose("s1", (other.files[0].location,)))
    assert verify_preview(known.files[0].location) == known.digest != other.digest
    again = make(scan(angles=(0.0, 60.0)), tmp_path, job="job-8")
    assert verify_preview(again.files[0].location) == again.digest
    assert len(list(tmp_path.iterdir())) == 2


def test_a_preview_that_a_lost_catalogue_knew_is_made_again(tmp_path):
    """The scan is called otherwise by now, and its images are the same."""
    make(scan(), tmp_path)
    assert make(scan(), tmp_path, whose=Whose("s9")).digest == make(scan(), tmp_path, whose=Whose("s1")).digest


def test_a_preview_that_comes_while_one_is_made_stays(tmp_path):
    def come_between(name):
        if name == "preview.written":
            make(scan(), tmp_path, whose=Whose("s2"), job="job-8")

    with pytest.raises(Transient, match="came there meanwhile"):
        make(scan(angles=(0.0, 90.0)), tmp_path, checkpoint=come_between)
    picture = (tmp_path / "scan.preview.png").read_bytes()
    assert len(list(tmp_path.iterdir())) == 2
    make(scan(), tmp_path, whose=Whose("s2"))
    assert (tmp_path / "scan.preview.png").read_bytes() == picture


def test_a_preview_killed_between_its_two_names_is_made_again(tmp_path):
    (tmp_path / "scan.preview.png").write_bytes(b"of nobody")
    made = make(scan(), tmp_path)
    Path(made.files[1].location).unlink()
    again = make(scan(), tmp_path)
    assert [Path(f.location).name for f in again.files] == ["scan.preview.h5", "scan.preview.png"]
    assert Path(again.files[1].location).read_bytes().startswith(b"\x89PNG")
