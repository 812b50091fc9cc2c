"""Volumes in HDF5, as nabu and tomopy write them."""

from __future__ import annotations

import h5py
import hdf5plugin  # noqa: F401 - registers the codec that packages use
import numpy as np
import pytest

from tomovault.core.errors import NoScan
from tomovault.core.scan import Verdict, has_slices
from tomovault.formats import family
from tomovault.watch.listing import list_folder

VOLUME = family.load("volume_hdf5")
DATA = np.random.default_rng(5).normal(0, 1, (6, 5, 7)).astype("<f4")


def nabu_piece(path, data, location="/data/visitor/ma1/id19/bone_1.nx"):
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as f:
        entry = f.create_group("entry")
        entry.attrs["NX_class"] = "NXentry"
        entry["reconstruction/results/data"] = data
        entry["reconstruction/configuration/nabu_config/dataset/location"] = location
        entry["reconstruction/configuration/processing_options/reconstruction/voxel_size_cm"] = "(6.5e-05, 6.5e-05)"
    return path


def nabu_volume(folder):
    """Two pieces and the master that joins them."""
    sources = []
    for at in range(2):
        path = folder / "bone_rec" / f"bone_rec_{at * 3:05d}.hdf5"
        nabu_piece(path, DATA[at * 3 : at * 3 + 3])
        sources.append(f"bone_rec/{path.name}")
    master = nabu_piece(folder / "bone_rec.hdf5", np.zeros(1))
    with h5py.File(master, "a") as f:
        del f["entry/reconstruction/results/data"]
        layout = h5py.VirtualLayout(DATA.shape, "<f4")
        for at, name in enumerate(sources):
            source = h5py.VirtualSource(name, "entry/reconstruction/results/data", (3, 5, 7))
            layout[at * 3 : at * 3 + 3] = source
        f.create_virtual_dataset("entry/reconstruction/results/data", layout)
    return master


def inspect(path, kind=VOLUME, *, settled=True):
    found = [c for c in kind.recognise(list_folder(str(path.parent))) if c.key == path.name]
    return kind.inspect(found[0], settled=settled)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "processed").mkdir()
    return tmp_path / "processed"


def test_a_volume_of_nabu_with_its_pieces(folder, round_trip):
    (report,) = inspect(nabu_volume(folder))
    assert report.certificate.verdict is Verdict.COMPLETE, report.certificate.problems
    assert (report.metadata["of"], len(report.files)) == ("bone_1", 3)
    assert report.conditions["n_slices"].value == 6
    assert report.conditions["pixel_size"].value == pytest.approx(0.65)
    assert report.metadata["no_reconstruction"]
    assert has_slices(report.metadata)
    package = round_trip(report)
    with h5py.File(package) as f:
        np.testing.assert_array_equal(f["/entry/instrument/detector/data"][()], DATA)


def test_a_piece_is_no_volume_of_its_own(folder):
    nabu_volume(folder)
    with pytest.raises(NoScan, match=r"a piece of the volume bone_rec\.hdf5"):
        inspect(folder / "bone_rec" / "bone_rec_00000.hdf5")


def test_a_missing_piece_is_named(folder):
    master = nabu_volume(folder)
    (folder / "bone_rec" / "bone_rec_00003.hdf5").unlink()
    (report,) = inspect(master)
    assert report.certificate.verdict is Verdict.INCOMPLETE
    assert any("bone_rec_00003" in problem for problem in report.certificate.problems)


def test_a_cut_volume_is_never_complete(folder):
    path = nabu_piece(folder / "bone_rec.h5", DATA)
    data = path.read_bytes()
    path.write_bytes(data[:-400])
    try:
        reports = inspect(path)
    except NoScan:
        return
    assert all(r.certificate.verdict is not Verdict.COMPLETE for r in reports)


def test_a_volume_of_tomopy(folder, round_trip):
    path = folder / "tooth_rec.h5"
    with h5py.File(path, "w") as f:
        f["exchange/data"] = DATA
    (report,) = inspect(path)
    assert report.certificate.verdict is Verdict.COMPLETE
    assert report.metadata["of"] == "tooth"
    round_trip(report)
    assert inspect(path, settled=False)[0].certificate.verdict is Verdict.ACQUIRING


def test_slices_that_are_compressed_or_in_tiles_can_be_read_and_those_of_parts_cannot(folder):
    with h5py.File(folder / "tiles_rec.h5", "w") as f:
        f.create_dataset("exchange/data", data=DATA, chunks=(2, 3, 3), compression="gzip")
    (report,) = inspect(folder / "tiles_rec.h5")
    assert has_slices(report.metadata)
    assert len(VOLUME.layout(report).files[0].coded) == len(DATA)
    half = h5py.VirtualLayout(DATA.shape, "<f4")
    half[:, :, :4] = h5py.VirtualSource("tiles_rec.h5", "exchange/data", DATA.shape)[:, :, :4]
    with h5py.File(folder / "half_rec.h5", "w") as f:
        f.create_virtual_dataset("exchange/data", half)
    (report,) = inspect(folder / "half_rec.h5")
    assert not has_slices(report.metadata)
    assert "none of its slices can be read" in report.metadata["no_reconstruction"]


def test_whole_numbers_alone_are_left_undecided_by_all(folder):
    path = folder / "x.h5"
    with h5py.File(path, "w") as f:
        f["exchange/data"] = DATA.astype("u2")
    with pytest.raises(NoScan, match="may as well be a volume"):
        inspect(path)


@pytest.mark.parametrize("kind", ["nxtomo", "dataexchange", "als832", "nexus"])
def test_no_other_format_takes_it(folder, kind):
    for path in (nabu_volume(folder), nabu_piece(folder / "one.h5", DATA)):
        with pytest.raises(NoScan):
            inspect(path, family.load(kind))


def test_real_acquisitions_are_no_volumes(real_data):
    for name in ("aps-dx/tooth.h5", "aps-dx/reader.h5", "aps-dx/read_stack.h5", "diamond-savu/24888.nxs"):
        with pytest.raises(NoScan):
            inspect(real_data / name)
