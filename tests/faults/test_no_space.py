"""Disks that are full: in the vault, the area, the catalogue, the cartridges and where data is restored to."""

import os
import sqlite3
import subprocess

import pytest

from tomovault.tiers.place import MARKER


def _fill(folder, leave):
    """The file system of a folder has only so many bytes left."""
    path = folder / ".ballast"
    free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
    with open(path, "wb") as file:
        file.write(b"\1" * max(0, free - leave))
    return path


def _at_once(site):
    """A person made room, and does not want to wait until it is noticed."""
    for job in site.ask("status")["waiting"]:
        site.ask("retry", job["id"])


def test_the_vault_is_full(new_site, mount, digests, tmp_path):
    vault = mount(tmp_path / "edf.vault", "4m")
    site = new_site("edf", base=tmp_path)
    root = site.write("edf", "bone_")
    before = digests(root)
    ballast = _fill(vault, 30_000)
    site.live()
    assert site.scans()["bone_"]["verdict"] == "complete"
    (waiting,) = site.ask("status")["waiting"]
    assert (waiting["action"], waiting["attempts"]) == ("pack", 0)
    assert "space" in waiting["error"] or "free" in waiting["error"]
    assert waiting["error"] in site.say("status").out
    assert "space" in str(site.show("bone_")["jobs"]) or "free" in str(site.show("bone_")["jobs"])
    left = [p for p in vault.rglob("*") if p.is_file() and p not in (ballast, vault / MARKER)]
    assert left == [], "nothing half written stays"
    assert digests(root) == before
    ballast.unlink()
    _at_once(site)
    site.live()
    assert site.scans()["bone_"]["stages"]["archived"] == "done"


def test_the_cartridges_are_full(new_site, mount, digests, tmp_path):
    tape = tmp_path / "site" / "tape"
    mount(tape, "100k")
    site = new_site("edf", base=tmp_path)
    root = site.write("edf", "bone_")
    before = digests(root)
    site.live()
    page = site.show("bone_")
    assert page["stages"]["packed"] == "done"
    assert page["stages"]["archived"] == "waiting"
    (waiting,) = site.ask("status")["waiting"]
    assert (waiting["action"], waiting["attempts"]) == ("archive", 0)
    assert waiting["error"]
    site.pruned("bone_")
    site.live(failed_ok=True)
    assert digests(root) == before, "with less than two copies nothing goes"
    assert site.show("bone_")["permits"] == []
    assert site.area_status("edf")["alarms"]
    subprocess.run(["mount", "-o", "remount,size=10m", str(tape)], check=True)
    _at_once(site)
    site.live()
    assert site.scans()["bone_"]["stages"]["pruned"] == "done"
    site.ask("restore", "bone_", "--to", str(tmp_path / "back"), "--from", "tape", "--wait")
    assert digests(tmp_path / "back") == before


def test_the_area_is_full(new_site, mount, digests, tmp_path):
    """Making room needs a little room: without it everything stays, and is told."""
    area = mount(tmp_path / "edf", "2m")
    site = new_site("edf", base=tmp_path)
    root = site.write("edf", "bone_")
    before = digests(root)
    site.live()
    site.pruned("bone_")
    ballast = _fill(area, 0)
    site.live(failed_ok=True)
    here = digests(root)
    quarantined = digests(area / ".tomovault")
    assert set(before.values()) <= set(here.values()) | set(quarantined.values()), "not one file is lost"
    status = site.ask("status")
    told = status["failed"] + status["areas"][0]["alarms"]
    done = site.scans()["bone_"]["stages"]["pruned"] == "done"
    assert told or done
    ballast.unlink()
    site.ask("verify", "bone_")
    site.live(failed_ok=True)
    site.ask("restore", "bone_", "--to", str(tmp_path / "back"), "--wait")
    assert digests(tmp_path / "back") == before


@pytest.mark.sqlite_only("there the catalogue is on the disk of the server")
def test_the_disk_of_the_catalogue_is_full(new_site, mount, digests, tmp_path):
    mount(tmp_path / "site", "8m")
    site = new_site("edf", base=tmp_path)
    root = site.write("edf", "bone_")
    before = digests(root)
    ballast = _fill(site.folder, 0)
    daemon = site.start("--until-idle")
    try:
        daemon.wait(20)
    except subprocess.TimeoutExpired:
        daemon.terminate()
        daemon.wait(30)
    assert "a defect of ours" not in site.told()
    assert daemon.returncode in (0, 75)
    assert digests(root) == before
    said = site.say("status")
    assert said.code in (0, 75), said
    ballast.unlink()
    with sqlite3.connect(f"file:{site.folder}/catalogue.db?mode=ro", uri=True) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    db.close()
    site.live()
    assert site.scans()["bone_"]["stages"]["archived"] == "done"
    site.ask("catalogue", "check")
    site.ask("audit", "verify")


def test_no_room_where_it_is_restored_to(new_site, mount, digests, tmp_path):
    small = mount(tmp_path / "small", "40k")
    site = new_site("edf", base=tmp_path)
    root = site.write("edf", "bone_")
    site.live()
    said = site.say("restore", "bone_", "--to", str(small / "back"), "--wait")
    assert said.code == 75
    assert "space" in said.err or "free" in said.err
    assert all(d in digests(root).values() for d in digests(small).values()), "what is there is whole"
    site.ask("restore", "bone_", "--to", str(tmp_path / "back"), "--wait")
    assert digests(tmp_path / "back") == digests(root)


@pytest.mark.parametrize("size", ["20k", "200k"])
def test_no_room_for_a_recall(new_site, mount, digests, tmp_path, size):
    """What does not fit on disk is not half recalled; with room it comes."""
    site = new_site("edf", base=tmp_path)
    root = site.write("edf", "bone_")
    before = digests(root)
    site.live()
    site.pruned("bone_")
    site.live()
    vault = tmp_path / "edf.vault"
    marker = (vault / MARKER).read_bytes()
    mount(vault, size)
    (vault / MARKER).parent.mkdir()
    (vault / MARKER).write_bytes(marker)
    said = site.say("restore", "bone_", "--to", str(tmp_path / "back"), "--wait")
    if size == "20k":
        assert said.code == 75, said
        assert [p for p in vault.rglob("*") if p.is_file()] == [vault / MARKER]
    else:
        assert said.code == 0, said
        assert digests(tmp_path / "back") == before
