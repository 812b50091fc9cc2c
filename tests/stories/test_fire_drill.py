"""Archived scans are restored to prove that they can be."""

import os
import subprocess
import sys
import time
from pathlib import Path

import h5py
import pytest

from tomovault.package.volume import CONFIGURATION

_POINTS = (
    "drill.begun",
    "drill.reserved",
    "recall.staged",
    "drill.fetched",
    "restore.file",
    "drill.restored",
    "drill.cleared",
    "drill.recorded",
)


@pytest.fixture(scope="module")
def site(new_site):
    """A scan with its volume and two copies on tape."""
    site = new_site("edf", without=("preview",))
    site.write("edf", "bone_", shape=(24, 32), projections=24)
    site.live()
    assert site.show("bone_")["stages"]["reconstructed"] == "done"
    return site


def left(site):
    return [name for _, folders, _ in os.walk(site.base) for name in folders if name.startswith(".drill.")]


def test_a_scan_comes_back_with_everything(site, digests):
    before = digests(site.areas["edf"])
    for _ in range(2):
        page = site.ask("drill", "--now")
        assert (page["outcome"], page["problem"], page["slice"]) == ("passed", "", "same")
        assert page["files"] == page["originals"] > 20
        assert page["name"] == "bone_"
        assert page["cartridge"]
    assert len({row["replica"] for row in site.ask("drill")["drills"]}) == 2
    assert site.ask("drill")["pass_rate"] == 1.0
    assert digests(site.areas["edf"]) == before
    assert left(site) == []
    assert "2 of 2 fire drills passed" in site.say("status").out
    assert "2 of 2 drills passed (100 %)" in site.say("drill").out


def test_where_a_parameter_was_lost_the_slice_is_another(site):
    """The archived copy is as good as it was: what fails is the proof that its volume can be made again."""
    volume = next(r for r in site.show("bone_")["replicas"] if r["product"] == "volume")
    with h5py.File(volume["location"], "r+") as file:
        text = file[f"{CONFIGURATION}/json"][()].decode()
        assert '"centre": ' in text
        head, _, rest = text.partition('"centre": ')
        _, _, tail = rest.partition(",")
        del file[f"{CONFIGURATION}/json"]
        file[f"{CONFIGURATION}/json"] = f'{head}"centre": 3.25,{tail}'
    try:
        page = site.ask("drill", "--now", "--scan", "bone_", code=4)
        assert (page["outcome"], page["slice"]) == ("not_reproduced", "differs")
        assert "of its volume, made again, differs by" in page["problem"]
        assert all(r["state"] == "verified" for r in site.show("bone_")["replicas"] if r["tier"] == "tape")
        assert "fire drill of bone_" in site.say("status").out
    finally:
        with h5py.File(volume["location"], "r+") as file:
            del file[f"{CONFIGURATION}/json"]
            file[f"{CONFIGURATION}/json"] = text


def test_a_file_that_rotted_on_the_disk_is_found_by_its_archived_copy(site):
    victim = sorted(site.areas["edf"].rglob("*.edf"))[3]
    state, raw = victim.stat(), bytearray(victim.read_bytes())
    raw[-1] ^= 1
    victim.write_bytes(raw)
    os.utime(victim, ns=(state.st_atime_ns, state.st_mtime_ns))
    page = site.ask("drill", "--now", code=4)
    assert page["outcome"] == "not_reproduced"
    assert str(victim) in page["problem"]
    raw[-1] ^= 1
    victim.write_bytes(raw)
    os.utime(victim, ns=(state.st_atime_ns, state.st_mtime_ns))


@pytest.mark.parametrize("point", _POINTS)
def test_nothing_is_left_of_one_that_was_killed(site, point):
    command = [sys.executable, "-m", "tomovault", "--site", str(site.folder), "drill", "--now"]
    killed = {**site.environment, "TOMOVAULT_KILL_AT": point}
    done = subprocess.run(command, env=killed, check=False, capture_output=True)
    assert done.returncode == -9, f"{point} was never passed\n{done.stderr.decode()}"
    assert site.ask("drill", "--now")["outcome"] == "passed"
    assert left(site) == []
    assert not [row for row in site.ask("drill", "--all")["drills"] if row["outcome"] == "under_way"]
    assert site.ask("catalogue", "check")["ok"]


def test_the_next_daemon_clears_away_what_a_killed_one_left(site):
    command = [sys.executable, "-m", "tomovault", "--site", str(site.folder), "drill", "--now"]
    killed = {**site.environment, "TOMOVAULT_KILL_AT": "drill.fetched"}
    subprocess.run(command, env=killed, check=False, capture_output=True)
    assert len(left(site)) == 1
    daemon = site.start()
    try:
        until = time.monotonic() + 60
        while left(site):
            assert time.monotonic() < until, site.told()[-2000:]
            time.sleep(0.1)
    finally:
        daemon.terminate()
        daemon.wait(60)


def test_a_copy_that_rotted_is_suspect_and_made_again(site):
    (cartridge,) = [c for c in site.ask("tape", "list")["cartridges"] if c["barcode"].startswith("A")]
    path = Path(cartridge["path"])
    raw = bytearray(path.read_bytes())
    raw[raw.rindex(b"packages/0001/") + 4000] ^= 1
    path.write_bytes(raw)
    drills = len(site.ask("drill", "--all")["drills"])
    said = [site.say("drill", "--now", "--json") for _ in range(drills)]  # the one that was drilled less has its turn
    bad = [one.page for one in said if one.code == 4]
    assert len(bad) == 1, "a copy that is suspect is drawn no more"
    assert bad[0]["outcome"] == "bad"
    assert bad[0]["cartridge"] == cartridge["barcode"]
    assert left(site) == []
    suspect = [r["location"] for r in site.show("bone_")["replicas"] if r["state"] == "suspect"]
    assert suspect == [bad[0]["location"]]
    site.live()
    assert site.show("bone_")["stages"]["archived"] == "done"
