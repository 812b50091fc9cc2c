import os

import pytest

from tomovault.core.errors import NoScan
from tomovault.core.layout import FrameKind
from tomovault.core.scan import FileRole, FrameCounts, Verdict
from tomovault.formats import family


def problems(report):
    return "\n".join(report.certificate.problems)


def test_a_whole_scan_is_complete(edf_folder):
    report = edf_folder().write().report()
    assert report.certificate.verdict is Verdict.COMPLETE, report.certificate
    assert report.certificate.expected == report.certificate.found == FrameCounts(10, 6, 3)
    assert report.certificate.problems == ()
    assert report.name == "scan_"
    assert report.entry == ""
    assert (report.beamline, report.proposal) == ("ID19", "ma1234")
    roles = {f.state.path: f.role for f in report.files}
    assert roles["scan_0012.edf"] is FileRole.PROJECTION
    assert roles["scan_.info"] is FileRole.METADATA
    assert roles["ref0001_0010.edf"] is FileRole.FLAT
    assert roles["darkend0000.edf"] is FileRole.DARK


def test_an_info_that_was_cut_never_makes_fewer_frames_complete(edf_folder):
    """Whatever of the flats and darks is missing by then, and wherever the text ends."""
    scan = edf_folder(tomo_n=10, ref_n=2, dark_n=20).write(xml=False, dark=False)
    text = scan.info().read_bytes()
    for path in [*scan.path.glob("ref*_0005.edf"), *scan.path.glob("ref*_0010.edf")]:
        path.unlink()
    for end in range(len(text)):
        scan.put("scan_.info", text[:end])
        assert scan.report().certificate.verdict in (Verdict.UNDECIDED, Verdict.INCOMPLETE), text[:end]
    scan.put("scan_.info", b"TOMO_N= 10\n")
    assert problems(scan.report()).splitlines() == [
        "nothing says how many flats are expected",
        "nothing says how many darks are expected",
    ]


def test_conditions_have_unit_and_source(edf_folder):
    conditions = edf_folder().write().report().conditions
    assert (conditions["energy"].value, conditions["energy"].unit) == (20.5, "keV")
    assert conditions["energy"].source == "scan_.info:energy"
    assert conditions["scan_range"].value == 180.5
    assert conditions["n_projections"].value == 10
    assert conditions["current"].value == 190.5
    assert conditions["pixel_size"].unit == "um"


def test_an_unsettled_scan_is_never_complete(edf_folder):
    assert edf_folder().write().report(settled=False).certificate.verdict is Verdict.ACQUIRING


def test_a_return_image_does_not_fill_a_hole(edf_folder):
    scan = edf_folder().write(returns=1)
    (scan.path / "scan_0003.edf").unlink()
    report = scan.report()
    assert report.certificate.verdict is Verdict.INCOMPLETE
    assert "1 of 10 projections are missing: 3" in problems(report)
    assert report.certificate.found.projections == 9


@pytest.mark.parametrize(("cut", "word"), [(3072, "3072 bytes of 3120"), (3110, "3110 bytes of 3120"), (0, "empty")])
def test_short_files_are_incomplete(edf_folder, cut, word):
    scan = edf_folder().write()
    file = scan.path / "scan_0009.edf"
    file.write_bytes(file.read_bytes()[:cut])
    os.utime(file, (scan.clock, scan.clock))
    report = scan.report()
    assert report.certificate.verdict is Verdict.INCOMPLETE
    assert "scan_0009.edf" in problems(report)
    assert word in problems(report)


def test_a_long_file_is_a_warning(edf_folder):
    scan = edf_folder().write()
    stamp = (scan.path / "scan_0004.edf").stat().st_mtime
    (scan.path / "scan_0004.edf").write_bytes((scan.path / "scan_0004.edf").read_bytes() + b"tail")
    os.utime(scan.path / "scan_0004.edf", (stamp, stamp))
    report = scan.report()
    assert report.certificate.verdict is Verdict.COMPLETE
    assert "longer than header + Size" in problems(report)


def test_a_zero_body_is_undecided_and_named(edf_folder, header_bytes):
    scan = edf_folder().write()
    file = scan.path / "scan_0007.edf"
    stamp = file.stat().st_mtime
    file.write_bytes(header_bytes(7) + b"\0" * 48)
    os.utime(file, (stamp, stamp))
    report = scan.report()
    assert report.certificate.verdict is Verdict.UNDECIDED
    assert "scan_0007.edf: every data byte is zero" in problems(report)


@pytest.mark.parametrize("names", [["darkend0000.edf"], ["ref0000_0010.edf", "ref0001_0010.edf"], ["ref0001_0005.edf"]])
def test_announced_calibration_that_is_missing(edf_folder, names):
    scan = edf_folder().write()
    for name in names:
        (scan.path / name).unlink()
    assert scan.report().certificate.verdict is Verdict.INCOMPLETE


def test_without_info_the_xml_is_enough(edf_folder):
    assert edf_folder().write(info=False).report().certificate.verdict is Verdict.COMPLETE


def test_without_xml_the_info_is_enough(edf_folder):
    assert edf_folder().write(xml=False).report().certificate.verdict is Verdict.COMPLETE


def test_without_both_nobody_knows(edf_folder):
    report = edf_folder().write(info=False, xml=False).report()
    assert report.certificate.verdict is Verdict.UNDECIDED
    assert "no .info and no .xml" in problems(report)


def test_half_an_xml_is_not_complete(edf_folder):
    scan = edf_folder().write(xml=False)
    scan.xml(cut=80)
    assert scan.report().certificate.verdict is Verdict.INCOMPLETE
    assert scan.report(settled=False).certificate.verdict is Verdict.ACQUIRING


def test_reduced_flats_stand_for_singles_and_the_link_is_kept(edf_folder, image_bytes):
    scan = edf_folder(tomo_n=9, ref_on=5).write()
    before = scan.report()
    assert before.certificate.verdict is Verdict.COMPLETE
    for file in scan.path.glob("ref0*"):
        file.unlink()
    scan.put("refHST0000.edf", image_bytes(70))
    scan.put("refHST0005.edf", image_bytes(71))
    scan.put("refHST0009.edf", image_bytes(72))
    (scan.path / "refHST0010.edf").symlink_to("refHST0009.edf")
    report = scan.report()
    assert report.certificate.verdict is Verdict.COMPLETE, report.certificate
    assert report.certificate.found.flats == report.certificate.expected.flats == 6
    links = {f.state.path: f.state.link_target for f in report.files if f.state.link_target}
    assert links == {"refHST0010.edf": "refHST0009.edf"}
    assert report.identity == before.identity


def test_a_rounded_last_index_counts(edf_folder):
    scan = edf_folder(tomo_n=9, ref_on=5).write()
    for frame in range(2):
        (scan.path / f"ref{frame:04d}_0009.edf").rename(scan.path / f"ref{frame:04d}_0010.edf")
    assert scan.report().certificate.verdict is Verdict.COMPLETE


def test_swapped_flat_names_are_understood(edf_folder):
    scan = edf_folder().write()
    for angle in scan.flat_angles():
        for frame in range(2):
            os.rename(scan.path / f"ref{frame:04d}_{angle:04d}.edf", scan.path / f"t{frame}_{angle}")
    for angle in scan.flat_angles():
        for frame in range(2):
            os.rename(scan.path / f"t{frame}_{angle}", scan.path / f"ref{angle:04d}_{frame:04d}.edf")
    report = scan.report()
    assert report.certificate.verdict is Verdict.COMPLETE
    assert "angle first" in problems(report)
    flats = {f.path: f.frames[0] for f in family.load("edf").layout(report).files if f.path.startswith("ref")}
    assert flats["ref0005_0001.edf"].angle_deg == pytest.approx(90.25)


def test_undecidable_flat_names_assume_no_angle(edf_folder):
    scan = edf_folder(tomo_n=3, ref_n=4, ref_on=1, dark_n=0).write(returns=0, dark=False)
    report = scan.report()
    assert "no angle is assumed" in problems(report)
    flats = [f.frames[0] for f in family.load("edf").layout(report).files if f.path.startswith("ref")]
    assert len(flats) == 16
    assert all(f.angle_deg is None and f.kind is FrameKind.FLAT for f in flats)


def test_info_and_xml_disagree(edf_folder):
    scan = edf_folder().write(xml=False)
    scan.xml(tomo_n=12)  # all of 12 are there: the return images fill them
    assert "all of the larger number" in problems(scan.report())
    scan.xml(tomo_n=20)
    report = scan.report()
    assert report.certificate.verdict is Verdict.UNDECIDED
    assert ".xml 20" in problems(report)


@pytest.mark.parametrize("count", ["1e12", "-5", "0", "many"])
def test_an_absurd_count_is_no_plan(edf_folder, count):
    scan = edf_folder().write(info=False, xml=False)
    scan.info(TOMO_N=count)
    assert scan.report().certificate.verdict is Verdict.UNDECIDED


def test_a_float_count(edf_folder):
    scan = edf_folder().write(xml=False)
    scan.info(TOMO_N="10.0")
    assert scan.report().certificate.verdict is Verdict.COMPLETE


def test_a_rescan_over_more_old_files_without_an_end_mark_is_undecided(edf_folder):
    scan = edf_folder(tomo_n=60, ref_on=30).write(xml=False)
    scan.tomo_n = 40
    scan.clock += 100
    scan.write(xml=False)
    report = scan.report()
    assert report.certificate.verdict is Verdict.UNDECIDED
    assert "written over an earlier one" in problems(report)


def test_a_rescan_in_progress_is_undecided_though_every_file_is_there(edf_folder):
    scan = edf_folder(tomo_n=60, ref_on=30).write()
    for index in range(23):
        scan.projection(index)
    report = scan.report()
    assert report.certificate.verdict is Verdict.UNDECIDED
    assert "0-22" in problems(report)


def test_copies_in_random_order_and_a_late_first_frame_are_no_rescan(edf_folder):
    import random

    scan = edf_folder(tomo_n=60, ref_on=30).write()
    times = list(range(1_700_000_000, 1_700_000_063))
    random.Random(5).shuffle(times)
    for index, stamp in enumerate(times):
        os.utime(scan.path / f"scan_{index:04d}.edf", (stamp, stamp))
    assert scan.report().certificate.verdict is Verdict.COMPLETE
    for index in range(63):
        os.utime(scan.path / f"scan_{index:04d}.edf", (index, index))
    os.utime(scan.path / "scan_0000.edf", (64, 64))
    assert scan.report().certificate.verdict is Verdict.COMPLETE


def test_identity_ignores_side_files_and_follows_projections(edf_folder):
    scan = edf_folder().write()
    before = scan.report()
    scan.put("scan_.par", b"x")
    scan.put("notes.txt", b"x")
    scan.info(Comment="again")
    assert scan.report().identity == before.identity
    assert {"scan_.par", "notes.txt"} <= {f.state.path for f in scan.report().files if f.role is FileRole.SIDE}
    scan.projection(4)
    assert scan.report().identity != before.identity


def test_links_that_lead_out_are_left_out_and_said(edf_folder, tmp_path):
    scan = edf_folder().write()
    secret = tmp_path / "secret"
    secret.write_bytes((scan.path / "scan_0002.edf").read_bytes())
    (scan.path / "scan_0002.edf").unlink()
    (scan.path / "scan_0002.edf").symlink_to(secret)
    (scan.path / "notes").symlink_to(secret)
    (scan.path / "loop").symlink_to("loop")
    (scan.path / "dangling.txt").symlink_to("gone")
    report = scan.report()
    assert report.certificate.verdict is Verdict.INCOMPLETE
    assert "scan_0002.edf is a link to" in problems(report)
    assert not {"scan_0002.edf", "notes", "loop", "dangling.txt"} & {f.state.path for f in report.files}


def test_a_folder_replaced_by_a_link_is_refused(edf_folder, tmp_path):
    from tomovault.core.errors import UserError

    scan = edf_folder().write()
    scan.path.rename(tmp_path / "moved")
    scan.path.symlink_to(tmp_path / "moved")
    with pytest.raises(UserError, match="cannot be opened"):
        scan.report()


def test_a_fifo_in_place_of_a_projection_does_not_hang(edf_folder):
    scan = edf_folder().write()
    (scan.path / "scan_0004.edf").unlink()
    os.mkfifo(scan.path / "scan_0004.edf")
    assert scan.report().certificate.verdict is Verdict.INCOMPLETE


def test_an_unreadable_file_is_named(edf_folder, monkeypatch):
    scan = edf_folder().write()
    real_open = os.open

    def refuse(path, flags, *args, **kwargs):
        if path == "scan_0005.edf":
            raise PermissionError(13, "Permission denied")
        return real_open(path, flags, *args, **kwargs)

    monkeypatch.setattr(os, "open", refuse)
    report = scan.report()
    assert report.certificate.verdict is Verdict.UNREADABLE
    assert "scan_0005.edf cannot be read: Permission denied" in problems(report)


def test_two_prefixes_share_flats_and_darks(edf_folder):
    first = edf_folder("both", "a_").write()
    second = edf_folder("both", "a_1_")
    second.info()
    for index in range(10):
        second.projection(index)
    second.xml()
    for scan in (first, second):
        report = scan.report()
        assert report.certificate.verdict is Verdict.COMPLETE, report.certificate
        assert "darkend0000.edf" in {f.state.path for f in report.files}
    assert not any(f.state.path.startswith("a_1_") for f in first.report().files)


def test_a_folder_that_only_announces_nothing_is_no_scan(edf_folder):
    scan = edf_folder()
    scan.put("scan_.info", b"hello = world\n")
    assert list(family.load("edf").inspect(scan.candidate(), settled=True)) == []


def test_metadata_in_a_second_folder(edf_folder, tmp_path):
    from tomovault.core.scan import Candidate

    scan = edf_folder("scan_").write(info=False, xml=False)
    server = tmp_path / "server" / "scan_"
    server.mkdir(parents=True)
    info = scan.info()
    info.rename(server / "scan_.info")
    candidate = Candidate("edf", str(scan.path), "scan_", str(server))
    (report,) = family.load("edf").inspect(candidate, settled=True)
    assert report.certificate.verdict is Verdict.COMPLETE
    assert report.root == str(tmp_path)
    assert {"server/scan_/scan_.info", "scan_/scan_0000.edf"} <= {f.state.path for f in report.files}
    layout = family.load("edf").layout(report)
    assert {f.path for f in layout.files} >= {"scan_/scan_0000.edf"}


def test_layout_is_in_acquisition_order_and_reads_back(edf_folder):
    import numpy as np

    scan = edf_folder().write()
    report = scan.report()
    layout = family.load("edf").layout(report)
    segments = sorted(((f.frames[0], f.path) for f in layout.files), key=lambda pair: pair[0].order)
    assert [s.order for s, _ in segments] == list(range(20))
    names = [path for _, path in segments]
    assert names[:3] == ["ref0000_0000.edf", "ref0001_0000.edf", "scan_0000.edf"]
    assert names[-4:] == ["scan_0010.edf", "scan_0011.edf", "scan_0012.edf", "darkend0000.edf"]
    by_name = {path: s for s, path in segments}
    assert by_name["scan_0005.edf"].angle_deg == pytest.approx(90.25)
    assert by_name["scan_0011.edf"].kind is FrameKind.ALIGNMENT
    assert by_name["darkend0000.edf"].summed == 3
    assert by_name["darkend0000.edf"].kind is FrameKind.DARK
    frame = by_name["scan_0004.edf"]
    raw = (scan.path / "scan_0004.edf").read_bytes()[frame.offset : frame.offset + frame.length]
    assert np.frombuffer(raw, frame.dtype).reshape(frame.shape)[0, 0] == 5
    assert layout.nx["energy_kev"] == 20.5
    assert layout.nx["x_pixel_m"] == pytest.approx(7e-7)


def test_angles_of_a_moving_motor_are_used(edf_folder):
    scan = edf_folder()
    scan.info()
    for index in range(10):
        scan.projection(index, srot=index * 3.0)
    layout = family.load("edf").layout(scan.report())
    assert [f.frames[0].angle_deg for f in layout.files] == [i * 3.0 for i in range(10)]


def test_no_file_descriptor_is_left_open(edf_folder):
    scan = edf_folder().write()
    before = len(os.listdir("/proc/self/fd"))
    scan.report()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_finished_rescan_leaves_the_older_tail_aside(edf_folder):
    scan = edf_folder(tomo_n=60, ref_on=30).write()
    before = scan.report().identity
    scan.tomo_n, scan.ref_on = 40, 20
    scan.clock += 100
    report = scan.write().report()
    assert report.certificate.verdict is Verdict.COMPLETE, report.certificate
    assert "kept as side files" in problems(report)
    assert report.certificate.found == FrameCounts(40, 6, 3)
    roles = {f.state.path: f.role for f in report.files}
    assert roles["scan_0050.edf"] is FileRole.SIDE
    assert roles["ref0000_0030.edf"] is FileRole.SIDE
    assert roles["scan_0042.edf"] is FileRole.PROJECTION
    assert report.identity != before


@pytest.mark.parametrize("stale", ["scan_.xml", "darkend0000.edf", "ref0000_0020.edf"])
def test_an_unfinished_rescan_is_never_complete(edf_folder, stale):
    """What the earlier scan left must not end the later one."""
    scan = edf_folder(tomo_n=60, ref_on=20).write()
    old = (scan.path / stale).stat().st_mtime
    scan.tomo_n = 40
    scan.clock += 100
    scan.write()
    os.utime(scan.path / stale, (old, old))
    assert scan.report().certificate.verdict in (Verdict.UNDECIDED, Verdict.INCOMPLETE)


def test_an_announcement_without_a_frame_is_no_scan(edf_folder):
    scan = edf_folder()
    scan.info()
    assert list(family.load("edf").inspect(scan.candidate(), settled=True)) == []


def test_a_local_disk_has_its_texts_on_the_server(listing):
    seen = listing("/lbsram/data/id19/scan_", ["scan_0000.edf"])
    (found,) = family.load("edf").recognise(seen)
    assert found.metadata_folder == "/data/id19/scan_"


def test_images_that_were_compressed_one_by_one_are_told(edf_folder):
    scan = edf_folder()
    scan.info()
    for index in range(10):
        scan.put(f"scan_{index:04d}.edf.gz", b"\x1f\x8b")
    with pytest.raises(NoScan, match=r"10 of its images were compressed one by one \(scan_0000.edf.gz\)"):
        scan.report()
