"""A daemon whose account may not do everything: what it may not is told, and the rest goes on."""

import os
import shutil
import subprocess
import sys

import pytest

pytestmark = pytest.mark.sqlite_only("an account without rights cannot reach the tests' server")

_SOMEBODY = 65534
_TAKEN = "-dac_override,-dac_read_search,-fowner"

#: Root without the capabilities that let it pass by the rights of files; all that it owns is its own still.
_PLAIN = ("setpriv", f"--bounding-set={_TAKEN}", f"--inh-caps={_TAKEN}")


@pytest.fixture(scope="module", autouse=True)
def _plain_account():
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("only root with setpriv (util-linux) can start a daemon that has fewer rights than the test")
    tried = subprocess.run([*_PLAIN, sys.executable, "-c", ""], check=False, capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"rights cannot be taken away here: {tried.stderr.strip()}")


def _give_away(*folders):
    """Folders and all in them are somebody else's; everybody may read them."""
    for folder in folders:
        for path in [folder, *folder.rglob("*")]:
            os.chown(path, _SOMEBODY, _SOMEBODY, follow_symlinks=False)


def test_what_it_may_not_read_is_told(new_site, digests):
    site = new_site("edf")
    roots = {name: site.write("edf", name, seed=n) for n, name in enumerate(("open_", "file_", "folder_"))}
    before = digests(site.areas["edf"])
    (roots["file_"] / "file_0003.edf").chmod(0)
    roots["folder_"].chmod(0)
    try:
        site.live(failed_ok=True, before=_PLAIN)
        scans = site.scans()
        assert scans["open_"]["stages"]["archived"] == "done"
        page = site.show("file_")
        told = [*page["certificate"]["problems"], *(j["error"] for j in page["jobs"])]
        assert any("ermission" in text or "cannot be read" in text for text in told), told
        assert page["stages"]["packed"] != "done"
        assert "folder_" not in scans or scans["folder_"]["verdict"] != "complete"
        status = site.area_status("edf")
        assert "folder_" in status["trouble"] + str(status["problems"])
    finally:
        (roots["file_"] / "file_0003.edf").chmod(0o644)
        roots["folder_"].chmod(0o755)
    assert digests(site.areas["edf"]) == before
    site.live(failed_ok=True, before=_PLAIN)
    scans = site.scans()
    for name in ("file_", "folder_"):
        assert scans[name]["stages"]["archived"] == "done", "once it may be read it goes its way"


def test_where_it_may_not_rename_nothing_goes(new_site, digests):
    site = new_site("edf")
    root = site.write("edf", "bone_")
    _give_away(root)
    before = digests(root)
    site.live(before=_PLAIN)
    assert site.scans()["bone_"]["stages"]["archived"] == "done"
    site.pruned("bone_")
    site.live(failed_ok=True, before=_PLAIN)
    assert digests(root) == before
    status = site.ask("status")
    told = status["failed"] + status["areas"][0]["alarms"] + [p for p in site.show("bone_")["permits"] if p["left"]]
    assert told, "and it says so"


def test_an_area_that_it_may_only_read_is_archive_only(site_at, digests, tmp_path):
    """No marker can be written there: it is known by its file system, archived, and never pruned."""
    area = tmp_path / "edf"
    area.mkdir()
    _give_away(area)
    init = [*_PLAIN, sys.executable, "-m", "tomovault", "init"]
    marked = subprocess.run(
        [*init, str(tmp_path / "other"), "--area", f"edf={area}", "--simulated"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert marked.returncode in (2, 3), "a simulated site writes its mark"
    subprocess.run([*init, str(tmp_path / "site"), "--area", f"edf={area}"], check=True, stdout=subprocess.DEVNULL)
    assert not (area / ".tomovault").exists()
    site = site_at(tmp_path, "edf")
    site.change(watch={"poll": "0.1s", "quiet": "0.4s"})
    root = site.write("edf", "bone_")
    _give_away(root)
    before = digests(area)
    site.live(failed_ok=True, before=_PLAIN)
    assert site.scans()["bone_"]["stages"]["archived"] == "done"
    site.pruned("bone_")
    site.live(failed_ok=True, before=_PLAIN)
    assert digests(area) == before
    assert site.show("bone_")["permits"] == []
