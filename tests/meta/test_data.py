"""The real files, and the count of those that a run read."""

import os

import h5py
import pytest


@pytest.fixture
def counter(read_files, tmp_path):
    """A counter of its own over a made-up data folder."""
    (tmp_path / "data" / "edf").mkdir(parents=True)
    (tmp_path / "data" / "edf" / "one.edf").write_bytes(b"{}")
    (tmp_path / "database").write_bytes(b"")
    return type(read_files)(tmp_path / "data")


def test_the_real_data_is_there_and_readable(data_folder):
    found = [name for _, _, files in os.walk(data_folder) for name in files]
    assert any(name.endswith((".h5", ".hdf5", ".nxs")) for name in found)
    assert any(name.endswith(".edf") for name in found)


def test_files_read_by_python_are_counted(data_folder, read_files):
    path = next(p for p in sorted(data_folder.rglob("*.edf")) if p.stat().st_size)
    with path.open("rb") as file:
        assert file.read(1)
    assert str(path) in read_files.files()


def test_files_read_by_the_hdf5_library_are_counted(real_file, read_files, data_folder):
    path = next(p for p in sorted((data_folder / "bliss").rglob("*.h5")) if h5py.is_hdf5(p))
    with h5py.File(real_file(str(path.relative_to(data_folder))), "r", locking=False) as file:
        assert len(file) > 0
    assert str(path) in read_files.files()


def test_only_files_below_the_folder_are_counted_once_each(counter, tmp_path):
    edf = tmp_path / "data" / "edf" / "one.edf"
    for path in (edf, str(edf), os.fsencode(edf), f"{tmp_path}/data/edf/../edf/one.edf"):
        counter.add(path)
    for path in (edf.parent, tmp_path / "database", edf.with_name("gone.edf"), 3, None):
        counter.add(path)
    assert counter.files() == [str(edf)]


def test_a_real_file_that_is_missing_fails(real_file):
    with pytest.raises(AssertionError, match=r"no such/file\.edf"):
        real_file("no such/file.edf")
