import os

import pytest

from tomovault.formats.edf_header import LONGEST_HEADER, HeaderError, read_header


@pytest.fixture
def parse(tmp_path):
    def run(data):
        file = tmp_path / "x.edf"
        file.write_bytes(data)
        descriptor = os.open(file, os.O_RDONLY)
        try:
            return read_header(descriptor)
        finally:
            os.close(descriptor)

    return run


def test_a_spec_header_is_read_as_written(parse, image_bytes):
    header = parse(image_bytes(3, srot=12.5))
    assert (header.length, header.body, header.dtype, header.shape) == (3072, 48, "<u2", (4, 6))
    assert header.motors() == {"trash": 1.0, "srot": 12.5, "sx": 2.0}
    assert header.counters() == {"sec": 0.1, "srcur": 167.777}  # -nan is no value
    assert header.keys["title"] == "CCD = Image"
    assert header.frame_bytes == 48


@pytest.mark.parametrize("length", [1024, 4096, 4608, 8192, 32768])
def test_any_number_of_blocks(parse, image_bytes, length):
    assert parse(image_bytes(length=length)).length == length


def test_a_header_that_is_not_padded(parse):
    data = b"{\nDim_1 = 2 ;\nDim_2 = 1 ;\nDataType = FLOAT ;\nByteOrder = HighByteFirst ;\n}\n" + b"\1" * 8
    header = parse(data)
    assert (header.length, header.dtype, header.shape) == (len(data) - 8, ">f4", (1, 2))


def test_latin1_bytes_and_crlf(parse):
    raw = b"{\r\nComment = \xe9t\xe9 = un ;\r\nDim_1 = 2 ;\r\n".ljust(510) + b"}\n"
    header = parse(raw)
    assert header.keys["comment"] == "été = un"
    assert header.dtype is None
    assert header.body is None


def test_size_may_be_padded_and_a_compressed_block_is_no_array(parse):
    raw = b"{\nDim_1 = 2 ;\nDim_2 = 1 ;\nDataType = UnsignedShort ;\nSize = 512 ;\n"
    assert parse(raw.ljust(510) + b"}\n").body == 512
    packed = parse((raw + b"Compression = GzipCompression ;\n").ljust(510) + b"}\n")
    assert packed.dtype is None
    assert packed.body == 512
    assert packed.frame_bytes is None


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"", "empty"),
        (b"II*\0" + b"\0" * 600, "does not start"),
        (b"{\nDim_1 = 2 ;\n", "no end"),
        (b"{" + b" " * (LONGEST_HEADER * 2), f"{LONGEST_HEADER} bytes"),
    ],
)
def test_what_is_no_header_says_so(parse, data, word):
    with pytest.raises(HeaderError, match=word):
        parse(data)


def test_the_real_frame_is_read_as_fabio_reads_it(real_data):
    fabio = pytest.importorskip("fabio", reason="fabio is not installed (pip install tomovault[crosscheck])")
    path = real_data / "edf" / "strain_0000.edf"
    descriptor = os.open(path, os.O_RDONLY)
    try:
        ours = read_header(descriptor)
        body = os.pread(descriptor, ours.frame_bytes, ours.length)
    finally:
        os.close(descriptor)
    with fabio.open(str(path)) as theirs:
        assert theirs.data.tobytes() == body
        assert (theirs.data.shape, theirs.data.dtype.str) == (ours.shape, ours.dtype)
        # fabio makes some keys up, and some it leaves out.
        common = {k.lower(): v for k, v in theirs.header.items() if k.lower() in ours.keys}
        assert len(common) > 20
        assert {k: v.strip() for k, v in common.items()} == {k: ours.keys[k] for k in common}
    assert len(ours.motors()) == 83
    assert len(ours.counters()) == 25
