from datetime import UTC, datetime, timedelta

from tomovault.daemon.clock import WallClock

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
