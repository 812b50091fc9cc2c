"""A daemon or a command that is asked to stop, or that finds another, leaves the site as it should be."""

from __future__ import annotations

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


def locks(life):
    return [path for path in life.listing() if "catalogue.db.life" in path]


def temporaries(life):
    return [p for p in life.listing() if p.endswith((".part", ".tmp")) or "/.recall" in p or "/run/jobs/j" in p]


def test_stopped_in_the_middle(new_life, undisturbed, tmp_path):
    """A daemon that is stopped queues its jobs again; a restore that a person interrupts leaves nothing half done, and
    one whose command was killed is carried on by the next daemon at once. The end is that of an undisturbed life.
    """
    life = new_life()
    for point in ("pack.written", "archive.member"):
        stop_daemon_at(point, life, tmp_path)
    life.run_well(*life.first_part())
    target = str(life.base / "back" / "alpha")
    restore = ["restore", "alpha", "--from", "tape", "--to", target, "--wait", "--json"]
    for number, point in enumerate(("recall.fetched", "restore.file:4"), start=1):
        interrupt_restore_at(point, restore, life, tmp_path)
        assert life.jobs() == {"todo": 0, "doing": 0, "failed": 0, "cancelled": number}
    settings, is_there = holding(life, "recall.staged", tmp_path)
    process = life.start(restore, **settings)
    wait_until(is_there, process, life)
    process.kill()
    process.wait()
    life.assert_nothing_lost()
    life.run_well(*life.first_part(), ["restore", "beta_0001", "--to", str(life.base / "back" / "beta_0001"), "--wait"])
    life.check()
    life.assert_same_as({k: v for k, v in undisturbed.facts.items() if k != "jobs"})


def stop_daemon_at(point, life, tmp_path):
    settings, is_there = holding(life, point, tmp_path)
    process = life.start(*life.first_part(), **settings)
    wait_until(is_there, process, life)
    begun = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    assert time.monotonic() - begun < 30, "it waited for the job to end by itself"
    life.assert_nothing_lost()
    jobs = life.jobs()
    assert (jobs["doing"], jobs["failed"]) == (0, 0)
    assert jobs["todo"] > 0
    assert temporaries(life) == []
    assert locks(life) == []


def interrupt_restore_at(point, restore, life, tmp_path):
    settings, is_there = holding(life, point, tmp_path)
    process = life.start(restore, **settings)
    wait_until(is_there, process, life)
    before = life.output().count("exit 130 ")
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    assert "stopped; nothing is left half done" in life.output()
    assert life.output().count("exit 130 ") == before + 1
    life.assert_nothing_lost()
    assert temporaries(life) == []
    life.assert_only_whole_files()


@pytest.mark.sqlite_only("there its place is free after a lease")
def test_second_daemon_names_the_first_and_follows_it_at_once(new_life):
    life = new_life(empty=True)
    first = life.start(["run", "--quiet"])
    with life.vault() as vault:
        wait_until(lambda: last_told(vault).get("pid") == first.pid, first, life)
        holder = last_told(vault)["holder"]
    refused = life.run(["run", "--until-idle", "--quiet"])
    assert refused.exits == ["75"]
    assert f"another daemon leads this site: {holder}" in refused.output
    first.kill()
    first.wait()
    time.sleep(2.0)  # a lock made just now is left to its maker
    life.run_well(["run", "--until-idle", "--quiet"])
    assert locks(life) == []
