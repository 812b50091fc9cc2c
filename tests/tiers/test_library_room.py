"""A library without room: it is found before a byte is written, and what can never fit is said."""

import contextlib
import json
import os

import pytest

from tomovault.core.errors import NoRoomYet, UserError

MIB = 1 << 20


def states(shelf):
    return {c["barcode"]: c["state"] for c in json.loads(shelf.state.read_text())["cartridges"]}


def events(shelf, *names):
    lines = [json.loads(line) for line in shelf.log.read_text().splitlines()]
    return [(line["event"], line["barcode"]) for line in lines if line["event"] in names]


@pytest.mark.parametrize("size", [7 * MIB + 300_000, 9 * MIB])
def test_what_no_cartridge_can_hold_is_said_before_one_is_used(library, put, parcel, shelf, bucket, size):
    tier = library()
    for _ in range(3):
        with pytest.raises(UserError, match="does not fit on a blank cartridge") as caught:
            put(tier, parcel("s", bytes(size)))
    assert caught.value.hint
    assert bucket.spent == 0
    assert not shelf.log.exists() or events(shelf, "mount") == []
    assert put(tier, parcel("t", b"t"))[0].location == "A00001L9#1"
    assert states(shelf) == {"A00001L9": "filling"}


def test_the_most_that_a_cartridge_can_hold_is_taken(library, put, parcel, shelf):
    tier, size = library(), 7 * MIB + 300_000
    while True:
        size -= 50_000
        with contextlib.suppress(UserError):
            assert put(tier, parcel("s", bytes(size)))[0].location == "A00001L9#1"
            break
    assert size > 7 * MIB


def test_slots_end(library, put, parcel):
    tier = library(slots=1)
    put(tier, parcel("s", bytes(5 * MIB)))
    with pytest.raises(NoRoomYet, match="slots"):
        put(tier, parcel("t", bytes(5 * MIB)))


def test_a_full_disk_below_the_library_is_found_before_anything_is_written(library, put, parcel, shelf, monkeypatch):
    tier = library()
    put(tier, parcel("s", bytes(MIB)))
    before = shelf.cartridge("A00001L9").read_bytes()
    values = list(os.statvfs(shelf.path))
    values[3] = values[4] = 5 * MIB // values[1]
    monkeypatch.setattr(os, "fstatvfs", lambda _fd: os.statvfs_result(values))
    with pytest.raises(NoRoomYet, match="free"):
        put(tier, parcel("t", bytes(4 * MIB)))
    assert shelf.cartridge("A00001L9").read_bytes() == before
    assert put(tier, parcel("u", bytes(2 * MIB)))[0].location == "A00001L9#2"
