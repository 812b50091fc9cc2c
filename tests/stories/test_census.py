"""The first import of a full server: everything is looked into and nothing is touched, and what is nobody's is told."""

import os
import signal
import subprocess
import sys
import time

import pytest


@pytest.fixture(autouse=True)
def own_priority(monkeypatch):
    """The commands of these tests run in the tests' own process, which is to keep its priority."""
    monkeypatch.setattr("tomovault.daemon.census.give_way", lambda: None)


@pytest.fixture(scope="module")
def full(new_site, digests):
    """A server on which scans and other things stand for long, and no daemon ever ran."""
    site = new_site("edf", "bliss")
    for name in ("bone_", "foam_", "wood_"):
        site.write("edf", name)
    site.write("bliss", "other")
    junk = site.areas["edf"] / "old" / "matlab"
    junk.mkdir(parents=True)
    (junk / "result.npy").write_bytes(b"x" * 1000)
    (junk / "more.npy").write_bytes(b"x" * 500)
    site.written = digests(site.areas["edf"])
    return site


def test_a_census_that_was_stopped_goes_on(full, digests):
    site = full
    command = [sys.executable, "-m", "tomovault", "--site", str(site.folder), "census", "edf"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=site.environment)
    while not (site.folder / "run" / "census.log").exists():
        time.sleep(0.05)
        assert process.poll() is None
    lower = min(19, os.getpriority(os.PRIO_PROCESS, 0) + 10)
    while os.getpriority(os.PRIO_PROCESS, process.pid) < lower:
        time.sleep(0.05)
        assert process.poll() is None, "it gives way to everybody else"
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"goes on where it was" in told

    page = site.ask("census", "edf")
    scans = {(s["format"], s["verdict"]): s for s in page["scans"]}
    assert scans.keys() == {("edf", "complete")}
    assert scans["edf", "complete"]["scans"] == 3
    assert digests(site.areas["edf"]) == site.written
    assert {a for a, _ in site.actions()} == {"inspect"}
    assert {s["area"] for s in site.scans().values()} == {"edf"}, "the other area was not looked at"

    assert [(os.path.basename(u["folder"]), u["files"], u["bytes"]) for u in page["unexplained"]] == [
        ("matlab", 2, 1500)
    ]
    assert page["unexplained"][0]["beside_scans"] is False
    assert page["files"] == len([path for path in site.written if not path.startswith(".tomovault/")])


def test_once_packed_what_lies_beside_a_scan_is_told_and_since_when(full):
    site = full
    first = site.ask("census", "edf")["unexplained"][0]
    (site.areas["edf"] / "notes").mkdir()
    site.live()
    stranger = next(site.areas["edf"].rglob("bone_0000.edf")).parent / "stranger.npy"
    stranger.write_bytes(b"x" * 10)
    page = site.ask("census", "edf")
    told = {u["folder"]: u for u in page["unexplained"]}
    assert told[first["folder"]]["since"] == first["since"]
    beside = [u for u in page["unexplained"] if u["beside_scans"]]
    assert [(u["files"], u["bytes"]) for u in beside] == [(1, 10)]
    assert beside[0]["since"] > first["since"]


def test_beside_a_daemon_it_shows_how_far_that_one_is(full):
    site = full
    site.write("edf", "late_")
    process = site.start()
    while not site.ask("status")["daemon"]["running"]:
        time.sleep(0.2)
        assert process.poll() is None, site.told()[-2000:]
    try:
        page = site.ask("census", "edf")
    finally:
        process.terminate()
        assert process.wait(30) == 0
    assert sum(s["scans"] for s in page["scans"] if s["verdict"] == "complete") == 4


def test_an_area_that_is_not_there_is_said(full):
    site = full
    assert "no area 'nowhere'" in site.refuse("census", "nowhere", code=2)
    away = site.areas["bliss"].rename(site.areas["bliss"].with_name("away"))
    try:
        assert "is missing" in site.refuse("census", "bliss", code=75)
    finally:
        away.rename(site.areas["bliss"])
