"""What the TIFF names of a folder mean."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tomovault.formats.tiff_names import Meaning, folder_meaning, group_names, meaning_of
from tomovault.formats.volume_names import find_volumes

_WORDS = st.sampled_from(
    ["a_", "b", "dark", "flat_", "ref", "slice_", "rec", "recon_", "vol", "0001", "0002", "10", "_", "-", "tiff", "é"]
)
_NAMES = st.tuples(
    st.lists(_WORDS, max_size=4).map("".join), st.sampled_from([".tif", ".tiff", ".TIF", ".edf", ".txt", "_infos.txt"])
).map("".join)


def listed(names):
    series = (*names.stacks, *names.calibrations, *names.slices, *names.for_inner)
    return [name for s in series for name in s.names.values()] + [*names.lone, *names.lone_slices]


@given(
    st.sampled_from(["scan", "bone_rec", "tiffs", "flats", "volumes"]),
    st.lists(_NAMES, unique=True, max_size=12),
    st.lists(st.sampled_from(["tiffs", "raw", "x"]), unique=True),
)
def test_each_name_has_one_meaning_and_one_format(folder, names, folders):
    found = group_names(folder, names, folders)
    once = listed(found)
    assert len(once) == len(set(once))
    assert set(once) <= set(names)
    stacks = {n for s in (*found.stacks, *found.calibrations) for n in s.names.values()} | set(found.lone)
    volumes = {n for volume in find_volumes(folder, names, folders) for n in volume.names}
    assert not stacks & volumes
    for series in found.stacks:
        assert all(name.startswith(series.prefix) for name in series.names.values())


@pytest.mark.parametrize(
    ("prefix", "meaning"),
    [
        ("bone_", Meaning.PROJECTIONS),
        ("dark_", Meaning.DARKS),
        ("bone_dark_field_", Meaning.DARKS),
        ("bonedrk_0000_", Meaning.DARKS),
        ("bonebak_0000_", Meaning.FLATS),
        ("refHST", Meaning.FLATS),
        ("post-flat-", Meaning.FLATS),
        ("reflection_", Meaning.PROJECTIONS),
        ("darkness_", Meaning.PROJECTIONS),
        ("inflated_", Meaning.PROJECTIONS),
    ],
)
def test_words_in_a_prefix(prefix, meaning):
    assert meaning_of(prefix) is meaning


def test_words_in_a_folder():
    assert folder_meaning("darks") is Meaning.DARKS
    assert folder_meaning("flats") is Meaning.FLATS
    assert folder_meaning("Projections") is Meaning.PROJECTIONS
    assert folder_meaning("bone_1") is None


def test_the_index_is_the_last_run_of_digits():
    names = group_names("x", ["bone_20260504_0001.tif", "bone_20260504_0002.tif"])
    assert [s.prefix for s in names.stacks] == ["bone_20260504_"]
    assert dict(names.stacks[0].names) == {1: "bone_20260504_0001.tif", 2: "bone_20260504_0002.tif"}
    names = group_names("x", ["20260504120000.tif", "20260504120001.tif"])
    assert [s.prefix for s in names.stacks] == ["20260"]


def test_a_recorder_s_files_with_flats_are_projections():
    names = [f"rec_{k:04d}.tif" for k in range(4)]
    assert group_names("x", names).stacks == ()
    found = group_names("x", [*names, "flat_0000.tif", "flat_0001.tif"])
    assert [s.prefix for s in found.stacks] == ["rec_"]
    assert found.slices == ()


def test_a_sample_that_is_called_like_a_flat_is_a_sample():
    found = group_names("x", [f"white_bone_{k:04d}.tif" for k in range(4)])
    assert [s.meaning for s in found.stacks] == [Meaning.PROJECTIONS]
    found = group_names("flats", [f"white_bone_{k:04d}.tif" for k in range(4)])
    assert [s.meaning for s in found.stacks] == [Meaning.FLATS]
