"""A slice made again from what is stored with its volume."""

from datetime import UTC, datetime

import h5py
import numpy as np
import pytest

from tomovault.core.errors import IntegrityError
from tomovault.core.ports import Estimate
from tomovault.package.names import Whose
from tomovault.package.reslice import TOLERANCE, remake_slice
from tomovault.package.volume import DATA, write_volume

DIGEST = "cd" * 32


class Source:
    """The frames of a scan, of which only the digest is asked here."""

    def __init__(self, digest=DIGEST):
        self._digest = digest

    def facts(self):
        return {"digest": self._digest}


class Engine:
    """Makes slices of a seed that is among the parameters; `off` is added to one value of each."""

    name = "fourier"

    def __init__(self, off=0.0, memory=1000):
        self.off = off
        self.memory = memory

    def estimate(self, _source, resolved):
        assert len(resolved["rows"]) == 1
        return Estimate(self.memory, 1.0)

    def slices(self, _source, resolved, rows, _progress):
        for row in rows:
            image = np.random.default_rng([resolved["seed"], row]).normal(size=(16, 16)).astype(np.float32)
            image[3, 4] += self.off
            yield row, image


@pytest.fixture(params=["float32", "uint16"])
def stored(request, tmp_path):
    rows = [2, 5, 7]
    made = write_volume(
        tmp_path,
        "scan",
        rows,
        Engine().slices(None, {"seed": 9}, rows, None),
        resolved={"seed": 9, "rows": rows},
        engine="fourier",
        version="1",
        nx={"digest": DIGEST},
        whose=Whose("s1"),
        job="job-7",
        now=datetime(2026, 3, 1, tzinfo=UTC),
        threads=1,
        throttle=type("Free", (), {"spend": lambda *_: None})(),
        checkpoint=lambda _name: None,
        progress=lambda *_: None,
        dtype=request.param,
    )
    return made.files[0].location


def remake(stored, engine=None, source=None, memory=0):
    return remake_slice(stored, source or Source(), engine or Engine(), lambda rows: rows[1], memory)


def test_it_is_the_stored_one(stored):
    made = remake(stored)
    assert (made.row, made.same, made.skipped) == (5, True, "")
    assert made.largest <= 1e-9


def test_another_processor_changes_nothing_that_matters_and_another_centre_does(stored):
    with h5py.File(stored) as file:
        reach = float(np.ptp(file[DATA][1].astype(float)))
        if "scale" in file[DATA].attrs:
            reach *= float(file[DATA].attrs["scale"])
    assert remake(stored, Engine(off=TOLERANCE * reach / 2)).same
    made = remake(stored, Engine(off=TOLERANCE * reach * 20))
    assert not made.same
    assert made.largest > TOLERANCE


def test_a_value_that_is_none_is_a_difference(stored):
    assert not remake(stored, Engine(off=float("nan"))).same


def test_what_was_not_made_of_this_or_by_this_is_left(stored):
    assert "another original" in remake(stored, source=Source("ef" * 32)).skipped
    other = Engine()
    other.name = "nabu"
    assert "was made by tomovault fourier" in remake(stored, other).skipped
    assert "needs 1000 bytes" in remake(stored, memory=999).skipped
    assert remake(stored, memory=1000).same


def test_a_volume_that_cannot_be_read_is_damage(tmp_path):
    (tmp_path / "broken.volume.h5").write_bytes(b"no HDF5")
    with pytest.raises(IntegrityError):
        remake(str(tmp_path / "broken.volume.h5"))
