"""Volumes: readable anywhere, complete, noticed when damaged, nothing left behind."""

import errno
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import h5py
import numpy as np
import pytest

from tomovault.core.errors import IntegrityError, NoSpace, Refused, UserError
from tomovault.core.manifest import content_digest
from tomovault.package.landing import array_digest, reread_file
from tomovault.package.names import Whose
from tomovault.package.volume import verify_volume, write_volume

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
RESOLVED = {
    "centre": 15.25,
    "filter": "shepp-logan",
    "scale": "1/pixel",
    "angles_deg": [0.0, 90.0],
    "projections": [[2, 4]],
    "flats": [{"indices": [0, 1], "sha256": "ab" * 32}],
    "white_level": None,
    "mixed": [1, None, "a"],
}


class Free:
    """A throttle that only counts."""

    def __init__(self):
        self.spent = 0

    def spend(self, count):
        self.spent += count


def volume(rows, size=32):
    rng = np.random.default_rng(9)
    return {row: rng.normal(size=(size, size)).astype(np.float32) for row in rows}


def write(folder, slices, rows=None, **changes):
    wishes = {
        "resolved": RESOLVED,
        "engine": "fourier",
        "version": "1",
        "nx": {"x_pixel_m": 2e-6, "y_pixel_m": 3e-6, "title": "a scan", "digest": "cd" * 32},
        "job": "job-7",
        "whose": Whose("s1"),
        "now": NOW,
        "threads": 2,
        "throttle": Free(),
        "checkpoint": lambda _name: None,
        "progress": lambda _done, _total: None,
    }
    rows = list(slices) if rows is None else rows
    return write_volume(folder, "scan", rows, iter(slices.items()), **{**wishes, **changes})


def test_slices_come_back_and_everything_that_made_them(tmp_path):
    slices = volume(range(5))
    seen = []
    throttle = Free()
    written = write(str(tmp_path), slices, throttle=throttle, progress=lambda d, t: seen.append((d, t)))
    assert written.shape == (5, 32, 32)
    assert seen == [(i, 5) for i in range(1, 6)]
    assert written.digest == content_digest({f"slice {row}": array_digest(image) for row, image in slices.items()})
    assert verify_volume(written.files[0].location) == written.digest
    assert written.files == (reread_file(tmp_path / "scan.volume.h5"),)
    assert 0 < throttle.spent < written.files[0].size
    with h5py.File(tmp_path / "scan.volume.h5", "r") as file:
        data = file["entry/reconstruction/results/data"]
        assert data.dtype == np.float32
        assert data.chunks == (1, 32, 32)
        for place, image in enumerate(slices.values()):
            assert np.array_equal(data[place], image)
        process = file["entry/reconstruction"]
        assert json.loads(process["configuration/json"][()]) == RESOLVED
        assert process["configuration/values/centre"][()] == 15.25
        assert process["configuration/values/projections"][()].tolist() == [[2, 4]]
        assert process["configuration/values/flats/0/indices"][()].tolist() == [0, 1]
        assert process["results/voxel_size"][()].tolist() == [3e-6, 2e-6, 2e-6]
        assert process["results/voxel_size"].attrs["units"] == "m"
        assert process["results/x"][31] == 15.5 * 2e-6
        assert process["results/y"][0] == 15.5 * 2e-6
        assert process["source_digest"][()].decode() == "cd" * 32
        classes = {file[name].attrs["NX_class"] for name in ("entry", "entry/reconstruction")}
        assert classes == {"NXentry", "NXprocess"}
        assert process["results"].attrs["NX_class"] == "NXdata"


def test_a_plain_reader_in_another_process(tmp_path):
    slices = volume([0, 1])
    written = write(tmp_path, slices)
    code = (
        "import sys, hashlib, h5py, hdf5plugin\n"
        "with h5py.File(sys.argv[1], 'r') as f:\n"
        "    print(hashlib.sha256(f['/entry/reconstruction/results/data'][()].tobytes()).hexdigest())\n"
        "print(any(m.startswith('tomovault') for m in sys.modules))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, written.files[0].location], capture_output=True, text=True, check=True
    )
    import hashlib

    expected = hashlib.sha256(np.stack(list(slices.values())).tobytes()).hexdigest()
    assert run.stdout.split() == [expected, "False"]


def test_rows_keep_their_numbers_and_unknown_pixels_are_said(tmp_path):
    slices = volume([3, 40])
    written = write(tmp_path, slices, nx={})
    with h5py.File(written.files[0].location, "r") as file:
        results = file["entry/reconstruction/results"]
        assert results["rows"][()].tolist() == [3, 40]
        assert results["z"][()].tolist() == [3.0, 40.0]
        assert results["z"].attrs["units"] == "pixel"
    assert written.digest != write(tmp_path / "b", dict(zip([3, 41], slices.values(), strict=True))).digest


def test_the_digest_is_the_same_whatever_wrote_it(tmp_path):
    slices = volume(range(9))
    digests = {write(tmp_path / str(n), slices, threads=n, job=f"j{n}").digest for n in (1, 2, 4)}
    assert len(digests) == 1


def test_memory_holds_a_few_slices_only(tmp_path):
    taken, written = [], []

    class Counted(dict):
        def items(self):
            for row in range(40):
                taken.append(row)
                assert len(taken) - len(written) <= 5
                yield row, np.full((8, 8), row, np.float32)

    write(tmp_path, Counted(), rows=range(40), progress=lambda done, _total: written.append(done))
    assert len(written) == 40


@pytest.mark.parametrize(
    ("given", "rows"),
    [(volume([0, 1]), [0, 1, 2]), (volume([0, 1, 2]), [0, 1]), (volume([1, 0]), [0, 1]), ({}, [0]), ({}, [])],
)
def test_an_engine_that_gives_other_rows_is_refused(tmp_path, given, rows):
    with pytest.raises(UserError):
        write(tmp_path, given, rows=rows)
    assert os.listdir(tmp_path) == []


def test_slices_of_different_shapes_are_refused(tmp_path):
    with pytest.raises(UserError, match="shapes"):
        write(tmp_path, {0: np.zeros((4, 4), np.float32), 1: np.zeros((5, 5), np.float32)})
    assert os.listdir(tmp_path) == []


def test_a_failure_of_the_engine_leaves_nothing(tmp_path):
    def broken():
        yield 0, np.zeros((4, 4), np.float32)
        raise IntegrityError("the source is damaged")

    class Broken(dict):
        def items(self):
            return broken()

    with pytest.raises(IntegrityError, match="damaged"):
        write(tmp_path, Broken(), rows=[0, 1])
    assert os.listdir(tmp_path) == []


def test_a_source_that_cannot_be_read_is_not_called_a_full_disk(tmp_path):
    class Broken(dict):
        def items(self):
            yield 0, np.zeros((4, 4), np.float32)
            raise OSError(errno.EIO, "Input/output error", "/data/scan_0001.edf")

    with pytest.raises(OSError, match="scan_0001"):
        write(tmp_path, Broken(), rows=[0, 1])
    assert os.listdir(tmp_path) == []


def test_the_floor_is_kept(tmp_path):
    with pytest.raises(NoSpace):
        write(tmp_path, volume([0]), floor_bytes=1 << 60)
    assert os.listdir(tmp_path) == []


FULL = """
import resource, sys, runpy
sys.path.insert(0, sys.argv[1])
import test_volume as t
from tomovault.core.errors import NoSpace
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), -1))
try:
    t.write(sys.argv[2], t.volume(range(20), 64))
except NoSpace as problem:
    print("NoSpace", problem.message)
"""


@pytest.mark.parametrize("short", [1, 700, 3_000, 100_000, 302_000])
def test_a_file_that_cannot_grow_is_no_space_and_leaves_nothing(tmp_path, short):
    place = tmp_path / "vault"
    limit = write(tmp_path / "whole", volume(range(20), 64)).files[0].size - short
    run = subprocess.run(
        [sys.executable, "-c", FULL, str(Path(__file__).parent), str(place), str(limit)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stdout.startswith("NoSpace"), run.stderr
    assert run.returncode == 0, run.stderr
    assert os.strerror(errno.EFBIG) in run.stdout
    assert os.listdir(place) == []


def test_a_crash_leaves_nothing_under_the_name_and_a_second_run_ends_the_same(tmp_path):
    class Killed(BaseException):
        pass

    def kill(name):
        if name == "volume.written":
            assert os.listdir(tmp_path) == [".scan.volume.h5.job-7.tmp"]
            raise Killed

    with pytest.raises(Killed):
        write(tmp_path, volume([0, 1]), checkpoint=kill)
    first = write(tmp_path, volume([0, 1]))
    assert write(tmp_path, volume([0, 1])).digest == first.digest
    assert os.listdir(tmp_path) == ["scan.volume.h5"]


def test_one_flipped_byte_names_its_row(tmp_path):
    written = write(tmp_path, volume(range(4)))
    path = Path(written.files[0].location)
    with h5py.File(path, "r") as file:
        chunk = file["entry/reconstruction/results/data"].id.get_chunk_info(2)
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset + chunk.size // 2] ^= 0x10
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match="row 2"):
        verify_volume(path)


def test_a_changed_slice_is_noticed(tmp_path):
    path = write(tmp_path, volume(range(3))).files[0].location
    import hdf5plugin  # noqa: F401  the filter that writes the slice anew

    with h5py.File(path, "r+") as file:
        data = file["entry/reconstruction/results/data"]
        data[1] = data[1] + 1
    with pytest.raises(IntegrityError, match="row 1"):
        verify_volume(path)


def test_a_cut_or_absent_file_is_an_integrity_error(tmp_path):
    path = Path(write(tmp_path, volume(range(3))).files[0].location)
    content = path.read_bytes()
    for length in (0, 100, len(content) // 2, len(content) - 500):
        path.write_bytes(content[:length])
        with pytest.raises(IntegrityError):
            verify_volume(path)
    path.unlink()
    with pytest.raises(IntegrityError):
        verify_volume(path)


def test_rereading_a_volume_is_within_a_share(tmp_path):
    written = write(tmp_path, volume(range(5)))
    throttle = Free()
    assert verify_volume(written.files[0].location, throttle=throttle) == written.digest
    assert 0 < throttle.spent < written.files[0].size


def test_a_volume_of_another_scan_is_never_replaced(tmp_path):
    """One of the same scan is, also where that is told by the package that it was made from alone."""
    other = write(tmp_path, volume([0, 1]), whose=Whose("s2"), nx={"digest": "ab" * 32})
    place = other.files[0].location
    before = Path(place).read_bytes()
    with pytest.raises(Refused, match=r"scan.volume.h5 is there"):
        write(tmp_path, volume([0, 1, 2]))
    assert Path(place).read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1
    write(tmp_path, volume([0, 1, 2]), whose=Whose("s2"), nx={}, job="job-8")
    write(tmp_path, volume([0, 1]), whose=Whose("s1", (place,)))
    anew = write(tmp_path, volume([0, 1, 2]), whose=Whose("s3"))
    assert verify_volume(place) == anew.digest != other.digest
