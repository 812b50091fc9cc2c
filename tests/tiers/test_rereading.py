"""A cartridge that is read whole: what is damaged is found, wherever it is, and named."""

import os
import struct
import zlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tomovault.core.errors import IntegrityError, Transient
from tomovault.tiers.bundle import check_bundle, plan_bundle, write_bundle
from tomovault.tiers.cartridge import FRAME, RECORD, Cartridge
from tomovault.tiers.faults import Faults

KIB = 1 << 10


class Stream:
    """A tape file in memory."""

    def __init__(self, data):
        self.data, self.position = data, 0

    def read(self, count):
        part = self.data[self.position : self.position + count]
        self.position += len(part)
        return part


@pytest.fixture
def read(bucket):
    def run(tier, barcode, *placed):
        return tier.read_cartridge(barcode, placed, throttle=bucket, progress=lambda *_: None)

    return run


@pytest.fixture
def spans(shelf):
    """Where each tape file of a cartridge lies in its file."""

    def run(barcode):
        cartridge = Cartridge.open(str(shelf.cartridge(barcode)), Faults())
        cartridge.close()
        return cartridge.spans

    return run


@pytest.fixture
def three(library, put, parcel):
    """A library, and three bundles on one cartridge of it; the second has two packages."""
    tier = library()
    placed = [
        put(tier, parcel("one", os.urandom(700)))[0],
        *put(tier, parcel("two", os.urandom(300 * KIB), b"abc"), parcel("three", os.urandom(1000))),
        put(tier, parcel("four", b"d"))[0],
    ]
    return tier, placed


def flip(path, at, bit=0):
    with open(path, "r+b") as stream:
        stream.seek(at)
        (byte,) = stream.read(1)
        stream.seek(at)
        stream.write(bytes([byte ^ 1 << bit]))


def flip_unseen(path, span, position, bit=0):
    """A bit of a tape file flips before the drive writes it: every record has the right sum of wrong bytes."""
    record, within = divmod(position, RECORD)
    start = span[0] + record * (FRAME + RECORD)
    flip(path, start + FRAME + within, bit)
    with open(path, "r+b") as stream:
        stream.seek(start)
        head = bytearray(stream.read(FRAME))
        head[16:20] = struct.pack("<I", zlib.crc32(stream.read(RECORD)))  # of the payload
        head[-4:] = struct.pack("<I", zlib.crc32(head[:-4]))
        stream.seek(start)
        stream.write(head)


def bad_files(found):
    return [file.number for file in found.files if file.problem]


def test_the_bytes_told_are_those_of_its_records(three, read, spans):
    tier, placed = three
    found = read(tier, "A00001L9", *placed)
    assert not any(found.answers)
    assert found.bytes == sum((end - start) // (FRAME + RECORD) * RECORD for start, end in spans("A00001L9"))


@given(share=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
def test_a_flipped_bit_anywhere_on_the_medium_is_found(three, read, shelf, spans, share, bit):
    tier, placed = three
    path = shelf.cartridge("A00001L9")
    sizes = spans("A00001L9")
    start, end = sizes[1][0], sizes[3][1]
    at = start + int(share * (end - start))
    file = next((n for n, (_, last) in enumerate(sizes) if at < last), 3)
    flip(path, at, bit)
    try:
        found = read(tier, "A00001L9", *placed)
    finally:
        flip(path, at, bit)
    mark = any(last <= at < last + FRAME for _, last in sizes)
    assert found.problem if mark else bad_files(found) == [file]


WHERE = ("header", "manifest", "member head", "member", "padding", "trailer head", "trailer", "trailer padding", "rest")


@given(where=st.sampled_from(WHERE), share=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_bit_that_flipped_before_it_was_written_is_found(whole, where, share, bit):
    """The records are sound, and only the digests tell."""
    plan, data, check = whole
    file = plan.packages[0].files[0]
    text = data.index(b"}", plan.trailer) + 1
    first, last = {
        "header": (0, 512),
        "manifest": (512, plan.packages[0].manifest.offset - 512),
        "member head": (file.offset - 512, file.offset),
        "member": (file.offset, file.offset + file.size),
        "padding": (file.offset + file.size, plan.packages[0].files[1].offset - 512),
        "trailer head": (plan.trailer, plan.trailer + 512),
        "trailer": (plan.trailer + 512, text),
        "trailer padding": (text, plan.trailer + 1024),
        "rest": (plan.trailer + 1024, len(data)),
    }[where]
    at = first + int(share * (last - first))
    assert check(data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :])


def test_every_byte_of_a_trailer_counts(whole):
    plan, data, check = whole
    assert not check(data)
    for at in range(plan.trailer, plan.trailer + 1024):
        for bit in (at % 8, (at + 5) % 8):
            assert check(data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]), (at - plan.trailer, bit)


@pytest.fixture
def whole(now, bucket, parcel):
    """The plan of a bundle, its tape file, and what finds fault with one."""

    def problem_of(data):
        try:
            check_bundle(Stream(data), bucket)
        except IntegrityError as problem:
            return problem.message
        return ""

    parcels = [parcel("one", os.urandom(900), b"abc")]
    plan = plan_bundle(parcels, bundle="b" * 32, job="j", tier="tape", pool="A", copy=1, now=now)
    out = bytearray()
    write_bundle(plan, parcels, out.extend, bucket, lambda _name: None)
    return plan, bytes(out).ljust(-(-len(out) // RECORD) * RECORD, b"\0"), problem_of


def test_what_is_right_in_a_damaged_bundle_stays_right(three, read, shelf, spans):
    tier, placed = three
    content = placed[1].files[0]
    path = shelf.cartridge("A00001L9")
    flip_unseen(path, spans("A00001L9")[2], RECORD * 2 - 10)
    found = read(tier, "A00001L9", *placed)
    assert [bool(answer) for answer in found.answers] == [False, True, False, False]
    assert content.location.rpartition("/")[2] in found.answers[1]
    assert bad_files(found) == [2]


def test_an_item_alone_in_its_bundle_is_as_bad_as_that(three, read, shelf, spans):
    tier, placed = three
    start, end = spans("A00001L9")[3]
    flip_unseen(shelf.cartridge("A00001L9"), (start, end), (end - start) // (FRAME + RECORD) * RECORD - 1)
    found = read(tier, "A00001L9", *placed)
    assert [bool(answer) for answer in found.answers] == [False, False, False, True]
    assert found.files[-1].finished


def test_of_a_truncated_cartridge_the_lost_bundles_are_named(three, read, shelf, spans):
    tier, placed = three
    os.truncate(shelf.cartridge("A00001L9"), spans("A00001L9")[2][1] - 1000)
    found = read(tier, "A00001L9", *placed)
    assert [bool(answer) for answer in found.answers] == [False, True, True, True]
    assert bad_files(found) == [2, 3]
    assert "2 tape files" in found.answers[3]


def test_a_bundle_without_trailer_does_not_exist(library, put, parcel, read, now, bucket):
    tier = library()
    (placed,) = put(tier, parcel("one", b"1"))
    parcels = [parcel("two", os.urandom(300 * KIB))]
    plan = plan_bundle(parcels, bundle="b" * 32, job="j", tier="tape", pool="A", copy=1, now=now)
    out = bytearray()
    write_bundle(plan, parcels, out.extend, bucket, lambda _name: None)
    with tier._robot.mount("A00001L9", Faults(), write=True) as drive, drive.append() as writer:
        writer.write(bytes(out[: plan.trailer]))
        writer.close()
    found = read(tier, "A00001L9", placed)
    assert not any(found.answers)
    assert [(file.number, file.finished, file.packages == ()) for file in found.files] == [
        (1, True, False),
        (2, False, True),
    ]


def test_the_label_is_looked_at(three, read, shelf, spans):
    tier, placed = three
    flip(shelf.cartridge("A00001L9"), spans("A00001L9")[0][0] + FRAME + 700)
    found = read(tier, "A00001L9", *placed)
    assert "label" in found.problem
    assert not any(found.answers)
    assert bad_files(found) == []


def test_of_a_cartridge_that_cannot_be_opened_nothing_is_right(three, read, shelf):
    tier, placed = three
    flip(shelf.cartridge("A00001L9"), 40)
    found = read(tier, "A00001L9", *placed)
    assert all(found.answers)
    assert "header" in found.problem


def test_without_the_library_nothing_is_bad(three, read, shelf, tmp_path):
    tier, placed = three
    os.rename(shelf.path, tmp_path / "away")
    with pytest.raises(Transient):
        read(tier, "A00001L9", *placed)


def test_a_cartridge_in_use_is_not_bad(library, put, parcel, read):
    tier = library(wait_s=0.1)
    (placed,) = put(tier, parcel("one", b"1"))
    with tier._robot.mount("A00001L9", Faults()), pytest.raises(Transient, match="in use"):
        read(library(wait_s=0.1), "A00001L9", placed)
