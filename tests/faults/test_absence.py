"""Areas that are not there, or are others: nothing in them is read as missing, and nothing is removed."""

import os
import signal

import pytest


@pytest.fixture
def site(new_site):
    site = new_site("edf", "bliss")
    for name in ("one_", "two_", "three_", "four_", "five_"):
        site.write("edf", name)
    site.write("bliss", "foam")
    site.live()
    return site


def _rooms(site):
    room = {"prune": "on", "quota": "1kB", "high": "50%", "low": "20%"}
    site.change(areas={"edf": room, "bliss": room})


def _states(site):
    return {n: [(r["id"], r["state"]) for r in site.show(n)["replicas"]] for n, s in site.scans().items()}


@pytest.mark.parametrize("instead", ["empty", "other", "nothing"])
def test_an_area_unmounted(site, instead, digests):
    area = site.areas["edf"]
    before = digests(area)
    known = {n: v for n, v in _states(site).items() if n != "foam_0001"}
    away = area.with_name("away")
    area.rename(away)
    if instead != "nothing":
        area.mkdir()
    if instead == "other":
        (area / "someone").mkdir()
        (area / "someone" / "else.txt").write_text("another file system")
    _rooms(site)
    site.live(failed_ok=True)
    assert {n: v for n, v in _states(site).items() if n != "foam_0001"} == known
    assert all(not s["permits"] for s in (site.show(n) for n in known))
    status = site.area_status("edf")
    assert status["absent"]
    assert site.area_status("bliss")["absent"] == ""
    assert site.scans()["foam_0001"]["stages"]["pruned"] == "done", "everything else goes on"
    assert "absent" in site.say("status").out or "marker" in site.say("status").out
    if instead == "other":
        assert (area / "someone" / "else.txt").exists()
    if area.exists():
        area.rename(area.with_name("instead"))
    away.rename(area)
    assert digests(area) == before
    site.live()
    assert site.area_status("edf")["absent"] == ""
    assert site.scans()["one_"]["stages"]["pruned"] == "done", "and goes on when it is back"


def test_an_area_unmounted_while_the_daemon_runs(site, until):
    area = site.areas["edf"]
    known = _states(site)
    daemon = site.start()
    try:
        until(lambda: site.ask("status")["daemon"]["running"])
        away = area.with_name("away")
        area.rename(away)
        area.mkdir()
        until(lambda: site.area_status("edf")["absent"])
        assert _states(site) == known
        area.rmdir()
        away.rename(area)
        until(lambda: not site.area_status("edf")["absent"])
        assert _states(site) == known
        assert site.refuse("run", "--until-idle", code=75).count("another daemon leads") == 1
    finally:
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(30) == 0


def test_most_scans_missing_at_once_stops_the_area(site, until):
    """The marker is there, but too much is not: that is a person's to explain."""
    area = site.areas["edf"]
    known = _states(site)
    away = site.base / "away"
    away.mkdir()
    daemon = site.start()
    try:
        until(lambda: site.ask("status")["daemon"]["running"])
        until(lambda: site.area_status("edf")["settling"] == 0)
        for name in ("one_", "two_", "three_", "four_"):
            (area / name).rename(away / name)
        until(lambda: "missing" in site.area_status("edf")["trouble"])
        assert _states(site) == known
        for name in os.listdir(away):
            (away / name).rename(area / name)
        until(lambda: not site.area_status("edf")["trouble"])
        assert _states(site) == known
    finally:
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(30) == 0


def test_one_scan_deleted_by_its_user(site, digests, tmp_path, until):
    """Its files become suspect, never gone by themselves; its packages stand, and give it back."""
    before = digests(site.areas["edf"] / "one_")
    (site.areas["edf"] / "one_").rename(site.base / "deleted")
    daemon = site.start()
    try:
        until(lambda: "suspect" in {r["state"] for r in site.show("one_")["replicas"]})
    finally:
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(30) == 0
    page = site.show("one_")
    (files,) = [r for r in page["replicas"] if r["form"] == "files"]
    assert files["state"] == "suspect"
    assert page["stages"]["archived"] == "done"
    assert len([r for r in page["replicas"] if r["state"] == "verified" and r["tier"] == "tape"]) == 2
    _rooms(site)
    site.live()
    site.ask("restore", "one_", "--to", str(tmp_path), "--wait")
    assert digests(tmp_path) == before


def test_a_scan_folder_replaced_by_a_link(site, digests):
    """What the link leads to is somebody else's."""
    root = site.areas["edf"] / "one_"
    elsewhere = site.base / "elsewhere"
    root.rename(elsewhere)
    root.symlink_to(elsewhere)
    before = digests(elsewhere)
    _rooms(site)
    site.live(failed_ok=True)
    assert digests(elsewhere) == before, "not one file was moved or written through the link"
    assert root.is_symlink()
    assert site.scans()["two_"]["stages"]["pruned"] == "done", "everything else goes on"
    page = site.show("one_")
    assert [p["phase"] for p in page["permits"] if p["phase"] == "gone" and p["files"] > 1] == []
