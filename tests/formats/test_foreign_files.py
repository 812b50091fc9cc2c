"""Files that nobody meant for us, under names that we recognise: the caller must never fall with them."""

import shutil

import pytest

from tomovault.core.errors import UserError
from tomovault.core.scan import Candidate, Verdict
from tomovault.formats.limits import LimitedFormats, Limits

_ENDINGS = {".h5", ".hdf5", ".hdf", ".nx", ".nxs"}


def _inspect_as_bliss(path, folder):
    (folder / "scan0001").mkdir(parents=True)
    shutil.copyfile(path, folder / "x.h5")
    try:
        reports = LimitedFormats(Limits(wall_s=60.0)).inspect(Candidate("bliss", str(folder), "x.h5"), settled=True)
    except UserError as error:
        assert str(folder) in error.message  # noqa: PT017 - either outcome is right
        return
    assert all(r.certificate.verdict in (Verdict.UNREADABLE, Verdict.UNDECIDED) for r in reports)


def _hdf5_files(real_data):
    found = sorted(p for p in real_data.rglob("*") if p.suffix in _ENDINGS and "RAW_DATA" not in str(p))
    assert found
    return found


def test_a_sample_of_foreign_hdf5(real_data, tmp_path):
    for at, path in enumerate(_hdf5_files(real_data)[::20]):
        _inspect_as_bliss(path, tmp_path / f"x{at}")


@pytest.mark.soak
def test_all_foreign_hdf5(real_data, tmp_path):
    for at, path in enumerate(_hdf5_files(real_data)):
        _inspect_as_bliss(path, tmp_path / f"x{at}")


def test_damaged_images_under_edf_names(real_data, tmp_path):
    folder = tmp_path / "scan_"
    folder.mkdir()
    images = sorted(p for d in real_data.glob("bad-tiff-*") for p in d.rglob("*") if p.is_file())
    assert images
    for index, path in enumerate(images):
        shutil.copyfile(path, folder / f"scan_{index:04d}.edf")
    (folder / "scan_.info").write_text(f"TOMO_N= {len(images)}\nREF_N= 0\nDARK_N= 0\n")
    (report,) = LimitedFormats().inspect(Candidate("edf", str(folder), "scan_"), settled=True)
    assert report.certificate.verdict is Verdict.INCOMPLETE
    assert report.certificate.found.projections == 0
    assert LimitedFormats().layout(report).files == ()
