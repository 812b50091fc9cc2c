import os
import shutil

import h5py
import numpy as np
import pytest

from tomovault.core.errors import NoScan
from tomovault.core.layout import FrameKind
from tomovault.core.scan import Candidate, FileRole, FrameCounts, Verdict
from tomovault.formats import family


def problems(report):
    return "\n".join(report.certificate.problems)


def only(scan, **options):
    reports = scan.reports(**options)
    assert len(reports) == 1
    return reports[0]


def test_recognise_by_names(listing):
    bliss = family.load("bliss")
    seen = listing("/data/x_0001", ["x_0001.h5", "other.h5", ".tmp.h5", "a.nx"], ["scan0002", "gallery", "scan0001"])
    assert [c.key for c in bliss.recognise(seen)] == ["other.h5", "x_0001.h5"]
    assert [c.key for c in bliss.recognise(listing("/data/x_0001", ["x_0001.h5", "other.h5"]))] == ["x_0001.h5"]
    files, folders = bliss.members(Candidate("bliss", "/data/x_0001", "x_0001.h5"), seen)
    assert (list(files), list(folders)) == (["x_0001.h5"], ["scan0001", "scan0002"])


def test_a_whole_scan_is_complete(bliss_folder):
    report = only(bliss_folder().write())
    assert report.certificate.verdict is Verdict.COMPLETE, report.certificate
    assert report.certificate.expected == report.certificate.found == FrameCounts(6, 3, 2)
    assert report.certificate.problems == ()
    assert (report.name, report.entry) == ("coll_0001", "1.1")
    assert (report.beamline, report.proposal) == ("ID19", "ma1234")
    roles = {f.state.path: f.role for f in report.files}
    assert roles["coll_0001.h5"] is FileRole.MASTER
    assert roles["scan0004/cam_0002.h5"] is FileRole.CAMERA
    assert report.conditions["energy"].value == pytest.approx(26.0)
    assert report.conditions["exposure"].value == pytest.approx(0.01)
    assert report.conditions["n_projections"].value == 6


def test_an_unsettled_scan_is_acquiring(bliss_folder):
    assert only(bliss_folder().write(), settled=False).certificate.verdict is Verdict.ACQUIRING


@pytest.mark.parametrize("part", ["sequence", "part2"])
def test_without_end_time_it_is_still_acquiring_though_quiet(bliss_folder, part):
    report = only(bliss_folder().write(**{part: {"ended": False}}))
    assert report.certificate.verdict is Verdict.ACQUIRING
    assert "no end_time" in problems(report)


@pytest.mark.parametrize(
    ("damage", "verdict"),
    [
        ({"sequence": {"reason": "USER_ABORT"}}, Verdict.ABORTED),
        ({"sequence": {"reason": "FAILURE"}}, Verdict.INCOMPLETE),
        ({"sequence": {"reason": "DELETION"}}, Verdict.INCOMPLETE),
        ({"part1": {"status": "FAILED"}}, Verdict.INCOMPLETE),
        ({"part1": {"status": "RUNNING"}}, Verdict.UNDECIDED),
        ({"part1": {"status": None}}, Verdict.COMPLETE),
        ({"part1": {"status": None, "reason": None}}, Verdict.UNDECIDED),
        ({"parts": 3}, Verdict.INCOMPLETE),
        ({"part2": {"images": False}}, Verdict.INCOMPLETE),
        ({"sequence": {"tomo_n": 9}}, Verdict.UNDECIDED),
    ],
)
def test_how_it_ended(bliss_folder, damage, verdict):
    report = only(bliss_folder().write(**damage))
    assert report.certificate.verdict is verdict, report.certificate


def test_a_missing_camera_file_is_incomplete_and_named(bliss_folder):
    scan = bliss_folder().write()
    scan.camera_file(4, 1).unlink()
    report = only(scan)
    assert report.certificate.verdict is Verdict.INCOMPLETE
    assert "scan0004/cam_0001.h5 is missing" in problems(report)
    assert report.certificate.found.projections == 4


def test_a_camera_file_with_too_few_images(bliss_folder):
    scan = bliss_folder().write()
    with h5py.File(scan.camera_file(4, 2), "w") as f:
        f["entry_0000/instrument/cam/data"] = scan.frames(4, 1)
    report = only(scan)
    assert report.certificate.verdict is Verdict.INCOMPLETE
    assert "scan0004/cam_0002.h5" in problems(report)
    assert report.certificate.found.projections == 5


def test_a_camera_file_without_its_dataset(bliss_folder):
    scan = bliss_folder().write()
    with h5py.File(scan.camera_file(4, 2), "w") as f:
        f["other"] = 1
    assert "does not hold /entry_0000/instrument/cam/data" in problems(only(scan))


@pytest.mark.parametrize("chunked", [True, False])
def test_a_truncated_camera_file(bliss_folder, chunked):
    scan = bliss_folder(chunked=chunked).write()
    file = scan.camera_file(4, 0)
    file.write_bytes(file.read_bytes()[:-60])
    report = only(scan)
    assert report.certificate.verdict is Verdict.INCOMPLETE
    assert "scan0004/cam_0000.h5" in problems(report)


@pytest.mark.parametrize("chunked", [True, False])
def test_space_that_was_never_written(bliss_folder, chunked):
    scan = bliss_folder().write()
    with h5py.File(scan.camera_file(4, 0), "w") as f:
        options = {"chunks": (1, 4, 6)} if chunked else {}
        f.create_dataset("entry_0000/instrument/cam/data", shape=(2, 4, 6), dtype="<u2", **options)
    report = only(scan)
    assert report.certificate.verdict is Verdict.INCOMPLETE, report.certificate
    assert "scan0004/cam_0000.h5" in problems(report)


def test_an_image_of_zeros_is_undecided_but_a_dark_may_be(bliss_folder):
    scan = bliss_folder().write()
    with h5py.File(scan.camera_file(2), "w") as f:
        f["entry_0000/instrument/cam/data"] = np.zeros((2, 4, 6), "<u2")
    assert only(scan).certificate.verdict is Verdict.COMPLETE
    with h5py.File(scan.camera_file(4, 2), "w") as f:
        f["entry_0000/instrument/cam/data"] = np.zeros((2, 4, 6), "<u2")
    report = only(scan)
    assert report.certificate.verdict is Verdict.UNDECIDED
    assert "scan0004/cam_0002.h5" in problems(report)


def test_a_virtual_dataset_with_a_hole(bliss_folder):
    scan = bliss_folder().write()
    with h5py.File(scan.master, "a") as f:
        del f["4.1/instrument/cam/image"]
        layout = h5py.VirtualLayout((6, 4, 6), dtype="<u2")
        source = h5py.VirtualSource("scan0004/cam_0000.h5", "/entry_0000/instrument/cam/data", (2, 4, 6))
        layout[0:2] = source
        f["4.1"].create_virtual_dataset("instrument/cam/image", layout)
    report = only(scan)
    assert report.certificate.verdict is Verdict.INCOMPLETE
    assert "no file is named for its images 2-5" in problems(report)


@pytest.mark.parametrize("there", [True, False])
def test_images_in_a_raw_file_outside_hdf5_are_never_complete(bliss_folder, there):
    scan = bliss_folder().write()
    raw = scan.path / "scan0004" / "cam_0001.raw"
    with h5py.File(scan.camera_file(4, 1), "w") as f:
        f.create_dataset(
            "entry_0000/instrument/cam/data", shape=(2, 4, 6), dtype="<u2", external=[(str(raw), 0, 2 * 48)]
        )
    if there:
        raw.write_bytes(scan.frames(4, 2).tobytes())
    report = only(scan)
    assert report.certificate.verdict is Verdict.INCOMPLETE
    assert report.certificate.found.projections == 4
    assert f"scan0004/cam_0001.h5: its bytes are in {raw}, outside HDF5" in problems(report)


def test_an_external_link_to_a_camera_master(bliss_folder):
    scan = bliss_folder().write()
    lima = scan.path / "scan0004" / "cam_master.h5"
    with h5py.File(lima, "w") as f:
        layout = h5py.VirtualLayout((6, 4, 6), dtype="<u2")
        for part in range(3):
            layout[2 * part : 2 * part + 2] = h5py.VirtualSource(
                f"cam_{part:04d}.h5", "/entry_0000/instrument/cam/data", (2, 4, 6)
            )
        f.create_virtual_dataset("entry/data", layout)
    with h5py.File(scan.master, "a") as f:
        del f["4.1/instrument/cam/image"], f["4.1/instrument/cam/data"]
        f["4.1/instrument/cam/data"] = h5py.ExternalLink("scan0004/cam_master.h5", "/entry/data")
    report = only(scan)
    assert report.certificate.verdict is Verdict.COMPLETE, report.certificate
    roles = {f.state.path: f.role for f in report.files}
    assert roles["scan0004/cam_master.h5"] is FileRole.CAMERA
    layout = family.load("bliss").layout(report)
    assert sum(len(f.frames) for f in layout.files) == 13
    lima.unlink()
    report = only(scan)
    assert report.certificate.verdict is Verdict.INCOMPLETE
    assert "scan0004/cam_master.h5 is missing" in problems(report)


_IMAGES = "/entry_0000/instrument/cam/data"


def _link_through_a_camera_master(scan, frames, mapped, camera="cam"):
    """Images of 4.1 as a link to a camera's master of so many frames, which names files for the first `mapped`."""
    with h5py.File(scan.path / "scan0004" / f"{camera}_master.h5", "w") as f:
        layout = h5py.VirtualLayout((frames, 4, 6), dtype="<u2")
        for part in range(mapped // 2):
            layout[2 * part : 2 * part + 2] = h5py.VirtualSource(f"cam_{part:04d}.h5", _IMAGES, (2, 4, 6))
        f.create_virtual_dataset("entry/data", layout)
    with h5py.File(scan.master, "a") as f:
        for name in {"image", "data"} & set(f["4.1/instrument"].get(camera, ())):
            del f[f"4.1/instrument/{camera}/{name}"]
        f[f"4.1/instrument/{camera}/data"] = h5py.ExternalLink(f"scan0004/{camera}_master.h5", "/entry/data")


@pytest.mark.parametrize("camera", ["cam", "second"])
def test_a_hole_behind_an_external_link(bliss_folder, camera):
    scan = bliss_folder().write()
    _link_through_a_camera_master(scan, 6, 6, camera)
    assert only(scan).certificate.verdict is Verdict.COMPLETE
    _link_through_a_camera_master(bliss_folder("coll_0002").write(), 6, 4, camera)
    report = only(bliss_folder("coll_0002"))
    assert report.certificate.verdict is Verdict.INCOMPLETE
    assert f"scan0004/{camera}_master.h5: no file is named for images 4-5 of /entry/data" in problems(report)


def test_a_hole_behind_a_virtual_dataset(bliss_folder):
    scan = bliss_folder().write()
    _link_through_a_camera_master(scan, 6, 4)
    with h5py.File(scan.master, "a") as f:
        del f["4.1/instrument/cam/data"]
        layout = h5py.VirtualLayout((6, 4, 6), dtype="<u2")
        layout[:] = h5py.VirtualSource("scan0004/cam_master.h5", "/entry/data", (6, 4, 6))
        f["4.1"].create_virtual_dataset("instrument/cam/image", layout)
    report = only(scan)
    assert report.certificate.verdict is Verdict.INCOMPLETE
    assert "scan0004/cam_master.h5: no file is named for images 4-5 of /entry/data" in problems(report)


def _map(scan, *parts):
    """Images of 4.1 as a virtual dataset of (its frames, the camera file's number, that file's frames)."""
    with h5py.File(scan.master, "a") as f:
        for name in {"image", "data"} & set(f["4.1/instrument/cam"]):
            del f[f"4.1/instrument/cam/{name}"]
        layout = h5py.VirtualLayout((6, 4, 6), dtype="<u2")
        for frames, part, source in parts:
            with h5py.File(scan.camera_file(4, part)) as camera:
                shape = camera[_IMAGES].shape
            layout[frames] = h5py.VirtualSource(f"scan0004/cam_{part:04d}.h5", _IMAGES, shape)[source]
        f["4.1"].create_virtual_dataset("instrument/cam/image", layout)


def test_camera_files_that_take_turns_are_told_frame_by_frame(bliss_folder):
    scan = bliss_folder().write()
    for part in (0, 1):
        with h5py.File(scan.camera_file(4, part), "w") as f:
            f[_IMAGES] = scan.frames(4, 6)[part::2]
    _map(scan, (np.s_[0::2], 0, np.s_[:]), (np.s_[1::2], 1, np.s_[:]))
    report = only(scan)
    assert report.certificate.verdict is Verdict.COMPLETE, report.certificate
    assert report.certificate.found.projections == 6
    frames = [s for f in family.load("bliss").layout(report).files for s in f.frames]
    angles = {s.order: (s.angle_deg, s.kind) for s in frames if s.kind is FrameKind.PROJECTION}
    assert [angle for _, (angle, _) in sorted(angles.items())] == [0, 30, 60, 90, 120, 150]
    _map(scan, (np.s_[0::2], 0, np.s_[:]))
    report = only(scan)
    assert report.certificate.verdict is Verdict.INCOMPLETE
    assert report.certificate.found.projections == 3
    assert "no file is named for its images 1, 3, 5" in problems(report)


def test_every_second_image_of_a_camera_file_counts_once(bliss_folder):
    scan = bliss_folder().write()
    with h5py.File(scan.camera_file(4, 0), "w") as f:
        f[_IMAGES] = scan.frames(4, 8)
    _map(scan, (np.s_[0:4], 0, np.s_[0:8:2]))
    report = only(scan)
    assert report.certificate.verdict is Verdict.INCOMPLETE
    assert report.certificate.found.projections == 4
    assert "no file is named for its images 4-5" in problems(report)


def test_two_halves_of_an_image_are_one_image(bliss_folder):
    scan = bliss_folder().write(sequence={"tomo_n": 12})
    with h5py.File(scan.master, "a") as f:
        f["4.1/technique/proj/proj_n"][()] = 12
    for part in (0, 1):
        with h5py.File(scan.camera_file(4, part), "w") as f:
            f[_IMAGES] = scan.frames(4, 6)[:, 2 * part : 2 * part + 2]
    _map(scan, (np.s_[:, :2], 0, np.s_[:]), (np.s_[:, 2:], 1, np.s_[:]))
    report = only(scan)
    assert report.certificate.verdict is Verdict.INCOMPLETE
    assert report.certificate.found.projections == 6
    assert "6 of 12 projections are there" in problems(report)


def test_links_in_a_circle_end(bliss_folder):
    scan = bliss_folder().write()
    for a, b in (("a", "b"), ("b", "a")):
        with h5py.File(scan.path / f"{a}.h5", "w") as f:
            f["d"] = h5py.ExternalLink(f"{b}.h5", "/d")
    with h5py.File(scan.master, "a") as f:
        del f["4.1/instrument/cam/image"], f["4.1/instrument/cam/data"]
        f["4.1/instrument/cam/data"] = h5py.ExternalLink("a.h5", "/d")
    assert "circle" in problems(only(scan))


def test_a_source_outside_the_raw_data_is_not_followed(bliss_folder, tmp_path):
    scan = bliss_folder().write()
    outside = tmp_path / "secret.h5"
    shutil.copy(scan.camera_file(4, 0), outside)
    scan.camera_file(4, 0).unlink()
    scan.camera_file(4, 0).symlink_to(outside)
    report = only(scan)
    assert report.certificate.verdict is Verdict.INCOMPLETE
    assert "outside" in problems(report)
    assert not any("secret" in f.state.path or f.state.path.endswith("scan0004/cam_0000.h5") for f in report.files)


def test_a_camera_folder_beside_the_dataset_widens_the_root(bliss_folder):
    scan = bliss_folder().write()
    moved = scan.path.parent / "fast"
    (scan.path / "scan0004").rename(moved)
    (scan.path / "scan0004").symlink_to(moved)
    report = only(scan)
    assert report.certificate.verdict is Verdict.COMPLETE, report.certificate
    assert report.root == str(scan.path.parent)
    assert {"coll_0001/coll_0001.h5", "fast/cam_0000.h5"} <= {f.state.path for f in report.files}
    assert {f.path for f in family.load("bliss").layout(report).files} >= {"fast/cam_0001.h5"}


def test_unreferenced_camera_files_are_side_files(bliss_folder):
    scan = bliss_folder().write()
    shutil.copy(scan.camera_file(4, 0), scan.camera_file(4, 9))
    roles = {f.state.path: f.role for f in only(scan).files}
    assert roles["scan0004/cam_0009.h5"] is FileRole.SIDE


def test_a_growing_master_gives_a_new_scan_and_keeps_the_old_one(bliss_folder):
    scan = bliss_folder().write()
    before = only(scan)
    with h5py.File(scan.master, "a") as f:
        scan.scan(f, 6, part2={"ended": False})
    first, second = scan.reports()
    assert first.identity == before.identity
    assert first.certificate == before.certificate
    assert (first.name, second.name, second.entry) == ("coll_0001", "coll_0001_6.1", "6.1")
    assert second.certificate.verdict is Verdict.ACQUIRING
    assert not {f.state.path for f in first.files if "scan" in f.state.path} & {
        f.state.path for f in second.files if "scan" in f.state.path
    }
    assert all(any(f.role is FileRole.MASTER for f in r.files) for r in (first, second))


def test_a_rewritten_camera_file_is_another_scan(bliss_folder):
    scan = bliss_folder().write()
    before = only(scan)
    os.utime(scan.camera_file(4, 0), (5, 5))
    assert only(scan).identity != before.identity


def test_subscans_that_overlap_by_milliseconds_and_other_entries(bliss_folder):
    scan = bliss_folder().write()
    with h5py.File(scan.master, "a") as f:
        entry = f.create_group("6.1")
        entry["title"], entry["start_time"] = "ascan sx 0 1 10 0.1", "2025-03-20T18:29:18+01:00"
        entry["instrument/cam/data"] = np.ones((3, 4, 6), "<u2")
    assert only(scan).certificate.verdict is Verdict.COMPLETE


def test_a_collection_of_links_holds_no_scan(bliss_folder):
    scan = bliss_folder("coll").write()
    os.rename(scan.master, scan.path / "real.h5")
    with h5py.File(scan.master, "w") as f:
        f.attrs["creator"] = "blissdata"
        f["x_1.1"] = h5py.ExternalLink("real.h5", "/1.1")
        f["1.1"] = h5py.ExternalLink("gone.h5", "/1.1")
    assert scan.reports() == []


def test_entries_with_images_and_no_plan_are_undecided(bliss_folder):
    scan = bliss_folder()
    scan.path.mkdir(parents=True)
    with h5py.File(scan.master, "w") as f:
        f["1.1/instrument/detector/data"] = np.ones((5, 4, 6), "<u2")
    report = only(scan)
    assert report.certificate.verdict is Verdict.UNDECIDED
    assert report.certificate.found.projections == 5


def test_what_is_not_bliss_gives_nothing(bliss_folder):
    scan = bliss_folder()
    scan.path.mkdir(parents=True)
    with h5py.File(scan.master, "w") as f:
        f["exchange/data"] = np.ones((5, 4, 6), "<u2")
    assert scan.reports() == []
    scan.master.write_bytes(b"not HDF5 at all")
    assert scan.reports() == []
    scan.master.write_bytes(b"")
    assert scan.reports() == []


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.95])
def test_a_truncated_master_is_unreadable_never_a_crash(bliss_folder, share):
    scan = bliss_folder().write()
    raw = scan.master.read_bytes()
    scan.master.write_bytes(raw[: int(len(raw) * share)])
    report = only(scan)
    assert report.certificate.verdict is Verdict.UNREADABLE
    assert "truncated" in problems(report)
    assert "scan0004/cam_0000.h5" in {f.state.path for f in report.files}
    assert only(scan, settled=False).certificate.verdict is Verdict.ACQUIRING


@pytest.mark.parametrize("chunked", [True, False])
def test_layout_reads_back_every_frame(bliss_folder, chunked):
    scan = bliss_folder(chunked=chunked).write()
    report = only(scan)
    layout = family.load("bliss").layout(report)
    expected = np.concatenate([scan.frames(n, c) for n, c in ((2, 2), (3, 3), (4, 6), (5, 2))])
    found = {}
    for file in layout.files:
        raw = (scan.path / file.path).read_bytes()
        assert file.size == len(raw)
        end = 0
        for frame in file.frames:
            assert frame.offset >= end
            end = frame.offset + frame.length
            found[frame.order] = (frame, np.frombuffer(raw[frame.offset : end], frame.dtype).reshape(frame.shape))
    assert sorted(found) == list(range(13))
    assert all(np.array_equal(found[i][1], expected[i]) for i in found)
    kinds = [found[i][0].kind for i in range(13)]
    assert kinds == [FrameKind.DARK] * 2 + [FrameKind.FLAT] * 3 + [FrameKind.PROJECTION] * 6 + [FrameKind.ALIGNMENT] * 2
    assert [found[i][0].angle_deg for i in range(5, 11)] == pytest.approx([0, 30, 60, 90, 120, 150])
    assert layout.nx["energy_kev"] == pytest.approx(26.0)


def test_compressed_chunks_stay_literal(bliss_folder):
    scan = bliss_folder(gzip=True).write()
    report = only(scan)
    assert report.certificate.verdict is Verdict.COMPLETE, report.certificate
    files = family.load("bliss").layout(report).files
    assert files
    assert not any(file.frames for file in files)


def test_the_real_scan(real_data):
    folder = real_data / "bliss/RAW_DATA/TestEwoksTomo/TestEwoksTomo_0010"
    (report,) = family.load("bliss").inspect(Candidate("bliss", str(folder), "TestEwoksTomo_0010.h5"), settled=True)
    assert report.certificate.verdict is Verdict.COMPLETE
    assert report.certificate.problems == ()
    assert report.certificate.found == FrameCounts(11, 2, 2)
    assert (report.beamline, report.proposal, report.sample) == ("BM05", "bm052503", "TestEwoksTomo")
    assert report.conditions["exposure"].value == pytest.approx(0.01)
    layout = family.load("bliss").layout(report)
    with h5py.File(folder / "TestEwoksTomo_0010.h5", "r", locking=False) as f:
        expected = np.concatenate([f[f"{n}.1/instrument/edgetwinmic/image"][()] for n in (2, 3, 4, 5)])
    for file in layout.files:
        raw = (folder / file.path).read_bytes()
        for frame in file.frames:
            data = np.frombuffer(raw[frame.offset : frame.offset + frame.length], frame.dtype)
            assert np.array_equal(data.reshape(frame.shape), expected[frame.order])
    assert sum(len(file.frames) for file in layout.files) == 20


def test_the_real_scan_without_one_camera_file(real_data, tmp_path):
    shutil.copytree(real_data / "bliss/RAW_DATA/TestEwoksTomo/TestEwoksTomo_0010", tmp_path / "x")
    os.chmod(tmp_path / "x/scan0004", 0o755)
    (tmp_path / "x/scan0004/edgetwinmic_0003.h5").unlink()
    (report,) = family.load("bliss").inspect(
        Candidate("bliss", str(tmp_path / "x"), "TestEwoksTomo_0010.h5"), settled=True
    )
    assert report.certificate.verdict is Verdict.INCOMPLETE
    assert report.certificate.found.projections == 10


def test_a_master_that_went_meanwhile_is_no_trouble(bliss_folder):
    """It may have been taken away by a removal of ours; where it was not, its absence is noticed by the sweeps."""
    folder = bliss_folder().path
    folder.mkdir(parents=True)
    candidate = Candidate("bliss", str(folder), "gone.h5")
    with pytest.raises(NoScan, match="not there any more"):
        family.load("bliss").inspect(candidate, settled=True)
