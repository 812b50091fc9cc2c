"""Volumes as counts: close to the values, the same from run to run, and readable by anybody."""

import json
import os
from datetime import UTC, datetime

import h5py
import hdf5plugin  # noqa: F401
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tomovault.core.errors import IntegrityError, NoSpace, UserError
from tomovault.package import casting as castings
from tomovault.package.casting import Casting
from tomovault.package.names import Whose
from tomovault.package.volume import verify_volume, write_volume

DATA = "/entry/reconstruction/results/data"
FINITE = st.floats(allow_nan=False, allow_infinity=False, width=32)


class Free:
    def spend(self, _count):
        pass


def write(folder, slices, dtype="uint16", job="j1"):
    return write_volume(
        folder,
        "scan",
        list(slices),
        iter(slices.items()),
        resolved={"centre": 1.5},
        engine="fourier",
        version="1",
        nx={"digest": "cd" * 32},
        whose=Whose("s1"),
        job=job,
        now=datetime(2026, 3, 1, tzinfo=UTC),
        threads=2,
        throttle=Free(),
        checkpoint=lambda _name: None,
        progress=lambda _done, _total: None,
        dtype=dtype,
    )


def cast(folder, slices, dtype):
    casting = Casting(dtype, folder, 0, len(slices))
    return dict(casting.slices(iter(slices.items()))), casting.told


def noise(rows=4, size=70):
    rng = np.random.default_rng(5)
    return {row: rng.normal(size=(size, size)).astype(np.float32) for row in range(rows)}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(
    volume=arrays.arrays(
        np.float32, st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 5)), elements=FINITE
    ),
    dtype=st.sampled_from(["uint8", "uint16"]),
)
@example(volume=np.zeros((2, 3, 3), dtype=np.float32), dtype="uint8")
@example(volume=np.array([[[-3.4e38, 3.4e38]]], dtype=np.float32), dtype="uint16")
@example(volume=np.array([[[0.0, 1e-45]]], dtype=np.float32), dtype="uint16")
def test_every_value_comes_back_to_within_half_a_step_and_the_error_is_what_is_told(tmp_path, volume, dtype):
    counts, told = cast(tmp_path, dict(enumerate(volume)), dtype)
    found = np.stack(list(counts.values()))
    assert found.dtype == np.dtype(dtype)
    values = volume.astype(np.float64)
    errors = np.abs(found * told["scale"] + told["offset"] - values)
    assert errors.max() == told["largest_error"] <= told["scale"] / 2 * (1 + 1e-9) + 1e-9 * np.abs(values).max()
    assert (told["low"], told["high"]) == (values.min(), values.max())
    if told["scale"] * np.iinfo(dtype).max == values.max() - values.min():
        assert (found.min(), found.max()) == (0, np.iinfo(dtype).max)


def test_the_file_has_the_counts_and_everything_that_gives_the_values_back(tmp_path):
    slices = noise()
    written = write(tmp_path, slices)
    assert verify_volume(written.files[0].location) == written.digest
    with h5py.File(tmp_path / "scan.volume.h5", "r") as file:
        data = file[DATA]
        assert (data.dtype, data.chunks) == (np.dtype("<u2"), (1, 70, 70))
        attributes = dict(data.attrs)
        back = data[()] * attributes["scale"] + attributes["offset"]
        stored = json.loads(file["/entry/reconstruction/configuration/json"][()])
        assert file["/entry/reconstruction/configuration/values/cast/scale"][()] == attributes["scale"]
    wanted = np.stack(list(slices.values()))
    assert np.abs(back - wanted).max() == attributes["largest_error"] < (wanted.max() - wanted.min()) / 65535
    assert stored == written.resolved
    assert (stored["centre"], stored["cast"]["dtype"], stored["cast"]["scale"]) == (1.5, "uint16", attributes["scale"])
    assert (back.min(), stored["cast"]["high"]) == (wanted.min(), wanted.max())


def test_the_same_values_are_the_same_counts_however_they_are_cut(tmp_path, monkeypatch):
    first = write(tmp_path / "a", noise())
    monkeypatch.setattr(castings, "_BAND", 7)
    assert write(tmp_path / "b", noise(), job="j2").digest == first.digest
    assert write(tmp_path / "c", noise(), dtype="uint8").digest != first.digest


def test_counts_that_changed_on_the_disk_are_noticed(tmp_path):
    written = write(tmp_path, noise())
    with h5py.File(written.files[0].location, "r+") as file:
        place = file[DATA].id.get_chunk_info(2)
    with open(written.files[0].location, "r+b") as raw:
        raw.seek(place.byte_offset + place.size // 2)
        raw.write(b"\xff\x00\xff\x00")
    with pytest.raises(IntegrityError, match="the slice of row 2"):
        verify_volume(written.files[0].location)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_has_no_count_and_nothing_is_left_behind(tmp_path, value):
    slices = noise()
    slices[3][1, 1] = value
    with pytest.raises(UserError, match="row 3 has values that are not finite") as refusal:
        write(tmp_path, slices)
    assert "float32" in refusal.value.hint
    assert os.listdir(tmp_path) == []


def test_room_for_all_values_and_counts_is_asked_for_before_the_first_slice_waits(tmp_path, monkeypatch):
    free = 4 * 70 * 70 * 4 + 4 * 70 * 70
    asked, reserved, made = [], [], []
    monkeypatch.setattr(castings, "check_space", lambda _path, _floor, count: asked.append(count))
    monkeypatch.setattr(castings, "reserve", lambda _handle, count: reserved.append(count) or count)

    def slices():
        for row, image in noise().items():
            made.append((row, tuple(asked)))
            yield row, image

    list(Casting("uint8", tmp_path, 0, 4).slices(slices()))
    assert (asked, reserved) == ([free], [4 * 70 * 70 * 4])
    assert made[1] == (1, (free,)), "before the second slice is made"


def test_where_nothing_can_be_reserved_room_is_asked_for_again_with_each_slice(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(castings, "check_space", lambda _path, _floor, count: asked.append(count))
    monkeypatch.setattr(castings, "reserve", lambda _handle, _count: 0)
    list(Casting("uint8", tmp_path, 0, 4).slices(iter(noise().items())))
    assert asked[1:] == [70 * 70 * 4] * 3


def test_without_room_nothing_is_begun(tmp_path):
    with pytest.raises(NoSpace):
        list(Casting("uint8", tmp_path, 1 << 60, 4).slices(iter(noise().items())))


def test_another_type_is_refused(tmp_path):
    with pytest.raises(UserError, match="'int32'"):
        Casting("int32", tmp_path, 0, 1)
