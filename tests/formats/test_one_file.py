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
from tomovault.watch.walker import Walker

KINDS = ("als832", "dataexchange", "nexus", "nxtomo")
ALL = NXTOMO_VARIANTS + EXCHANGE_VARIANTS
SMALL = {"shape": (6, 8), "projections": 8, "flats": 2, "darks": 2}


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
def test_every_variant_is_certified_claimed_once_and_comes_back(tmp_path, round_trip, variant, only):
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


def test_frames_are_spliced_in_order_with_kinds_and_angles(tmp_path, round_trip, only):
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


def test_compressed_images_are_kept_as_they_are(tmp_path, only):
    for name in ("nxtomo-gzip", "dataexchange-gzip"):
        _, path = write(tmp_path / name, name)
        report = only(path)
        assert not any(file.frames for file in family.load(report.format).layout(report).files)


def test_linked_camera_files_are_in_the_closure_and_spliced(tmp_path, round_trip, looks, only):
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


def test_missing_images_are_named_by_their_index(tmp_path, only):
    _, path = write(tmp_path, "nxtomo-linked-missing", projections=20)
    problems = " ".join(only(path).certificate.problems)
    assert "camera_00002.h5 is missing" in problems
    assert "8 of 20 projections are not there: images 16-23" in problems


def test_dropped_images_and_the_plan_are_told(tmp_path, only):
    _, path = write(tmp_path, "dataexchange-dropped")
    problems = only(path).certificate.problems
    assert "projections 7 of 8 were not written" in problems
    assert "1 projection dropped on the way: images 4 counted from the first" in problems


def test_two_files_of_one_folder_have_places_of_their_own(tmp_path, only):
    _, first = write(tmp_path, "dataexchange-plain")
    second = first.with_name("other.h5")
    shutil.copy(first, second)
    reports = [only(first), only(second)]
    assert len({(r.root, r.entry) for r in reports}) == 2
    assert len({r.identity for r in reports}) == 2


def test_a_second_entry_is_a_second_scan(tmp_path, round_trip, looks):
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


def test_a_rescan_in_place_has_another_identity(tmp_path, only):
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
def test_what_does_not_fit_is_found(tmp_path, variant, change, verdict, words, only):
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


def test_angles_in_radians_are_converted(tmp_path, only):
    _, path = write(tmp_path, "dataexchange-plain")
    with h5py.File(path, "a") as file:
        file["exchange/theta"][...] = np.radians(file["exchange/theta"][()])
        file["exchange/theta"].attrs["units"] = "radians"
    report = only(path)
    assert report.conditions["scan_range"].value == pytest.approx(157.5)
    assert report.certificate.verdict is Verdict.COMPLETE


def test_a_writer_that_appends_with_swmr_is_acquiring(tmp_path, only):
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
def test_a_truncated_file_is_unreadable_and_still_claimed_by_its_format(tmp_path, variant, only):
    _, path = write(tmp_path, variant)
    os.truncate(path, path.stat().st_size - 100)
    report = only(path)
    assert report.format == variant.partition("-")[0]
    assert report.certificate.verdict is Verdict.UNREADABLE
    assert [f.state.path for f in report.files] == [path.name]
    assert only(path, settled=False).certificate.verdict is Verdict.ACQUIRING
    with pytest.raises(UserError):
        family.load(report.format).layout(report)


@pytest.mark.parametrize("variant", ["nxtomo-at-once", "dataexchange-plain"])
def test_images_in_a_raw_file_outside_hdf5_are_never_complete(tmp_path, variant, only):
    _, path = write(tmp_path, variant)
    place = "exchange/data" if variant.startswith("dataexchange") else "entry0000/instrument/detector/data"
    with h5py.File(path, "a") as file:
        images = file[place][()]
        attributes = dict(file[place].attrs)
        del file[place]
        raw = [(str(tmp_path / "images.raw"), 0, images.nbytes)]
        file.create_dataset(place, shape=images.shape, dtype=images.dtype, external=raw).attrs.update(attributes)
    report = only(path)
    assert report.certificate.verdict is Verdict.INCOMPLETE
    assert report.certificate.found.projections == 0
    assert f"its bytes are in {tmp_path / 'images.raw'}, outside HDF5" in " ".join(report.certificate.problems)


def test_links_out_of_the_tree_are_not_followed(tmp_path, only):
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
def test_a_file_of_another_kind_is_told_apart(tmp_path, names, attributes, words, looks):
    reports, reasons = looks(_put(tmp_path / "x.h5", *names, **attributes))
    assert reports == []
    assert set(reasons) == set(KINDS)
    for reason in reasons.values():
        assert words in reason


@pytest.mark.parametrize(("content", "words"), [(b"", "it is empty"), (b"\x0e\x03\x13\x01" * 300, "not an HDF5 file")])
def test_a_file_that_is_no_hdf5_is_none(tmp_path, content, words, looks):
    path = tmp_path / "x.hdf"
    path.write_bytes(content)
    assert all(words in reason for reason in looks(path)[1].values())


def test_a_file_that_went_away_is_no_trouble(tmp_path, looks):
    """We may have taken it away; where we did not, the sweeps miss it."""
    reports, reasons = looks(tmp_path / "x.h5")
    assert reports == []
    assert reasons
    assert all("not there any more" in reason for reason in reasons.values())


def test_an_nxtomo_of_a_bliss_master_is_not_a_scan_of_its_own(real_data, looks):
    folder = real_data / "bliss/PROCESSED_DATA/TestEwoksTomo/TestEwoksTomo_0010/projections"
    reports, reasons = looks(folder / "TestEwoksTomo_0010.nx")
    assert reports == []
    assert "the BLISS master" in reasons["nxtomo"]
    assert "which is the scan" in reasons["nxtomo"]


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
