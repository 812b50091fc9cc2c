"""Files that nobody meant for us, under names that we recognise: the caller must never fall with them."""

import json
import shutil
import subprocess
import sys

import pytest

from tomovault.core.errors import NoScan, UserError
from tomovault.core.scan import Candidate, Verdict
from tomovault.formats.limits import LimitedFormats, Limits, child_environment

_ENDINGS = {".h5", ".hdf5", ".hdf", ".nx", ".nxs"}
_ONE_FILE = ("als832", "dataexchange", "nexus", "nxtomo", "volume_hdf5")
#: Answers request after request, in the limits of one inspection but for the time, which is of all of them.
_PROGRAM = """
import sys
from tomovault.formats.child import answer_text, limit_self
limit_self(2 << 30, 600)
for line in sys.stdin:
    print(answer_text(line), flush=True)
"""


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


def _hostile_files(real_data):
    found = [p for pattern in ("bad-hdf5-*", "hdf5-*") for d in real_data.glob(pattern) for p in d.rglob("*")]
    return sorted(p for p in found if p.is_file())


def test_a_sample_of_foreign_hdf5(real_data, tmp_path):
    for at, path in enumerate(_hdf5_files(real_data)[::20]):
        _inspect_as_bliss(path, tmp_path / f"x{at}")


@pytest.mark.soak
def test_all_foreign_hdf5(real_data, tmp_path):
    for at, path in enumerate(_hdf5_files(real_data)):
        _inspect_as_bliss(path, tmp_path / f"x{at}")


@pytest.mark.parametrize("kind", _ONE_FILE)
def test_every_hostile_file_gets_an_answer_from_every_format(real_data, kind):
    """One child takes them all, so that memory that a file costs would add up to its limit."""
    files = _hostile_files(real_data)
    assert len(files) > 100
    requests = [
        {"op": "inspect", "settled": True, "candidate": {"format": kind, "folder": str(p.parent), "key": p.name}}
        for p in files
    ]
    child = subprocess.run(
        [sys.executable, "-P", "-B", "-c", _PROGRAM],
        input="".join(json.dumps(request) + "\n" for request in requests),
        env=child_environment(),
        cwd="/",
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    answers = [json.loads(line) for line in child.stdout.splitlines()]
    assert len(answers) == len(files)
    for path, answer in zip(files, answers, strict=True):
        assert answer.get("no_scan") or answer.get("error"), path
        assert len(json.dumps(answer)) < 4096, path


@pytest.mark.parametrize("kind", _ONE_FILE)
def test_hostile_files_one_by_one_in_the_limited_child(real_data, kind):
    family = LimitedFormats(Limits(wall_s=60.0))
    for path in _hostile_files(real_data)[_ONE_FILE.index(kind) :: 30]:
        with pytest.raises(NoScan):
            family.inspect(Candidate(kind, str(path.parent), path.name), settled=True)


@pytest.mark.soak
@pytest.mark.parametrize("kind", _ONE_FILE)
def test_all_hostile_files_in_the_limited_child(real_data, kind):
    family = LimitedFormats(Limits(wall_s=60.0))
    for path in _hostile_files(real_data):
        with pytest.raises(UserError) as caught:
            family.inspect(Candidate(kind, str(path.parent), path.name), settled=True)
        assert caught.value.message


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
