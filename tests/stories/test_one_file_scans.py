"""Scans in one HDF5 file live as any other; files that are no scan are told of with the reason."""

import os
import shutil

import pytest

from tomovault.testing.one_file_scan import write_one_file_scan

_ROOM = {"prune": "on", "quota": "1kB", "high": "50%", "low": "20%"}
_SMALL = {"shape": (24, 32), "projections": 8, "flats": 2, "darks": 2}


@pytest.fixture(scope="module")
def lived(new_site, data_folder, digests):
    """A site with scans of three formats in one area, and files that are none."""
    site = new_site("hutch")
    area = site.areas["hutch"]
    write_one_file_scan(str(area), "bone", variant="nxtomo-linked", **_SMALL)
    for name in (
        "aps-dx/tooth.h5",
        "diamond-i12/dark_field_different_path.h5",
        "diamond-savu/24888.nxs",
    ):
        (area / "real").mkdir(exist_ok=True)
        shutil.copyfile(data_folder / name, area / "real" / name.rsplit("/", 1)[-1])
    (area / "real" / "empty.h5").write_bytes(b"")
    site.age()
    site.live()
    site.written = digests(area)
    return site


def test_every_scan_is_packed_and_archived_or_waits_for_its_camera_file(lived):
    scans = lived.scans()
    assert set(scans) == {"bone", "tooth", "24888"}
    assert {s["format"] for s in scans.values()} == {"nxtomo", "dataexchange", "nexus"}
    for name, scan in scans.items():
        wanted = "done" if name != "24888" else "waiting"
        assert {scan["stages"][stage] for stage in ("complete", "packed", "archived")} <= {wanted, "due"}, name
        if wanted == "done":
            assert {scan["stages"][stage] for stage in ("complete", "packed", "archived")} == {"done"}, name


def test_files_that_are_no_scan_are_told_with_the_reason_of_each_format(lived):
    rows = {os.path.basename(row["path"]): row for row in lived.ask("area", "unclaimed", "hutch")["unclaimed"]}
    assert set(rows) == {"dark_field_different_path.h5", "empty.h5"}
    for name, words in (("dark_field_different_path.h5", "images without angles"), ("empty.h5", "it is empty")):
        assert rows[name]["area"] == "hutch"
        reasons = rows[name]["reasons"]
        assert {"als832", "dataexchange", "nexus", "nxtomo"} <= set(reasons)
        assert words in reasons["nxtomo"]
    assert lived.ask("area", "unclaimed")["unclaimed"] == lived.ask("area", "unclaimed", "hutch")["unclaimed"]
    assert lived.area_status("hutch")["unclaimed"] == 2
    assert lived.area_status("hutch")["problems"] == []
    assert "dark_field_different_path.h5" in lived.say("area", "unclaimed").out
    assert "2 files are in no scan" in lived.say("status").out
    assert "there is no area" in lived.refuse("area", "unclaimed", "nowhere", code=2)


def test_pruned_and_restored_bit_for_bit(lived, digests, tmp_path):
    lived.change(areas={"hutch": _ROOM})
    lived.live()
    area = lived.areas["hutch"]
    for name in ("bone", "tooth"):
        assert lived.show(name)["stages"]["pruned"] == "done", name
        page = lived.show(name)
        given = lived.ask("restore", name, "--to", str(tmp_path / name), "--wait")
        assert given["files"] == page["files"]
        root = os.path.relpath(page["path"], area)
        for path, digest in digests(tmp_path / name).items():
            assert digest == lived.written[os.path.normpath(os.path.join(root, path))], path
    assert lived.area_status("hutch")["trouble"] == ""
    left = {os.path.basename(row["path"]) for row in lived.ask("area", "unclaimed")["unclaimed"]}
    assert left == {"dark_field_different_path.h5", "empty.h5"}
    assert (area / "real" / "24888.nxs").exists(), "an incomplete scan is never pruned"
