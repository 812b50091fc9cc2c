import json
import os
import struct
import zlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tomovault.core.errors import IntegrityError, Transient
from tomovault.tiers.cartridge import (
    FRAME,
    HEADER,
    MAGIC,
    RECORD,
    BadRecord,
    Cartridge,
    EndOfMedium,
    create_cartridge,
)
from tomovault.tiers.faults import Faults


@pytest.fixture
def path(tmp_path):
    path = str(tmp_path / "A00001L9")
    create_cartridge(path, "A00001L9", "L9", 8 << 20)
    return path


def append(path, *contents, faults=None):
    cartridge = Cartridge.open(path, faults or Faults(), write=True)
    try:
        for content in contents:
            writer = cartridge.begin()
            writer.write(content)
            writer.close()
    finally:
        cartridge.close()


def read_all(path):
    cartridge = Cartridge.open(path, Faults())
    try:
        return [cartridge.read_file(n).read(1 << 30) for n in range(cartridge.files)]
    finally:
        cartridge.close()


def tail_of(path):
    cartridge = Cartridge.open(path, Faults())
    try:
        return cartridge.tail
    finally:
        cartridge.close()


def flip(path, offset):
    with open(path, "r+b") as stream:
        stream.seek(offset)
        byte = stream.read(1)[0]
        stream.seek(offset)
        stream.write(bytes([byte ^ 0x10]))


def padded(content):
    return content + bytes(-len(content) % RECORD)


def test_tape_files_come_back_in_whole_records(path):
    contents = [b"label", b"", os.urandom(RECORD), os.urandom(2 * RECORD + 1)]
    append(path, *contents)
    assert read_all(path) == [padded(c) for c in contents]
    assert os.path.getsize(path) == HEADER + 4 * FRAME + 5 * (FRAME + RECORD)


def test_a_blank_cartridge_has_no_files_and_is_never_replaced(path):
    assert read_all(path) == []
    with pytest.raises(Transient):
        create_cartridge(path, "A00001L9", "L9", 1)
    assert os.listdir(os.path.dirname(path)) == ["A00001L9"]


def test_the_medium_ends(path):
    cartridge = Cartridge.open(path, Faults(), write=True)
    writer = cartridge.begin()
    assert not cartridge.early_warning
    with pytest.raises(EndOfMedium):
        writer.write(bytes(40 * RECORD))
    assert os.path.getsize(path) <= 8 << 20
    writer.abandon()
    assert os.path.getsize(path) == HEADER
    writer = cartridge.begin()
    writer.write(bytes(30 * RECORD))
    writer.close()
    assert cartridge.early_warning
    cartridge.close()


@pytest.mark.parametrize("cut", [1, FRAME - 1, FRAME, FRAME + 1, FRAME + RECORD, FRAME + RECORD + 5])
def test_a_power_cut_costs_the_file_that_was_being_written(path, cut):
    append(path, b"first", os.urandom(3 * RECORD))
    os.truncate(path, os.path.getsize(path) - cut)
    assert read_all(path) == [padded(b"first")]
    assert tail_of(path) > 0
    append(path, b"second")
    assert read_all(path) == [padded(b"first"), padded(b"second")]
    assert tail_of(path) == 0


def test_zeros_after_a_power_cut_are_no_data(path):
    append(path, b"first")
    with open(path, "ab") as stream:
        stream.write(bytes(RECORD * 2 + 100))
    assert read_all(path) == [padded(b"first")]
    append(path, b"second")
    assert read_all(path) == [padded(b"first"), padded(b"second")]


def test_damage_inside_costs_one_record_and_no_file(path):
    append(path, b"label", os.urandom(3 * RECORD), b"last")
    second = HEADER + 2 * FRAME + RECORD
    for offset in (second + 3, second + FRAME + 100):  # the head, then the payload, of the file's first record
        flip(path, offset)
        os.truncate(path, os.path.getsize(path) - 1)  # the chain of filemarks is broken too
        with open(path, "ab") as stream:
            stream.write(b"?")
        cartridge = Cartridge.open(path, Faults())
        assert cartridge.files == 2
        reader = cartridge.read_file(1)
        with pytest.raises(BadRecord):
            reader.read(10)
        reader.skip_to(RECORD)
        assert len(reader.read(2 * RECORD)) == 2 * RECORD
        cartridge.close()
        flip(path, offset)


def test_a_damaged_filemark_hides_no_later_file(path):
    append(path, b"label", b"second", b"third")
    flip(path, HEADER + FRAME + RECORD + 2)
    assert read_all(path) == [padded(b"label"), padded(b"second"), padded(b"third")]


def test_a_cartridge_within_a_cartridge_is_data(path, tmp_path):
    inner = str(tmp_path / "B00001L9")
    create_cartridge(inner, "B00001L9", "L9", 8 << 20)
    append(inner, b"one", b"two")
    with open(inner, "rb") as stream:
        content = stream.read()
    append(path, content, b"after")
    flip(path, HEADER)  # the first head, so that every frame is searched for
    assert len(read_all_but_damaged(path)) == 2


def read_all_but_damaged(path):
    cartridge = Cartridge.open(path, Faults())
    try:
        return cartridge.spans
    finally:
        cartridge.close()


@pytest.mark.parametrize("damage", ["barcode", "header", "short", "empty"])
def test_what_is_no_cartridge_is_told(path, damage):
    if damage == "barcode":
        other = path.replace("A00001", "A00002")
        os.rename(path, other)
        path = other
    elif damage == "header":
        flip(path, 40)
    else:
        os.truncate(path, 100 if damage == "short" else 0)
    with pytest.raises(IntegrityError):
        Cartridge.open(path, Faults())


def rewrite_header(path, **lies):
    """The header says this, too, and has the right checksum."""
    with open(path, "r+b") as stream:
        head = stream.read(HEADER)
        plain = json.loads(head[len(MAGIC) : -4].rstrip(b"\0")) | lies
        body = (MAGIC + json.dumps(plain).encode()).ljust(HEADER - 4, b"\0")
        stream.seek(0)
        stream.write(body + struct.pack("<I", zlib.crc32(body)))


@pytest.mark.parametrize(
    "lie",
    [
        {"colour": "red"},
        {"uuid": "no hexadecimal digits"},
        {"uuid": ""},
        {"uuid": 5},
        {"capacity": 0},
        {"capacity": -1},
        {"capacity": 10**200},
        {"capacity": "8MiB"},
        {"record": None},
    ],
)
def test_a_header_that_cannot_be_is_told(path, lie):
    append(path, b"first")
    rewrite_header(path, **lie)
    with pytest.raises(IntegrityError, match="header"):
        Cartridge.open(path, Faults())


def test_a_forged_frame_does_not_make_tape_files_out_of_nothing(path):
    append(path, b"label", b"second")
    whole = read_all(path)
    with open(path, "r+b") as stream:
        stream.seek(HEADER)
        marker = stream.read(8)
        head = struct.pack("<8sBBHIIIQ", marker, 2, 0, 0, 0, 0, 1 << 20, 0)
        stream.seek(0, os.SEEK_END)
        stream.write(head + struct.pack("<I", zlib.crc32(head)))
    assert read_all(path) == whole
    assert tail_of(path) == FRAME


def test_a_link_is_no_cartridge(path, tmp_path):
    os.symlink(path, tmp_path / "A00002L9")
    with pytest.raises(Transient):
        Cartridge.open(str(tmp_path / "A00002L9"), Faults())


class Injured(Faults):
    def __init__(self, what):
        self.what = what

    def reading(self, barcode, file, record):
        if self.what == "error" and record == 1:
            raise OSError(5, "Input/output error")

    def read(self, barcode, file, record, payload):
        return payload[:-1] if self.what == "short" and record == 1 else payload


@pytest.mark.parametrize(("what", "error"), [("error", Transient), ("short", BadRecord)])
def test_read_errors_name_the_record(path, what, error):
    append(path, os.urandom(3 * RECORD))
    cartridge = Cartridge.open(path, Injured(what))
    reader = cartridge.read_file(0)
    with pytest.raises(error, match="record 1 of A00001L9#0"):
        reader.read(2 * RECORD)
    cartridge.close()


def test_a_tape_is_read_forward_and_ends(path):
    append(path, b"x")
    cartridge = Cartridge.open(path, Faults())
    reader = cartridge.read_file(0)
    reader.read(10)
    with pytest.raises(BadRecord, match="forward"):
        reader.skip_to(5)
    with pytest.raises(BadRecord):
        reader.skip_to(RECORD + 1)
    with pytest.raises(IntegrityError):
        cartridge.read_file(1)
    cartridge.close()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=st.lists(st.integers(0, 2 * RECORD), max_size=5), cut=st.integers(0, 3 * RECORD), data=st.data())
def test_whatever_is_cut_off_closed_files_stay(tmp_path_factory, sizes, cut, data):
    path = str(tmp_path_factory.mktemp("c") / "A00001L9")
    create_cartridge(path, "A00001L9", "L9", 8 << 20)
    contents = [bytes([n + 1]) * size for n, size in enumerate(sizes)]
    append(path, *contents)
    ends, at = [], HEADER
    for content in contents:
        at += len(padded(content)) // RECORD * (FRAME + RECORD) + FRAME
        ends.append(at)
    size = max(HEADER, at - cut)
    os.truncate(path, size)
    kept = [padded(c) for c, end in zip(contents, ends, strict=True) if end <= size]
    assert read_all(path) == kept
    append(path, b"new")
    assert read_all(path) == [*kept, padded(b"new")]
