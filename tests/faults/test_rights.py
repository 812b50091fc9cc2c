"""A daemon with an account of its own, in folders where it may not do everything."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

_NOBODY = 65534
_AS_NOBODY = {"user": _NOBODY, "group": _NOBODY, "extra_groups": []}


@pytest.fixture
def base():
    """A folder that every account can reach."""
    if os.geteuid() != 0:
        pytest.skip("only root can start a daemon as another account")
    tried = subprocess.run([sys.executable, "-c", "import tomovault"], check=False, capture_output=True, **_AS_NOBODY)
    if tried.returncode:
        pytest.skip("an account without rights cannot read this Python's folders")
    folder = Path(tempfile.mkdtemp(prefix="tomovault-rights-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def _give_to_nobody(*folders):
    for folder in folders:
        for path in [folder, *folder.rglob("*")]:
            os.chown(path, _NOBODY, _NOBODY, follow_symlinks=False)


def test_what_it_may_not_read_is_told_and_the_rest_goes_on(new_site, base, digests):
    site = new_site("edf", base=base)
    for number, name in enumerate(("open_", "file_", "folder_")):
        site.write("edf", name, seed=number)
    vault = base / "edf.vault"
    vault.mkdir(exist_ok=True)
    _give_to_nobody(base / "site", vault, base / "edf" / ".tomovault")
    (base / "edf" / "file_" / "file_0003.edf").chmod(0)
    (base / "edf" / "folder_").chmod(0)
    before = digests(base / "edf")
    site.live(failed_ok=True, **_AS_NOBODY)
    scans = site.scans()
    assert scans["open_"]["stages"]["archived"] == "done"
    if scans["file_"]["verdict"] == "complete":
        failed = [j for j in site.ask("status")["failed"] if j["scan"] == scans["file_"]["id"]]
        assert failed, "its packing failed and says so"
        assert "ermission" in failed[0]["error"]
        assert scans["file_"]["stages"]["packed"] != "done"
    else:
        assert "ermission" in str(site.show("file_")["certificate"]["problems"])
    assert "folder_" not in scans or scans["folder_"]["verdict"] != "complete"
    told = site.area_status("edf")
    assert "folder_" in told["trouble"] + str(told["problems"])
    assert digests(base / "edf") == before

    site.change(areas={"edf": {"prune": "on", "quota": "1kB", "high": "50%", "low": "20%"}})
    _give_to_nobody(base / "site")
    site.live(failed_ok=True, **_AS_NOBODY)
    assert digests(base / "edf" / "open_") == {
        p.removeprefix("open_/"): d for p, d in before.items() if p.startswith("open_/")
    }, "it may not rename there, so nothing goes"
    status = site.ask("status")
    assert status["failed"] or status["areas"][0]["alarms"], "and it says so"


def test_an_area_it_may_only_read_is_archive_only(site_at, base, digests):
    """No marker can be written there: it is known by its file system, archived, and never pruned."""
    area = base / "edf"
    area.mkdir()
    (base / "edf.vault").mkdir()
    (base / "site").mkdir()
    _give_to_nobody(base / "site", base / "edf.vault")
    command = [sys.executable, "-m", "tomovault", "init", str(base / "site"), "--area", f"edf={area}"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, **_AS_NOBODY)
    assert not (area / ".tomovault").exists()
    simulated = subprocess.run(
        [*command[:4], str(base / "other"), *command[5:], "--simulated"], check=False, capture_output=True, **_AS_NOBODY
    )
    assert simulated.returncode in (2, 3)
    site = site_at(base, "edf")
    site.change(watch={"poll": "0.1s", "quiet": "0.4s"})
    site.write("edf", "bone_")
    before = digests(area)
    _give_to_nobody(base / "site")
    site.live(failed_ok=True, **_AS_NOBODY)
    assert site.scans()["bone_"]["stages"]["archived"] == "done"
    site.pruned("bone_")
    _give_to_nobody(base / "site")
    site.live(failed_ok=True, **_AS_NOBODY)
    assert digests(area) == before
    assert site.show("bone_")["permits"] == []
    checks = {c["name"]: c for c in site.say("doctor", "--json").page["checks"]}
    assert checks["area edf"]["ok"]
