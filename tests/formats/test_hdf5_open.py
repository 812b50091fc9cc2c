import subprocess
import sys

import h5py
import pytest

from tomovault.core.errors import UserError
from tomovault.formats.hdf5_open import open_hdf5

WRITER = """
import os, sys
os.environ.pop("HDF5_USE_FILE_LOCKING", None)
import h5py
sys.stdin.readline()
for _ in range(30):
    with h5py.File(sys.argv[1], "a", locking=True) as f:
        f.attrs["x"] = 1
print("no errno 11")
"""


def test_a_locking_writer_is_never_disturbed(tmp_path):
    path = tmp_path / "m.h5"
    with h5py.File(path, "w") as f:
        f["x"] = 1
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with writer, open_hdf5(str(path)) as held:
        out, err = writer.communicate(b"\n", timeout=60)
        assert b"no errno 11" in out, err
        assert held["x"][()] == 1


def test_a_default_open_would_disturb_it(tmp_path):
    """The reason for the rule: without it the same writer fails."""
    path = tmp_path / "m.h5"
    with h5py.File(path, "w") as f:
        f["x"] = 1
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with writer, h5py.File(path, "r", locking=True):
        out, err = writer.communicate(b"\n", timeout=60)
    assert b"no errno 11" not in out
    assert b"errno = 11" in err


SWMR_WRITER = """
import sys
import h5py
with h5py.File(sys.argv[1], "w", libver="latest") as f:
    f.create_dataset("x", data=[1, 2], maxshape=(None,), chunks=(2,))
    f.swmr_mode = True
    print("writing", flush=True)
    sys.stdin.readline()
"""


def test_a_file_in_swmr_writing_is_read(tmp_path):
    path = tmp_path / "s.h5"
    writer = subprocess.Popen(
        [sys.executable, "-c", SWMR_WRITER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with writer:
        assert writer.stdout.readline() == b"writing\n"
        with open_hdf5(str(path)) as reader:
            assert list(reader["x"]) == [1, 2]
        writer.communicate(b"\n", timeout=60)


@pytest.mark.parametrize("content", [None, b"", b"nothing", b"\x89HDF\r\n\x1a\n" + b"\0" * 50])
def test_what_cannot_be_opened_names_the_file(tmp_path, content):
    path = tmp_path / "bad.h5"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"bad\.h5"):
        open_hdf5(str(path))
