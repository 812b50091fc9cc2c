import os
import threading

import pytest

from tomovault.core.errors import UserError
from tomovault.core.scan import Verdict
from tomovault.testing.beamline import ScanOrder, run_beamline
from tomovault.testing.clock import EPOCH, FakeClock
from tomovault.testing.truth import digest_files, read_truth

TINY = {"shape": (8, 8), "projections": 6, "flats": 1, "darks": 1}


def test_scans_come_one_after_the_other(tmp_path):
    area, log = tmp_path / "area", tmp_path / "truth.jsonl"
    area.mkdir()
    clock = FakeClock()
    events = []
    orders = [
        ScanOrder("one_", folder="ma1234/bone", **TINY),
        ScanOrder("two", variant="bliss-plain", folder="ma1234", **TINY),
        ScanOrder("three_", variant="silent-abort", wait_s=60.0, **TINY),
    ]
    written = run_beamline(
        str(area), scans=orders, speed=10.0, clock=clock, log_path=str(log), on_event=events.append, seed=3
    )
    assert [(s.name, s.verdict) for s in written.scans] == [
        ("one_", Verdict.COMPLETE),
        ("two_0001", Verdict.COMPLETE),
        ("three_", Verdict.INCOMPLETE),
    ]
    assert written.scans[0].folder == str(area / "ma1234/bone/one_")
    assert written.errno11 == 0
    assert [e.action for e in events] == [e.action for e in read_truth(str(log))]
    begun = [e.at_s for e in events if e.action == "begin"]
    assert begun[0] == pytest.approx(5.0)
    assert begun[2] - begun[1] > 60.0
    assert clock.monotonic() - 1000.0 == pytest.approx(events[-1].at_s / 10.0, abs=0.5)


def test_the_same_order_gives_the_same_bytes(tmp_path):
    found = []
    for turn in range(2):
        area = tmp_path / "area"
        area.mkdir()
        orders = [ScanOrder("one_", **TINY), ScanOrder("two", variant="bliss-overlap", **TINY)]
        run_beamline(str(area), scans=orders, speed=float("inf"), seed=7, started_at=EPOCH)
        found.append(digest_files(str(area)))
        area.rename(tmp_path / str(turn))
    assert found[0] == found[1]
    assert len(found[0]) > 10


def test_a_stop_ends_it_and_keeps_what_ended(tmp_path):
    stop = threading.Event()
    ended = []

    def watch(event):
        if event.action == "verdict":
            ended.append(event.path)
            stop.set()

    orders = [ScanOrder(f"s{k}_", **TINY) for k in range(3)]
    log = tmp_path / "truth.jsonl"
    area = tmp_path / "area"
    area.mkdir()
    written = run_beamline(str(area), scans=orders, speed=float("inf"), stop=stop, on_event=watch, log_path=str(log))
    assert [s.folder for s in written.scans] == ended
    assert os.listdir(area) == ["s0_"]
    assert read_truth(str(log))[-1].more == {"stopped": True}


def test_real_pace_waits(tmp_path):
    import time

    begun = time.monotonic()
    run_beamline(str(tmp_path), scans=[ScanOrder("a_", wait_s=1.0, **TINY)], speed=200.0)
    assert 0.1 < time.monotonic() - begun < 10


@pytest.mark.parametrize(
    ("order", "message"),
    [
        (ScanOrder("../a"), "cannot be named"),
        (ScanOrder(""), "cannot be named"),
        (ScanOrder("a", folder="../b"), "not inside the area"),
        (ScanOrder("a", folder="/b"), "not inside the area"),
        (ScanOrder("a", variant="bliss-nothing"), "no variant"),
        (ScanOrder("a", detector="film"), "no detector"),
        (ScanOrder("a", frame_s=0.0), "frame_s"),
        (ScanOrder("a", projections=0), "cannot be made"),
    ],
)
def test_bad_orders_are_refused_before_anything_is_written(tmp_path, order, message):
    with pytest.raises(UserError, match=message):
        run_beamline(str(tmp_path), scans=[ScanOrder("fine_", **TINY), order], speed=float("inf"))
    assert os.listdir(tmp_path) == []


def test_an_area_must_be_there(tmp_path):
    with pytest.raises(UserError, match="is not a folder"):
        run_beamline(str(tmp_path / "no"), scans=[])
