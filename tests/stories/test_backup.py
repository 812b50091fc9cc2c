"""The catalogue is lost, and comes back from the archive as it was the night before."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tomovault.tiers import restorer

_POINTS = (
    "backup.made",
    "backup.recorded",
    "backup.begun",
    "archive.labelled",
    "archive.manifest",
    "archive.member",
    "archive.trailer",
    "archive.synced",
    "deliver.placed",
    "deliver.verified",
    "backup.archived",
)


@pytest.fixture(scope="module")
def site(new_site):
    site = new_site("edf")
    if not (site.folder / "catalogue.db").exists():
        # How a lost catalogue of a server is replaced is the server's; tests/vault makes and reads dumps of one.
        pytest.skip("a catalogue in a file is taken away here")
    site.write("edf", "bone_")
    site.live()
    return site


def _lose(site, *names):
    for name in names:
        path = site.folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def test_a_lost_catalogue_is_got_back_and_knows_what_it_knew(site):
    made = site.ask("catalogue", "backup")
    before = site.show("bone_")
    manifests = sorted(path.name for path in (site.folder / "manifests").rglob("*.json"))
    _lose(site, "catalogue.db", "catalogue.db-wal", "catalogue.db-shm", "manifests", "backups", "run")
    found = site.base / "found.db"
    page = site.ask("catalogue", "fetch", str(found))
    assert not (site.folder / "catalogue.db").exists(), "nothing is made where it stood"
    assert (page["sha256"], page["tier"]) == (made["sha256"], "tape")
    found.rename(site.folder / "catalogue.db")
    page = site.ask("catalogue", "rebuild", "--from", "tape")
    assert (page["scans"], page["damaged"], page["backups"]) == (0, [], 1)
    assert site.show("bone_") == before, "with its verdicts, its pins and when each copy was re-read"
    assert sorted(path.name for path in (site.folder / "manifests").rglob("*.json")) == manifests
    assert site.ask("catalogue", "check")["ok"]
    (backup,) = site.ask("catalogue", "backups")["backups"]
    assert backup["sha256"] == made["sha256"]
    assert backup["copies"][0]["verified_at"] is None, "not re-read since"
    assert site.ask("tape", "scrub")["bad"] == []
    (backup,) = site.ask("catalogue", "backups")["backups"]
    assert backup["copies"][0]["verified_at"] is not None


def test_without_any_of_us_the_restorer_on_the_cartridge_gives_it_out(site, tmp_path):
    made = site.ask("catalogue", "backup")
    barcode, file = made["placed"]["tape"].split("#")
    (cartridge,) = [c for c in site.ask("tape", "list")["cartridges"] if c["barcode"] == barcode]
    alone = tmp_path / "restore.py"
    shutil.copy(restorer.__file__, alone)
    told = subprocess.run(
        [sys.executable, "-I", str(alone), cartridge["path"], "--extract", file, str(tmp_path / "out")],
        check=True,
        capture_output=True,
        text=True,
    )
    assert "DAMAGED" not in told.stdout
    (out,) = (tmp_path / "out").rglob("*.db")
    assert out.read_bytes() == Path(made["file"]).read_bytes()
    (words,) = (tmp_path / "out" / "manifests").iterdir()
    assert "put it where `catalogue:` of tomovault.yaml says" in words.read_text()


def test_a_day_before_something_went_wrong(site, tmp_path):
    """The newest from before a day, and none from before there was any."""
    site.ask("catalogue", "backup")
    rows = site.ask("catalogue", "backups")["backups"]
    page = site.ask("catalogue", "fetch", str(tmp_path / "then.db"), "--before", rows[-1]["made_at"])
    assert page["sha256"] == rows[-1]["sha256"]
    assert "no backup" in site.refuse(
        "catalogue", "fetch", str(tmp_path / "never.db"), "--before", "2020-01-01", code=2
    )
    assert "is there already" in site.refuse("catalogue", "fetch", str(tmp_path / "then.db"), code=3)


def test_a_bad_copy_is_passed_over_for_an_older_one(site, tmp_path):
    older, newer = site.ask("catalogue", "backup"), site.ask("catalogue", "backup")
    barcode, _ = newer["placed"]["tape"].split("#")
    (cartridge,) = [c for c in site.ask("tape", "list")["cartridges"] if c["barcode"] == barcode]
    with Path(cartridge["path"]).open("r+b") as stream:
        stream.seek(-300_000, 2)
        byte = stream.read(1)
        stream.seek(-1, 1)
        stream.write(bytes([byte[0] ^ 1]))
    said = site.say("catalogue", "fetch", str(tmp_path / "good.db"))
    assert said.code == 0, said.err
    assert newer["placed"]["tape"] in said.err
    assert (tmp_path / "good.db").read_bytes() == Path(older["file"]).read_bytes()


@pytest.mark.parametrize("point", _POINTS)
def test_whenever_it_is_cut_short_the_next_go_ends_it(new_site, tmp_path_factory, point):
    site = new_site("edf", base=tmp_path_factory.mktemp("cut"))
    command = [sys.executable, "-m", "tomovault", "--site", str(site.folder), "catalogue", "backup", "--nightly"]
    if not (site.folder / "catalogue.db").exists():
        # The points are those of one code; only the copy itself is pg_dump's, which may not be here.
        pytest.skip("what a server needs for it may not be here")
    done = subprocess.run(
        command, env={**site.environment, "TOMOVAULT_KILL_AT": point}, check=False, capture_output=True
    )
    assert done.returncode == -9, f"{point} was never passed"
    assert subprocess.run(command, env=site.environment, check=False, capture_output=True).returncode == 0
    rows = site.ask("catalogue", "backups")["backups"]
    assert len(rows) == 1
    assert rows[0]["on_disk"]
    (copy,) = rows[0]["copies"]
    assert copy["verified_at"]
    assert not copy["problem"]
    on_tape = [b for c in site.ask("tape", "list")["cartridges"] for b in c["bundles"]]
    assert [row["state"] for row in on_tape] == ["verified"]
    page = site.ask("tape", "scrub")
    assert page["bad"] == []
    assert sum(c["bundles"] for c in page["cartridges"]) == 1, "it was written once"
    assert not [name for name in os.listdir(site.folder / "backups") if name.endswith(".tmp")]
    assert site.ask("catalogue", "check")["ok"]
