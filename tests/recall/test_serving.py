import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tomovault.recall.request import Copy, DriveNow, Kind, Limits, Request
from tomovault.recall.serving import serve
from tomovault.recall.timing import Timing
from tomovault.recall.tour import Span
from tomovault.recall.visit import choose_visit

NAMES = ("A1", "A2", "A3", "B1", "B2", "B3")
TIMING = Timing()
CARTRIDGES = dict.fromkeys(NAMES, TIMING)
LIMITS = Limits(mount_bytes=10**12, mount_count=5, mount_age_s=600.0, fair_s=900.0, patience_s=3600.0)
LARGEST = 10**11
#: No way of the head takes longer, and no cartridge longer to be changed.
LONGEST_S = 150.0 + 2 * TIMING.rewind_s + TIMING.unload_s + TIMING.load_s + LARGEST / TIMING.stream_rate


def request(name, *on, kind=Kind.RESTORE, arrival=0.0, start=0.1, size=10**9):
    return Request(name, kind, arrival, size, tuple(Copy(one, Span(start, start + 0.001)) for one in on))


@st.composite
def crowds(draw, most=20):
    """Requests of all kinds, some with two copies."""
    return [
        request(
            f"r{number}",
            *draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=2, unique=True)),
            kind=draw(st.sampled_from(list(Kind))),
            arrival=draw(st.floats(0, 20_000)),
            start=draw(st.floats(0, 0.99)),
            size=draw(st.integers(0, LARGEST)),
        )
        for number in range(draw(st.integers(0, most)))
    ]


DRIVES = st.lists(
    st.tuples(st.sampled_from(NAMES) | st.none(), st.floats(0, 1), st.floats(0, 900)),
    min_size=1,
    max_size=3,
    unique_by=lambda drive: drive[0] or object(),
).map(lambda given: tuple(DriveNow(n, name, at if name else 0.0, busy) for n, (name, at, busy) in enumerate(given)))


@settings(max_examples=60, deadline=None)
@given(crowds(), DRIVES)
def test_everything_is_served_once_by_one_drive_at_a_time_from_one_of_its_copies(requests, drives):
    served = serve(requests, drives, CARTRIDGES, LIMITS, 0.0)
    known = {one.id: one for one in requests}
    assert sorted(served) == sorted(known)
    for one in served.values():
        assert known[one.request].arrival <= one.start < one.end or not known[one.request].bytes
        assert one.cartridge in {copy.cartridge for copy in known[one.request].copies}
    for place in ("drive", "cartridge"):
        for name in {getattr(one, place) for one in served.values()}:
            turns = sorted((s.start, s.end) for s in served.values() if getattr(s, place) == name)
            assert all(ended <= began for (_, ended), (began, _) in itertools.pairwise(turns))


@settings(max_examples=60, deadline=None)
@given(crowds(), DRIVES)
def test_nobody_is_starved(requests, drives):
    """Past all patience a request waits only for those that came before it, a visit each, and for one that goes on."""
    served = serve(requests, drives, CARTRIDGES, LIMITS, 0.0)
    for one in requests:
        before = sum((other.arrival, other.id) < (one.arrival, one.id) for other in requests)
        limit = LIMITS.patience_s + (before + 1) * (LIMITS.fair_s + LONGEST_S)
        assert served[one.id].start - one.arrival <= limit + 900.0  # a drive may be busy at first


@settings(max_examples=30, deadline=None)
@given(crowds(), DRIVES, st.randoms(use_true_random=False))
def test_the_same_requests_are_served_the_same_way(requests, drives, draw):
    shuffled = draw.sample(requests, len(requests))
    assert serve(shuffled, drives, CARTRIDGES, LIMITS, 0.0) == serve(requests, drives, CARTRIDGES, LIMITS, 0.0)
    for now in (0.0, 5000.0, 30_000.0):
        free = [DriveNow(drive.number, drive.cartridge, drive.position) for drive in drives]
        assert choose_visit(shuffled, free, CARTRIDGES, LIMITS, now) == choose_visit(
            requests, free, CARTRIDGES, LIMITS, now
        )


@settings(max_examples=30, deadline=None)
@given(crowds(), DRIVES)
def test_what_comes_later_changes_nothing_that_has_begun_before(requests, drives):
    """So what was told of the future holds as far as the future was known."""
    middle = sorted(one.arrival for one in requests)[len(requests) // 2] if requests else 0.0
    known = serve([one for one in requests if one.arrival <= middle], drives, CARTRIDGES, LIMITS, 0.0)
    every = serve(requests, drives, CARTRIDGES, LIMITS, 0.0)
    later = min((one.arrival for one in requests if one.arrival > middle), default=float("inf"))
    begun = {name: one for name, one in known.items() if one.start < later}
    assert begun == {name: one for name, one in every.items() if one.start < later}


@given(st.integers(0, LARGEST), st.integers(0, LARGEST), st.floats(0, 900), st.floats(0, 900))
def test_more_to_read_and_a_drive_that_is_busy_for_longer_end_later(size, more, busy, longer):
    def end(size, busy):
        drive = DriveNow(0, "A2", 0.5, busy)
        return serve([request("r", "A1", size=size)], [drive], CARTRIDGES, LIMITS, 0.0)["r"].end

    assert end(size, busy) <= end(size + more, busy) <= end(size + more, busy + longer)


def test_the_time_of_one_restore_is_that_of_its_moves():
    served = serve([request("r", "A1", start=0.3, size=36 * 10**9)], [DriveNow(0, "A2", 0.4)], CARTRIDGES, LIMITS, 5.0)
    moves = TIMING.rewind_from_s(0.4) + TIMING.unload_s + TIMING.load_s + TIMING.locate_s(0.0, 0.3) + 100.0
    assert served["r"].end == pytest.approx(5.0 + moves)


def test_what_no_cartridge_can_serve_is_left_out():
    assert serve([request("r", "A9")], [DriveNow(0)], CARTRIDGES, LIMITS, 0.0) == {}


def test_an_archive_that_is_worth_no_mount_yet_is_expected_when_it_is():
    served = serve([request("a", "A1", kind=Kind.ARCHIVE)], [DriveNow(0)], CARTRIDGES, LIMITS, 0.0)
    assert served["a"].start == LIMITS.mount_age_s


def test_many_requests_on_one_cartridge_are_one_mount():
    draw = random.Random(1)
    requests = [request(f"r{n:03d}", "A1", arrival=n * 10.0, start=draw.random() * 0.99) for n in range(100)]
    served = serve(requests, [DriveNow(0), DriveNow(1)], CARTRIDGES, LIMITS, 0.0)
    assert sum(one.mounts for one in served.values()) == 1
