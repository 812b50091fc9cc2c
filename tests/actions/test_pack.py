import errno
import os
from types import SimpleNamespace

import pytest

from tomovault.actions import pack
from tomovault.actions.pack import Pack, Twin, is_same
from tomovault.core.errors import IntegrityError, SourceChanged
from tomovault.core.record import Made, Outcome, Recognised, Stored
from tomovault.core.replica import Form
from tomovault.core.scan import Candidate
from tomovault.core.wire import to_plain
from tomovault.formats.family import load
from tomovault.package.reader import PackageReader
from tomovault.testing.edf_scan import write_edf_scan


@pytest.fixture
def series(tmp_path, bench):
    """A series as it was written, with the order to pack it."""
    write_edf_scan(str(tmp_path), "one_", shape=(16, 16), projections=6, flats=1, darks=1, fast=True)
    bench.formats = load("edf")
    candidate = Candidate("edf", str(tmp_path / "one_"), "one_")
    (report,) = bench.formats.inspect(candidate, settled=True)
    vault = tmp_path / "vault"
    vault.mkdir()
    order = {
        "candidate": to_plain(candidate),
        "entry": report.entry,
        "identity": report.identity,
        "scan": {"name": "one_"},
        "area": "inhouse",
        "folder": str(vault),
        "stem": "one_",
        "domain": "vault-disk",
        "files_domain": "area-disk",
        "part_bytes": 1 << 30,
        "floor_bytes": 0,
        "threads": 1,
    }
    return SimpleNamespace(root=tmp_path / "one_", vault=vault, order=order, candidate=candidate)


@pytest.fixture
def twin(series, bench, tmp_path):
    """The series is known already by this manifest."""
    made = Pack().perform(series.order, bench).records[0]
    path = tmp_path / "manifest.json"
    path.write_text(made.manifest, "utf-8")
    return Twin("s0", made.digest, str(path))


def test_the_package_the_files_and_the_product_are_told_with_one_digest(series, bench):
    made, package, files = Pack().perform(series.order, bench).records
    assert isinstance(made, Made)
    assert made.digest == package.digest == files.digest == files.sha256
    assert (package.form, package.domain, files.form, files.domain) == (
        Form.PACKAGE,
        "vault-disk",
        Form.FILES,
        "area-disk",
    )
    assert files.location == str(series.root)
    assert made.files == len(os.listdir(series.root))
    assert package.bytes == sum(os.path.getsize(file.location) for file in package.files)
    assert sorted(f.path for f in PackageReader.open(package.location).files()) == sorted(os.listdir(series.root))
    assert "pack.verify" in bench.names


def test_what_could_not_be_read_of_the_files_is_told(series, bench, monkeypatch):
    def refuse(_handle, _name):
        raise PermissionError(errno.EACCES, "Permission denied")

    assert Pack().perform(series.order, bench).error == ""
    monkeypatch.setattr(os, "listxattr", lambda _handle: ["security.acl"])
    monkeypatch.setattr(os, "getxattr", refuse)
    result = Pack().perform(series.order, bench)
    assert result.outcome is Outcome.SUCCEEDED
    assert result.error.startswith("the attribute security.acl could not be read")


def test_a_scan_that_is_not_the_certified_one_is_not_packed(series, bench):
    with pytest.raises(SourceChanged, match="not the one that was certified"):
        Pack().perform({**series.order, "identity": "another"}, bench)
    assert list(series.vault.iterdir()) == []


def test_a_package_that_does_not_re_read_is_damaged(series, bench):
    def decay(name):
        if name == "pack.verify":
            (package,) = series.vault.glob("*.tomo.h5")
            with package.open("r+b") as file:
                file.seek(package.stat().st_size // 2)
                file.write(b"rotten")

    bench.checkpoint = decay
    with pytest.raises(IntegrityError, match="does not re-read: "):
        Pack().perform(series.order, bench)


def test_a_known_scan_at_a_new_place_is_recognised_and_nothing_is_written(series, bench, twin, dropped):
    before = sorted(os.listdir(series.vault))
    (known,) = Pack().perform({**series.order, "twins": [to_plain(twin)]}, bench).records
    assert isinstance(known, Recognised)
    assert (known.same_as, known.digest, known.root) == ("s0", twin.digest, str(series.root))
    assert sorted(os.listdir(series.vault)) == before
    assert {os.stat(series.root / name).st_ino for name in os.listdir(series.root)} <= dropped


@pytest.mark.parametrize("how", ["a byte", "a file more", "a file less", "no manifest"])
def test_where_anything_differs_it_is_another_scan(series, bench, twin, how):
    name = series.root / "one_0003.edf"
    if how == "a byte":
        with name.open("r+b") as file:
            file.seek(-1, os.SEEK_END)
            last = file.read(1)
            file.seek(-1, os.SEEK_END)
            file.write(bytes([last[0] ^ 1]))
    elif how == "a file more":
        (series.root / "one_extra.edf").write_bytes(name.read_bytes())
    elif how == "a file less":
        (series.root / "one_.xml").unlink()
    else:
        os.unlink(twin.manifest)
    (report,) = bench.formats.inspect(series.candidate, settled=True)
    assert not is_same(report, twin, bench.throttle("inhouse"), bench.progress)
    if how != "no manifest":
        return
    records = Pack().perform({**series.order, "twins": [to_plain(twin)]}, bench).records
    assert any(isinstance(r, Stored) for r in records)
    assert pack.PLUGIN is Pack
