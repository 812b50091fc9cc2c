from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from tomovault.core.record import Outcome, Result
from tomovault.core.scan import Certificate, Condition, FrameCounts, Verdict
from tomovault.vault import foreman as foremen
from tomovault.vault.admission import FRAMES, LIBRARIES_BYTES, frame_bytes, memory_of
from tomovault.vault.foreman import Foreman, Running


def _scan(size, frames, width=None, height=None):
    sides = {"frame_width": width, "frame_height": height}
    return SimpleNamespace(
        bytes=size,
        certificate=Certificate(Verdict.COMPLETE, found=FrameCounts(*frames)),
        conditions={k: Condition(v, "px", "here") for k, v in sides.items() if v is not None},
    )


def test_a_frame_is_as_large_as_its_pixels_or_as_its_share_of_the_scan():
    assert frame_bytes(_scan(0, (), 2048, 1024)) == 2048 * 1024 * 2
    assert frame_bytes(_scan(100 * 10**6, (8, 1, 1), 10, 10)) == 10**7
    assert frame_bytes(_scan(100, (None, None, None))) == 100
    assert frame_bytes(_scan(10**12, (None, None, None))) == 8192 * 8192 * 2


def test_what_a_job_needs_follows_its_frames():
    assert memory_of("pack", _scan(0, (), 2048, 2048)) == LIBRARIES_BYTES + FRAMES * 2**23
    assert memory_of("archive", _scan(10**12, (1, 0, 0))) == LIBRARIES_BYTES
    assert memory_of("inspect", None) == LIBRARIES_BYTES


@pytest.fixture
def started(monkeypatch):
    """Jobs start without a process, and have succeeded when they are reaped."""
    monkeypatch.setattr(foremen, "start_job", lambda folder: SimpleNamespace(folder=folder))
    monkeypatch.setattr(foremen, "read_result", lambda _folder: Result(Outcome.SUCCEEDED))


@pytest.fixture
def queued(town):
    """Three jobs of scans whose one frame is 100 MB."""
    for name in ("one", "two", "three"):
        scan = town.scan(name, size=400 * 10**6)
        with town.vault.catalogue.writing() as tx:
            town.vault.catalogue.queue_job(
                tx, "verify", scan, {}, dedup_key=f"v{scan}", rule="r", now=town.now, place="inhouse"
            )
    return memory_of("verify", town.known(scan))


def _launch(foreman):
    claimed = foreman.claim(datetime.now(UTC), actions=frozenset({"verify"}))
    return foreman.start(claimed) if claimed else None


def test_a_job_waits_until_what_runs_leaves_it_memory(town, started, queued):
    town.change(jobs={"memory": 2 * queued})
    foreman = Foreman(town.vault, "here")
    first, second = _launch(foreman), _launch(foreman)
    assert isinstance(first, Running)
    assert isinstance(second, Running)
    assert _launch(foreman) is None
    foreman.reap(first)
    assert isinstance(_launch(foreman), Running)


def test_a_job_that_needs_more_than_there_is_runs_alone(town, started, queued):
    town.change(jobs={"memory": "1MB"})
    foreman = Foreman(town.vault, "here")
    first = _launch(foreman)
    assert isinstance(first, Running)
    assert _launch(foreman) is None
    first.process.stop = lambda: None
    foreman.abandon(first)
    assert isinstance(_launch(foreman), Running)


def test_a_job_that_ended_before_it_began_takes_no_memory(town, started, queued, monkeypatch):
    town.change(jobs={"memory": queued})
    foreman = Foreman(town.vault, "here")
    order = foremen.build_order

    def fail(*_a):
        raise foremen.Moot("it is done")

    monkeypatch.setattr(foremen, "build_order", fail)
    assert _launch(foreman) is None
    monkeypatch.setattr(foremen, "build_order", order)
    assert isinstance(_launch(foreman), Running)


def test_what_holds_no_frames_waits_for_no_memory(town, started, queued):
    town.change(jobs={"memory": "1MB"})
    foreman = Foreman(town.vault, "here")
    assert isinstance(_launch(foreman), Running)
    with town.vault.catalogue.writing() as tx:
        town.vault.catalogue.queue_job(
            tx, "inspect", None, {}, dedup_key="i", rule="watch", now=town.now, place="inhouse"
        )
    assert foreman.claim(datetime.now(UTC), actions=frozenset({"inspect"})) is not None
