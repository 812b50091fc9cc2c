from __future__ import annotations

import subprocess
import sys

import blosc2
import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tomovault.package.codec import decode_frame, decode_rows, encode_frame, frame_filter
from tomovault.package.noisy import BLOCK, encode_noisy

CPARAMS = {
    "codec": blosc2.Codec.ZSTD,
    "clevel": 1,
    "nthreads": 1,
    "typesize": 2,
    "filters": [blosc2.Filter.SHUFFLE, blosc2.Filter.BYTEDELTA],
    "filters_meta": [0, 0],
    "splitmode": blosc2.SplitMode.ALWAYS_SPLIT,
    "blocksize": BLOCK,
}


def noise(count, seed=0, sigma=400.0):
    rng = np.random.default_rng(seed)
    return (30_000 + rng.normal(0, sigma, count)).astype("<u2")


def bytes_of(frame):
    return memoryview(frame.tobytes())


def by_blosc2(frame):
    schunk = blosc2.SChunk(chunksize=frame.nbytes, contiguous=True, data=frame.tobytes(), cparams=CPARAMS)
    return schunk.get_chunk(0)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    count=st.integers(BLOCK // 2, BLOCK + BLOCK // 8),
    seed=st.integers(0, 99),
    flat=st.floats(0, 1),
    top=st.sampled_from([0, 1, 255, 65535]),
)
def test_blosc2_gives_a_noisy_frame_back(count, seed, flat, top):
    frame = noise(count, seed)
    frame[: int(flat * count / 2)] = top
    frame[-3:] = (0, 65535, 255)
    chunk = encode_noisy(bytes_of(frame))
    assert chunk is not None
    assert blosc2.decompress2(chunk) == frame.tobytes()
    back = bytearray(frame.nbytes)
    decode_frame(encode_frame(bytes_of(frame), 2), memoryview(back), codec="blosc2")
    assert back == frame.tobytes()


@pytest.mark.parametrize("count", [BLOCK // 2, BLOCK // 2 + 1, BLOCK, BLOCK + 7777])
def test_the_header_is_the_one_that_blosc2_writes_but_for_the_stored_length(count):
    frame = noise(count)
    ours, theirs = bytes(encode_noisy(bytes_of(frame))), by_blosc2(frame)
    assert ours[:12] + ours[16:32] == theirs[:12] + theirs[16:32]
    assert int.from_bytes(ours[12:16], "little") == len(ours)


@pytest.mark.parametrize("count", [BLOCK // 2, BLOCK + 7777])
def test_a_frame_is_the_one_that_blosc2_makes_of_the_chunk(count):
    for seed in range(3):
        frame = noise(count, seed)
        schunk = blosc2.SChunk(chunksize=frame.nbytes, contiguous=True, cparams=CPARAMS, dparams={"nthreads": 1})
        schunk.insert_chunk(0, bytes(encode_noisy(bytes_of(frame))))
        assert bytes(encode_frame(bytes_of(frame), 2)) == schunk.to_cframe()


def test_noise_takes_fewer_bytes_than_by_blosc2():
    frame = noise(2 * BLOCK)
    assert len(encode_noisy(bytes_of(frame))) < len(by_blosc2(frame))


def test_what_blosc2_codes_as_well_is_left_to_it():
    quiet = noise(BLOCK, sigma=10.0)
    incompressible = np.random.default_rng(0).integers(0, 1 << 16, BLOCK, dtype="<u2")
    for frame in (quiet, np.zeros(BLOCK, "<u2"), noise(BLOCK // 2 - 1), incompressible):
        assert encode_noisy(bytes_of(frame)) is None


def test_h5py_reads_noisy_frames_with_hdf5plugin_alone(tmp_path):
    shape = (700, 801)
    frames = [noise(shape[0] * shape[1], seed).reshape(shape) for seed in range(3)]
    with h5py.File(tmp_path / "a.h5", "w") as file:
        filters = dict(frame_filter(shape))
        data = file.create_dataset("data", (3, *shape), "<u2", chunks=(1, *shape), **filters)
        for row, frame in enumerate(frames):
            assert encode_noisy(bytes_of(frame)) is not None
            data.id.write_direct_chunk((row, 0, 0), encode_frame(bytes_of(frame), 2))
    np.save(tmp_path / "a.npy", np.stack(frames))
    program = "import h5py, hdf5plugin, numpy; assert (h5py.File('a.h5')['data'][()] == numpy.load('a.npy')).all()"
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)


@pytest.mark.parametrize("rows", [slice(0, 1), slice(650, 700), slice(3, 699), slice(None), slice(10, 500, 7)])
def test_some_rows_of_a_noisy_frame_are_read_alone(rows):
    frame = noise(700 * 801).reshape(700, 801)
    stored = encode_frame(bytes_of(frame), 2)
    assert (decode_rows(stored, codec="blosc2", dtype="<u2", shape=frame.shape, rows=rows) == frame[rows]).all()


@pytest.mark.parametrize("dtype", [">u2", "<i2"])
def test_samples_of_another_order_or_sign_come_back(dtype):
    frame = noise(BLOCK).astype(dtype)
    back = bytearray(frame.nbytes)
    decode_frame(encode_frame(bytes_of(frame), 2), memoryview(back), codec="blosc2")
    assert back == frame.tobytes()
