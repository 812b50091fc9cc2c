"""From a fast disk to a file server: moved, re-read, packed, archived, gone from the fast disk, and restored."""

from __future__ import annotations

import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tomovault.testing.edf_scan import write_edf_scan

MARK = ".tomovault-restored.json"
_EMPTY = {"prune": "on", "quota": "1kB", "high": "50%", "low": "20%"}


@pytest.fixture
def site(new_site):
    """A site with a fast disk that is moved to a server."""
    return new_site("fast", "inhouse", settings={"areas": {"fast": {"class": "fast", "policy": "mover"}}})


def _at(page, folder):
    (found,) = [r for r in page["replicas"] if r["form"] == "files" and r["location"] == str(folder)]
    return found


def _show(site, root):
    """The scan that was written there."""
    (known,) = [s for s in site.ask("scan", "list")["scans"] if s["path"] == str(root)]
    return site.show(known["id"])


def _files(digests, folder):
    return {name: digest for name, digest in digests(folder).items() if name != MARK}


def test_a_scan_lives_from_the_fast_disk_to_the_archive(site, digests, replicas, tmp_path):
    root = site.write("edf", "bone_", area="fast", seed=1)
    other = site.areas["inhouse"] / "bone_"
    other.mkdir()
    (other / "bone_0000.edf").write_bytes(b"another scan of that name")
    before = digests(root)
    modes = {p.name: (p.stat().st_mode, p.stat().st_mtime_ns) for p in root.iterdir()}
    site.live()
    page = _show(site, root)
    there = site.areas["inhouse"] / "bone_~2"
    copy = _at(page, there)
    assert (copy["tier"], copy["state"], copy["sha256"]) == ("inhouse", "verified", page["products"][0]["digest"])
    assert _files(digests, there) == before
    assert {p.name: (p.stat().st_mode, p.stat().st_mtime_ns) for p in there.iterdir() if p.name != MARK} == modes
    assert (other / "bone_0000.edf").read_bytes() == b"another scan of that name"
    (job,) = [j for j in page["jobs"] if j["action"] == "replicate"]
    assert str(there) in job["error"]
    assert "bone_0000.edf" in job["error"]
    assert page["stages"]["replicated"] == page["stages"]["archived"] == "done"
    assert {s["path"] for s in site.ask("scan", "list")["scans"]} == {str(root), str(other)}, "no second scan"
    assert [j["action"] for j in page["jobs"]].count("pack") == 1

    site.change(areas={"fast": _EMPTY})
    site.live()
    page = site.show(page["id"])
    assert _at(page, root)["state"] == "gone"
    assert _at(page, there)["state"] == "verified"
    permit = next(p for p in page["permits"] if p["replica"] == _at(page, root)["id"])
    assert (permit["rule"], permit["phase"]) == ("empty-fast-disk@mover:1", "gone")
    assert os.listdir(root) == ["TOMOVAULT-README.txt"]
    assert str(there) in (root / "TOMOVAULT-README.txt").read_text()
    assert _files(digests, there) == before
    assert (page["path"], page["area"]) == (str(there), "inhouse"), "nothing of it is left on the fast disk"
    assert page["stages"]["pruned"] != "done"

    site.ask("restore", page["id"], "--to", str(tmp_path / "back"), "--wait")
    assert digests(tmp_path / "back") == before
    assert site.ask("verify", page["id"])["bad"] == []
    done = site.actions()
    site.live()
    assert [a for a in site.actions()[len(done) :] if a[0] not in ("inspect",)] == [], "nothing is done twice"

    site.change(areas={"inhouse": _EMPTY})
    site.ask("unpin", page["id"])
    site.live()
    page = site.show(page["id"])
    assert page["stages"]["pruned"] == "done", "the rules of the server make room there"
    assert _at(page, there)["state"] == "gone"
    assert {"TOMOVAULT-README.txt"} <= set(os.listdir(there)) <= {"TOMOVAULT-README.txt", MARK}
    assert (other / "bone_0000.edf").read_bytes() == b"another scan of that name"
    site.ask("restore", page["id"], "--to", str(tmp_path / "again"), "--wait")
    assert digests(tmp_path / "again") == before


def test_the_fast_disk_is_emptied_before_the_archive_has_it(site, digests):
    """Law 4: one verified copy on a server, while the archiving is wanted and has not failed."""
    policy = site.folder / "policies" / "mover.yaml"
    shipped = Path(__file__).parents[2] / "policies" / "mover.yaml"
    text = shipped.read_text("utf-8")
    later = text.replace("when: packed\n    do: archive", "when: packed and age > 9999d\n    do: archive")
    assert later != text
    policy.write_text(later, "utf-8")
    root = site.write("edf", "bone_", area="fast", seed=1)
    before = digests(root)
    site.change(areas={"fast": _EMPTY})
    site.live()
    page = _show(site, root)
    assert page["stages"]["archived"] == "waiting"
    assert _at(page, root)["state"] == "gone"
    assert _files(digests, site.areas["inhouse"] / "bone_") == before


def test_a_full_server_makes_the_move_wait_and_it_goes_on_when_there_is_room(site, digests):
    root = site.write("edf", "bone_", area="fast", seed=1)
    site.change(areas={"inhouse": {"quota": "1kB"}, "fast": _EMPTY})
    site.live()
    page = _show(site, root)
    (job,) = [j for j in page["jobs"] if j["action"] == "replicate"]
    assert (job["status"], job["attempts"]) == ("todo", 0)
    assert "above its high mark of 85%" in job["error"]
    stage = next(s for s in site.ask("explain", "bone_")["stages"] if s["stage"] == "replicated")
    assert stage["status"] == "waiting"
    assert "above its high mark" in stage["reason"]
    assert "above its high mark" in site.say("status").out
    assert [w["id"] for w in site.ask("status")["waiting"]] == [job["id"]]
    assert os.listdir(site.areas["inhouse"]) == [".tomovault"]
    assert not list((site.areas["inhouse"] / ".tomovault").glob("arriving/*"))
    assert _at(page, root)["state"] == "verified", "no copy is on a server, and two in the archive are not yet asked"


@pytest.fixture
def split(new_site, tmp_path):
    """A site whose fast disk is `.../lbsram/inhouse` and whose server is `.../inhouse`, and a scan written to both."""
    site = new_site("inhouse")
    site.areas["fast"] = site.base / "lbsram" / "inhouse"
    site.areas["fast"].mkdir(parents=True)
    site.ask("area", "add", f"fast={site.areas['fast']}")
    site.change(areas={"fast": {"class": "fast", "policy": "mover"}})
    written = tmp_path / "written"
    write_edf_scan(
        str(written),
        "bone_",
        variant="edf-split-roots",
        shape=(24, 32),
        projections=8,
        flats=2,
        darks=2,
        started_at=datetime(2026, 3, 1, tzinfo=UTC),
    )
    texts, frames = site.areas["inhouse"] / "bone_", site.areas["fast"] / "bone_"
    shutil.copytree(written / "bone_", texts)
    shutil.copytree(written / "lbsram" / "bone_", frames)
    return site, frames, texts


def test_data_below_lbsram_and_texts_on_the_server_end_in_one_folder(split, digests, replicas, tmp_path):
    site, frames, texts = split
    before = {**digests(frames), **digests(texts)}
    assert len(before) == len(digests(frames)) + len(digests(texts)) > 10
    inodes = {p.name: p.stat().st_ino for p in texts.iterdir()}
    site.live()
    page = site.show("bone_")
    assert page["certificate"]["verdict"] == "complete"
    assert page["files"] == len(before)
    copy = _at(page, texts)
    assert (copy["tier"], copy["state"]) == ("inhouse", "verified")
    assert _files(digests, texts) == before
    assert {name: (texts / name).stat().st_ino for name in inodes} == inodes, "the texts that were there stay"
    assert len(site.scans()) == 1, "all files together are the same scan"
    assert [a for a, _ in site.actions()].count("pack") == 1
    assert [a["problems"] for a in site.ask("status")["areas"]] == [[], []]
    assert site.ask("verify", "bone_")["bad"] == []

    site.change(areas={"fast": _EMPTY})
    site.live()
    page = site.show("bone_")
    assert os.listdir(frames) == ["TOMOVAULT-README.txt"]
    assert _files(digests, texts) == before
    assert page["stages"]["pruned"] == "done"
    assert _at(page, texts)["state"] == "verified"
    site.ask("restore", "bone_", "--to", str(tmp_path / "back"), "--wait")
    back = digests(tmp_path / "back")
    assert {os.path.basename(path): digest for path, digest in back.items()} == before
    assert {os.path.dirname(path) for path in back} == {"inhouse/bone_", "lbsram/inhouse/bone_"}
    site.live()
    assert len(site.scans()) == 1


def test_another_mover_that_writes_in_parts_is_judged_by_the_certificate(site, digests):
    """Half a folder is an incomplete scan; whole, it is the known one by its digests, and is not moved again."""
    site.change(areas={"fast": {"policy": "standard"}})
    root = site.write("edf", "bone_", area="fast", seed=1)
    site.live()
    there = site.areas["inhouse"] / "bone_"
    there.mkdir()
    names = sorted(p.name for p in root.iterdir())
    late = {n for n in names if n.startswith("bone_000") and n > "bone_0004"} | {n for n in names if n.endswith(".xml")}
    assert len(late) >= 3
    for name in set(names) - late:
        shutil.copy2(root / name, there / name)
    site.live()
    half = _show(site, there)
    assert half["certificate"]["verdict"] in ("incomplete", "undecided", "acquiring")
    assert half["stages"]["packed"] == "waiting"
    for name in late:
        shutil.copy2(root / name, there / name)
    site.live()
    page = _show(site, root)
    assert _at(page, there)["state"] == "verified"
    assert [s["path"] for s in site.ask("scan", "list")["scans"] if not s["superseded_by"]] == [str(root)]
    site.change(areas={"fast": {"policy": "mover"}})
    site.live()
    page = _show(site, root)
    assert page["stages"]["replicated"] == "done"
    assert "replicate" not in {a for a, _ in site.actions()}
    assert _files(digests, there) == digests(root)


def test_killed_at_every_point_the_move_ends_as_if_undisturbed(site, digests, tmp_path):
    """The job's process is killed once at each point, both for a new folder and for one that has a text already."""
    points = {"move.begin", "move.file", "move.staged", "move.verified", "restore.mark", "move.placed"}
    roots = {name: site.write("edf", name, area="fast", seed=seed) for seed, name in enumerate(("bone_", "wood_"))}
    there = {name: site.areas["inhouse"] / name for name in roots}
    there["wood_"].mkdir()
    shutil.copy2(roots["wood_"] / "wood_.xml", there["wood_"] / "wood_.xml")
    site.change(retries={"attempts": 12, "after": "0.1s"})
    once = tmp_path / "once"
    once.mkdir()
    points.add("move.merged")
    site.live(env=site.environment | {"TOMOVAULT_KILL_AT": ",".join(sorted(points)), "TOMOVAULT_KILL_ONCE": str(once)})
    assert {path.name for path in once.iterdir()} == points
    for name, root in roots.items():
        assert _files(digests, there[name]) == digests(root)
        assert _at(_show(site, root), there[name])["state"] == "verified"
    assert sorted(os.listdir(site.areas["inhouse"])) == [".tomovault", "bone_", "wood_"]
    assert not list((site.areas["inhouse"] / ".tomovault" / "arriving").iterdir())
    assert len(site.ask("scan", "list")["scans"]) == 2
