"""Volumes that others made are looked at: a preview of each, its package, its copies, and room made of its files."""

import json

import h5py
import numpy as np
import pytest

_SHAPE = (20, 30, 40)


def _ball(dtype):
    z, y, x = np.ogrid[-1 : 1 : _SHAPE[0] * 1j, -1 : 1 : _SHAPE[1] * 1j, -1 : 1 : _SHAPE[2] * 1j]
    return ((x * x + y * y + z * z < 0.6) * 100 + x * 10 + y * 20).astype(dtype)


@pytest.fixture(scope="module")
def volumes(new_site):
    """A PyHST volume, one of tomopy, and a compressed one of nabu, lived as far as there is room."""
    site = new_site("server", without=())
    area = site.areas["server"]
    folder = area / "bone_rec"
    folder.mkdir()
    (folder / "bone_rec.vol").write_bytes(_ball(">f4").tobytes())
    columns, rows, count = reversed(_SHAPE)
    info = f"NUM_X = {columns}\nNUM_Y = {rows}\nNUM_Z = {count}\nvoxelSize = 0.7\nBYTEORDER = HIGHBYTEFIRST\n"
    (folder / "bone_rec.vol.info").write_text(info)
    with h5py.File(area / "tooth_rec.h5", "w") as file:
        file["exchange/data"] = _ball("<f4")
    with h5py.File(area / "shell_rec.h5", "w") as file:
        entry = file.create_group("entry")
        entry.attrs["NX_class"] = "NXentry"
        entry.create_dataset("reconstruction/results/data", data=_ball("<f4"), compression="gzip")
    site.age()
    site.live()
    return site


_NAMES = ("bone_rec_volume", "tooth_rec", "shell_rec")


@pytest.mark.parametrize("name", _NAMES)
def test_it_has_a_preview_of_its_middle_planes(volumes, name):
    page = volumes.show(name)
    stages = {stage: page["stages"][stage] for stage in ("previewed", "packed", "archived", "reconstructed")}
    assert stages == {"previewed": "done", "packed": "done", "archived": "done", "reconstructed": "held"}
    assert page["processings"] == [], "no engine was run"
    (preview,) = [r for r in page["replicas"] if r["product"] == "preview"]
    assert preview["state"] == "verified"
    data = _ball("f4")
    with h5py.File(preview["location"]) as file:
        group = file["entry/preview"]
        assert json.loads(group["parameters"][()])["preview"]["slice"]["slice"] == 10
        np.testing.assert_array_equal(group["slice/data"][()], data[10])
        np.testing.assert_array_equal(group["cut_row/data"][()], data[:, 15])
        np.testing.assert_array_equal(group["cut_column/data"][()], data[:, :, 20])
    told = {s["stage"]: s for s in volumes.ask("explain", name)["stages"]}
    assert told["previewed"]["status"] == "done"
    assert told["reconstructed"]["reason"] == "it is a volume, made by others; there are no projections in it"


def test_it_is_pruned_as_any_original_and_its_preview_stays(volumes):
    volumes.pruned(_NAMES[0])
    volumes.live()
    for name in _NAMES:
        stages = volumes.show(name)["stages"]
        assert (stages["pruned"], stages["previewed"]) == ("done", "done"), name
        assert volumes.ask("verify", name)["bad"] == []
    assert not list(volumes.areas["server"].rglob("*.vol"))
