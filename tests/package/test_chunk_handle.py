from __future__ import annotations

import errno
import os
import threading

import h5py
import numpy as np
import pytest

from tomovault.package import straight
from tomovault.package.chunk_handle import ALIGNED, ChunkHandle
from tomovault.package.straight import BLOCK

SHAPE = (800, 1000)
FRAME = SHAPE[0] * SHAPE[1] * 2  # more than ALIGNED, and no multiple of BLOCK


class Writer:
    """A file of frames as HDF5 writes them through the handle."""

    def __init__(self, path):
        self.after, self.put_by = [], []
        self.handle = ChunkHandle(path)
        put = self.handle._put

        def seen(*arguments):
            self.put_by.append(threading.current_thread())
            put(*arguments)

        self.handle._put = seen
        self.file = h5py.File(self.handle, "w", libver="v110", alignment_threshold=ALIGNED, alignment_interval=BLOCK)
        self.data = self.file.create_dataset("a", (0, *SHAPE), "<u2", maxshape=(None, *SHAPE), chunks=(1, *SHAPE))

    def add(self, frame):
        row = self.data.shape[0]
        self.data.resize(row + 1, axis=0)
        write = self.data.id.write_direct_chunk
        self.handle.write_chunk(frame, lambda: write((row, 0, 0), frame), lambda: self.after.append(row))

    def close(self):
        self.file.close()
        self.handle.close()


def frames(count=5):
    rng = np.random.default_rng(1)
    return [rng.integers(0, 60000, SHAPE[0] * SHAPE[1], "<u2").tobytes() for _ in range(count)]


def write(path, wanted):
    writer = Writer(path)
    for frame in wanted:
        writer.add(frame)
    writer.close()
    return writer


def test_every_chunk_lies_where_the_library_says_and_was_put_there_by_another_thread(tmp_path):
    wanted = frames()
    writer = write(tmp_path / "a.h5", wanted)
    assert len(writer.put_by) == len(wanted)
    assert threading.main_thread() not in writer.put_by
    assert writer.after == [0, 1, 2, 3, 4]
    whole = (tmp_path / "a.h5").read_bytes()
    with h5py.File(tmp_path / "a.h5", "r") as file:
        for row, frame in enumerate(wanted):
            info = file["a"].id.get_chunk_info_by_coord((row, 0, 0))
            assert info.byte_offset % BLOCK == 0
            assert whole[info.byte_offset : info.byte_offset + info.size] == frame
            assert file["a"][row].tobytes() == frame


def test_a_buffer_may_be_used_again_after_it_was_written(tmp_path):
    wanted = frames(6)
    writer = Writer(tmp_path / "a.h5")
    buffers = [bytearray(FRAME) for _ in range(2)]
    for row, frame in enumerate(wanted):
        buffer = buffers[row % 2]
        while len(writer.after) < row - 1:
            writer.handle.settle()
        buffer[:] = frame
        writer.add(buffer)
    writer.close()
    with h5py.File(tmp_path / "a.h5", "r") as file:
        assert [file["a"][row].tobytes() for row in range(6)] == wanted


@pytest.mark.parametrize("how", ["not offered", "refused", "in part"])
def test_the_file_is_the_same_where_blocks_do_not_go_straight_to_the_disk(tmp_path, monkeypatch, how):
    wanted = frames()
    write(tmp_path / "a.h5", wanted)
    if how == "not offered":
        monkeypatch.setattr(straight, "_KNOWN", ())
    writer = Writer(tmp_path / "b.h5")
    other, real = writer.handle._straight, os.pwrite

    def pwrite(handle, data, at):
        if handle == other and how == "refused":
            raise OSError(errno.EINVAL, "Invalid argument")
        return real(handle, data[: 10 * BLOCK + 1] if handle == other and len(data) > 10 * BLOCK else data, at)

    monkeypatch.setattr(os, "pwrite", pwrite)
    for frame in wanted:
        writer.add(frame)
    writer.close()
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_a_full_disk_is_told_and_nothing_is_written_after_it(tmp_path, monkeypatch):
    writer, real, calls = Writer(tmp_path / "a.h5"), os.pwrite, []

    def pwrite(handle, data, at):
        if len(data) >= FRAME // BLOCK * BLOCK or calls:
            calls.append(at)
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(handle, data, at)

    monkeypatch.setattr(os, "pwrite", pwrite)
    for frame in frames(4):
        writer.add(frame)
    writer.handle.settle()
    with pytest.raises(OSError, match="No space left"):
        writer.handle.check()
    before = len(calls)
    writer.close()
    assert len(calls) == before
    assert writer.after == [0, 1, 2, 3]


def test_what_the_library_writes_besides_is_not_taken_for_a_chunk(tmp_path):
    with ChunkHandle(tmp_path / "a") as handle:
        chunk, twin = bytes(100), bytearray(100)
        handle.write_chunk(chunk, lambda: handle.write(twin), None)
        assert handle.tell() == 100
        handle.write_chunk(chunk, lambda: handle.write(chunk), None)
    assert (tmp_path / "a").stat().st_size == 200
