"""A daemon or a command that is asked to stop, or that finds another, leaves the site as it should be."""

from __future__ import annotations

import json
import signal
import time

import pytest

from tomovault.vault.telling import last_told


def wait_until(true, process, life):
    """Return once `true()`; fail if the process ends first."""
    end = time.monotonic() + 60
    while not true():
        assert process.poll() is None, life.told(life.output())
        assert time.monotonic() < end, life.told(life.output())
        time.sleep(0.02)


def holding(life, point, tmp_path):
    """(settings that make a process wait at a point, whether it does now)."""
    folder = tmp_path / f"once-{point}"
    folder.mkdir()
    settings = {"TOMOVAULT_WAIT_AT": point, "TOMOVAULT_KILL_ONCE": str(folder)}
    return settings, (folder / point).exists


def temporaries(life):
    return [p for p in life.listing() if p.endswith((".part", ".tmp")) or "/.recall" in p or "/run/jobs/j" in p]


@pytest.fixture
def archived(new_life, undisturbed):
    """A life whose first part is over."""
    life = new_life()
    life.run_well(*life.first_part())
    return life


def test_stopped_in_the_middle_of_jobs(new_life, undisturbed, tmp_path):
    life = new_life()
    for point in ("pack.written", "archive.member"):
        settings, is_there = holding(life, point, tmp_path)
        process = life.start(*life.first_part(), **settings)
        wait_until(is_there, process, life)
        begun = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert time.monotonic() - begun < 10
        life.assert_nothing_lost()
        jobs = life.jobs()
        assert (jobs["doing"], jobs["failed"]) == (0, 0)
        assert jobs["todo"] > 0
        assert temporaries(life) == []
        assert [p for p in life.listing() if "catalogue.db.life" in p] == []
    life.run_well(*life.first_part())
    life.run_well(*life.second_part())
    life.check()
    life.assert_same_as(undisturbed.facts)


def test_second_daemon_names_the_first_and_follows_it_at_once(new_life):
    life = new_life()
    first = life.start(["run", "--quiet"])
    with life.vault() as vault:
        wait_until(lambda: last_told(vault).get("pid") == first.pid, first, life)
        holder = last_told(vault)["holder"]
    refused = life.run(["run", "--until-idle", "--quiet"])
    assert refused.exits == ["75"]
    assert f"another daemon leads this site: {holder}" in refused.output
    first.kill()
    first.wait()
    life.assert_nothing_lost()
    life.run_well(["run", "--until-idle", "--quiet"])
    assert [p for p in life.listing() if "catalogue.db.life" in p] == []


def test_waiting_restore(archived, undisturbed, tmp_path):
    """Interrupted by a person it leaves nothing half done; killed, it is carried on by the next daemon at once."""
    life = archived
    ((scan_id, *_),) = [r for r in life.ids() if r[1] == "alpha"]
    restore = ["restore", scan_id, "--from", "tape", "--to", str(life.base / "back" / "alpha"), "--wait", "--json"]
    for number, point in enumerate(("recall.fetched", "restore.file:4"), start=1):
        settings, is_there = holding(life, point, tmp_path)
        process = life.start(restore, **settings)
        wait_until(is_there, process, life)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        assert "stopped; nothing is left half done" in life.output()
        assert life.output().count("exit 130 ") == number
        life.assert_nothing_lost()
        assert temporaries(life) == []
        assert life.jobs() == {"todo": 0, "doing": 0, "failed": 0, "cancelled": number}
        life.assert_only_whole_files()
    settings, is_there = holding(life, "recall.staged", tmp_path)
    process = life.start(restore, **settings)
    wait_until(is_there, process, life)
    process.kill()
    process.wait()
    life.assert_nothing_lost()
    life.run_well(*life.first_part())
    assert json.loads(life.run_well(restore).partition("exit 0")[0])["status"] == "succeeded"
    life.run_well(["restore", "beta_0001", "--to", str(life.base / "back" / "beta_0001"), "--wait"])
    life.check()
    life.assert_same_as({k: v for k, v in undisturbed.facts.items() if k != "jobs"})
