"""The parser of TIFF directories, on whole files and on files that lie."""

from __future__ import annotations

import os
import struct
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tomovault.formats.tiff_header import DATE, DESCRIPTION, TiffError, read_tiff
from tomovault.testing.tiff_scan import tiff_bytes


@pytest.fixture
def read(tmp_path):
    def go(data, **options):
        path = tmp_path / "x.tif"
        path.write_bytes(data)
        descriptor = os.open(path, os.O_RDONLY)
        try:
            return read_tiff(descriptor, **options)
        finally:
            os.close(descriptor)

    return go


def frames(count=1, dtype="u2", shape=(6, 4)):
    return [(np.arange(24).reshape(shape) + k).astype(dtype) for k in range(count)]


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("strips", [1, 3])
@pytest.mark.parametrize("dtype", ["u1", "u2", "i4", "f4", "f8"])
def test_plain_images_are_found_where_they_lie(read, big, order, strips, dtype):
    images = frames(3, dtype)
    data = tiff_bytes(images, big=big, order=order, strips=strips, description="hello")
    found = read(data)
    assert found.problem == ""
    assert found.texts[DESCRIPTION] == "hello"
    assert found.texts[DATE] == "2026:05:04 03:02:01"
    assert len(found.pages) == 3
    for page, image in zip(found.pages, images, strict=True):
        assert (page.height, page.width) == (6, 4)
        raw = data[page.offset : page.offset + page.length]
        np.testing.assert_array_equal(np.frombuffer(raw, page.dtype).reshape(6, 4), image)


@pytest.mark.parametrize("changes", [{"compressed": True}, {"strips": 3, "gap": 2}])
def test_images_that_are_no_plain_array_have_no_place(read, changes):
    page = read(tiff_bytes(frames(), **changes)).pages[0]
    assert page.offset is None


def test_every_cut_is_seen(read):
    data = tiff_bytes(frames(2))
    for length in range(len(data)):
        try:
            problem = read(data[:length]).problem
        except TiffError as error:
            problem = str(error)
        assert problem or len(data) - length < 8  # padding behind the last value


def test_a_short_file_says_how_many_bytes_it_should_have(read):
    data = bytearray(tiff_bytes(frames()))
    data[data.index(struct.pack("<HHII", 273, 4, 1, 8)) + 8] = 200  # the strip is at 200, in a file of fewer bytes
    found = read(bytes(data))
    assert found.problem == f"{len(data)} bytes of 248"


def test_a_loop_of_directories_ends(read):
    data = bytearray(tiff_bytes(frames(2)))
    first = struct.unpack_from("<I", data, 4)[0]
    count = struct.unpack_from("<H", data, first)[0]
    struct.pack_into("<I", data, first + 2 + 12 * count, first)
    found = read(bytes(data))
    assert len(found.pages) == 1
    assert "loop" in found.problem


def test_more_images_than_wanted_are_not_read(read):
    assert "more than 3 images" in read(tiff_bytes(frames(5)), most_pages=3).problem


def test_a_table_that_many_images_share_costs_no_endless_time(read):
    """2000 directories of 40 bytes that all point to one table of a million strips."""
    strips = 1 << 20
    out = bytearray(b"II*\0" + struct.pack("<I", 8))
    directories, entry = 2000, [(256, 1), (257, strips), (258, 8)]
    size = 2 + 12 * (len(entry) + 2) + 4
    table = 8 + directories * size
    for k in range(directories):
        rows = [struct.pack("<HHII", tag, 4, 1, value) for tag, value in entry]
        rows += [struct.pack("<HHII", tag, 4, strips, table) for tag in (273, 279)]
        following = 8 + (k + 1) * size if k + 1 < directories else 0
        out += struct.pack("<H", len(rows)) + b"".join(rows) + struct.pack("<I", following)
    out += struct.pack("<I", 1) * strips
    began = time.monotonic()
    found_problem = ""
    try:
        found_problem = read(bytes(out)).problem
    except TiffError as error:
        found_problem = str(error)
    assert found_problem
    assert time.monotonic() - began < 20


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"II*\0", "too short"),
        (b"PK\3\4" + bytes(40), "does not start"),
        (b"II\x2c\0" + bytes(40), "version 44"),
        (b"II\x2b\0\7\0\0\0" + bytes(40), "BigTIFF header"),
        (b"II*\0" + bytes(40), "no image"),
        (b"II*\0\xff\xff\xff\xff" + bytes(40), "past the end"),
        (b"II*\0\x08\0\0\0\xff\xff" + bytes(40), "65535 tags"),
    ],
)
def test_what_is_no_tiff_is_said(read, data, words):
    with pytest.raises(TiffError, match=words):
        read(data)


@pytest.fixture(scope="session")
def seeds(real_data):
    """Real and hostile files of at most 4 kB, and two of our own."""
    found = [tiff_bytes(frames(2)), tiff_bytes(frames(2), big=True, order=">", strips=3)]
    for folder in ("tiff-small", "tiff-zoo", "bad-tiff-fuzz"):
        found += [p.read_bytes() for p in sorted((real_data / folder).rglob("*")) if p.is_file()]
    return [data for data in found if len(data) <= 4096]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_mutations_of_real_files_end_in_an_answer(read, seeds, data):
    raw = bytearray(data.draw(st.sampled_from(seeds)))
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(raw) - 1))
        piece = data.draw(st.binary(min_size=1, max_size=8))
        raw[at : at + len(piece)] = piece
    raw = raw[: data.draw(st.integers(0, len(raw)))] if data.draw(st.booleans()) else raw
    try:
        found = read(bytes(raw))
    except TiffError:
        return
    for page in found.pages:
        assert page.width > 0
        assert page.height > 0
        if page.offset is not None:
            assert page.length == page.width * page.height * np.dtype(page.dtype).itemsize
            assert page.offset + page.length <= page.end
            assert page.end <= len(raw) or found.problem
