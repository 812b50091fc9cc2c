from datetime import UTC, datetime, timedelta

import pytest

from tomovault.daemon import clock as module
from tomovault.daemon.clock import Silence, WallClock, find_silence

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def _clock(**more):
    ran = [0.0]
    return WallClock(NOW, running=lambda: ran[0], **more), ran


def test_a_clock_that_goes_as_time_does_is_believed():
    clock, ran = _clock(newest=NOW - timedelta(days=700))
    for day in range(40):
        ran[0] = day * 86400.0
        assert clock.look(NOW + timedelta(days=day, seconds=day)) == ""


def test_a_jump_forward_or_back_is_told_until_the_end():
    for years in (3, -3):
        clock, ran = _clock()
        ran[0] = 10.0
        assert "jumped by" in clock.look(NOW + timedelta(days=365 * years))
        ran[0] = 20.0
        assert "jumped by" in clock.look(NOW + timedelta(seconds=20)), "what ran meanwhile is not known"


def test_records_of_the_future_are_told():
    clock, _ = _clock(newest=NOW + timedelta(days=30))
    assert "records of 2026-03-31" in clock.look(NOW)


def test_a_clock_that_is_set_back_was_ahead():
    clock, ran = _clock()
    for hours, was_ahead in ((1, False), (300, False), (301, False), (2, True), (3, True)):
        ran[0] += 3600.0
        clock.look(NOW + timedelta(hours=hours))
        assert clock.was_ahead is was_ahead, hours
    assert not _clock(newest=NOW - timedelta(days=700))[0].was_ahead
    assert _clock(newest=NOW + timedelta(days=30))[0].was_ahead


# --- a clock that is ahead when the daemon starts -----------------------------------------------------


@pytest.fixture
def recorded(town):
    """Called with days from now when something is on record; the newest thing is now otherwise, the hold 14 days."""

    def record(*days):
        with town.vault.catalogue.writing() as tx:
            for day in days:
                town.vault.catalogue.add_audit(tx, "anna", "test", {}, town.now + timedelta(days=day))

    town.scan("one")
    return record


def _silence(town, days):
    return find_silence(town.vault, town.now + timedelta(days=days))


def test_a_daemon_that_rested_shorter_than_half_a_hold_is_believed(town, recorded):
    assert _silence(town, 0) is None
    assert _silence(town, 6.9) is None


def test_what_came_after_a_long_silence_is_doubted_for_half_a_hold(town, recorded):
    """Also by a daemon that is started again: its own records of yesterday have the date that is doubted."""
    silence = _silence(town, 100)
    assert (silence.until - silence.since) / timedelta(days=1) == pytest.approx(100, abs=0.1)
    assert silence.doubted_for == timedelta(days=7)
    recorded(100, 101)
    assert _silence(town, 102).doubted_for == timedelta(days=5)
    recorded(104, 106.9)
    assert _silence(town, 107.1) is None


def test_without_a_hold_there_is_none_to_end(town, recorded):
    town.change(quarantine={"hold": "0s", "limit": "1GB"})
    assert _silence(town, 1000) is None


def _doubting(says, **more):
    asked = []

    def is_synchronised():
        asked.append(1)
        return says[0]

    silence = Silence(NOW - timedelta(days=100), NOW, timedelta(days=7))
    clock, ran = _clock(silence=silence, is_synchronised=is_synchronised, **more)
    return clock, ran, asked


def test_a_clock_that_may_be_ahead_is_doubted_until_it_has_run_for_long():
    clock, ran, asked = _doubting([False])
    assert "nothing is on record from 2025-11-21 to 2026-03-01" in clock.problem
    for day in range(7):
        ran[0] = day * 86400.0
        assert "nothing is on record" in clock.look(NOW + timedelta(days=day))
        assert "nothing is on record" in clock.look(NOW + timedelta(days=day)), "not asked again at once"
    assert len(asked) == 7
    ran[0] = 7 * 86400.0
    assert clock.look(NOW + timedelta(days=7)) == ""


def test_the_time_service_ends_the_doubt():
    says = [False]
    clock, ran, _ = _doubting(says)
    assert clock.look(NOW)
    says[0], ran[0] = True, 61.0
    assert clock.look(NOW + timedelta(seconds=61)) == ""
    says[0], ran[0] = False, 200.0
    assert clock.look(NOW + timedelta(seconds=200)) == ""


def test_the_time_service_that_sets_the_clock_back_is_a_jump():
    clock, ran, _ = _doubting([False])
    ran[0] = 61.0
    assert "jumped by -2400 h" in clock.look(NOW - timedelta(days=100))


@pytest.mark.parametrize(("script", "synchronised"), [("echo yes", True), ("echo no", False), ("exit 1", False)])
def test_the_machine_is_asked(tmp_path, monkeypatch, script, synchronised):
    command = tmp_path / "timedatectl"
    command.write_text(f"#!/bin/sh\n{script}\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert module._is_synchronised() is synchronised


def test_a_machine_without_a_time_service_says_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not module._is_synchronised()
