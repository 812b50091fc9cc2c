"""Stacks of TIFF projections: what becomes a scan, what its certificate says, and every byte back."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401 - registers the codec that packages use
import numpy as np
import pytest

from tomovault.core.errors import NoScan, UserError
from tomovault.core.layout import FrameKind
from tomovault.core.scan import FileRole, Verdict
from tomovault.formats import family
from tomovault.testing.tiff_scan import VARIANTS, TiffScan, TiffSwitches, tiff_bytes
from tomovault.watch.listing import list_folder

TIFF = family.load("tiff_stack")


def candidates(folder):
    return {(c.folder, c.key): c for d, _, _ in os.walk(folder) for c in TIFF.recognise(list_folder(d))}


def reports(folder, *, settled=True):
    return [r for c in candidates(folder).values() for r in TIFF.inspect(c, settled=settled)]


def only(folder, **options):
    found = reports(folder, **options)
    assert len(found) == 1, [r.name for r in found]
    return found[0]


def write(tmp_path, switches, **options):
    return TiffScan(str(tmp_path / "bone_scan"), switches, **options).write()


@pytest.mark.parametrize("name", VARIANTS)
def test_the_certificate_of_every_variant(tmp_path, name):
    switches, verdict = VARIANTS[name]
    report = only(write(tmp_path, switches).folder)
    assert report.certificate.verdict is verdict, report.certificate.problems
    if verdict is not Verdict.COMPLETE:
        assert report.certificate.problems
    assert report.certificate.evidence[-1] == "no change seen for the quiet time"


@pytest.mark.parametrize("name", VARIANTS)
def test_an_unsettled_stack_is_still_being_written(tmp_path, name):
    report = only(write(tmp_path, VARIANTS[name][0]).folder, settled=False)
    assert report.certificate.verdict is Verdict.ACQUIRING


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_comes_back_byte_for_byte(tmp_path, round_trip, name):
    switches, _ = VARIANTS[name]
    scan = write(tmp_path, switches)
    report = only(scan.folder)
    package = round_trip(report)
    frames = sum(len(f.frames) for f in TIFF.layout(report).files)
    total = switches.projections + switches.flats * (2 if switches.shared_numbers else 1) + switches.darks
    spliced = not (switches.compressed or switches.gap)
    lost = len(switches.missing) + (switches.truncated is not None) * (2 if switches.pages else 1)
    assert frames == (total - lost if spliced else 0)
    if name == "als":
        with h5py.File(package) as f:
            keys = f["/entry/instrument/detector/image_key"][()]
            shown = f["/entry/instrument/detector/data"][()]
        np.testing.assert_array_equal(shown[list(keys).index(0)], scan.frames["bone_0000.tif"])


def test_frames_of_one_series_are_told_apart_by_the_log(tmp_path):
    scan = write(tmp_path, TiffSwitches(log="sls", shared_numbers=True))
    report = only(scan.folder)
    segments = sorted((s for f in TIFF.layout(report).files for s in f.frames), key=lambda s: s.order)
    assert [s.kind for s in segments] == [FrameKind.DARK] * 2 + [FrameKind.FLAT] * 3 + [FrameKind.PROJECTION] * 12 + [
        FrameKind.FLAT
    ] * 3
    assert [s.angle_deg for s in segments if s.kind is FrameKind.PROJECTION] == [15.0 * k for k in range(12)]
    assert report.certificate.expected.projections == report.certificate.found.projections == 12
    assert report.conditions["energy"].value == 20.0
    assert report.conditions["exposure"].value == 0.1
    assert report.conditions["scan_range"].value == 180.0
    assert "no_reconstruction" not in report.metadata


def test_a_missing_flat_of_one_series_is_missed(tmp_path):
    report = only(write(tmp_path, TiffSwitches(log="sls", shared_numbers=True, missing=(4,))).folder)
    assert report.certificate.verdict is Verdict.COMPLETE  # the flats after the scan make up the number
    report = only(write(tmp_path / "b", TiffSwitches(log="sls", shared_numbers=True, missing=(1,))).folder)
    assert report.certificate.verdict is Verdict.INCOMPLETE
    assert "1 of 2 darks are missing" in report.certificate.problems


def test_a_missing_projection_is_named_by_its_index(tmp_path):
    report = only(write(tmp_path, VARIANTS["als_last_missing"][0]).folder)
    assert "1 of 12 projections are missing: 11" in report.certificate.problems


def test_a_scanner_s_conditions_are_in_our_units(tmp_path):
    report = only(write(tmp_path, VARIANTS["nikon"][0]).folder)
    values = {name: c.value for name, c in report.conditions.items()}
    assert values["distance"] == pytest.approx(981.2 - 50.5)
    assert values["pixel_size"] == pytest.approx(10.3)
    assert values["scan_range"] == pytest.approx(360.0)
    assert (values["voltage"], report.conditions["voltage"].unit) == (120.0, "kV")
    assert (values["frame_width"], values["frame_height"]) == (12, 8)


def test_constant_steps_are_a_way_of_counting(tmp_path):
    missing = tuple(k for k in range(12) if k % 3)
    report = only(write(tmp_path, TiffSwitches(missing=missing, flats=0, darks=0)).folder)
    assert report.certificate.verdict is Verdict.UNDECIDED
    assert "the indices go in steps of 3" in report.certificate.evidence


def test_images_of_several_shapes_are_a_doubt(tmp_path):
    scan = write(tmp_path, TiffSwitches(log="sct"))
    Path(scan.folder, "bone_0003.tif").write_bytes(tiff_bytes([np.ones((4, 4), "u2")]))
    report = only(scan.folder)
    assert report.certificate.verdict is Verdict.UNDECIDED
    assert any("not alike" in problem for problem in report.certificate.problems)


def test_two_stacks_of_one_folder_are_two_scans(tmp_path):
    scan = write(tmp_path, TiffSwitches())
    TiffScan(scan.folder, TiffSwitches(flats=0, darks=0, projections=4), name="wood_").write()
    Path(scan.folder, "wood.txt").write_text("of the wood")
    Path(scan.folder, "notes.txt").write_text("of both")
    bone, wood = sorted(reports(scan.folder), key=lambda r: r.name)
    assert (bone.name, wood.name) == ("bone", "wood")
    assert bone.entry != wood.entry
    names = {f.state.path for f in wood.files}
    assert {"wood.txt", "notes.txt", "dark_0000.tif"} <= names
    assert "wood.txt" not in {f.state.path for f in bone.files}
    assert not any(name.startswith("bone_") for name in names)


def test_flats_and_darks_in_folders_beside_the_projections(tmp_path):
    for folder, prefix, count in (("proj", "img_", 6), ("flats", "img_", 2), ("darks", "x", 3)):
        for k in range(count):
            path = tmp_path / "s" / folder / f"{prefix}{k:05d}.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(tiff_bytes([np.full((4, 4), k + 1, "u2")]))
    found = candidates(tmp_path)
    taken = []
    for (folder, _), candidate in found.items():
        if folder.endswith("proj"):
            taken += TIFF.inspect(candidate, settled=True)
        else:
            with pytest.raises(NoScan, match="belong to the stack"):
                TIFF.inspect(candidate, settled=True)
    (report,) = taken
    counts = report.certificate.found
    assert (counts.projections, counts.flats, counts.darks) == (6, 2, 3)
    assert (report.name, report.root) == ("s", str(tmp_path / "s"))


def test_a_folder_above_an_area_is_never_looked_at(tmp_path):
    scan = write(tmp_path, VARIANTS["inner"][0])
    Path(scan.folder, "tiffs", ".tomovault").mkdir()
    report = only(scan.folder + "/tiffs")
    assert report.root.endswith("/tiffs")
    assert report.certificate.found.flats == 0


def test_tiffs_beside_edf_frames_are_left_to_the_edf_series(edf_folder):
    folder = edf_folder().write()
    for k in range(4):
        (folder.path / f"view_{k:04d}.tif").write_bytes(tiff_bytes([np.ones((4, 4), "u2")]))
    assert candidates(folder.path) == {}
    sides = {f.state.path for f in folder.report().files if f.role is FileRole.SIDE}
    assert "view_0003.tif" in sides


@pytest.mark.parametrize(
    "name", ["bone_slice_{:04d}.tif", "recon_{:05d}.tiff", "bone_rec{:04d}.tif", "slice{:04d}.tif"]
)
def test_slices_are_no_projections(tmp_path, name):
    for k in range(4):
        (tmp_path / name.format(k)).write_bytes(tiff_bytes([np.ones((4, 4), "f4")]))
    assert candidates(tmp_path) == {}


def test_images_of_a_bliss_camera_are_left_to_the_bliss_scan(tmp_path):
    scan = TiffScan(str(tmp_path / "coll_0001" / "scan0002"), TiffSwitches()).write()
    assert only(scan.folder).certificate.found.projections == 12
    (tmp_path / "coll_0001" / "coll_0001.h5").touch()
    (candidate,) = candidates(scan.folder).values()
    with pytest.raises(NoScan, match=r"BLISS master coll_0001\.h5"):
        TIFF.inspect(candidate, settled=True)


def test_single_images_are_no_scan_and_it_is_said(tmp_path):
    (tmp_path / "photo.tif").write_bytes(tiff_bytes([np.ones((4, 6), "u2")]))
    (candidate,) = candidates(tmp_path).values()
    with pytest.raises(NoScan, match=r"photo\.tif: one image of 4 x 6"):
        TIFF.inspect(candidate, settled=True)
    (tmp_path / "photo.tif").write_bytes(b"II*\0")
    with pytest.raises(UserError, match=r"photo\.tif"):
        TIFF.inspect(candidate, settled=True)


def test_a_stack_of_garbage_is_reported(tmp_path):
    for k in range(3):
        (tmp_path / f"a_{k:04d}.tif").write_bytes(b"no image at all")
    (candidate,) = candidates(tmp_path).values()
    with pytest.raises(UserError, match="none of 3 files can be read as TIFF"):
        TIFF.inspect(candidate, settled=True)


def test_imagej_stacks_with_one_directory(tmp_path, round_trip):
    """Above 4 GB ImageJ writes the images one after the other, and only the first has a directory."""
    frames = np.arange(5 * 12, dtype="u2").reshape(5, 3, 4)
    head = tiff_bytes([frames[0]], description="ImageJ=1.53t\nimages=5\n")
    path = tmp_path / "s" / "big.tif"
    path.parent.mkdir()
    # The pixels of the first image are moved behind the directory, where the others follow.
    moved = bytearray(head)
    at = moved.index((273).to_bytes(2, "little") + (4).to_bytes(2, "little"))
    moved[at + 8 : at + 12] = len(moved).to_bytes(4, "little")
    path.write_bytes(bytes(moved) + frames.tobytes())
    report = only(path.parent)
    assert report.certificate.verdict is Verdict.COMPLETE
    assert sum(len(f.frames) for f in TIFF.layout(report).files) == 5
    round_trip(report)
    path.write_bytes((bytes(moved) + frames.tobytes())[:-7])
    assert only(path.parent).certificate.verdict is Verdict.INCOMPLETE


def test_links_are_left_out(tmp_path):
    scan = write(tmp_path, TiffSwitches(log="sct"))
    target = Path(scan.folder, "bone_0002.tif")
    shutil.move(target, tmp_path / "elsewhere.tif")
    target.symlink_to(tmp_path / "elsewhere.tif")
    report = only(scan.folder)
    assert report.certificate.verdict is Verdict.UNDECIDED
    assert "bone_0002.tif" not in {f.state.path for f in report.files}


def test_members_are_what_defines_the_scan(tmp_path):
    scan = write(tmp_path, TiffSwitches(log="sct"))
    Path(scan.folder, "notes.txt").write_text("x")
    (candidate,) = candidates(scan.folder).values()
    files, folders = TIFF.members(candidate, list_folder(scan.folder))
    assert len(files) == 12 + 3 + 2 + 1
    assert "notes.txt" not in files
    assert folders == ()


def test_a_rescan_has_another_identity_and_side_files_have_not(tmp_path):
    scan = write(tmp_path, TiffSwitches(log="sct"))
    first = only(scan.folder).identity
    Path(scan.folder, "notes.txt").write_text("x")
    os.unlink(Path(scan.folder, "flat_0000.tif"))
    assert only(scan.folder).identity == first
    os.utime(Path(scan.folder, "bone_0003.tif"), ns=(1, 1))
    assert only(scan.folder).identity != first


# --- the real files ------------------------------------------------------------------------------


def test_the_real_stack_of_savu(real_data, round_trip):
    report = only(real_data / "diamond-savu" / "image_test")
    counts = report.certificate.found
    assert (report.name, counts.projections, counts.flats, counts.darks) == ("image_test", 91, 1, 1)
    assert report.certificate.verdict is Verdict.UNDECIDED
    frames = [s for f in TIFF.layout(report).files for s in f.frames]
    assert {(s.shape, s.dtype) for s in frames if s.kind is FrameKind.PROJECTION} == {((135, 160), "<u2")}
    assert {s.dtype for s in frames if s.kind is not FrameKind.PROJECTION} == {"<f4"}
    assert len(frames) == 93
    round_trip(report)


def test_the_real_stack_of_dxchange_with_its_side_files(real_data, round_trip):
    report = only(real_data / "tiff-small")
    assert (report.name, report.certificate.found.projections, len(report.files)) == ("reader", 4, 7)
    round_trip(report)


def test_the_real_zoo_and_the_hostile_files_are_reported(real_data):
    for folder, told in (("tiff-zoo", "single images"), ("bad-tiff-pillow", "past the end"), ("bad-tiff-fuzz", "TIFF")):
        found = candidates(real_data / folder)
        assert found
        for candidate in found.values():
            with pytest.raises(UserError, match=told):
                family.LimitedFormats().inspect(candidate, settled=True)


def test_every_real_tiff_under_the_name_of_a_stack(real_data, tmp_path, round_trip):
    """Whatever is in them, each file is taken whole or named with a reason."""
    sources = sorted(p for d in ("tiff-zoo", "bad-tiff-pillow", "bad-tiff-fuzz") for p in (real_data / d).rglob("*"))
    sources = [p for p in sources if p.is_file()]
    folder = tmp_path / "mixed"
    folder.mkdir()
    for k, source in enumerate(sources):
        shutil.copyfile(source, folder / f"any_{k:04d}.tif")
    (candidate,) = candidates(folder).values()
    (report,) = family.LimitedFormats().inspect(candidate, settled=True)
    assert len(report.files) == len(sources) > 100
    assert report.certificate.verdict is Verdict.INCOMPLETE
    round_trip(report)
