import os

import pytest


@pytest.fixture
def edf_header():
    """Parse the header of EDF bytes without any library: (header bytes, {key: value})."""

    def parse(content):
        end = content.index(b"}\n") + 2
        values = {}
        for line in content[:end].split(b"\n"):
            key, equals, value = line.partition(b"=")
            if equals:
                values[key.strip().decode("latin-1")] = value.strip().removesuffix(b";").strip().decode("latin-1")
        return end, values

    return parse


@pytest.fixture
def names_in():
    return lambda folder: sorted(os.listdir(folder))


@pytest.fixture(autouse=True)
def _locks_as_in_an_acquisition(monkeypatch):
    """The variable decides over every open and would hide the locks that a writer takes."""
    monkeypatch.delenv("HDF5_USE_FILE_LOCKING", raising=False)
