"""An earlier run once more: the same bits from the same scan, and of another only what is not the scan's."""

import json

import numpy as np
import pytest

from tomovault.engines.fourier import PLUGIN
from tomovault.engines.fourier import engine as module

WISHES = {"filter": "hann", "rings": "sorting", "rings_width": 5, "zingers": 0.4, "clip": (1e-3, 9.0)}


def quiet(_done, _total):
    """No progress wanted."""


def volume(source, resolved):
    return np.stack([image for _, image in PLUGIN().slices(source, resolved, resolved["rows"], quiet)])


def make(kit, digest, *, seed=0, centre=15.5, count=60, facts=None):
    angles = [180.0 * n / count for n in range(count)]
    line = 0.01 * kit.sinogram(angles, 32, centre, radius=12)
    told = {"digest": digest, "energy_kev": 20.0, "distance_m": 0.05, "x_pixel_m": 1e-6}
    return kit.scan(line, angles, counts=20000, seed=seed, rows=4, facts={**told, **(facts or {})})


@pytest.mark.parametrize("more", [{}, {"delta_beta": 100.0}, {"exclude": [9, 10]}, {"rows": [1, 2]}])
def test_the_same_scan_gives_the_same_bits(kit, more):
    source, engine = make(kit, "one"), PLUGIN()
    resolved = engine.resolve(source, {**WISHES, **more})
    stored = json.loads(json.dumps(resolved))
    again = engine.repeat(make(kit, "one"), stored)
    assert again.anew == {}
    assert json.loads(json.dumps(dict(again.resolved))) == stored
    assert np.array_equal(volume(source, resolved), volume(source, again.resolved))


def test_a_run_of_before_these_steps_is_repeated_too(kit):
    source, engine = make(kit, "one"), PLUGIN()
    resolved = engine.resolve(source, {})
    new = ("zingers", "rings", "rings_width", "phase", "warnings")
    old = {key: value for key, value in resolved.items() if key not in new}
    again = engine.repeat(source, old)
    assert again.anew == {}
    assert np.array_equal(volume(source, resolved), volume(source, again.resolved))


def test_another_scan_keeps_its_own_centre_and_frames(kit):
    engine = PLUGIN()
    earlier = engine.resolve(make(kit, "one", centre=15.5), {**WISHES, "delta_beta": 100.0})
    source = make(kit, "two", centre=17.25, count=80, facts={"distance_m": 0.2})
    again = engine.repeat(source, earlier)
    assert again.resolved["centre"] == pytest.approx(17.25, abs=0.3)
    assert len(again.resolved["angles_deg"]) == 80
    assert {key: again.resolved[key] for key in ("filter", "rings", "rings_width", "zingers")} == {
        key: WISHES[key] for key in ("filter", "rings", "rings_width", "zingers")
    }
    assert again.resolved["phase"]["delta_beta"] == 100.0
    assert again.resolved["phase"]["distance_m"] == 0.2
    assert {"centre", "angles_deg", "flats", "darks", "projections", "phase"} <= again.anew.keys()
    assert "mounted" in again.anew["centre"]


def test_other_libraries_are_told(kit):
    source, engine = make(kit, "one"), PLUGIN()
    earlier = {**engine.resolve(source, {}), "numpy": "1.26.0"}
    assert "then 1.26.0, now " + np.__version__ in engine.repeat(source, earlier).anew["numpy"]


def test_another_algorithm_keeps_the_centre_and_says_so(kit, monkeypatch):
    source, engine = make(kit, "one"), PLUGIN()
    earlier = engine.resolve(source, {"centre": 15.0, "filter": "ramp", "exclude": [6]})
    monkeypatch.setattr(module, "ALGORITHM", 2)
    again = engine.repeat(source, earlier)
    assert again.anew.keys() == {"algorithm"}
    assert again.resolved["algorithm"] == 2
    assert {key: again.resolved[key] for key in ("centre", "filter", "projections", "rows")} == {
        key: earlier[key] for key in ("centre", "filter", "projections", "rows")
    }


def test_a_preview_is_repeated_for_every_row(kit):
    source, engine = make(kit, "one"), PLUGIN()
    earlier = {key: value for key, value in engine.resolve(source, {"rows": [2]}).items() if key != "rows"}
    again = engine.repeat(source, earlier)
    assert again.resolved["rows"] == [0, 1, 2, 3]
    assert again.anew.keys() == {"rows"}


def test_a_run_of_bytes_that_were_not_recorded_is_not_called_another_scans(kit):
    engine, source = PLUGIN(), make(kit, "one")
    of_before = {**engine.resolve(source, {}), "source_digest": None}
    again = engine.repeat(source, of_before)
    assert set(again.anew) >= {"centre", "flats", "angles_deg"}
    assert all("not recorded" in why for why in again.anew.values())
