"""Real TIFF stacks, a Zeiss file, volumes of others and a folder of anything, from the file to the tape and back."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from tomovault.testing.tiff_scan import TiffScan, TiffSwitches


def _fill(area: Path, data: Path) -> None:
    shutil.copytree(data / "tiff-small", area / "small")
    shutil.copytree(data / "diamond-savu" / "image_test", area / "savu" / "image_test")
    shutil.copytree(data / "zeiss", area / "zeiss")
    shutil.copytree(next((data / "bliss" / "PROCESSED_DATA").rglob("*_16Bit_tiff")), area / "recon" / "nabu_16Bit_tiff")
    TiffScan(str(area / "wood"), TiffSwitches(log="nikon", flats=0, darks=0), name="wood_").write()
    (area / "wood_rec").mkdir()
    volume = np.random.default_rng(1).normal(0, 1, (5, 6, 7)).astype("<f4")
    (area / "wood_rec" / "wood_rec.vol").write_bytes(volume.tobytes())
    (area / "wood_rec" / "wood_rec.vol.info").write_text("NUM_X = 7\nNUM_Y = 6\nNUM_Z = 5\n")
    (area / "other" / "exp_1" / "deep").mkdir(parents=True)
    shutil.copyfile(data / "diamond-savu" / "mtf.npy", area / "other" / "exp_1" / "deep" / "mtf.npy")
    (area / "other" / "exp_1" / "notes.txt").write_text("of the night shift")
    for path in [area, *area.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)


@pytest.fixture(scope="module")
def site(new_site, data_folder):
    site = new_site("server", settings={"areas": {"server": {"folders": ["other/*"]}}})
    _fill(site.areas["server"], data_folder)
    site.age()
    site.live()
    return site


#: By name: format, verdict, and the folder below the area that the scan's files are in.
_EXPECTED = {
    "reader": ("tiff_stack", "undecided", "small"),
    "image_test": ("tiff_stack", "undecided", "savu/image_test"),
    "txrm_test_chip_tomo": ("txrm", "complete", "zeiss"),
    "TestEwoksTomo_0010_volume": ("volume", "complete", "recon/nabu_16Bit_tiff"),
    "wood": ("tiff_stack", "complete", "wood"),
    "wood_rec_volume": ("volume", "complete", "wood_rec"),
    "exp_1": ("folder", "undecided", "other/exp_1"),
}
#: In no scan, and listed with the reason.
_LEFT = "zeiss/test_chip00.xrm"


def test_each_becomes_a_scan_or_is_listed_with_the_reason(site):
    scans = site.scans()
    assert set(scans) == set(_EXPECTED)
    for name, (kind, verdict, _) in _EXPECTED.items():
        assert (scans[name]["format"], site.show(name)["certificate"]["verdict"]) == (kind, verdict), name
    told = site.ask("area", "unclaimed", "server")
    assert "holds one image of 512 x 512" in str(told)
    assert scans["wood_rec_volume"]["stages"]["reconstructed"] in ("off", "held")


def test_every_byte_comes_back_and_what_was_pruned_too(site, digests, tmp_path):
    area = site.areas["server"]
    before = digests(area)
    for name in ("reader", "image_test", "exp_1"):
        site.ask("scan", "declare", name, "--complete", "--reason", "it was looked at")
    site.live()
    _come_back(site, before, digests, tmp_path / "first")
    site.pruned("wood")
    site.live()
    left = {name for name in digests(area) if "TOMOVAULT-README" not in name and ".tomovault" not in name}
    assert left == {_LEFT}
    scans = site.scans()
    assert set(scans) == set(_EXPECTED), "what a prune leaves is no new scan"
    assert {name for name, s in scans.items() if s["stages"]["pruned"] == "done"} == set(_EXPECTED)
    _come_back(site, before, digests, tmp_path / "second", ("image_test", "wood_rec_volume", "exp_1"))


def _come_back(site, before, digests, target, names=tuple(_EXPECTED)):
    for name in names:
        folder = _EXPECTED[name][2]
        site.ask("restore", name, "--to", str(target / name), "--wait")
        expected = {p.removeprefix(f"{folder}/"): d for p, d in before.items() if p.startswith(f"{folder}/")}
        expected.pop(Path(_LEFT).name if folder == "zeiss" else "", None)
        assert digests(target / name) == expected, name
    site.ask("restore", "wood", "--product", "volume", "--to", str(target / "volume"), "--wait")
    assert digests(target / "volume") == digests(target / "wood_rec_volume")
