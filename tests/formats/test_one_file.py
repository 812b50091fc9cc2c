"""Scans in one HDF5 file: which format claims a file, what its certificate says, and every byte back."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401 - registers the codec that packages use
import numpy as np
import pytest

from tomovault.core.errors import NoScan, UserError
from tomovault.core.layout import FrameKind
from tomovault.core.scan import Candidate, FileRole, FrameCounts, Verdict
from tomovault.formats import family
from tomovault.formats.limits import LimitedFormats
from tomovault.testing.one_file_scan import write_one_file_scan
from tomovault.testing.variants import EXCHANGE_VARIANTS, NXTOMO_VARIANTS
from tomovault.watch.listing import list_folder
from tomovault.watch.walker import Walker

KINDS = ("als832", "dataexchange", "nexus", "nxtomo")
ALL = NXTOMO_VARIANTS + EXCHANGE_VARIANTS
SMALL = {"shape": (6, 8), "projections": 8, "flats": 2, "darks": 2}


def looks(path, *, settled=True):
    """Reports, and the reason of each format that took nothing."""
    reports, reasons = [], {}
    for kind in KINDS:
        candidate = Candidate(kind, str(path.parent), path.name)
        try:
            reports += family.load(kind).inspect(candidate, settled=settled)
        except NoScan as reason:
            reasons[kind] = reason.message
    return reports, reasons


def only(path, **options):
    reports, reasons = looks(path, **options)
    assert len(reports) == 1, reasons
    assert set(reasons) == set(KINDS) - {reports[0].format}
    return reports[0]


def write(tmp_path, variant, **options):
    (truth,) = write_one_file_scan(str(tmp_path), "bone", variant=variant, **{**SMALL, **options}).scans
    return truth, Path(truth.folder, truth.key)


# --- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_files_are_offered_by_their_endings(listing, kind):
    names = ["a.h5", "B.HDF5", "c.hdf", "d.nx", "e.nxs", "f.txt", "g.h5.tmp", ".h.h5", "h5", "~i.nxs~"]
    found = family.load(kind).recognise(listing("/data/x", names))
    assert [c.key for c in found] == ["B.HDF5", "a.h5", "c.hdf", "d.nx", "e.nxs"]
    assert {c.format for c in found} == {kind}
    files, folders = family.load(kind).members(found[0], listing("/data/x", names))
    assert (list(files), list(folders)) == (["B.HDF5"], [])
    assert family.load(kind).members(found[0], listing("/data/x", ["a.h5"])) == ([], ())


@pytest.mark.parametrize(
    ("key", "files", "folders"),
    [
        ("24888.nxs", ["24888.nxs", "24888_p.h5", "pco1-24888.hdf"], ["24888-files"]),
        ("k11-18014.nxs", ["k11-18014-pco.h5", "k11-18014.nxs"], []),
        ("bone.nx", ["bone.nx", "bone_0001.nx"], ["bone_images"]),
        ("bone_0001.nx", ["bone_0001.nx"], []),
    ],
)
def test_files_that_may_be_linked_to_are_watched_by_their_names(listing, key, files, folders):
    names = ["24888.nxs", "24888_p.h5", "pco1-24888.hdf", "pco1-24889.hdf", "k11-18014.nxs", "k11-18014-pco.h5"]
    names += ["bone.nx", "bone_0001.nx", "foam_0001.h5", "bones.h5", "24888.txt"]
    shown = listing("/data/x", names, ["24888-files", "bone_images", "other"])
    for kind in ("nexus", "nxtomo"):
        found = family.load(kind).members(Candidate(kind, "/data/x", key), shown)
        assert (list(found[0]), list(found[1])) == (files, folders)
    assert family.load("dataexchange").members(Candidate("dataexchange", "/data/x", key), shown) == ([key], ())


def test_camera_files_are_not_offered_and_others_beside_them_are(listing):
    shown = listing("/data/x/scan0004", ["cam_0000.h5", "cam_0001.h5", "notes.h5"])
    assert [c.key for c in family.load("nxtomo").recognise(shown)] == ["notes.h5"]
    shown = listing("/data/x/scans", ["cam_0000.h5"])
    assert [c.key for c in family.load("nxtomo").recognise(shown)] == ["cam_0000.h5"]


# --- every way of writing ------------------------------------------------------------------------


@pytest.mark.parametrize("variant", ALL, ids=lambda v: v.name)
def test_every_variant_is_certified_claimed_once_and_comes_back(tmp_path, round_trip, variant):
    truth, path = write(tmp_path, variant)
    report = only(path)
    certificate = report.certificate
    assert report.format == variant.writer
    assert certificate.verdict is truth.verdict, certificate.problems
    assert bool(certificate.evidence)
    if truth.verdict is Verdict.COMPLETE:
        assert certificate.found == certificate.expected == FrameCounts(truth.projections, truth.flats, truth.darks)
    assert only(path, settled=False).certificate.verdict is Verdict.ACQUIRING
    for name in ("energy", "distance", "pixel_size", "exposure", "n_projections", "frame_width", "frame_height"):
        assert name in report.conditions, name
    values = {name: report.conditions[name].value for name in ("energy", "distance", "exposure", "pixel_size")}
    assert values == pytest.approx({"energy": 26.0, "distance": 30.0, "exposure": 0.05, "pixel_size": 0.7})
    if truth.verdict is not Verdict.INCOMPLETE or variant.name != "nxtomo-linked-missing":
        round_trip(report)


def test_frames_are_spliced_in_order_with_kinds_and_angles(tmp_path, round_trip):
    _, path = write(tmp_path, "dataexchange-flats-twice")
    report = only(path)
    (file,) = family.load("dataexchange").layout(report).files
    ordered = sorted(file.frames, key=lambda s: s.order)
    kinds = [FrameKind.DARK] * 2 + [FrameKind.FLAT] * 4 + [FrameKind.PROJECTION] * 8
    assert [s.kind for s in ordered] == kinds
    assert [s.angle_deg for s in ordered if s.kind is FrameKind.PROJECTION] == [22.5 * i for i in range(8)]
    package = round_trip(report)
    with h5py.File(package) as made, h5py.File(path, locking=False) as original:
        detector = made["/entry/instrument/detector"]
        keys = detector["image_key"][()]
        np.testing.assert_array_equal(detector["data"][()][keys == 0], original["exchange/data"][()])
        np.testing.assert_array_equal(detector["data"][()][keys == 1], original["exchange/data_white"][()])
        assert made["/entry/beam/incident_energy"][()] == 26.0
        assert made["/entry/sample/name"][()] == b"capillary"


def test_compressed_images_are_kept_as_they_are(tmp_path):
    for name in ("nxtomo-gzip", "dataexchange-gzip"):
        _, path = write(tmp_path / name, name)
        report = only(path)
        assert family.load(report.format).layout(report).files == ()


def test_linked_camera_files_are_in_the_closure_and_spliced(tmp_path, round_trip):
    _, path = write(tmp_path, "nxtomo-linked")
    report = only(path)
    cameras = [f.state.path for f in report.files if f.role is FileRole.CAMERA]
    assert cameras == [f"bone_images/camera_0000{n}.h5" for n in range(2)]
    assert report.metadata["linked_files"] == cameras
    assert [f.path for f in family.load("nxtomo").layout(report).files] == cameras
    with h5py.File(round_trip(report)) as made:
        assert made["/entry/instrument/detector/data"].shape == (12, 6, 8)
    for camera in cameras:
        assert looks(path.parent / camera)[0] == []


def test_missing_images_are_named_by_their_index(tmp_path):
    _, path = write(tmp_path, "nxtomo-linked-missing", projections=20)
    problems = " ".join(only(path).certificate.problems)
    assert "camera_00002.h5 is missing" in problems
    assert "8 of 20 projections are not there: images 16-23" in problems


def test_dropped_images_and_the_plan_are_told(tmp_path):
    _, path = write(tmp_path, "dataexchange-dropped")
    problems = only(path).certificate.problems
    assert "projections 7 of 8 were not written" in problems
    assert "1 projections were dropped: images 4 counted from the first" in problems


def test_two_files_of_one_folder_have_places_of_their_own(tmp_path):
    _, first = write(tmp_path, "dataexchange-plain")
    second = first.with_name("other.h5")
    shutil.copy(first, second)
    reports = [only(first), only(second)]
    assert len({(r.root, r.entry) for r in reports}) == 2
    assert len({r.identity for r in reports}) == 2


def test_a_second_entry_is_a_second_scan(tmp_path, round_trip):
    _, path = write(tmp_path, "nxtomo-at-once")
    with h5py.File(path, "a") as file:
        file.copy("entry0000", "entry0001")
        file["entry0001/instrument/detector/data"][3] += 1
    reports, _ = looks(path)
    assert [(r.name, r.entry) for r in reports] == [("bone", "bone.nx"), ("bone_entry0001", "bone.nx/entry0001")]
    for at, report in enumerate(reports):
        assert report.certificate.verdict is Verdict.COMPLETE
        layout = family.load("nxtomo").layout(report)
        assert sum(len(f.frames) for f in layout.files) == 12
        round_trip(report, f"part{at}")


def test_a_rescan_in_place_has_another_identity(tmp_path):
    _, path = write(tmp_path, "dataexchange-plain")
    before = only(path).identity
    assert only(path).identity == before
    with h5py.File(path, "a") as file:
        file["exchange/data"][0] += 1
    os.utime(path, (1, 1))
    assert only(path).identity != before


# --- doubtful files ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variant", "change", "verdict", "words"),
    [
        (
            "nxtomo-at-once",
            lambda f: f.__delitem__("entry0000/sample/rotation_angle"),
            "incomplete",
            "no rotation_angle",
        ),
        ("nxtomo-at-once", lambda f: _cut(f, "entry0000/sample/rotation_angle", 5), "incomplete", "speaks of 5 images"),
        ("nxtomo-at-once", lambda f: _cut(f, "entry0000/instrument/detector/image_key", 5), "incomplete", "5 images"),
        (
            "nxtomo-at-once",
            lambda f: _set(f, "entry0000/sample/rotation_angle", np.nan),
            "incomplete",
            "no angle: images 4",
        ),
        ("nxtomo-at-once", lambda f: _level(f, "entry0000/sample/rotation_angle"), "undecided", "the same angle"),
        (
            "nxtomo-at-once",
            lambda f: _level(f, "entry0000/instrument/detector/image_key", 7),
            "incomplete",
            "of 8 projections",
        ),
        ("dataexchange-plain", lambda f: _cut(f, "exchange/theta", 5), "incomplete", "theta has 5 angles for 8"),
        ("dataexchange-plain", lambda f: f.__delitem__("exchange/data_white"), "incomplete", "flats 0-1 of 2"),
        ("dataexchange-plain", lambda f: f["exchange/data"].resize(3, 0), "incomplete", "theta has 8 angles for 3"),
        ("dataexchange-plain", lambda f: f["exchange/data"].resize(90, 0), "incomplete", "only 8 of 90 images"),
        ("dataexchange-plain", lambda f: f["exchange/data"].__setitem__(7, 0), "undecided", "every byte is zero"),
    ],
)
def test_what_does_not_fit_is_found(tmp_path, variant, change, verdict, words):
    _, path = write(tmp_path, variant)
    with h5py.File(path, "a") as file:
        change(file)
    certificate = only(path).certificate
    assert certificate.verdict.value == verdict, certificate.problems
    assert words in " ".join(certificate.problems)


def _cut(file, name, count):
    values = file[name][:count]
    del file[name]
    file[name] = values


def _set(file, name, value, at=4):
    values = file[name][()]
    values[at] = value
    file[name][...] = values


def _level(file, name, value=3):
    file[name][...] = value


def test_angles_in_radians_are_converted(tmp_path):
    _, path = write(tmp_path, "dataexchange-plain")
    with h5py.File(path, "a") as file:
        file["exchange/theta"][...] = np.radians(file["exchange/theta"][()])
        file["exchange/theta"].attrs["units"] = "radians"
    report = only(path)
    assert report.conditions["scan_range"].value == pytest.approx(157.5)
    assert report.certificate.verdict is Verdict.COMPLETE


def test_a_writer_that_appends_with_swmr_is_acquiring(tmp_path):
    _, path = write(tmp_path, "nxtomo-at-once")
    grown = tmp_path / "live.nx"
    look = Candidate("nxtomo", str(tmp_path), grown.name)
    with h5py.File(path, locking=False) as source, h5py.File(grown, "w", libver="latest") as file:
        source.copy("entry0000", file)
        file.swmr_mode = True
        (report,) = LimitedFormats().inspect(look, settled=True)
        assert report.certificate.verdict is Verdict.ACQUIRING
        assert "single-writer access" in report.certificate.problems[0]
        with pytest.raises(NoScan, match="it is an NXtomo"):
            LimitedFormats().inspect(replace(look, format="nexus"), settled=True)
    assert only(grown).certificate.verdict is Verdict.COMPLETE


@pytest.mark.parametrize("variant", ["nxtomo-at-once", "dataexchange-plain"])
def test_a_truncated_file_is_unreadable_and_still_claimed_by_its_format(tmp_path, variant):
    _, path = write(tmp_path, variant)
    os.truncate(path, path.stat().st_size - 100)
    report = only(path)
    assert report.format == variant.partition("-")[0]
    assert report.certificate.verdict is Verdict.UNREADABLE
    assert [f.state.path for f in report.files] == [path.name]
    assert only(path, settled=False).certificate.verdict is Verdict.ACQUIRING
    with pytest.raises(UserError):
        family.load(report.format).layout(report)


def test_links_out_of_the_tree_are_not_followed(tmp_path):
    _, path = write(tmp_path / "a" / "b" / "c", "nxtomo-linked")
    outside = tmp_path / "elsewhere.h5"
    shutil.move(path.with_name("bone_images") / "camera_00000.h5", outside)
    with h5py.File(path, "a") as file:
        detector = file["entry0000/instrument/detector"]
        del detector["data"]
        detector["data"] = h5py.ExternalLink(str(outside), "/entry/data/data")
    problems = " ".join(only(path).certificate.problems)
    assert "is not followed" in problems


# --- files of other kinds ------------------------------------------------------------------------


def _put(path, *names, **attributes):
    with h5py.File(path, "w") as file:
        for name in names:
            file[name] = np.ones((4, 3, 5), np.float32)
        file.attrs.update(attributes)
    return path


@pytest.mark.parametrize(
    ("names", "attributes", "words"),
    [
        (["exchange/data"], {}, "volume"),
        (["entry0000/reconstruction/results/data"], {}, "a volume"),
        (["tomovault/frames/a"], {}, "that tomovault made"),
        (["1.1/instrument/cam/data"], {}, "a BLISS master"),
        (["x/y"], {"creator": "blissdata"}, "a BLISS master"),
        (["entry/plugin/1/data"], {}, "Savu"),
        (["entry0000/flats/0"], {}, "reduced darks or flats"),
        (["a/b/c", "a/d"], {}, "images without angles"),
        ([], {}, "without any stack of images"),
    ],
)
def test_a_file_of_another_kind_is_told_apart(tmp_path, names, attributes, words):
    reports, reasons = looks(_put(tmp_path / "x.h5", *names, **attributes))
    assert reports == []
    assert set(reasons) == set(KINDS)
    for reason in reasons.values():
        assert words in reason


@pytest.mark.parametrize(("content", "words"), [(b"", "it is empty"), (b"\x0e\x03\x13\x01" * 300, "not an HDF5 file")])
def test_a_file_that_is_no_hdf5_is_none(tmp_path, content, words):
    path = tmp_path / "x.hdf"
    path.write_bytes(content)
    assert all(words in reason for reason in looks(path)[1].values())


def test_a_file_that_went_away_is_no_trouble(tmp_path):
    """We may have taken it away; where we did not, the sweeps miss it."""
    reports, reasons = looks(tmp_path / "x.h5")
    assert reports == []
    assert reasons
    assert all("not there any more" in reason for reason in reasons.values())


def test_an_nxtomo_of_a_bliss_master_is_not_a_scan_of_its_own(real_data):
    folder = real_data / "bliss/PROCESSED_DATA/TestEwoksTomo/TestEwoksTomo_0010/projections"
    reports, reasons = looks(folder / "TestEwoksTomo_0010.nx")
    assert reports == []
    assert "the BLISS master" in reasons["nxtomo"]
    assert "which is the scan" in reasons["nxtomo"]


# --- real files ----------------------------------------------------------------------------------


def test_the_tooth_of_the_aps(real_data, round_trip):
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


def test_a_scan_of_als_832(real_data, round_trip):
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
def test_a_missing_image_of_als_832_is_named(real_data, tmp_path, name, words):
    path = tmp_path / "scan.h5"
    path.write_bytes((real_data / "aps-dx/read_stack.h5").read_bytes())
    with h5py.File(path, "a") as file:
        (scan,) = file
        del file[scan][f"{scan}{name}"]
    certificate = only(path).certificate
    assert certificate.verdict is Verdict.INCOMPLETE
    assert words in certificate.problems


def test_an_image_that_the_camera_flagged_leaves_doubt(real_data, tmp_path):
    path = tmp_path / "scan.h5"
    path.write_bytes((real_data / "aps-dx/read_stack.h5").read_bytes())
    with h5py.File(path, "a") as file:
        (scan,) = file
        file[scan][f"{scan}_0000_0003.tif"].attrs["errorFlag"] = 1
    assert only(path).certificate.verdict is Verdict.UNDECIDED


def test_a_diamond_scan_without_its_camera_file(real_data, round_trip):
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


def test_a_diamond_scan_with_its_camera_file_beside_it(real_data, tmp_path, round_trip):
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
def test_a_scan_of_gda_nine(tmp_path, finished, points, verdict):
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
def test_a_real_file_that_is_no_scan_is_reported_with_the_reason(real_data, name):
    reports, reasons = looks(real_data / name)
    assert reports == []
    assert all(REPORTED[name] in reason for reason in reasons.values())


def test_every_real_file_of_these_folders_is_taken_once_or_reported(real_data, round_trip):
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


# --- several formats ask about one file ----------------------------------------------------------


def test_a_file_that_several_formats_ask_about_counts_once_when_it_is_missing(tmp_path):
    paths = [tmp_path / f"scan{n}.h5" for n in range(9)]
    for path in paths:
        path.write_bytes(b"")
    walker = Walker(str(tmp_path), [family.load(kind) for kind in KINDS], quiet_s=1.0)
    assert len(walker.sweep(full=True).seen) == 4 * 9
    for path in paths[:3]:
        path.unlink()
    sweep = walker.sweep(full=True)
    assert (sweep.stopped, len(sweep.vanished)) == ("", 12)
    for path in paths[3:7]:
        path.unlink()
    assert walker.sweep(full=True).stopped == "4 of 6 scans are missing in one sweep"
    walker.forget([Candidate("nxtomo", str(tmp_path), "scan3.h5")])
    sweep = walker.sweep(full=True)
    assert (sweep.stopped, len(sweep.vanished)) == ("", 12)
