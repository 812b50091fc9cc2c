"""A folder that imitates an LTFS volume or an HSM: its attributes are real ones, its stubs are files with a size and no
blocks, and its tape is another folder.
"""

import errno
import os
import shutil
from datetime import timedelta
from pathlib import Path

import pytest

from tomovault.tiers import ltfs_attributes
from tomovault.tiers.free import FREE
from tomovault.tiers.ltfs import LtfsTier

VOLUME = "0b5e7b7a-9f2c-4a6b-8f0d-2f6f5c1f7a11"
_MIGRATE = (
    'while read -r p; do cp "$p" "$TAPE/${p##*/}"; s=$(stat -c %s "$p"); : > "$p"; truncate -s "$s" "$p"; done < "$1"'
)
_ASKED = 'cat "$1" >> "$TAPE/../asked"; echo -- >> "$TAPE/../asked"; '
_RECALL = _ASKED + 'while read -r p; do cat "$TAPE/${p##*/}" > "$p"; done < "$1"'


@pytest.fixture
def root(tmp_path):
    (tmp_path / "mnt").mkdir()
    return tmp_path / "mnt"


@pytest.fixture
def clock(now):
    """The time that a tier is told; `clock.later(seconds)` puts it forward."""

    class Clock:
        at = now

        def later(self, seconds):
            self.at += timedelta(seconds=seconds)

    return Clock()


@pytest.fixture
def tier(root, clock):
    def open_tier(**options):
        return LtfsTier("far", {"path": str(root), **options}, now=lambda: clock.at)

    return open_tier


@pytest.fixture
def hsm(root, tmp_path, tier):
    """Called with bodies of programs for a tier on an HSM that gathers nothing unless it is told to."""
    tape, spool = tmp_path / "tape", tmp_path / "spool"
    tape.mkdir()
    spool.mkdir()

    def open_hsm(**options):
        bodies = {"migrate": _MIGRATE, "recall": _RECALL} | {
            k: options.pop(k) for k in ("migrate", "recall") & options.keys()
        }
        programs = {
            verb: ["/bin/sh", "-c", f'TAPE="{tape}"; {body}', verb, "{list}"]
            for verb, body in bodies.items()
            if body is not None
        }
        return tier(**programs, **{"spool": str(spool), "gather": 0, **options})

    return open_hsm


@pytest.fixture
def asked(tmp_path):
    """The lists that the HSM was asked for, each as the names of its files."""

    def read():
        path = tmp_path / "asked"
        lists = path.read_text().split("--\n")[:-1] if path.exists() else []
        return [[os.path.basename(p).partition(".")[0] for p in one.split()] for one in lists]

    return read


@pytest.fixture
def put(bucket):
    def run(tier, *parcels, job="job1", checkpoint=lambda _name: None):
        return tier.put(parcels, tier.domains()[0], job=job, throttle=bucket, checkpoint=checkpoint)

    return run


@pytest.fixture
def volume(root):
    """The folder is the root of an LTFS volume; called with another UUID it is another volume."""

    def be(name=VOLUME):
        _mark(root, volumeUUID=name, volumeSerial="TOM001", volumeName="tomography one")

    try:
        be()
    except OSError as problem:
        if problem.errno != errno.ENOTSUP:
            raise
        pytest.skip("the file system of the temporary folder takes no attributes `user.*`")
    return be


@pytest.fixture
def index(root, volume, monkeypatch):
    """An LTFS that counts its indexes: asked to write one it does, if anything has changed, when `index.writes`."""
    real = os.setxattr

    class Index:
        writes, changed, generation = True, False, 7

    def setxattr(path, name, value, *rest, **named):
        if name == "user.ltfs.commitMessage":
            Index.changed = True
        elif name == "user.ltfs.sync" and Index.writes and Index.changed:
            Index.changed, Index.generation = False, Index.generation + 1
            real(root, "user.ltfs.indexGeneration", str(Index.generation).encode())
        elif name != "user.ltfs.sync":
            real(path, name, value, *rest, **named)

    real(root, "user.ltfs.indexGeneration", b"7")
    monkeypatch.setattr(os, "setxattr", setxattr)
    monkeypatch.setattr(ltfs_attributes, "_PATIENCE_S", 0.2)
    monkeypatch.setattr(ltfs_attributes, "_LOOK_EVERY_S", 0.01)
    return Index


def _mark(path, **attributes):
    for name, value in attributes.items():
        os.setxattr(path, f"user.ltfs.{name}", str(value).encode())


def _lay(placed, block, partition="b", volume=VOLUME):
    _mark(placed.location, volumeUUID=volume, partition=partition, startblock=block)


def _to_tape(tmp_path, *placed):
    """What an HSM does at night: the files are on tape, and stubs are left."""
    for item in placed:
        size = os.path.getsize(item.location)
        shutil.copyfile(item.location, tmp_path / "tape" / os.path.basename(item.location))
        with open(item.location, "wb") as file:
            file.truncate(size)
        assert os.stat(item.location).st_blocks <= 8


def _fetch(tier, placed, folder):
    folder.mkdir(exist_ok=True)
    files = tier.fetch(placed, str(folder), throttle=FREE, progress=lambda _done, _total: None)
    return [Path(f.location).read_bytes() for f in files]


def _survey(tier):
    return list(tier.survey(lambda _done, _total: None))


def _files_below(root):
    return sorted(os.path.relpath(p, root) for p in root.rglob("*") if p.is_file() and p.name != "place.json")


def _failing(number):
    def fail(*_arguments, **_named):
        raise OSError(number, os.strerror(number))

    return fail


@pytest.fixture
def mark():
    return _mark


@pytest.fixture
def lay():
    return _lay


@pytest.fixture
def to_tape():
    return _to_tape


@pytest.fixture
def fetch():
    return _fetch


@pytest.fixture
def survey():
    return _survey


@pytest.fixture
def files_below():
    return _files_below


@pytest.fixture
def failing():
    return _failing
