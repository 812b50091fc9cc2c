"""Files that were made to break readers, all of them in one area beside a good scan: no file is left unreported."""

from __future__ import annotations

import json
import os
import shutil
import threading
import unicodedata
from pathlib import Path

import pytest

#: Folders of files made to break readers.
_FOLDERS = ("bad-hdf5-cve", "bad-tiff-fuzz", "bad-tiff-pillow")
#: What nobody asks a format about, whose names say nothing of a scan.
_OTHERS = (".md", ".bin")
_LONGEST_REASON = 4096
#: Of the daemon and of each process that it waited for, resident.
_MOST_MEMORY = 1 << 30
#: Names that upset terminals, JSON, databases and lists of lines.
_ODD_NAMES = (
    b"two\nlines.h5",
    b"\x1b[2J\x1b]0;owned\x07.h5",
    b"latin-\xe9\xff.h5",
    b"\xed\xa0\x80.h5",
    "\u202eright to left\u2028.h5".encode(),
    b"--help.h5",
    b"%s'\"\\;$(id).h5",
    b"x" * 252 + b".h5",
)


def _fill(area: Path, data: Path, every: int) -> set[str]:
    """Copies every so many of them under names that formats ask about; returns the paths of all."""
    for name in _FOLDERS:
        ending = ".h5" if "hdf5" in name else ".tif"
        found = sorted(p for p in (data / name).rglob("*") if p.is_file() and p.suffix not in _OTHERS)
        for path in found[:: every if ending == ".h5" else 1]:
            target = area / path.relative_to(data)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target if target.suffix in (".h5", ".tif", ".tiff") else f"{target}{ending}")
    odd = os.path.join(os.fsencode(area), b"odd \x1b[31m\nfolder \xff")
    os.mkdir(odd)
    bad = sorted((data / "bad-hdf5-cve").glob("*.h5"))
    for number, name in enumerate(_ODD_NAMES):
        shutil.copyfile(os.fsencode(bad[number]), os.path.join(odd, name))
    for number, path in enumerate(bad[3::every]):
        master = area / "RAW_DATA" / "bad" / f"bad_{number:04d}"
        (master / "scan0001").mkdir(parents=True)
        shutil.copyfile(path, master / f"{master.name}.h5")
    return {os.path.join(at, name) for at, _, files in os.walk(area) for name in files if ".tomovault" not in at}


@pytest.fixture(scope="module", params=[16, pytest.param(1, marks=[pytest.mark.soak, pytest.mark.timeout(2400)])])
def site(request, new_site, data_folder):
    """A site whose daemon was idle in the end; how it ended, and what it and its children used at most."""
    site = new_site("edf")
    site.hostile = _fill(site.areas["edf"], data_folder, request.param)
    site.write("edf", "bone_")
    site.age()
    daemon = site.start("--until-idle")
    patience = threading.Timer(max(250.0, 2000 / request.param), daemon.kill)
    patience.start()
    _, status, site.usage = os.wait4(daemon.pid, 0)
    patience.cancel()
    daemon.returncode = os.waitstatus_to_exitcode(status)
    assert daemon.returncode == 0, site.told()[-3000:]
    return site


def test_the_good_scan_beside_them_is_archived_and_nothing_else_is_taken_for_one(site):
    scans = site.scans()
    assert {name for name, scan in scans.items() if scan["verdict"] == "complete"} == {"bone_"}
    assert scans["bone_"]["stages"]["archived"] == "done"


def test_no_file_is_left_unreported(site):
    """Each is told with a reason of every format that was asked; images of one folder are told of together. A BLISS
    master that cannot be read is a scan that cannot be read.
    """
    told = {row["path"]: row["reasons"] for row in site.ask("area", "unclaimed")["unclaimed"]}
    assert all(reasons and all(reasons.values()) for reasons in told.values())
    masters = {scan["path"]: scan for scan in site.scans().values() if scan["format"] == "bliss"}
    assert {scan["verdict"] for scan in masters.values()} <= {"unreadable", "undecided", "incomplete"}
    assert len(site.hostile) > 40
    for path in site.hostile:
        name = os.fsencode(path).decode("utf-8", "backslashreplace")
        folder = os.path.dirname(name)
        if name not in told and folder not in masters:
            assert name.endswith((".tif", ".tiff")), name
            assert f"{folder}/*.tif" in told, name


def test_what_is_told_and_used_has_bounds(site):
    reasons = [r for row in site.ask("area", "unclaimed")["unclaimed"] for r in row["reasons"].values()]
    problems = [row["problem"] for row in site.area_status("edf")["problems"]]
    assert max(map(len, [*reasons, *problems])) < _LONGEST_REASON
    assert site.usage.ru_maxrss << 10 < _MOST_MEMORY


@pytest.mark.parametrize("command", [("area", "unclaimed"), ("status",), ("scan", "list")])
def test_no_name_reaches_a_terminal_as_it_is(site, command):
    said = site.say(*command)
    assert said.code == 0
    assert not [c for c in said.out if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl") and c != "\n"]
    assert not [line for line in said.out.splitlines() if line.startswith(("lines.h5", "folder "))]
    assert json.dumps(site.ask(*command))


def test_the_daemon_tells_of_each_on_one_line(site):
    said = site.told()
    assert not [c for c in said if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl") and c != "\n"]
    assert not [line for line in said.split("\n") if line.startswith(("lines.h5", "folder "))]
