"""Frames that only the HDF5 library can read, read in a limited process of their own."""

import os
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import pytest

from tomovault.core.errors import UserError
from tomovault.core.layout import CodedFrame, FrameKind
from tomovault.core.scan import Candidate, Verdict
from tomovault.formats import family, frames
from tomovault.formats.frames import CodedFrames
from tomovault.formats.limits import Limits
from tomovault.package.files_source import FilesSource
from tomovault.testing.bliss_scan import write_bliss_scan
from tomovault.testing.one_file_scan import write_one_file_scan

STACK = np.arange(7 * 5 * 6, dtype="<u2").reshape(7, 5, 6)
_SMALL = {"shape": (24, 32), "projections": 8, "flats": 2, "darks": 2}


def frame(index, shape=(5, 6), dtype="<u2"):
    return CodedFrame("data", index, 10, dtype, shape, FrameKind.PROJECTION, index)


@pytest.fixture(scope="module")
def coded():
    """Reads frames; its process does not outlive the tests."""
    reader = CodedFrames()
    yield reader
    reader.close()


@pytest.fixture
def written(tmp_path):
    """Called with what a dataset is made with for a file that holds the stack; its path."""

    def write(**how):
        path = tmp_path / "camera.h5"
        with h5py.File(path, "w") as file:
            file.create_dataset("data", data=STACK, **how)
        return str(path)

    return write


@pytest.mark.parametrize(
    "how",
    [
        {"chunks": (1, 5, 6), "compression": "gzip", "shuffle": True},
        {"chunks": (3, 5, 6), "compression": "lzf"},
        {"chunks": (1, 5, 6), **hdf5plugin.Bitshuffle()},
        {"chunks": (1, 5, 6), **hdf5plugin.LZ4()},
        {"chunks": (2, 5, 6), **hdf5plugin.Blosc2()},
        {"chunks": (1, 2, 4), **hdf5plugin.Zstd()},
    ],
    ids=["gzip", "lzf", "bitshuffle", "lz4", "blosc2", "zstd-tiles"],
)
def test_frames_come_as_they_were_written(coded, written, how):
    path = written(**how)
    for index in (0, 6, 3, 4):
        np.testing.assert_array_equal(coded.read(path, frame(index), (0, 5)), STACK[index])
        np.testing.assert_array_equal(coded.read(path, frame(index), (2, 4)), STACK[index, 2:4])
    assert coded.read(path, frame(0), (3, 3)).shape == (0, 6)


@pytest.mark.parametrize("asked", [frame(7), frame(0, shape=(6, 5)), frame(0, dtype="<i2")])
def test_a_frame_that_is_not_as_it_was_is_an_error(coded, written, asked):
    path = written(compression="gzip")
    with pytest.raises(UserError, match=r"camera\.h5: data is not what it was"):
        coded.read(path, asked, (0, 1))
    assert coded.read(path, frame(1), (0, 1))[0, 0] == STACK[1, 0, 0], "the process goes on"


def test_a_damaged_or_lost_file_is_an_error_that_names_it(coded, written, tmp_path):
    path = written(chunks=(1, 5, 6), compression="gzip")
    with h5py.File(path) as file:
        at = file["data"].id.get_chunk_info(0).byte_offset
    raw = bytearray(Path(path).read_bytes())
    raw[at : at + 8] = b"\xff" * 8
    Path(path).write_bytes(raw)
    for lost in (path, str(tmp_path / "gone.h5")):
        with pytest.raises(UserError, match=os.path.basename(lost)):
            coded.read(lost, frame(0), (0, 5))


def test_bytes_of_other_files_are_never_read(coded, tmp_path):
    """A file may name any other: what is not in it is no frame of it."""
    path = tmp_path / "lure.h5"
    secret = tmp_path / "secret"
    secret.write_bytes(STACK.tobytes())
    layout = h5py.VirtualLayout(STACK.shape, STACK.dtype)
    layout[:] = h5py.VirtualSource(str(tmp_path / "camera.h5"), "data", shape=STACK.shape)
    with h5py.File(path, "w") as file:
        file.create_dataset("outside", STACK.shape, STACK.dtype, external=[(str(secret), 0, STACK.nbytes)])
        file.create_virtual_dataset("virtual", layout)
        file["link"] = h5py.ExternalLink(str(path), "outside")
    for name, word in (("outside", "in other files"), ("virtual", "in other files"), ("link", "any more")):
        wanted = CodedFrame(name, 0, 10, "<u2", (5, 6), FrameKind.PROJECTION, 0)
        with pytest.raises(UserError, match=word):
            coded.read(str(path), wanted, (0, 5))


@pytest.mark.parametrize(
    ("code", "word"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "crashed with SIGSEGV"),
        ("import time; time.sleep(60)", "longer than 2 s"),
        ("print('{}')", "no readable answer"),
        ("print('[' * 70000, end='')", "no readable answer|exit code"),
        ("import sys; sys.stdin.readline(); print('{\"bytes\": 60}')", "failed: exit code 0|ended"),
        ("import sys; sys.exit(3)", "exit code 3"),
    ],
)
def test_a_dead_or_mad_process_is_an_error_and_the_next_frame_has_a_new_one(monkeypatch, tmp_path, written, code, word):
    path = written(compression="gzip")
    reader = CodedFrames(Limits(wall_s=2.0 if "sleep" in code else 30.0))
    (tmp_path / "odd_child.py").write_text(code)
    with monkeypatch.context() as odd:
        odd.setenv("PYTHONPATH", str(tmp_path))
        odd.setattr(frames, "_PROGRAM", "odd_child")
        with pytest.raises(UserError, match=word) as caught:
            reader.read(path, frame(0), (0, 5))
    assert path in caught.value.message
    np.testing.assert_array_equal(reader.read(path, frame(0), (0, 5)), STACK[0])
    reader.close()


@pytest.mark.parametrize("kind", ["bliss-camera-gzip", "bliss-camera-bitshuffle", "nxtomo-gzip", "dataexchange-gzip"])
def test_a_scan_with_compressed_frames_reads_as_the_plain_one(tmp_path, kind):
    """Every frame, with its kind, place and angle; for the package its files stay whole."""
    found = {}
    for variant in (kind, f"{kind.partition('-')[0]}-plain"):
        folder = tmp_path / variant
        folder.mkdir()
        write = write_bliss_scan if kind.startswith("bliss") else write_one_file_scan
        scan = write(str(folder), "bone", variant=variant, **_SMALL).scans[-1]
        key = next(p for p in sorted(os.listdir(scan.folder)) if p.endswith((".h5", ".nx")))
        format_ = family.load(kind.partition("-")[0])
        (report,) = format_.inspect(Candidate(format_.name, scan.folder, key), settled=True)
        assert report.certificate.verdict is Verdict.COMPLETE
        found[variant] = (report.root, format_.layout(report))
    (root, layout), (plain_root, plain) = found.values()
    assert not any(file.frames for file in layout.files)
    assert not any(file.coded for file in plain.files)
    with FilesSource(root, layout) as ours, FilesSource(plain_root, plain) as theirs:
        assert ours.frame_shape == theirs.frame_shape
        for image in (FrameKind.PROJECTION, FrameKind.FLAT, FrameKind.DARK):
            assert list(ours.indices(image)) == list(theirs.indices(image))
            assert ours.indices(image)
            for index in ours.indices(image):
                assert ours.angle_deg(index) == theirs.angle_deg(index)
                np.testing.assert_array_equal(ours.read(index), theirs.read(index))
                np.testing.assert_array_equal(ours.read(index, slice(3, 7)), theirs.read(index, slice(3, 7)))
