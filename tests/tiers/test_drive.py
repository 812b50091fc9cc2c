import json
import threading

import pytest

from tomovault.core.errors import Transient


def test_every_move_is_charged_and_none_is_slept(library, put, parcel, shelf, bucket, tmp_path):
    tier = library(drives=1)
    (placed,) = put(tier, parcel("s", bytes(2_000_000)))
    tier.verify([placed], throttle=bucket)
    put(tier, parcel("t", b"t"), pool="B")
    lines = [json.loads(line) for line in shelf.log.read_text().splitlines()]
    by_event = {}
    for line in lines:
        by_event.setdefault(line["event"], []).append(line["seconds"])
        assert line["at"] == "2026-03-01T12:00:00+00:00"
    assert set(by_event["mount"]) == {15.0}
    assert set(by_event["unmount"]) == {24.0}
    assert {"locate", "rewind", "read", "write"} <= set(by_event)
    clock = json.loads((shelf.path / "drives" / "0.json").read_text())["clock_s"]
    assert clock == pytest.approx(sum(line["seconds"] for line in lines), abs=0.1)
    written = sum(line["bytes"] for line in lines if line["event"] == "write")
    assert sum(by_event["write"]) == pytest.approx(written / 360e6, abs=0.01)


def test_a_lost_drive_state_costs_a_mount_only(library, put, parcel, shelf, bucket):
    tier = library()
    (placed,) = put(tier, parcel("s", b"s"))
    for path in (shelf.path / "drives").iterdir():
        path.write_text("")
    assert list(tier.verify([placed], throttle=bucket)) == [""]


def _events(shelf, name):
    return [line for line in shelf.log.read_text().splitlines() if f'"{name}"' in line] if shelf.log.exists() else []


@pytest.mark.parametrize("asked", [1, 2, 3])
def test_nothing_moves_for_a_job_whose_claim_is_lost(library, put, parcel, shelf, asked):
    """Behind the wait for the pool, for the cartridge with its drive, and for the arm (law 7)."""
    tier, left = library(), [True] * (asked - 1)
    tier.hold_to(lambda: bool(left and left.pop()))
    with pytest.raises(Transient, match="claim"):
        put(tier, parcel("s", b"s"))
    assert not left
    assert _events(shelf, "mount") == []


def test_a_claim_that_is_lost_while_a_cartridge_is_waited_for_is_noticed(library, put, parcel, shelf, bucket):
    holder, waiter, claimed = library(), library(), [True]
    (placed,) = put(holder, parcel("s", b"s"))
    waiter.hold_to(lambda: claimed[0])
    ended = []

    def verify():
        try:
            ended.append(waiter.verify([placed], throttle=bucket))
        except Transient as lost:
            ended.append(lost.message)

    thread = threading.Thread(target=verify)
    with holder._robot.mount("A00001L9", holder.faults):
        thread.start()
        claimed[0] = False
        before = len(shelf.log.read_text())
    thread.join(10)
    assert "claim" in ended[0]
    assert len(shelf.log.read_text()) == before


def test_a_copy_that_cannot_be_looked_at_for_a_lost_claim_is_not_written_anew(library, put, parcel, shelf):
    put(library(), parcel("s", b"s"))
    before = {name: shelf.cartridge(name).stat().st_size for name in shelf.barcodes()}
    tier, left = library(), [True, True]
    tier.hold_to(lambda: bool(left and left.pop()))
    with pytest.raises(Transient, match="claim"):
        put(tier, parcel("s", b"s"))
    assert {name: shelf.cartridge(name).stat().st_size for name in shelf.barcodes()} == before


def test_nothing_is_removed_for_a_job_whose_claim_is_lost(library, put, parcel):
    tier = library()
    (placed,) = put(tier, parcel("s", b"s"))
    tier.hold_to(lambda: False)
    with pytest.raises(Transient, match="claim"):
        tier.remove(placed)
    assert tier.poll(tier.stage([placed.location])) == {placed.location: "ready"}


def _drives_taken(shelf):
    return [json.loads(line)["drive"] for line in _events(shelf, "mount")]


def test_a_cartridge_goes_into_the_drive_that_is_preferred_once(library, put, parcel, shelf):
    tier = library(drives=3)
    tier.prefer(1)
    put(tier, parcel("s", b"s"))
    put(tier, parcel("s", b"s"), pool="B")
    assert _drives_taken(shelf) == [1, 0]


def test_a_preferred_drive_that_others_have_is_not_waited_for(library, put, parcel, shelf):
    other, tier = library(drives=2), library(drives=2)
    put(other, parcel("s", b"s"))
    with other._robot.mount("A00001L9", other.faults):
        tier.prefer(0)
        put(tier, parcel("s", b"s"), pool="B")
    assert _drives_taken(shelf) == [0, 1]


def test_a_cartridge_that_is_in_a_drive_is_used_there(library, put, parcel, shelf):
    tier = library(drives=2)
    put(tier, parcel("s", b"s"))
    tier.prefer(1)
    put(tier, parcel("t", b"t"))
    assert _drives_taken(shelf) == [0]
