import io
import json
import os
import shutil
import subprocess
import sys
import tarfile

import pytest

from tomovault.tiers.cartridge import FRAME, HEADER, RECORD, Cartridge
from tomovault.tiers.faults import Faults


@pytest.fixture
def label(library, put, parcel, shelf):
    """A cartridge with three bundles, and the files of its label."""
    tier = library()
    put(tier, parcel("one", b"1" * 500_000, b""), parcel("two", os.urandom(1000)))
    put(tier, parcel("three", os.urandom(1_000_000)))
    put(tier, parcel("four", b"4"))
    cartridge = Cartridge.open(str(shelf.cartridge("A00001L9")), Faults())
    content = cartridge.read_file(0).read(1 << 24)
    cartridge.close()
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        return {m.name: tar.extractfile(m).read() for m in tar}


@pytest.fixture
def restore(label, tmp_path):
    """Run the restorer that is on the cartridge, away from tomovault."""
    away = tmp_path / "away"
    away.mkdir()
    script = away / "restorer.py"
    script.write_bytes(label["restorer.py"])

    def run(*arguments, data=None):
        command = [sys.executable, "-I", "-S", str(script), *map(str, arguments)]
        return subprocess.run(command, input=data, capture_output=True, cwd=away, timeout=60)

    return run


def flip(path, offset):
    with open(path, "r+b") as stream:
        stream.seek(offset)
        byte = stream.read(1)[0]
        stream.seek(offset)
        stream.write(bytes([byte ^ 1]))


def test_the_label_explains_itself(label):
    about = json.loads(label["LABEL.json"])
    assert (about["barcode"], about["pool"], about["copy"], about["record"]) == ("A00001L9", "A", 1, RECORD)
    text = label["README.txt"].decode("ascii")
    for word in ("mt -f", "tar -x", "MANIFEST.json", "TRAILER.json", "restorer.py"):
        assert word in text
    assert b"tomovault." not in label["restorer.py"].replace(b"tomovault.tiers", b"?tomovault.?")


def test_bundles_are_listed(restore, shelf):
    done = restore(shelf.cartridge("A00001L9"), "--list")
    text = done.stdout.decode()
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in text.splitlines() if line.startswith("#")] == ["#1", "#2", "#3"]
    assert "packages/0002/two.0.h5" in text


def test_packages_are_extracted_and_checked(restore, shelf, tmp_path):
    done = restore(shelf.cartridge("A00001L9"), "--extract", 1, tmp_path / "out")
    assert done.returncode == 0, done.stdout + done.stderr
    for scan, number, files in (("one", 1, 2), ("two", 2, 1)):
        for n in range(files):
            name = f"{scan}.{n}.h5"
            out = tmp_path / "out" / "packages" / f"{number:04d}" / name
            assert out.read_bytes() == (tmp_path / "source" / name).read_bytes()
    assert (tmp_path / "out" / "manifests" / "0001.json").read_bytes() == b'{"scan": "one"}'


def test_damage_is_told(restore, shelf, tmp_path):
    path = shelf.cartridge("A00001L9")
    flip(path, HEADER + FRAME + RECORD + FRAME + 2 * (FRAME + RECORD) + 3000)
    done = restore(path, "--extract", 1, tmp_path / "out")
    assert done.returncode == 4
    assert b"DAMAGED  packages/0001/one.0.h5" in done.stdout
    assert b"ok       packages/0002/two.0.h5" in done.stdout
    assert restore(path, "--extract", 2, tmp_path / "out2").returncode == 0
    flip(path, HEADER + FRAME + RECORD + 3)  # a filemark: later tape files are still found
    assert restore(path, "--extract", 3, tmp_path / "out3").returncode == 0


def test_a_bundle_of_a_real_tape_is_read(restore, shelf, tmp_path):
    taken = restore(shelf.cartridge("A00001L9"), "--tar", 2)
    assert taken.returncode == 0
    assert len(taken.stdout) % RECORD == 0
    bundle = tmp_path / "bundle.tar"
    bundle.write_bytes(taken.stdout)
    assert restore(bundle, "--list").returncode == 0
    for source, data, out in ((bundle, None, "a"), ("-", taken.stdout, "b")):
        done = restore(source, "--extract", 1, tmp_path / out, data=data)
        assert done.returncode == 0, done.stdout + done.stderr
        restored = tmp_path / out / "packages" / "0001" / "three.0.h5"
        assert restored.read_bytes() == (tmp_path / "source" / "three.0.h5").read_bytes()


@pytest.mark.skipif(shutil.which("tar") is None, reason="no tar program here")
def test_the_recipe_of_the_label_works_with_tar_alone(restore, shelf, tmp_path):
    taken = restore(shelf.cartridge("A00001L9"), "--tar", 2)
    out = tmp_path / "out"
    out.mkdir()
    subprocess.run(["tar", "-x", "-b", "512", "-f", "-", "-C", out], input=taken.stdout, check=True, timeout=60)
    expected = (tmp_path / "source" / "three.0.h5").read_bytes()
    assert (out / "packages" / "0001" / "three.0.h5").read_bytes() == expected


def test_wrong_requests_are_told(restore, shelf, tmp_path):
    assert restore(tmp_path / "absent", "--list").returncode == 2
    assert restore(shelf.cartridge("A00001L9"), "--extract", 9, tmp_path / "out").returncode == 4
    assert restore(shelf.cartridge("A00001L9")).returncode == 2
    (tmp_path / "out").mkdir(exist_ok=True)
    first = restore(shelf.cartridge("A00001L9"), "--extract", 3, tmp_path / "out")
    again = restore(shelf.cartridge("A00001L9"), "--extract", 3, tmp_path / "out")
    assert (first.returncode, again.returncode) == (0, 2)
