from datetime import datetime

import pytest

from tomovault.testing.clock import EPOCH, FakeClock
from tomovault.testing.timeline import Timeline
from tomovault.testing.truth import TruthLog, read_truth


def test_a_jump_moves_the_wall_alone():
    clock = FakeClock()
    clock.advance(5)
    assert (clock.monotonic(), (clock.now() - EPOCH).total_seconds()) == (1005.0, 5.0)
    clock.jump(-10 * 365 * 86400)
    assert clock.monotonic() == 1005.0
    assert clock.now().year == 2016
    with pytest.raises(ValueError, match="does not go back"):
        clock.advance(-1)
    with pytest.raises(ValueError, match="aware"):
        FakeClock(datetime(2026, 1, 1))  # noqa: DTZ001


def ticks(seen, name, wait_s, times):
    for _ in range(times):
        seen.append(name)
        yield wait_s


def test_writers_overlap_in_the_order_of_their_times():
    seen = []
    timeline = Timeline()
    timeline.start(ticks(seen, "a", 2.0, 3))
    timeline.start(ticks(seen, "b", 3.0, 2), after_s=1.0)
    timeline.run()
    assert "".join(seen) == "abaab"
    assert timeline.now_s == 7.0


def test_an_error_closes_the_other_writers():
    closed = []

    def patient():
        try:
            yield 100.0
        finally:
            closed.append(True)

    def broken():
        yield 1.0
        raise OSError("disk gone")

    timeline = Timeline()
    timeline.start(patient())
    timeline.start(broken())
    with pytest.raises(OSError, match="disk gone"):
        timeline.run()
    assert closed == [True]


def test_speed_must_be_above_zero():
    with pytest.raises(ValueError, match="above 0"):
        Timeline(speed=0.0)


def test_the_sleep_of_the_caller_is_used():
    clock = FakeClock()
    slept = []

    def sleep(seconds):
        slept.append(seconds)
        clock.advance(seconds)

    timeline = Timeline(speed=4.0, clock=clock, sleep=sleep)
    timeline.start(ticks([], "a", 2.0, 3))
    timeline.run()
    assert slept == [0.5, 0.5, 0.5]


def test_truth_round_trip_with_any_name(tmp_path):
    path, clock = str(tmp_path / "t.jsonl"), FakeClock()
    with TruthLog(path, clock=clock) as log:
        log.add("close", "a\nb\udce9.edf", at_s=1.5, size=12)
        log.add("errno11", "m.h5", at_s=2.0, error="x")
        assert log.errno11 == 1
    with open(path, "a") as file:
        file.write('{"t": 1')
    first, second = read_truth(path)
    assert (first.path, first.size, first.wall, first.t) == ("a\nb\udce9.edf", 12, EPOCH, 1000.0)
    assert second.more == {"error": "x"}
    with open(path, "a") as file:
        file.write("\n")
    with pytest.raises(ValueError, match=r"t\.jsonl:3: not an event"):
        read_truth(path)


def test_a_log_is_appended_to(tmp_path):
    path = str(tmp_path / "t.jsonl")
    for place in range(2):
        with TruthLog(path) as log:
            log.add("note", str(place), at_s=0.0)
    assert [e.path for e in read_truth(path)] == ["0", "1"]
