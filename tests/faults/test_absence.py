"""Areas that are not there, or are others: nothing in them is read as missing, and nothing is removed."""

import contextlib
import re
import signal

import pytest

_ROOM = {"prune": "on", "quota": "1kB", "high": "50%", "low": "20%"}
_NAMES = ("one_", "two_", "three_", "four_", "five_")


@pytest.fixture(scope="module")
def site(new_site):
    """Everything archived, prune off: each test leaves it so, but for the last."""
    site = new_site("edf", "bliss")
    for number, name in enumerate(_NAMES):
        site.write("edf", name, seed=number)
    site.write("bliss", "foam")
    site.live()
    return site


def _states(site, *names):
    return {n: [(r["id"], r["state"], r["location"]) for r in site.show(n)["replicas"]] for n in names or _NAMES}


@contextlib.contextmanager
def _daemon(site, until):
    """A daemon runs and has seen its areas."""
    daemon = site.start()
    try:
        until(lambda: site.ask("status")["daemon"]["running"])
        yield
    finally:
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(60) == 0


@contextlib.contextmanager
def _unmounted(area, instead):
    away = area.with_name("away")
    area.rename(away)
    if instead != "nothing":
        area.mkdir()
    if instead == "other":
        (area / "someone").mkdir()
        (area / "someone" / "else.txt").write_text("another file system")
    try:
        yield
    finally:
        if area.exists():
            area.rename(area.with_name(f"instead-{instead}"))
        away.rename(area)


@contextlib.contextmanager
def _gone(site, *names):
    away = site.base / "away"
    away.mkdir()
    for name in names:
        (site.areas["edf"] / name).rename(away / name)
    try:
        yield
    finally:
        for name in names:
            (away / name).rename(site.areas["edf"] / name)
        away.rmdir()


@pytest.mark.parametrize("instead", ["empty", "other", "nothing"])
def test_an_area_unmounted(site, instead, digests):
    area = site.areas["edf"]
    before, known = digests(area), _states(site)
    site.change(areas={"edf": _ROOM})
    with _unmounted(area, instead):
        site.live()
        assert _states(site) == known, "nothing is read as missing"
        assert not any(site.show(name)["permits"] for name in _NAMES), "nothing may go"
        assert site.area_status("edf")["absent"]
        assert site.area_status("bliss")["absent"] == ""
        told = "is missing" if instead == "nothing" else "not mounted"
        assert told in site.say("status").out
        assert told in site.say("doctor").out
        if instead == "other":
            assert [p.name for p in area.rglob("*")] == ["someone", "else.txt"], "nothing is written there"
    site.change(areas={"edf": {"prune": "off"}})
    assert digests(area) == before
    site.live()
    assert site.area_status("edf")["absent"] == "", "back by itself"
    assert _states(site) == known


def test_an_area_unmounted_while_the_daemon_runs(site, until):
    known = _states(site)
    with _daemon(site, until):
        with _unmounted(site.areas["edf"], "empty"):
            until(lambda: site.area_status("edf")["absent"])
            assert _states(site) == known
        until(lambda: not site.area_status("edf")["absent"])
        assert _states(site) == known


def test_a_vault_and_a_library_unmounted(site):
    """No copy in them is bad, nothing is written below their mount points, and what needs them waits."""
    known = _states(site)
    vault, tape = site.base / "edf.vault", site.folder / "tape"
    with _unmounted(vault, "empty"), _unmounted(tape, "empty"):
        site.write("edf", "six_", seed=9)
        site.live()
        assert site.say("verify", "one_").code == 75
        assert _states(site) == known
        assert (list(vault.iterdir()), list(tape.iterdir())) == ([], [])
        (waiting,) = site.ask("status")["waiting"]
        assert (waiting["name"], waiting["action"]) == ("six_", "pack")
        assert "tomovault retry" in site.say("status").out
        for told in (site.say("status").out, site.say("doctor").out):
            assert "the vault of edf is absent" in told
            assert "tier tape is absent" in told
    assert site.ask("status")["absent_places"] == []
    assert site.ask("verify", "one_")["bad"] == []
    assert site.ask("retry", waiting["id"])["again"] == [waiting["id"]]
    site.live(failed_ok=True)
    assert site.show("six_")["stages"]["archived"] == "done"
    assert _states(site) == known


def test_a_second_daemon_is_told_who_leads(site, until):
    with _daemon(site, until):
        said = site.refuse("run", "--until-idle", code=75)
        leader = site.ask("status")["daemon"]["leader"]
        assert re.search(rf"another daemon (leads this site|runs for the machine \S+): {re.escape(leader)}", said)


def test_most_scans_missing_at_once_stops_the_area(site, until):
    """The marker is there, but too much is not: that is a person's to explain."""
    known = _states(site)
    with _daemon(site, until):
        until(lambda: site.area_status("edf")["settling"] == 0)
        with _gone(site, *_NAMES[:4]):
            until(lambda: "missing" in site.area_status("edf")["trouble"])
            assert _states(site) == known
        until(lambda: not site.area_status("edf")["trouble"])
        assert _states(site) == known


def test_one_scan_deleted_by_its_user(site, digests, tmp_path, until):
    """Its files become suspect, never gone by themselves; its packages stand, and give it back."""
    before = digests(site.areas["edf"] / "one_")
    with _gone(site, "one_"):
        with _daemon(site, until):
            until(lambda: "suspect" in {r["state"] for r in site.show("one_")["replicas"]})
        page = site.show("one_")
        assert {r["state"] for r in page["replicas"] if r["form"] == "files"} == {"suspect"}
        assert {r["state"] for r in page["replicas"] if r["form"] == "package"} == {"verified"}
        assert page["stages"]["archived"] == "done"
        site.ask("restore", "one_", "--to", str(tmp_path), "--wait")
        assert digests(tmp_path) == before
    site.ask("verify", "one_")
    assert "suspect" not in {r["state"] for r in site.show("one_")["replicas"]}, "found again and re-read"


def test_a_scan_folder_replaced_by_a_link(site, digests):
    """What the link leads to is somebody else's; all else goes on, an area that is absent or not."""
    root, elsewhere = site.areas["edf"] / "one_", site.base / "elsewhere"
    root.rename(elsewhere)
    root.symlink_to(elsewhere)
    before = digests(elsewhere)
    site.change(areas={"edf": _ROOM})
    site.live(failed_ok=True)
    assert digests(elsewhere) == before, "not one file was moved or written through the link"
    assert root.is_symlink()
    assert site.scans()["two_"]["stages"]["pruned"] == "done"
    assert site.show("one_")["stages"]["archived"] == "done"
    with _unmounted(site.areas["edf"], "empty"):
        site.change(areas={"bliss": _ROOM})
        site.live(failed_ok=True)
        assert site.scans()["foam_0001"]["stages"]["pruned"] == "done"
