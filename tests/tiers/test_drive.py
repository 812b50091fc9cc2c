import json

import pytest


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
