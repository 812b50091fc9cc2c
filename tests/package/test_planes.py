"""The middle planes of a volume against numpy's, and the preview that is made of them."""

import json
from datetime import UTC, datetime

import h5py
import numpy as np
import pytest

from tomovault.core.errors import IntegrityError, UserError
from tomovault.core.layout import FrameKind
from tomovault.package import binning
from tomovault.package.names import Whose
from tomovault.package.planes import bin_finite, read_planes
from tomovault.package.png import stretch
from tomovault.package.preview import make_preview_of_volume, verify_preview

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Slices:
    """A `FrameSource` over slices in memory by their order; what is read is counted."""

    def __init__(self, slices):
        self.slices = dict(slices)
        self.asked = []

    @property
    def frame_shape(self):
        raise AssertionError("a volume has no projections")

    def indices(self, kind):
        return sorted(self.slices) if kind is FrameKind.INVALID else []

    def read(self, index, rows=None):
        assert rows is None
        self.asked.append(index)
        return self.slices[index].copy()

    def facts(self):
        return {}


def volume(shape=(5, 6, 8), dtype="<f4"):
    return (np.random.default_rng(7).uniform(0, 200, shape)).astype(dtype)


def planes_of(data, first=0):
    return read_planes(Slices(enumerate(data, first)), lambda _done, _total: None)


def means(image, k):
    rows, columns = (range(0, length, k) for length in image.shape)
    return np.array([[image[i : i + k, j : j + k].mean(dtype=np.float64) for j in columns] for i in rows])


def make(source, folder, **changes):
    wishes = {"whose": Whose("s1"), "job": "j1", "now": NOW, "progress": lambda *_: None, "checkpoint": lambda _: None}
    return make_preview_of_volume(source, folder, "vol", **(wishes | changes))


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", "|u1", "<u2", ">u2", "<i2", "|b1"])
@pytest.mark.parametrize("first", [0, 1, 40])
def test_small_planes_are_those_of_numpy(dtype, first):
    data = volume(dtype=dtype)
    found = planes_of(data, first)
    expected = {"cut_row": data[:, 3, :], "cut_column": data[:, :, 4], "slice": data[2]}
    assert list(found.images) == list(expected)
    for name, image in expected.items():
        assert found.images[name].dtype == np.float32
        np.testing.assert_array_equal(found.images[name], image.astype(np.float32))
    assert found.notes["slice"] == {"slice": first + 2, "binning": 1}
    assert found.notes["cut_row"] == {"row": 3, "binning": 1}
    assert found.notes["cut_column"] == {"column": 4, "binning": 1}


def test_larger_planes_are_binned_and_every_kth_slice_is_read_once(monkeypatch):
    monkeypatch.setattr(binning, "LONGEST_SIDE", 4)
    monkeypatch.setattr("tomovault.package.planes._BAND_BYTES", 9 * 8 * 3)
    data = volume((11, 8, 9))
    source = Slices(enumerate(data))
    found = read_planes(source, lambda _done, _total: None)
    chosen = data[[1, 4, 7, 10]]
    np.testing.assert_allclose(found.images["slice"], means(data[5], 3), rtol=1e-6)
    for name, lines in (("cut_row", chosen[:, 4, :]), ("cut_column", chosen[:, :, 4])):
        wanted = np.concatenate([means(line[None], 3) for line in lines])
        np.testing.assert_allclose(found.images[name], wanted, rtol=1e-6)
        assert found.notes[name]["binning"] == 3
    assert source.asked == [5, 1, 4, 7, 10]


def test_a_volume_of_one_slice_has_cuts_of_one_line(tmp_path):
    data = volume((1, 6, 8))
    found = planes_of(data)
    np.testing.assert_array_equal(found.images["slice"], data[0])
    assert (found.images["cut_row"].shape, found.images["cut_column"].shape) == ((1, 8), (1, 6))
    made = make(Slices(enumerate(data)), tmp_path)
    assert verify_preview(made.files[0].location) == made.digest


def test_slices_that_are_not_there_or_unlike_are_gaps():
    data = volume((7, 6, 8))
    slices = dict(enumerate(data))
    del slices[3], slices[5]
    slices[1] = np.ones((2, 8), "<f4")
    found = read_planes(Slices(slices), lambda _done, _total: None)
    assert found.notes["slice"]["slice"] == 2, "the nearest to the middle"
    for name, cut in (("cut_row", data[:, 3, :]), ("cut_column", data[:, :, 4])):
        expected = cut.copy()
        expected[[1, 3, 5]] = np.nan
        np.testing.assert_array_equal(found.images[name], expected)


def test_a_gap_where_another_slice_of_the_same_pixel_is_there_takes_that(monkeypatch):
    monkeypatch.setattr(binning, "LONGEST_SIDE", 3)
    data = volume((9, 2, 2))
    slices = dict(enumerate(data))
    del slices[4]
    found = read_planes(Slices(slices), lambda _done, _total: None)
    np.testing.assert_allclose(found.images["cut_row"][1], data[3, 1].mean(), rtol=1e-6)


def test_what_is_not_finite_takes_no_part():
    image = np.array([[1, np.nan, 5, np.inf], [3, 2, -np.inf, np.nan]], ">f4")
    np.testing.assert_array_equal(bin_finite(image, 2), np.array([[2, 5]], "f4"))
    assert np.isnan(bin_finite(np.full((2, 2), np.nan), 2)).all()
    data = volume()
    data[2, 0, 0], data[:, 3, 1], data[4, 3, 2] = np.nan, np.inf, -np.inf
    found = planes_of(data)
    assert np.isnan(found.images["slice"][0, 0])
    assert np.isnan(found.images["cut_row"][:, 1]).all()
    assert np.isfinite(np.delete(found.images["cut_row"], [1, 2], axis=1)).all()
    assert np.isinf(planes_of(np.full((2, 2, 2), 1e300)).images["slice"]).all(), "too large for single precision"


@pytest.mark.parametrize("data", [{}, {0: np.ones((2, 2), "<c8")}, {0: np.ones((0, 5), "<f4")}])
def test_what_is_no_volume_has_no_planes(data, tmp_path):
    with pytest.raises(UserError, match="no preview"):
        make(Slices(data), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_progress_is_told_for_each_line():
    told = []
    read_planes(Slices(enumerate(volume())), lambda done, total: told.append((done, total)))
    assert told == [(n, 5) for n in range(1, 6)]


def test_the_file_has_the_planes_where_they_lie_and_no_unit_that_nobody_told(tmp_path):
    data = volume()
    made = make(Slices(enumerate(data)), tmp_path)
    assert verify_preview(made.files[0].location) == made.digest
    with h5py.File(made.files[0].location) as file:
        preview = file["entry/preview"]
        assert preview.attrs["default"] == "slice"
        np.testing.assert_array_equal(preview["cut_column/data"][()], data[:, :, 4])
        assert json.loads(preview["parameters"][()])["preview"]["slice"] == {"slice": 2, "binning": 1}
        assert "units" not in preview["slice/data"].attrs
        with h5py.File(tmp_path / "copy.h5", "w") as other:
            file.copy("entry", other)
    with h5py.File(tmp_path / "copy.h5", "r+") as other:
        other["entry/preview/cut_row/data"][0, 0] += 1
    with pytest.raises(IntegrityError, match="do not have the digest"):
        verify_preview(tmp_path / "copy.h5")


def test_labels_are_told_apart_and_zero_is_masked_elsewhere():
    labels = np.array([[0, 1], [2, 2]], "f4")
    assert len(np.unique(stretch(labels, masked=False))) == 3
    assert stretch(labels)[0].tolist() == [0, 0]
    binary = np.array([[0, 255], [255, 0]], "u1")
    for masked in (True, False):
        assert stretch(binary, masked=masked).tolist() == [[0, 255], [255, 0]]
    assert stretch(np.array([[0.0, -2.0]])).tolist() == [[255, 0]]
