"""Scans that are written again, that grow, that nobody can judge, and nothing that is done twice."""

import base64
import hashlib
import os
import threading
from datetime import UTC, datetime
from pathlib import Path


def test_a_rescan_in_place_is_a_new_scan(new_site, digests, replicas, tmp_path):
    """The package of the first measurement is left alone, and comes back."""
    site = new_site("edf")
    first = site.write("edf", "bone_", seed=1)
    before = digests(first)
    site.live()
    old = site.show("bone_")
    (package,) = replicas(old, form="package", tier="edf")
    stored = hashlib.sha256(Path(package["location"]).read_bytes()).hexdigest()
    assert site.write("edf", "bone_", seed=2, started_at=datetime(2026, 3, 2, tzinfo=UTC)) == first
    after = digests(first)
    assert after != before
    site.live()
    scans = site.scans()
    assert len(scans) == 2
    (new,) = [s for s in scans.values() if s["id"] != old["id"]]
    assert site.show(old["id"])["superseded_by"] == new["id"]
    assert new["stages"]["archived"] == "done"
    assert hashlib.sha256(Path(package["location"]).read_bytes()).hexdigest() == stored
    site.ask("restore", old["id"], "--to", str(tmp_path / "old"), "--wait")
    site.ask("restore", new["id"], "--to", str(tmp_path / "new"), "--wait")
    assert digests(tmp_path / "old") == before
    assert digests(tmp_path / "new") == after
    assert site.ask("verify", "--all")["bad"] == []


class TestGrowingMaster:
    """One master, two scans: the second makes the master grow after the first was packed."""

    def test_it_is_a_new_scan(self, new_site, digests, replicas, tmp_path):
        site = new_site("bliss", settings={"areas": {"bliss": {"prune": "off"}}})
        root, gone_on, writer = _write_first_half(site)
        site.live()
        first_files = digests(root)
        (first,) = site.scans().values()
        gone_on.set()
        writer.join()
        site.live()
        scans = sorted(site.scans().values(), key=lambda s: s["acquired_at"])
        assert [s["entry"] for s in scans] == ["1.1", "6.1"]
        assert scans[0]["id"] == first["id"], "the first is the same scan still"
        assert scans[1]["stages"]["archived"] == "done"
        site.ask("restore", scans[0]["id"], "--to", str(tmp_path / "first"), "--wait")
        assert digests(tmp_path / "first") == first_files, "with the master as it was then"
        site.ask("restore", scans[1]["id"], "--to", str(tmp_path / "second"), "--wait")
        second = digests(tmp_path / "second")
        assert second["bone_0001.h5"] == digests(root)["bone_0001.h5"] != first_files["bone_0001.h5"]

        newest = scans[1]["id"]
        site.ask("pin", newest, "--until", "2099-01-01", "--reason", "still looked at")
        master = digests(root)["bone_0001.h5"]
        site.pruned(first["id"])
        site.live()
        page = site.show(first["id"])
        assert page["stages"]["pruned"] == "done"
        (permit,) = [p for p in page["permits"] if p["replica"] in {r["id"] for r in replicas(page, form="files")}]
        assert any("bone_0001.h5" in text for text in permit["left"])
        assert digests(root)["bone_0001.h5"] == master, "the newest scan needs the shared master"
        assert set(second) <= set(digests(root))
        site.ask("unpin", newest)
        site.live()
        assert site.show(newest)["stages"]["pruned"] == "done"
        left = [p["left"] for s in (newest, first["id"]) for p in site.show(s)["permits"]]
        assert sorted(p.name for p in root.iterdir()) == ["TOMOVAULT-README.txt"], left
        site.ask("restore", newest, "--to", str(tmp_path / "again"), "--wait")
        assert digests(tmp_path / "again") == second


def _write_first_half(site):
    """A BLISS writer that waits after its first sequence until it is told to go on."""
    begun, gone_on, waits = threading.Event(), threading.Event(), []

    def sleep(seconds):
        if seconds > 200 and not waits:
            waits.append(seconds)
            begun.set()
            gone_on.wait(250)

    def write():
        site.write("bliss", "bone", variant="growing-master", speed=1.0, sleep=sleep)

    writer = threading.Thread(target=write)
    writer.start()
    assert begun.wait(60)
    return site.areas["bliss"] / "RAW_DATA" / "bone" / "bone_0001", gone_on, writer


def test_a_person_declares_what_the_files_cannot_tell(new_site, digests, tmp_path):
    site = new_site("edf")
    site.write("edf", "bone_", variant="no-metadata")
    site.write("edf", "wood_", variant="lost", seed=3)
    site.live()
    assert {n: s["verdict"] for n, s in site.scans().items()} == {"bone_": "undecided", "wood_": "incomplete"}
    page = site.show("wood_")
    assert page["certificate"]["problems"]
    assert page["stages"]["packed"] == "waiting"
    assert {a for a, _ in site.actions()} == {"inspect"}
    assert site.say("scan", "declare", "bone_", "--complete").code == 2, "a reason is asked for"
    site.ask("scan", "declare", "bone_", "--complete", "--reason", "I was there")
    site.ask("scan", "declare", "wood_", "--aborted", "--reason", "I stopped it")
    site.live()
    for name, verdict in (("bone_", "complete"), ("wood_", "aborted")):
        page = site.show(name)
        assert page["certificate"]["verdict"] == page["declared"]["verdict"] == verdict
        assert page["stages"]["archived"] == "done"
        assert page["stages"]["reduced"] == "off"
        site.ask("restore", name, "--to", str(tmp_path / name), "--from", "tape", "--wait")
        assert digests(tmp_path / name) == digests(site.areas["edf"] / name)
    said = site.ask("audit", "show")
    assert "I was there" in str(said)


def test_what_stays_unfinished_is_kept_as_found(new_site, digests):
    """After `keep_after` it is packed and archived, and no room is made of it."""
    site = new_site("edf", settings={"watch": {"keep_after": "2s"}})
    root = site.write("edf", "bone_", variant="silent-abort")
    before = digests(root)
    site.live()
    if site.scans()["bone_"]["stages"]["archived"] != "done":
        threading.Event().wait(2.0)
        site.live()
    page = site.show("bone_")
    assert page["certificate"]["verdict"] == "incomplete"
    assert page["stages"]["archived"] == "done"
    site.pruned("bone_")
    site.live()
    assert digests(root) == before
    assert site.show("bone_")["permits"] == []
    assert site.area_status("edf")["alarms"]


def test_strange_names_live_a_whole_life(new_site, digests, tmp_path):
    """Pruned and restored from tape, byte for byte, also in the names."""
    site = new_site("edf")
    names = ["with space 'quote\"_", "new\nline_", os.fsdecode(b"caf\xe9\xff_")]
    roots = {name: site.write("edf", name, seed=n) for n, name in enumerate(names)}
    for root in roots.values():
        (root / os.fsdecode(b"note \xff\n'\".txt")).write_text("a side file")
    before = {name: digests(root) for name, root in roots.items()}
    site.live()
    scans = site.ask("scan", "list")["scans"]
    assert len(scans) == len(names)
    assert {s["stages"]["archived"] for s in scans} == {"done"}
    assert [s["name"].startswith("caf") for s in scans if "path_b64" in s] == [True]
    site.pruned(scans[0]["id"])
    site.live()
    for scan in scans:
        path = os.fsdecode(base64.b64decode(scan["path_b64"])) if "path_b64" in scan else scan["path"]
        (name,) = [n for n, root in roots.items() if str(root) == path]
        assert [p.name for p in roots[name].iterdir()] == ["TOMOVAULT-README.txt"]
        target = tmp_path / scan["id"]
        site.ask("restore", scan["id"], "--to", str(target), "--from", "tape", "--wait")
        assert digests(target) == before[name]
        assert site.say("scan", "show", scan["id"]).code == 0
    assert site.say("status").code == 0
    assert site.say("scan", "list").code == 0
