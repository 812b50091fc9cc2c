"""Files of Zeiss X-ray microscopes."""

from __future__ import annotations

import shutil
import struct

import numpy as np
import olefile
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tomovault.core.errors import NoScan, UserError
from tomovault.core.layout import FrameKind
from tomovault.core.scan import FileRole, Verdict
from tomovault.formats import family
from tomovault.testing.zeiss_bytes import zeiss_bytes
from tomovault.watch.listing import list_folder

TXRM = family.load("txrm")


@pytest.fixture
def tomography(real_data, tmp_path):
    folder = tmp_path / "zeiss"
    folder.mkdir()
    return shutil.copyfile(real_data / "zeiss" / "txrm_test_chip_tomo.txrm", folder / "chip.txrm")


def reports(path, *, settled=True, inspect=TXRM.inspect):
    found = [c for c in TXRM.recognise(list_folder(str(path.parent))) if c.key == path.name]
    return inspect(found[0], settled=settled)


def stream(path, name):
    with olefile.OleFileIO(path) as ole:
        return ole.openstream(name).read()


def change(path, name, value):
    """Put another whole number into a stream of four bytes."""
    with olefile.OleFileIO(path, write_mode=True) as ole:
        entry = ole.direntries[ole._find(name)]
        ole.minifat  # noqa: B018 - loads the small streams
        ole.loadminifat()
        ole.ministream = ole._open(ole.root.isectStart, ole.root.size, force_FAT=True)
        place = entry.isectStart * ole.mini_sector_size
        sector = ole.root.isectStart
        for _ in range(place // ole.sector_size):
            sector = ole.fat[sector]
        offset = (sector + 1) * ole.sector_size + place % ole.sector_size
    data = bytearray(path.read_bytes())
    struct.pack_into("<i", data, offset, value)
    path.write_bytes(data)


def test_the_real_tomography(tomography, round_trip):
    (report,) = reports(tomography)
    assert report.certificate.verdict is Verdict.COMPLETE
    assert report.certificate.expected.projections == report.certificate.found.projections == 7
    values = {name: c.value for name, c in report.conditions.items()}
    assert values["energy"] == pytest.approx(9.2, abs=0.001)
    assert values["exposure"] == 5.0
    assert values["pixel_size"] == pytest.approx(0.1558, abs=0.0001)
    assert values["scan_range"] == pytest.approx(90.0, abs=0.01)
    (layout,) = TXRM.layout(report).files
    data = tomography.read_bytes()
    angles = np.frombuffer(stream(tomography, "ImageInfo/Angles"), "<f4")
    assert len(layout.frames) == 7
    for segment in layout.frames:
        image = stream(tomography, f"ImageData1/Image{segment.order + 1}")
        assert data[segment.offset : segment.offset + segment.length] == image
        assert segment.angle_deg == pytest.approx(float(angles[segment.order]))
        assert (segment.shape, segment.dtype, segment.kind) == ((256, 256), "<u2", FrameKind.PROJECTION)
    round_trip(report)


def test_the_real_single_image_is_no_scan(real_data):
    with pytest.raises(NoScan, match="one image of 512 x 512"):
        reports(real_data / "zeiss" / "test_chip00.xrm", inspect=family.LimitedFormats().inspect)


def test_fewer_images_than_planned_are_an_incomplete_scan(tomography):
    change(tomography, "ImageInfo/NoOfImages", 9)
    (report,) = reports(tomography)
    assert report.certificate.verdict is Verdict.INCOMPLETE
    assert "2 of 9 images are missing or cut: 8-9" in report.certificate.problems
    change(tomography, "ImageInfo/NoOfImages", 7)
    change(tomography, "ImageInfo/ImagesTaken", 6)
    (report,) = reports(tomography)
    assert report.certificate.verdict is Verdict.INCOMPLETE


def test_what_is_being_written_is_not_complete(tomography):
    (report,) = reports(tomography, settled=False)
    assert report.certificate.verdict is Verdict.ACQUIRING


def test_a_cut_file_is_never_complete(tomography, round_trip):
    data = tomography.read_bytes()
    for length in (8, 512, 100_000, 700_000, len(data) - 512, len(data) - 70_000):
        tomography.write_bytes(data[:length])
        try:
            (report,) = reports(tomography)
        except UserError:
            continue
        assert report.certificate.verdict is not Verdict.COMPLETE
        round_trip(report, stem=f"scan{length}")


def test_files_of_the_same_name_go_with_it(tomography, round_trip):
    (tomography.parent / "chip.log").write_text("x")
    (tomography.parent / "other.log").write_text("x")
    (tomography.parent / "chip.txm").write_text("a volume")
    (report,) = reports(tomography)
    assert {f.state.path: f.role for f in report.files} == {"chip.txrm": FileRole.MASTER, "chip.log": FileRole.SIDE}
    round_trip(report)


def test_what_is_no_compound_file_is_said(tmp_path):
    (tmp_path / "s").mkdir()
    path = tmp_path / "s" / "x.txrm"
    path.write_bytes(b"text")
    with pytest.raises(UserError, match="no OLE compound file"):
        reports(path)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_mutations_of_the_real_file_end_in_an_answer(tomography, data):
    """Only its tables are changed, which are at its beginning and in its last 160 kB."""
    original = tomography.read_bytes()
    try:
        raw = bytearray(original)
        for _ in range(data.draw(st.integers(1, 6))):
            at = data.draw(st.one_of(st.integers(0, 2048), st.integers(len(raw) - 160_000, len(raw) - 1)))
            piece = data.draw(st.binary(min_size=1, max_size=8))
            raw[at : at + len(piece)] = piece
        tomography.write_bytes(raw)
        try:
            found = reports(tomography)
        except UserError:
            return
        for report in found:
            for file in TXRM.layout(report).files:
                assert all(s.offset + s.length <= file.size for s in file.frames)
    finally:
        tomography.write_bytes(original)


@pytest.mark.parametrize(
    ("entry", "value", "cut"),
    [
        (15, 3, "1-2"),
        (15, 20, "2-3"),
        (16, 16, "2"),
        (17, 0xFFFFFFFF, "2"),
        (12, 0xFFFFFFFE, "2"),
        (12, 10**6, "2"),
    ],
    ids=["into image 1", "into image 3", "in a circle", "last one free", "ends early", "outside"],
)
def test_an_image_whose_sectors_are_not_its_own_is_not_there(tmp_path, entry, value, cut):
    data = bytearray(zeiss_bytes(np.arange(3 * 48 * 48, dtype="<u2").reshape(3, 48, 48)))
    table = len(data) - 512
    struct.pack_into("<I", data, table + 4 * entry, value)
    path = tmp_path / "chip.txrm"
    path.write_bytes(data)
    (report,) = reports(path)
    assert report.certificate.verdict is Verdict.INCOMPLETE
    assert report.certificate.problems[0].endswith(f"of 3 images are missing or cut: {cut}")


def test_a_sector_number_beyond_all_bounds_is_damage(tmp_path):
    data = bytearray(zeiss_bytes(np.zeros((3, 48, 48), "<u2")))
    struct.pack_into("<H", data, 30, 60)  # the size of a sector as a power of two
    path = tmp_path / "chip.txrm"
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"chip\.txrm: a damaged OLE compound file"):
        reports(path)
