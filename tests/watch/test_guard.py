import math
import os
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tomovault.watch.guard import (
    GuardLimits,
    NoThrottle,
    SharedBucket,
    read_share,
    servers_of,
    share_path,
    shares,
    write_share,
)

MAX_PAUSE = 10.0


@pytest.fixture
def told(tmp_path, clock):
    """Writes shares for one area, and makes buckets that follow them."""

    class Told:
        path = share_path(str(tmp_path), "inhouse")

        def share(self, bytes_per_s):
            write_share(str(tmp_path), "inhouse", bytes_per_s)

        def bucket(self):
            return SharedBucket(self.path, clock=clock, sleep=clock.sleep, max_pause_s=MAX_PAUSE)

    return Told()


# --- shares ---


def test_an_area_being_written_gets_the_shrunk_limit_divided_by_its_jobs():
    limits = GuardLimits(full_bps=100.0, shrunk_bps=10.0)
    found = shares({"a": True, "b": False, "c": False}, {"a": 4, "b": 2}, limits)
    assert found == {"a": 2.5, "b": 50.0, "c": 100.0}


def test_an_area_of_unknown_state_counts_as_written():
    assert shares({}, {"a": 1}, GuardLimits(100.0, 10.0)) == {"a": 10.0}


def test_no_limit_is_infinity_and_a_shrunk_limit_above_the_full_one_never_widens():
    assert shares({"a": False, "b": True}, {}, GuardLimits(None, 5.0)) == {"a": math.inf, "b": 5.0}
    assert shares({"a": True}, {}, GuardLimits(5.0, 50.0)) == {"a": 5.0}
    assert shares({"a": True}, {}, GuardLimits(5.0, None)) == {"a": 5.0}


def test_a_scan_written_in_one_area_shrinks_our_traffic_in_every_area_of_its_server():
    servers = {"inhouse": "filer", "visitor": "filer", "scratch": "other"}
    writing = {"inhouse": True, "visitor": False, "scratch": False}
    found = shares(writing, {"inhouse": 1, "visitor": 3, "scratch": 1}, GuardLimits(100.0, 10.0), servers)
    assert found == {"inhouse": 2.5, "visitor": 2.5, "scratch": 100.0}


def test_areas_are_on_the_server_that_their_mounts_come_from():
    found = servers_of(
        {
            "a": "filer.site:/vol1/inhouse",
            "b": "Filer.site:/vol2[/visitor]",
            "c": "other:/vol1",
            "d": "//filer.site/share",
            "e": "/dev/sdb1[/one]",
            "f": "/dev/sdb1",
            "g": "",
            "h": "",
            "i": "[fd00::1]:/vol",
            "j": "[fd00::2]:/vol",
        }
    )
    assert found["a"] == found["b"] == found["d"]
    assert found["e"] == found["f"]
    assert len(set(found.values())) == 7


@given(
    st.dictionaries(st.sampled_from("abcde"), st.booleans(), max_size=5),
    st.dictionaries(st.sampled_from("abcde"), st.integers(0, 50), max_size=5),
    st.dictionaries(st.sampled_from("abcde"), st.sampled_from("XY"), max_size=5),
    st.floats(0, 1e12),
    st.floats(0, 1e12),
)
def test_jobs_together_never_exceed_the_limit_of_their_server(writing, jobs, servers, full, shrunk):
    found = shares(writing, jobs, GuardLimits(full, shrunk), servers)
    for server in {servers.get(area, area) for area in found}:
        areas = [area for area in found if servers.get(area, area) == server]
        limit = min(full, shrunk) if any(writing.get(area, True) for area in areas) else full
        assert sum(found[area] * jobs.get(area, 0) for area in areas) <= limit * (1 + 1e-9)


# --- the share file ---


@pytest.mark.parametrize("area", ["inhouse", "a/b", "..", "", "é\udcff\n".encode("utf-8", "surrogateescape").hex()])
def test_a_share_is_read_as_written_and_stays_in_its_folder(tmp_path, area):
    write_share(str(tmp_path), area, 12.5)
    [name] = os.listdir(tmp_path)
    assert share_path(str(tmp_path), area) == str(tmp_path / name)
    assert read_share(share_path(str(tmp_path), area)) == 12.5


@pytest.mark.parametrize("value", [None, math.inf])
def test_no_limit_is_told_as_such(tmp_path, value):
    write_share(str(tmp_path), "a", value)
    assert read_share(share_path(str(tmp_path), "a")) is None


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"bytes_per_s": "x"}', '{"bytes_per_s": -1}', '{"bytes_per_s": true}']
)
def test_a_damaged_share_is_refused_by_its_reader(tmp_path, text):
    path = tmp_path / "s"
    path.write_text(text)
    with pytest.raises(ValueError):  # noqa: PT011 - json's own message or ours
        read_share(str(path))


def test_a_failed_write_leaves_no_temporary(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="No space"):
        write_share(str(tmp_path), "a", 1.0)
    assert os.listdir(tmp_path) == []


# --- the bucket ---


def test_without_a_share_nothing_waits(told, clock):
    bucket = told.bucket()
    for _ in range(100):
        bucket.spend(10**12)
    NoThrottle().spend(10**12)
    assert clock.slept == []


def test_the_share_is_kept_over_time(told, clock):
    told.share(1000.0)
    bucket, began = told.bucket(), clock.now
    for _ in range(200):
        bucket.spend(100)
    assert clock.now - began == pytest.approx(20.0, rel=0.05)


def test_one_spend_never_waits_longer_than_the_longest_pause(told, clock):
    told.share(10.0)
    bucket = told.bucket()
    for count in (10**9, 1, 10**9):
        began = clock.now
        bucket.spend(count)
        assert clock.now - began <= MAX_PAUSE + 1e-6
    assert max(clock.slept) <= 1.0, "a change of the share is noticed while it waits"


def test_a_share_of_nothing_still_lets_a_job_move_on(told, clock):
    told.share(0.0)
    bucket, began = told.bucket(), clock.now
    bucket.spend(100)
    assert clock.now - began == pytest.approx(MAX_PAUSE)


def test_what_is_owed_after_the_longest_pause_is_forgiven(told, clock):
    told.share(10.0)
    bucket = told.bucket()
    bucket.spend(10**9)
    began = clock.now
    bucket.spend(20)
    assert clock.now - began <= 2.0 + 1e-6


def test_a_share_that_shrinks_and_grows_is_followed_within_a_second(told, clock):
    bucket = told.bucket()
    bucket.spend(10**9)
    told.share(100.0)
    clock.pass_(1.0)
    bucket.spend(200)
    assert sum(clock.slept) == pytest.approx(2.0)
    told.share(None)
    began = clock.now
    clock_sleep = clock.sleep
    bucket.spend(10**9)
    assert clock.now - began <= 1.0 + 1e-6
    bucket.spend(10**9)
    assert clock.now - began <= 1.0 + 1e-6
    assert clock_sleep == clock.sleep


def test_the_wait_ends_when_the_writer_does(told, clock, monkeypatch):
    told.share(1.0)
    bucket = told.bucket()
    real = clock.sleep

    def sleep(seconds):
        real(seconds)
        if len(clock.slept) == 3:
            told.share(None)

    monkeypatch.setattr(bucket, "_sleep", sleep)
    began = clock.now
    bucket.spend(10**6)
    assert clock.now - began <= 4.0 + 1e-6


def test_a_damaged_share_leaves_the_one_before_in_force(told, clock):
    told.share(100.0)
    bucket = told.bucket()
    bucket.spend(100)
    with open(told.path, "w") as stream:
        stream.write("{")
    clock.pass_(2.0)
    before = len(clock.slept)
    bucket.spend(500)
    assert sum(clock.slept[before:]) == pytest.approx(4.5)


def test_the_share_is_read_at_most_once_a_second(told, clock, monkeypatch):
    reads = []
    monkeypatch.setattr("tomovault.watch.guard.read_share", lambda path: reads.append(path))
    bucket = told.bucket()
    for _ in range(50):
        bucket.spend(1)
        clock.pass_(0.1)
    assert len(reads) <= 6


def test_no_limit_costs_nothing_measurable(tmp_path):
    bucket = SharedBucket(str(tmp_path / "none"), max_pause_s=1.0)
    began = time.perf_counter()
    for _ in range(20_000):
        bucket.spend(1 << 20)
    assert time.perf_counter() - began < 1.0, "50 us a call would be 0.05 % of a mebibyte at 10 MB/s"


def test_threads_of_a_job_share_one_bucket(tmp_path):
    write_share(str(tmp_path), "a", 1e6)
    bucket = SharedBucket(share_path(str(tmp_path), "a"), max_pause_s=5.0)
    began = time.perf_counter()
    threads = [threading.Thread(target=lambda: [bucket.spend(10_000) for _ in range(15)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert time.perf_counter() - began >= 0.5, "600 kB at 1 MB/s"
