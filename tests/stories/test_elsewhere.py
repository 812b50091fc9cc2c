"""Scans that are restored into a watched folder, copied and moved: the same scan at a new place."""

from __future__ import annotations

import json
import os
import shutil
import time

import pytest

MARK = ".tomovault-restored.json"


@pytest.fixture
def site(new_site):
    """A site of two areas with one archived scan."""
    site = new_site("edf", "other")
    site.write("edf", "bone_", seed=1)
    site.live()
    return site


def _at(page, folder):
    (found,) = [r for r in page["replicas"] if r["form"] == "files" and r["location"] == str(folder)]
    return found


def test_what_is_restored_into_an_area_is_no_new_scan(site, digests, replicas):
    root = site.areas["edf"] / "bone_"
    before = digests(root)
    target = site.areas["other"] / "for me" / "bone_"
    site.ask("restore", "bone_", "--to", str(target), "--wait")
    part = site.areas["edf"] / "part"
    site.ask("restore", "bone_", "--to", str(part), "--frames", "0:3", "--wait")
    assert {k: v for k, v in digests(target).items() if k != MARK} == before
    marked = json.loads((target / MARK).read_text())["restored"]
    assert [(m["whole"], len(m["files"])) for m in marked] == [(True, len(before))]
    site.live()
    (scan,) = site.scans().values()
    assert scan["path"] == str(root)
    page = site.show("bone_")
    assert _at(page, target)["state"] == "present"
    assert [r["location"] for r in replicas(page, form="files")] == [str(root), str(target)]
    assert [a for a, _ in site.actions()].count("pack") == 1
    assert sorted((r["path"], r["whole"]) for r in page["restored"]) == sorted(
        [(str(target), True), (str(part), False)]
    )
    assert site.ask("verify", "bone_")["bad"] == []
    assert _at(site.show("bone_"), target)["state"] == "verified"

    shutil.copy2(root / "bone_0000.edf", target / "bone_0008.edf")
    (target / "bone_.xml").write_text((target / "bone_.xml").read_text() + "\n")
    site.live()
    assert len(site.ask("scan", "list")["scans"]) == 2, "what is added or changed there is a scan like any other"
    page = site.show(scan["id"])
    assert [r["state"] for r in page["replicas"] if r["location"] == str(target)] == ["gone"]
    assert _at(page, root)["state"] == "verified"
    assert {a for a, s in site.actions() if s == "failed"} == set()


def test_a_forged_mark_hides_no_acquisition(site):
    target = site.areas["other"] / "bone_"
    site.ask("restore", "bone_", "--to", str(target), "--wait")
    mark = json.loads((target / MARK).read_text())
    root = site.write("edf", "wood_", area="other", seed=5)
    mark["restored"][0]["files"] = [
        {
            "path": p.name,
            "size": p.stat().st_size,
            "mtime_ns": p.stat().st_mtime_ns,
            "sha256": "0" * 64,
            "link_target": None,
        }
        for p in root.iterdir()
    ]
    (root / MARK).write_text(json.dumps(mark))
    stone = site.write("edf", "stone_", area="other", seed=6)
    (stone / MARK).write_text("{" * 5000)
    wool = site.write("edf", "wool_", area="other", seed=7)
    os.symlink("/etc/passwd", wool / MARK)
    site.live()
    scans = site.scans()
    assert sorted(scans) == ["bone_", "stone_", "wood_", "wool_"]
    assert {s["stages"]["archived"] for s in scans.values()} == {"done"}
    for name in ("stone_", "wool_"):
        assert any(MARK in problem for problem in site.show(name)["certificate"]["problems"])


def test_a_scan_that_is_moved_stays_the_same_scan(site, digests, replicas):
    root = site.areas["edf"] / "bone_"
    site.write("edf", "wood_", seed=2)
    old = site.show("bone_")
    before = digests(root)
    target = site.areas["other"] / "inhouse" / "bone_"
    target.parent.mkdir()
    shutil.move(root, target)
    process = site.start()
    try:
        end = time.monotonic() + 120
        while site.show(old["id"])["path"] != str(target):
            assert time.monotonic() < end, site.told()[-3000:]
            time.sleep(0.3)
    finally:
        process.terminate()
        assert process.wait(60) == 0
    site.live()
    page = site.show(old["id"])
    assert (page["path"], page["area"]) == (str(target), "other")
    assert page["stages"]["archived"] == "done"
    assert _at(page, target)["state"] == "verified"
    assert [r["state"] for r in page["replicas"] if r["location"] == str(root)] == ["gone"]
    named = [s for s in site.ask("scan", "list", "--all")["scans"] if s["name"] == "bone_"]
    assert [s["superseded_by"] for s in named if s["id"] != old["id"]] == [old["id"]]
    assert [s["id"] for s in site.ask("scan", "list")["scans"] if s["name"] == "bone_"] == [old["id"]]
    assert site.show("bone_")["id"] == old["id"], "its name is that of one scan still"
    assert len(replicas(page, form="package", tier="other")) == 0, "it was read once and not packed again"
    assert not site.area_status("edf")["problems"]
    assert site.ask("verify", "--all")["bad"] == []
    assert digests(target) == before
    assert "scan moved" in {e["op"] for e in site.ask("audit", "show")["entries"]}


def test_a_copy_is_one_more_replica(site, digests, tmp_path):
    root = site.areas["edf"] / "bone_"
    before = digests(root)
    target = site.areas["edf"] / "copies" / "bone_"
    shutil.copytree(root, target)
    site.live()
    known = [s for s in site.ask("scan", "list")["scans"] if not s["superseded_by"]]
    assert [s["path"] for s in known] == [str(root)]
    page = site.show(known[0]["id"])
    assert _at(page, target)["state"] == "verified"
    assert _at(page, root)["state"] == "verified"
    site.pruned(known[0]["id"])
    site.live()
    assert digests(target) == before, "no rule removes a copy that a person made"
    assert [p.name for p in root.iterdir()] == ["TOMOVAULT-README.txt"]
    site.ask("restore", known[0]["id"], "--to", str(tmp_path / "out"), "--from", "tape", "--wait")
    assert digests(tmp_path / "out") == before


def test_parts_of_a_dataset_are_no_scans(new_site, replicas):
    """A master with camera files: whole, some files, a file made of the frames, and a copy by hand."""
    site = new_site("bliss", "other")
    site.write("bliss", "bone", seed=1)
    site.live()
    (scan,) = site.scans().values()
    other = site.areas["other"]
    for name, *wish in (("again",), ("part", "--files", "*.h5"), ("flats", "--flats"), ("frames", "--frames", "0:3")):
        site.ask("restore", scan["id"], "--to", str(other / name), *wish, "--wait")
    assert list((other / "flats").glob("*.nx"))
    shutil.copytree(scan["path"], other / "copy" / "bone_0001")
    site.live()
    listed = site.ask("scan", "list")["scans"]
    assert [s["id"] for s in listed if not s["superseded_by"]] == [scan["id"]]
    page = site.show(scan["id"])
    states = {r["location"]: r["state"] for r in replicas(page, form="files")}
    copies = {str(other / "again"): "present", str(other / "copy" / "bone_0001"): "verified"}
    assert states == {scan["path"]: "verified"} | copies
    told = site.say("scan", "show", scan["id"]).out
    assert "restored" in told
    assert "a part of the original" in told


POINTS = ("restore.begin", "restore.mark", "restore.file:1", "restore.file:5", "restore.synced", "restore.done")


def test_a_restore_killed_at_any_point_makes_no_scan(site, digests, replicas, tmp_path):
    """The daemon dies with it each time, and the next one looks at what is there before it goes on."""
    root = site.areas["edf"] / "bone_"
    target = site.areas["other"] / "back" / "bone_"
    copy = site.areas["other"] / "copy" / "bone_"
    site.change(retries={"attempts": 20, "after": "0.2s"})
    site.ask("restore", "bone_", "--to", str(target))
    shutil.copytree(root, copy)
    once = tmp_path / "once"
    once.mkdir()
    points = {*POINTS, "pack.recognised", "job.written.restore", "job.written.pack"}
    killing = {
        "TOMOVAULT_KILL_AT": ",".join(sorted(points)),
        "TOMOVAULT_KILL_ONCE": str(once),
        "TOMOVAULT_KILL_DAEMON": "1",
    }
    for _ in range(len(points) + 2):
        if site.start("--until-idle", env=site.environment | killing).wait(120) == 0:
            break
        site.wait_for_its_place()
    assert {p.name for p in once.iterdir()} == points
    site.live()
    listed = site.ask("scan", "list", "--all")["scans"]
    (scan,) = [s for s in listed if not s["superseded_by"]]
    assert {s["path"] for s in listed} == {str(root), str(copy)}
    page = site.show(scan["id"])
    states = {r["location"]: r["state"] for r in replicas(page, form="files")}
    assert states == {str(root): "verified", str(target): "present", str(copy): "verified"}
    assert {k: v for k, v in digests(target).items() if k != MARK} == digests(root)
    assert [p.name for p in target.iterdir() if p.name.startswith(".") and p.name != MARK] == []
    assert len(replicas(page, form="package", tier="edf")) == 1
    assert site.ask("verify", "--all")["bad"] == []
