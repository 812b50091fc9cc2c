"""What mutants brought to light, each as a case of its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import olefile
import pytest

from tomovault.core.errors import UserError
from tomovault.core.scan import Verdict
from tomovault.formats import family, zeiss_file
from tomovault.formats.spec_text import parse_xml
from tomovault.testing.tiff_scan import VARIANTS, TiffScan
from tomovault.testing.zeiss_bytes import zeiss_bytes


@pytest.fixture
def als(tmp_path, seeds):
    (seed,) = seeds("als832")
    seed.tree.write(str(tmp_path / "bone"))
    return tmp_path / "bone" / "bone.h5"


def inspect(path, look, kind="als832"):
    (candidate,) = look(kind, str(path.parent))
    return family.load(kind).inspect(candidate, settled=True)


@pytest.mark.parametrize("name", ["bone_0000_0002.tif", "bonebak_0000_0003.tif", "bonedrk_0000_0004.tif"])
def test_what_has_the_name_of_an_image_and_is_none_is_missing(als, look, name):
    with h5py.File(als, "r+") as file:
        del file["bone"][name]
        file["bone"][name] = np.zeros((2, 2, 2, 2))
    (report,) = inspect(als, look)
    assert report.certificate.verdict is Verdict.INCOMPLETE
    assert f"1 have the name of an image and are none, the first is {name}" in report.certificate.problems


def test_a_file_that_was_damaged_after_it_was_inspected_has_no_layout(tmp_path, seeds, look):
    seed = seeds("nxtomo")[1]
    folder = tmp_path / "bone"
    seed.tree.write(str(folder))
    (report,) = inspect(folder / "any", look, "nxtomo")
    (path,) = (Path(p) for p in folder.rglob("*.nx"))
    data = path.read_bytes()
    path.write_bytes(data.replace(b"entry0000", b"entry\xff\xff00").replace(b"HEAP", b"HEAQ"))
    with pytest.raises(UserError, match="its content cannot be read") as caught:
        family.load("nxtomo").layout(report)
    assert path.name in caught.value.message


@pytest.fixture
def edf(tmp_path, seeds):
    (seed,) = seeds("edf")
    seed.tree.write(str(tmp_path / "seed"))
    return next(p.parent for p in tmp_path.rglob("bone_0003.edf"))


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (b"DataType", b"DataTyqe", "no plain image"),
        (b"Dim_2", b"Dim_3", "no plain image"),
        (b"UnsignedShort", b"SignedShort  ", "6 x 5 of <i2"),
        (b"LowByteFirst ", b"HighByteFirst", "6 x 5 of >u2"),
    ],
)
def test_one_projection_whose_header_tells_of_another_image_leaves_a_doubt(edf, look, old, new, told):
    """Its file has the right length, and its image could not be read."""
    path = edf / "bone_0003.edf"
    path.write_bytes(path.read_bytes().replace(old, new, 1))
    (report,) = inspect(edf / "any", look, "edf")
    assert report.certificate.verdict is Verdict.UNDECIDED
    assert [p for p in report.certificate.problems if f"bone_0003.edf: its header tells of {told}" in p]


def test_a_link_to_another_image_is_no_projection_of_its_own(edf, look):
    (edf / "bone_0003.edf").unlink()
    (edf / "bone_0003.edf").symlink_to("bone_0007.edf")
    (report,) = inspect(edf / "any", look, "edf")
    assert report.certificate.verdict is Verdict.UNDECIDED
    assert "bone_0003.edf is a link to bone_0007.edf, no image of its own" in report.certificate.problems


@pytest.mark.parametrize("most_are_plain", [True, False])
def test_projections_of_which_some_are_no_plain_images_leave_a_doubt(tmp_path, look, most_are_plain):
    """Damage turned one into what a reader passes over, or an image of another program has its place."""
    ways = ("skyscan", "compressed") if most_are_plain else ("compressed", "skyscan")
    for way in ways:
        switches = replace(VARIANTS[way][0], log="skyscan", flats=0, darks=0)
        TiffScan(str(tmp_path / way), switches, shape=(4, 6)).write()
    names = sorted(path.name for path in (tmp_path / ways[0]).glob("*.tif"))
    (tmp_path / ways[1] / names[5]).replace(tmp_path / ways[0] / names[5])
    (report,) = inspect(tmp_path / ways[0] / "any", look, "tiff_stack")
    assert report.certificate.verdict is Verdict.UNDECIDED
    assert "the projections are not alike" in " ".join(report.certificate.problems)


def test_an_xml_text_in_an_encoding_that_nobody_knows_is_read_as_latin_1():
    found = parse_xml(b'<?xml version="1.0" encoding="ISOOO-1"?><r><acquisition><tomo_N>3</tomo_N></acquisition></r>')
    assert found.whole
    assert found.values == {"tomo_n": "3"}


def test_a_stream_that_claims_to_be_longer_than_its_file_is_not_followed():
    """Its sectors may go round in a circle for as long as it claims."""
    raw = zeiss_bytes(np.ones((2, 64, 64), np.uint16))
    with olefile.OleFileIO(raw) as ole:
        reader = zeiss_file._Reader(ole, len(raw))
        followed = [reader._runs("ImageData1/Image1", length) for length in (8192, len(raw), 2**32 - 1)]
        assert followed == [[(0, 16)], None, None]
        ole.fat = None
        assert reader._runs("ImageData1/Image1", 2**32 - 1) is None
