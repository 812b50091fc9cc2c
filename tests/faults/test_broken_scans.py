"""Scans that are not what they should be: each is told with its reason, and the one beside it goes its way."""

import contextlib
import os
import shutil
import signal
import threading
import time
from pathlib import Path

import pytest

#: (variant, the word that `scan show` must have)
_EDF = {
    "truncated": ("edf", "4508 bytes of 4608"),
    "header-only": ("edf", ""),
    "empty": ("edf", ""),
    "body-zero-for-ever": ("edf", "zero"),
    "lost": ("edf", "missing"),
}
_BLISS = {"camera-missing": ("bliss", ""), "camera-truncated": ("bliss", ""), "lima2-missing": ("bliss", "")}


@pytest.fixture(scope="module")
def site(new_site):
    """Every broken scan, and whole ones among them, seen by one daemon."""
    site = new_site("edf", "bliss")
    for number, variant in enumerate((*_EDF, "over-long", "info-latin1", "plain")):
        site.write("edf", f"{variant.replace('-', '')}_", variant=variant, seed=number)
    for number, variant in enumerate((*_BLISS, "plain")):
        site.write("bliss", variant.replace("-", ""), variant=variant, seed=number)
    (site.areas["edf"] / "plain_" / "dangling").symlink_to("/nowhere/at/all")
    fifo = site.areas["edf"] / "fifo_"
    shutil.copytree(site.areas["edf"] / "plain_", fifo, symlinks=True)
    for path in sorted(fifo.iterdir()):
        path.rename(fifo / path.name.replace("plain_", "fifo_"))
    os.unlink(fifo / "fifo_0003.edf")
    os.mkfifo(fifo / "fifo_0003.edf")
    folder = site.areas["edf"] / "folder_"
    shutil.copytree(site.areas["edf"] / "plain_", folder, symlinks=True)
    for path in sorted(folder.iterdir()):
        path.rename(folder / path.name.replace("plain_", "folder_"))
    os.unlink(folder / "folder_0003.edf")
    (folder / "folder_0003.edf").mkdir()
    site.live()
    return site


@pytest.mark.parametrize(("variant", "kind", "word"), [(v, *k) for v, k in (_EDF | _BLISS).items()])
def test_told_with_its_reason(site, variant, kind, word):
    name = variant.replace("-", "") + ("_" if kind == "edf" else "_0001")
    page = site.show(name)
    assert page["certificate"]["verdict"] in ("incomplete", "undecided")
    assert page["certificate"]["problems"], "why is told"
    assert word in " ".join(page["certificate"]["problems"])
    assert page["stages"]["complete"] in ("waiting", "due")
    assert page["stages"]["packed"] == "waiting"
    assert [r for r in page["replicas"] if r["form"] == "package"] == []


@pytest.mark.parametrize("name", ["plain_", "overlong_", "infolatin1_", "plain_0001"])
def test_the_whole_ones_go_their_way(site, name, digests, tmp_path):
    page = site.show(name)
    assert page["certificate"]["verdict"] == "complete"
    assert page["stages"]["archived"] == "done"
    site.ask("restore", name, "--to", str(tmp_path), "--from", "tape", "--wait")
    there = digests(Path(page["path"]))
    there.pop("dangling", None)
    assert digests(tmp_path) == there


@pytest.mark.parametrize("name", ["fifo_", "folder_"])
def test_what_is_no_file_in_place_of_a_file(site, name):
    page = site.show(name)
    assert page["certificate"]["verdict"] == "incomplete"
    assert page["certificate"]["problems"]


def test_a_link_that_leads_nowhere_is_told_and_left_where_it_is(site):
    assert any("dangling" in text and "left out" in text for text in site.show("plain_")["certificate"]["problems"])
    assert os.readlink(site.areas["edf"] / "plain_" / "dangling") == "/nowhere/at/all"


class _Steps:
    """The named points that a daemon and its jobs pass, which wait there until they are let on.

    Every point is written into a pipe, and a pipe that nobody reads holds its writer.
    """

    def __init__(self, folder):
        self.pipe = folder / "steps"
        os.mkfifo(self.pipe)

    def until(self, point):
        """Everything is let on until something has passed the point; then all hold at their next one."""
        end = time.monotonic() + 120
        while time.monotonic() < end:
            with open(self.pipe, encoding="ascii") as passed:
                if any(line.rpartition(":")[0] == point for line in passed.read().split()):
                    time.sleep(0.2)
                    return
        pytest.fail(f"{point} was never passed")

    def free(self):
        """Nothing holds any more."""
        self.reader = os.open(self.pipe, os.O_RDONLY | os.O_NONBLOCK)
        threading.Thread(target=self._drain, daemon=True).start()

    def _drain(self):
        with contextlib.suppress(OSError):
            while True:
                if not _read(self.reader):
                    time.sleep(0.01)


def _read(descriptor):
    try:
        return os.read(descriptor, 65536)
    except BlockingIOError:
        return b""


class TestWhilePacked:
    """What a user does to a scan in the very moment that it is packed."""

    @pytest.fixture
    def packing(self, new_site):
        """A site whose daemon has begun to pack, and holds; called with what happens to the scan now."""
        started = []

        def make(mischief):
            site = new_site("edf")
            root = site.write("edf", "bone_")
            steps = _Steps(site.base)
            daemon = site.start("--until-idle", env=site.environment | {"TOMOVAULT_CHECKPOINTS": str(steps.pipe)})
            started.append(daemon)
            steps.until("pack.begin")
            mischief(root)
            steps.free()
            assert daemon.wait(150) == 0, site.told()
            return site, root

        yield make
        for daemon in started:
            if daemon.poll() is None:
                daemon.send_signal(signal.SIGKILL)
                daemon.wait()

    def test_a_file_is_modified(self, packing, digests, tmp_path):
        def mischief(root):
            with open(root / "bone_0007.edf", "r+b") as file:
                file.seek(1500)
                file.write(b"another measurement")

        site, root = packing(mischief)
        (page,) = [s for s in site.scans().values() if s["superseded_by"] is None]
        assert page["stages"]["archived"] == "done", site.told()
        site.ask("restore", page["id"], "--to", str(tmp_path), "--wait")
        assert digests(tmp_path) == digests(root), "what is packed is what is there"
        assert site.ask("verify", "--all")["bad"] == []

    def test_it_is_deleted(self, packing, digests, replicas, tmp_path):
        """It was read whole before, or its packing says why not; half of it is never taken for all."""

        def mischief(root):
            shutil.copytree(root, root.parent.parent / "kept")
            shutil.rmtree(root)

        site, root = packing(mischief)
        page = site.show("bone_")
        if replicas(page, form="package", state="verified"):
            site.ask("restore", "bone_", "--to", str(tmp_path), "--wait")
            assert digests(tmp_path) == digests(root.parent.parent / "kept")
        else:
            assert any(j["error"] for j in page["jobs"] if j["action"] == "pack")
            assert not list((site.base / "edf.vault").rglob("*.h5*"))

    def test_it_is_moved_within_the_area(self, packing, digests, tmp_path):
        def mischief(root):
            (root.parent / "by_user").mkdir()
            root.rename(root.parent / "by_user" / "bone_")

        site, root = packing(mischief)
        moved = root.parent / "by_user" / "bone_"
        site.live()  # the first daemon may have been done before a sweep saw where the scan went
        # Packed before it moved, it is the same scan with a copy at its new place; else a new one there.
        known = [s for s in site.ask("scan", "list")["scans"] if not s["superseded_by"]]
        pages = [site.show(s["id"]) for s in known]
        places = {str(moved)}
        (page,) = [p for p in pages if p["path"] in places or places & {r["location"] for r in p["replicas"]}]
        assert page["stages"]["archived"] == "done"
        site.ask("restore", page["id"], "--to", str(tmp_path), "--wait")
        assert digests(tmp_path) == digests(moved)
