"""Compressed frames with damaged bytes: the caller gets an array or an error of ours that names the file, in time."""

from __future__ import annotations

import os
import time
from random import Random

import h5py
import hdf5plugin
import numpy as np
import pytest

from tomovault.core.errors import UserError
from tomovault.core.layout import CodedFrame, FrameKind
from tomovault.formats.frames import CodedFrames
from tomovault.formats.limits import Limits
from tomovault.testing.mutants import damage

SHAPE = (6, 40, 50)
STACK = np.random.default_rng(3).poisson(20_000, SHAPE).astype("<u2")
SUMMED = {"gzip", "gzip-shuffle", "fletcher", "zstd"}
CODECS = {
    "gzip": {"compression": "gzip"},
    "gzip-shuffle": {"compression": "gzip", "shuffle": True},
    "lzf": {"compression": "lzf"},
    "fletcher": {"fletcher32": True, "compression": "lzf"},
    "bitshuffle-lz4": dict(hdf5plugin.Bitshuffle()),
    "bitshuffle-zstd": dict(hdf5plugin.Bitshuffle(cname="zstd")),
    "lz4": dict(hdf5plugin.LZ4()),
    "blosc": dict(hdf5plugin.Blosc()),
    "blosc2": dict(hdf5plugin.Blosc2()),
    "zstd": dict(hdf5plugin.Zstd()),
    "bzip2": dict(hdf5plugin.BZip2()),
}
_SHORT = 12


@pytest.fixture(scope="module")
def coded():
    reader = CodedFrames(Limits(wall_s=60.0, cpu_s=2, memory_bytes=1 << 31))
    yield reader
    reader.close()


@pytest.fixture(params=CODECS)
def codec(request):
    return request.param


def frame(index):
    return CodedFrame("data", index, STACK[index].nbytes, "<u2", SHAPE[1:], FrameKind.PROJECTION, index)


def damaged(path, codec, rng):
    """A file with one chunk that was changed after it was written; returns which."""
    bad = rng.randrange(SHAPE[0])
    with h5py.File(path, "w") as file:
        data = file.create_dataset("data", data=STACK, chunks=(1, *SHAPE[1:]), **CODECS[codec])
        mask, chunk = data.id.read_direct_chunk((bad, 0, 0))
        data.id.write_direct_chunk((bad, 0, 0), damage(bytes(chunk), rng), mask)
    return bad


def check_damaged(folder, coded, codec, numbers):
    """How many damaged frames gave an error; one on which nothing sums may give an array of other values."""
    errors = 0
    for number in numbers:
        path = os.path.join(folder, f"{codec}{number}.h5")
        bad = damaged(path, codec, Random(f"{codec} {number}"))
        began = time.monotonic()
        errors += failed(coded, path, bad)
        assert time.monotonic() - began < 60, f"mutant {number} of {codec}"
        good = (bad + 1) % SHAPE[0]
        assert np.array_equal(coded.read(path, frame(good), (0, SHAPE[1])), STACK[good]), f"after mutant {number}"
        os.unlink(path)
    return errors


def failed(coded, path, index):
    try:
        told = coded.read(path, frame(index), (0, SHAPE[1]))
    except UserError as problem:
        message = problem.message
    else:
        assert told.shape == SHAPE[1:]
        return False
    assert path in message
    assert len(message) < 2000
    return True


def test_a_damaged_chunk_hurts_neither_the_caller_nor_the_next_frame(tmp_path, coded, codec):
    errors = check_damaged(str(tmp_path), coded, codec, range(_SHORT))
    assert errors or codec not in SUMMED


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_many_damaged_chunks(tmp_path, coded, codec):
    count, first = (
        int(os.environ.get(key, value)) for key, value in (("TOMOVAULT_FUZZ", 400), ("TOMOVAULT_FUZZ_FROM", 0))
    )
    check_damaged(str(tmp_path), coded, codec, range(first, first + count))
