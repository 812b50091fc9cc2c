"""Images that are not stored as a stack: flats and darks averaged to one image, and what cannot be used at all."""

from __future__ import annotations

from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401 - registers the codec that packages use
import numpy as np
import pytest

from tomovault.core.layout import FrameKind
from tomovault.core.scan import FrameCounts, Verdict
from tomovault.formats import family
from tomovault.formats.frames import CodedFrames
from tomovault.testing.one_file_scan import write_one_file_scan

_WHITE, _DARK = np.full((6, 8), 900, np.uint16), np.full((6, 8), 90, np.uint16)
_SMALL = {"shape": (6, 8), "projections": 8, "flats": 2, "darks": 2}


@pytest.fixture
def averaged(tmp_path):
    """Writes a Data Exchange file whose flats and darks are what is given, by default one image of their mean."""

    def write(white=_WHITE, dark=_DARK, **options):
        written = write_one_file_scan(str(tmp_path), "bone", variant="dataexchange-unannounced", **_SMALL)
        path = Path(written.scans[0].folder, written.scans[0].key)
        with h5py.File(path, "a") as file:
            for name, images in (("data_white", white), ("data_dark", dark)):
                del file[f"exchange/{name}"]
                if images is not None:
                    file.create_dataset(f"exchange/{name}", data=images, **options)
        return path

    return write


def test_flats_and_darks_of_two_dimensions_are_one_image_each(averaged, only, round_trip):
    report = only(averaged())
    assert report.certificate.verdict is Verdict.COMPLETE, report.certificate.problems
    assert report.certificate.found == FrameCounts(8, 1, 1)
    assert (report.conditions["n_flats"].value, report.conditions["n_darks"].value) == (1, 1)
    (file,) = family.load("dataexchange").layout(report).files
    kinds = [frame.kind for frame in sorted(file.frames, key=lambda f: f.order)]
    assert kinds == [FrameKind.DARK, FrameKind.FLAT, *[FrameKind.PROJECTION] * 8]
    with h5py.File(round_trip(report)) as made:
        detector = made["/entry/instrument/detector"]
        keys = detector["image_key"][()]
        assert np.unique(detector["data"][()][keys == 1]).tolist() == [900]
        assert np.unique(detector["data"][()][keys == 2]).tolist() == [90]


@pytest.mark.parametrize("chunks", [(6, 8), (3, 8)])
def test_one_image_that_is_compressed_is_read_by_the_library(averaged, only, round_trip, chunks):
    image = np.arange(48, dtype=np.uint16).reshape(6, 8)
    path = averaged(image, image + 1, chunks=chunks, compression="gzip")
    report = only(path)
    assert report.certificate.found == FrameCounts(8, 1, 1)
    (file,) = family.load("dataexchange").layout(report).files
    reader = CodedFrames()
    try:
        flat = next(frame for frame in file.coded if frame.kind is FrameKind.FLAT)
        np.testing.assert_array_equal(reader.read(str(path), flat, (0, 6)), image)
        np.testing.assert_array_equal(reader.read(str(path), flat, (2, 5)), image[2:5])
    finally:
        reader.close()
    round_trip(report)


def test_one_image_behind_a_link_is_found(averaged, only, round_trip):
    path = averaged()
    with h5py.File(path.with_name("white.h5"), "w") as file:
        file["mean"] = np.full((6, 8), 901, np.uint16)
    with h5py.File(path, "a") as file:
        del file["exchange/data_white"]
        file["exchange/data_white"] = h5py.ExternalLink("white.h5", "/mean")
    report = only(path)
    assert report.certificate.verdict is Verdict.COMPLETE, report.certificate.problems
    assert report.certificate.found == FrameCounts(8, 1, 1)
    assert [file.state.path for file in report.files] == ["bone.h5", "white.h5"]
    round_trip(report)


@pytest.mark.parametrize(
    ("white", "words"),
    [
        (np.ones((2, 2, 6, 8), np.uint16), "exchange/data_white is there, and is no images: a dataset of uint16 and"),
        (np.ones(5, np.uint16), "shape (5,)"),
        (np.ones((4, 5), np.uint16), "the images of exchange/data_white are (4, 5), those of exchange/data (6, 8)"),
        (np.ones((2, 4, 5), np.uint16), "the images of exchange/data_white are (4, 5), those of exchange/data (6, 8)"),
        (h5py.Empty("u2"), "exchange/data_white is there, and is no images"),
        (np.full((6, 8), b"x"), "/exchange/data_white is no stack of images"),
    ],
)
def test_flats_that_are_there_and_cannot_be_used_are_named(averaged, only, round_trip, white, words):
    report = only(averaged(white))
    assert report.certificate.verdict in (Verdict.UNDECIDED, Verdict.INCOMPLETE)
    assert words in " ".join(report.certificate.problems)
    assert report.conditions.get("n_flats") is None or report.conditions["n_flats"].value > 0
    round_trip(report)


def test_a_link_that_leads_nowhere_is_named(averaged, only):
    path = averaged(None)
    with h5py.File(path, "a") as file:
        file["exchange/data_white"] = h5py.SoftLink("/exchange/gone")
    certificate = only(path).certificate
    assert certificate.verdict is Verdict.UNDECIDED
    assert "exchange/data_white is there, and is no images: a link" in " ".join(certificate.problems)


def test_flats_that_are_not_there_are_no_doubt(averaged, only):
    certificate = only(averaged(None, None)).certificate
    assert certificate.verdict is Verdict.COMPLETE, certificate.problems
    assert certificate.found == FrameCounts(8, 0, 0)


def test_an_entry_without_a_stack_is_named_beside_one_that_has_it(tmp_path, looks):
    (truth,) = write_one_file_scan(str(tmp_path), "bone", variant="nxtomo-at-once", **_SMALL).scans
    path = Path(truth.folder, truth.key)
    with h5py.File(path, "a") as file:
        file.copy("entry0000", "entry0001")
        del file["entry0001/instrument/detector/data"]
        file["entry0001/instrument/detector/data"] = np.ones((6, 8), np.uint16)
    reports, _ = looks(path)
    assert [report.certificate.verdict for report in reports] == [Verdict.COMPLETE]
    assert "entry0001 has no stack of images" in reports[0].certificate.problems
