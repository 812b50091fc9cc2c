import ctypes
import struct
from types import SimpleNamespace

import numpy as np
import pytest

from tomovault.core.errors import IntegrityError
from tomovault.package import codec

MMAP, TRIM = -3, -1


@pytest.mark.parametrize(
    ("most", "asked"),
    [(100, [(MMAP, 64), (TRIM, 64)]), (40, [(MMAP, 64), (MMAP, 32), (TRIM, 32)]), (10, [(MMAP, 64), (MMAP, 32)])],
)
def test_the_c_library_keeps_what_it_accepts_and_is_left_alone_where_it_accepts_nothing(monkeypatch, most, asked):
    seen = []

    def mallopt(option, count):
        seen.append((option, count))
        return int(count <= most)

    monkeypatch.setattr(ctypes, "CDLL", lambda _name: SimpleNamespace(mallopt=mallopt))
    codec._keep_freed_memory((64, 32))
    assert seen == asked


def test_a_c_library_without_the_option_is_left_as_it_is(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: SimpleNamespace())
    codec._keep_freed_memory((64, 32))


def stored_frame(values):
    raw = np.ascontiguousarray(values, "<u2").tobytes()
    return bytes(codec.encode_frame(memoryview(raw), 2)), raw


def decoded(stored, length):
    into = bytearray(b"\xaa" * (length + 64))
    codec.decode_frame(stored, memoryview(into)[:length], codec="blosc2")
    assert into[length:] == b"\xaa" * 64
    return bytes(into[:length])


@pytest.mark.parametrize("values", [np.zeros((64, 64)), np.full((64, 64), 7), np.arange(4096)])
def test_a_frame_comes_back_also_where_it_is_all_one_value(values):
    stored, raw = stored_frame(values)
    assert decoded(stored, len(raw)) == raw


def test_the_chunk_is_decoded_by_itself_where_there_is_one():
    stored, raw = stored_frame(np.arange(4096))
    assert len(codec._only_chunk(stored, len(raw))) < len(stored)
    assert codec._only_chunk(stored, len(raw) + 2) is None
    assert codec._only_chunk(stored[:20], len(raw)) is None
    assert codec._only_chunk(stored_frame(np.zeros(4096))[0], len(raw)) is None


@pytest.mark.parametrize("length", [0, 2, 8190, 8194, 1 << 20])
def test_a_frame_of_another_length_is_damage_and_nothing_is_written_beyond(length):
    stored, _ = stored_frame(np.arange(4096))
    with pytest.raises(IntegrityError):
        decoded(stored, length)


@pytest.mark.parametrize("at", [4, 8, 12])
@pytest.mark.parametrize("value", [0, 16, 8191, 8193, 1 << 24, -1, -(1 << 31)])
def test_a_chunk_that_lies_about_its_lengths_is_damage_and_nothing_is_written_beyond(at, value):
    """At its bytes 4, 8 and 12: before coding, of a block, after coding."""
    stored, raw = stored_frame(np.arange(4096))
    start = codec._CFRAME_HEADER.unpack_from(stored)[1]
    lying = bytearray(stored)
    struct.pack_into("<i", lying, start + at, value)
    try:
        assert decoded(bytes(lying), len(raw)) == raw
    except IntegrityError:
        assert bytes(lying) != stored
