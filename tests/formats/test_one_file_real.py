"""Real scans in one HDF5 file, and real files that are none."""

from __future__ import annotations

import os
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401 - registers the codec that packages use
import numpy as np
import pytest

from tomovault.core.layout import FrameKind
from tomovault.core.scan import FrameCounts, Verdict
from tomovault.formats import family
from tomovault.watch.listing import list_folder

KINDS = ("als832", "dataexchange", "nexus", "nxtomo")


def test_the_tooth_of_the_aps(real_data, round_trip, only):
    report = only(real_data / "aps-dx/tooth.h5")
    assert report.format == "dataexchange"
    assert report.certificate.verdict is Verdict.COMPLETE
    assert report.certificate.found == FrameCounts(181, 10, 10)
    assert report.sample == "Tooth"
    assert report.acquired_at is not None
    assert report.metadata["acquired_at_source"] == "modification time of the file"
    assert "start_time" not in family.load("dataexchange").layout(report).nx
    assert report.conditions["scan_range"].value == pytest.approx(179.0055)
    with h5py.File(round_trip(report)) as made:
        assert made["/entry/instrument/detector/data"].shape == (201, 2, 640)
        assert made["/entry/instrument/detector/data"].dtype == np.float32


def test_a_scan_of_als_832(real_data, round_trip, only):
    report = only(real_data / "aps-dx/read_stack.h5")
    assert report.format == "als832"
    assert report.certificate.verdict is Verdict.COMPLETE
    assert report.certificate.found == FrameCounts(20, 4, 2)
    assert (report.beamline, report.owner) == ("BL832", "dyparkinson")
    assert report.acquired_at.isoformat() == "2015-11-20T10:06:40+00:00"
    values = {
        name: round(report.conditions[name].value, 3) for name in ("energy", "distance", "pixel_size", "exposure")
    }
    assert values == {"energy": 20.0, "distance": 20.0, "pixel_size": 0.645, "exposure": 0.5}
    segments = sorted((s for f in family.load("als832").layout(report).files for s in f.frames), key=lambda s: s.order)
    kinds = "".join(str(int(s.kind)) for s in segments)
    assert kinds == "11" + "0" * 20 + "11" + "22"
    assert [s.angle_deg for s in segments if s.kind is FrameKind.PROJECTION][-1] == pytest.approx(180.0)
    with h5py.File(round_trip(report)) as made:
        assert made["/entry/instrument/detector/data"].shape == (26, 10, 10)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("_0000_0007.tif", "1 of 20 projections of 0000 are missing: 7"),
        ("bak_0001_0019.tif", "flats are missing at projections 19 (flats 1 of 2)"),
        ("drk_0000_0019.tif", "darks 0 of 2 are missing"),
    ],
)
def test_a_missing_image_of_als_832_is_named(real_data, tmp_path, name, words, only):
    path = tmp_path / "scan.h5"
    path.write_bytes((real_data / "aps-dx/read_stack.h5").read_bytes())
    with h5py.File(path, "a") as file:
        (scan,) = file
        del file[scan][f"{scan}{name}"]
    certificate = only(path).certificate
    assert certificate.verdict is Verdict.INCOMPLETE
    assert words in certificate.problems


def test_an_image_that_the_camera_flagged_leaves_doubt(real_data, tmp_path, only):
    path = tmp_path / "scan.h5"
    path.write_bytes((real_data / "aps-dx/read_stack.h5").read_bytes())
    with h5py.File(path, "a") as file:
        (scan,) = file
        file[scan][f"{scan}_0000_0003.tif"].attrs["errorFlag"] = 1
    assert only(path).certificate.verdict is Verdict.UNDECIDED


def test_a_diamond_scan_without_its_camera_file(real_data, round_trip, only):
    report = only(real_data / "diamond-savu/24888.nxs")
    assert report.format == "nexus"
    assert report.certificate.verdict is Verdict.INCOMPLETE
    assert report.certificate.expected == FrameCounts(91, 10, 10)
    assert report.certificate.found == FrameCounts(0, 0, 0)
    problems = " ".join(report.certificate.problems)
    assert "pco1-24888.hdf is missing" in problems
    assert "91 of 91 projections are not there: images 10-100" in problems
    assert (report.beamline, report.proposal, report.owner) == ("I13", "mt9396-1", "ssg37927")
    assert report.conditions["exposure"].value == 0.1
    assert "energy" not in report.conditions
    round_trip(report)


def test_a_diamond_scan_with_its_camera_file_beside_it(real_data, tmp_path, round_trip, only):
    path = tmp_path / "24888.nxs"
    path.write_bytes((real_data / "diamond-savu/24888.nxs").read_bytes())
    with h5py.File(tmp_path / "pco1-24888.hdf", "w") as file:
        file["entry/instrument/detector/data"] = np.arange(111 * 12, dtype="<u2").reshape(111, 3, 4) + 1
    report = only(path)
    assert report.certificate.verdict is Verdict.COMPLETE, report.certificate.problems
    assert [f.state.path for f in report.files] == ["24888.nxs", "pco1-24888.hdf"]
    assert report.metadata["linked_files"] == ["pco1-24888.hdf"]
    with h5py.File(round_trip(report)) as made:
        keys = made["/entry/instrument/detector/image_key"][()]
        assert [int((keys == k).sum()) for k in (0, 1, 2)] == [91, 10, 10]


@pytest.mark.parametrize(
    ("finished", "points", "verdict"), [(1, 9, "complete"), (0, 9, "acquiring"), (1, 7, "incomplete")]
)
def test_a_scan_of_gda_nine(tmp_path, finished, points, verdict, only):
    with h5py.File(tmp_path / "k11-18014-pco.h5", "w") as file:
        file["data"] = np.ones((points, 3, 4), np.uint16)
    with h5py.File(tmp_path / "k11-18014.nxs", "w") as file:
        entry = file.create_group("entry")
        entry.attrs["NX_class"] = "NXentry"
        entry["diamond_scan/scan_shape"] = np.array([9])
        entry["diamond_scan/scan_finished"] = np.array([finished])
        detector = entry.create_group("instrument/pco")
        detector.attrs["NX_class"] = "NXdetector"
        detector["data"] = h5py.ExternalLink("k11-18014-pco.h5", "/data")
        detector["image_key"] = np.array([2, 1, 0, 0, 0, 0, 0, 1, 1][:points])
        shown = entry.create_group("pco")
        shown.attrs.update({"NX_class": "NXdata", "axes": ["theta", ".", "."]})
        shown["theta"] = np.linspace(0, 180, points)
    report = only(tmp_path / "k11-18014.nxs")
    assert report.format == "nexus"
    assert report.certificate.verdict.value == verdict, report.certificate.problems


REPORTED = {
    "aps-dx/reader.h5": "may as well be a volume",
    "diamond-i12/dark_field_different_path.h5": "images without angles",
    "diamond-savu/full_field_corrected/24737_processed.nxs": "Savu",
    "diamond-savu/i12_test_data/lfov/dark_flat/pco2_darks_00000.hdf": "images without angles",
    "diamond-savu/i12_test_data/lfov/tomo_data/pc2_projections.hdf": "images without angles",
    "diamond-savu/test_process_lists/i12_tomo_pipeline_test.nxs": "Savu",
    "esrf-h5/example_raw_data_3d.h5": "BLISS",
}


@pytest.mark.parametrize("name", REPORTED)
def test_a_real_file_that_is_no_scan_is_reported_with_the_reason(real_data, name, looks):
    reports, reasons = looks(real_data / name)
    assert reports == []
    assert all(REPORTED[name] in reason for reason in reasons.values())


def test_every_real_file_of_these_folders_is_taken_once_or_reported(real_data, round_trip, looks):
    """Bytes of every one that is taken come back; nothing is left without an answer."""
    patterns = ("aps-dx", "diamond-*", "esrf-h5", "hdf5-*")
    offered = [
        Path(candidate.folder, candidate.key)
        for pattern in patterns
        for top in sorted(real_data.glob(pattern))
        for folder, _, _ in os.walk(top)
        for candidate in family.load("nxtomo").recognise(list_folder(folder))
    ]
    assert len(offered) > 60
    taken = {}
    for path in offered:
        reports, reasons = looks(path)
        assert len({r.format for r in reports}) <= 1, path
        assert all(reasons.values())
        if reports:
            assert set(reasons) == set(KINDS) - {reports[0].format}
            taken[path.name] = reports[0].certificate.verdict.value
        else:
            assert set(reasons) == set(KINDS), path
        for at, report in enumerate(reports):
            round_trip(report, f"{path.stem}{at}")
    assert taken == {"read_stack.h5": "complete", "tooth.h5": "complete", "24888.nxs": "incomplete"}
