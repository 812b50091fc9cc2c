"""Scans in one HDF5 file, as written."""

import dataclasses
import math
from pathlib import Path
from typing import get_args, get_type_hints

import h5py
import numpy as np
import pytest

from tomovault.core.errors import UserError
from tomovault.core.scan import Verdict
from tomovault.testing.beamline import ScanOrder, run_beamline
from tomovault.testing.one_file_scan import write_one_file_scan
from tomovault.testing.one_file_switches import OneFileSwitches
from tomovault.testing.truth import read_truth
from tomovault.testing.variants import EXCHANGE_VARIANTS, NXTOMO_VARIANTS

SMALL = {"shape": (6, 8), "projections": 8, "flats": 2, "darks": 2}
ALL = NXTOMO_VARIANTS + EXCHANGE_VARIANTS


def write(tmp_path, variant, **changes):
    (truth,) = write_one_file_scan(str(tmp_path), "sample", variant=variant, **{**SMALL, **changes}).scans
    return truth


@pytest.mark.parametrize("variant", ALL, ids=lambda v: v.name)
def test_the_same_seed_writes_the_same_bytes(tmp_path, variant):
    one, two = write(tmp_path / "one", variant, digests=True), write(tmp_path / "two", variant, digests=True)
    assert one.files == two.files != {}
    assert write(tmp_path / "three", variant, digests=True, seed=1).files != one.files


def test_every_switch_and_value_is_used_by_a_variant():
    for field in dataclasses.fields(OneFileSwitches):
        values = {getattr(v.one_file, field.name) for v in ALL}
        told = get_args(get_type_hints(OneFileSwitches)[field.name]) or (True, False)
        assert values == set(told), field.name


def test_undecided_is_exactly_undecidable():
    for variant in ALL:
        assert variant.decidable == (variant.truth is not Verdict.UNDECIDED)


def test_angles_come_when_the_camera_file_is_closed(tmp_path):
    log = tmp_path / "truth.jsonl"
    truth = write(tmp_path, "dataexchange-plain", log=str(log))
    closes = [event.at_s for event in read_truth(str(log)) if event.action == "close"]
    assert len(closes) == 2
    assert math.isclose(closes[1] - closes[0], 5.0)
    with h5py.File(Path(truth.folder, truth.key), locking=False) as file:
        assert file["exchange/theta"].shape == (8,)
        assert len(np.unique(file["defaults/NDArrayUniqueId"][()])) == 12


def test_a_variant_of_another_writer_is_refused(tmp_path):
    with pytest.raises(UserError, match="no variant"):
        write(tmp_path, "nxtomo-nonsense")
    with pytest.raises(UserError, match="no variant"):
        write(tmp_path, "nonsense")


def test_the_beamline_writes_them_among_others(tmp_path):
    orders = [ScanOrder("one", "nxtomo-plain", **SMALL), ScanOrder("two", "dataexchange-plain", **SMALL)]
    written = run_beamline(str(tmp_path), scans=orders, speed=math.inf)
    assert [t.writer for t in written.scans] == ["nxtomo", "dataexchange"]
    assert written.errno11 == 0
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == ["one.nx", "two.h5"]
