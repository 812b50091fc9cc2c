import os
import re
from types import SimpleNamespace

import pytest

from tomovault.core.scan import Candidate
from tomovault.watch.walker import Walker


class SeriesFormat:
    """Every folder that holds .edf files is one candidate; its members are all .edf and .info files."""

    name = "series"

    def recognise(self, listing):
        if any(name.endswith(".edf") for name in listing.files):
            return [Candidate("series", listing.folder)]
        return []

    def members(self, candidate, listing):
        return [name for name in listing.files if name.endswith((".edf", ".info"))], []


class MasterFormat:
    """Every .h5 file is a candidate with that key; its members are itself and the files in scanNNNN folders."""

    name = "master"

    def recognise(self, listing):
        return [Candidate("master", listing.folder, name) for name in listing.files if name.endswith(".h5")]

    def members(self, candidate, listing):
        return [candidate.key], [name for name in listing.folders if re.fullmatch(r"scan\d{4}", name)]


class BrokenFormat:
    """Fails on every folder whose name starts with 'odd'."""

    name = "broken"

    def recognise(self, listing):
        if os.path.basename(listing.folder).startswith("odd"):
            raise RuntimeError("cannot make sense of it")
        return []

    def members(self, candidate, listing):
        return [], []


class Clock:
    """A monotonic clock that a test moves."""

    def __init__(self, now=1000.0):
        self.now = now
        self.slept = []

    def __call__(self):
        return self.now

    def pass_(self, seconds):
        self.now += seconds

    def sleep(self, seconds):
        assert seconds > 0
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def kinds():
    return SimpleNamespace(series=SeriesFormat(), master=MasterFormat(), broken=BrokenFormat(), Clock=Clock)


@pytest.fixture
def write_scan():
    """Write a folder with a few frames; returns its path."""

    def write(folder, frames=3, size=100):
        os.makedirs(folder, exist_ok=True)
        for index in range(frames):
            with open(os.path.join(folder, f"s{index:04d}.edf"), "wb") as stream:
                stream.write(b"x" * size)
        return str(folder)

    return write


@pytest.fixture
def area(tmp_path):
    folder = tmp_path / "area"
    folder.mkdir()
    (folder / ".tomovault").mkdir()
    (folder / ".tomovault" / "hidden.edf").touch()
    return folder


@pytest.fixture
def watch(area, clock, kinds):
    return Walker(str(area), [kinds.series, kinds.master], clock=clock, quiet_s=60.0, recent_s=600.0)


@pytest.fixture
def failing_open(monkeypatch):
    """Makes os.open of folders of some names fail."""
    real, failing = os.open, {}

    def open_(path, flags, *args, **kwargs):
        if path in failing:
            raise OSError(failing[path], os.strerror(failing[path]), path)
        return real(path, flags, *args, **kwargs)

    monkeypatch.setattr(os, "open", open_)
    return failing
