"""From frames to line integrals: what comes out for a row does not depend on the band, and lost frames are noticed."""

import numpy as np
import pytest

from tomovault.core.errors import LostFrames
from tomovault.core.flatfield import plan_flatfield
from tomovault.core.layout import FrameKind
from tomovault.engines.fourier import PLUGIN
from tomovault.engines.fourier.correction import Correction

PHASE = {"method": "paganin", "energy_kev": 20.0, "distance_m": 0.05, "pixel_m": 1e-6, "delta_beta": 300.0}
PLAIN = {"logarithm": True, "clip": (1e-4, 10.0), "zingers": None, "phase": None}


@pytest.fixture
def scan(kit):
    angles = [180.0 * n / 40 for n in range(40)]
    line = 0.01 * kit.sinogram(angles, 32, 15.5, radius=12)
    source = kit.scan(line, angles, counts=5000, rows=16)
    rng = np.random.default_rng(5)
    for kind, image, _angle, _summed in source.frames:
        if kind is FrameKind.PROJECTION:
            image[rng.random(image.shape) < 0.01] = 60000
    return source


@pytest.mark.parametrize("steps", [{}, {"zingers": 0.3}, {"phase": PHASE}, {"zingers": 0.3, "phase": PHASE}])
def test_a_row_is_the_same_in_every_band(scan, steps):
    plan, index = plan_flatfield(scan), scan.indices(FrameKind.PROJECTION)[7]
    settings = {**PLAIN, **steps}
    whole = Correction(scan, plan, slice(0, 16), settings).integrals(index)
    for band in (slice(0, 2), slice(6, 8), slice(5, 13), slice(14, 16)):
        part = Correction(scan, plan, band, settings).integrals(index)
        assert np.array_equal(part, whole[band])


def test_zingers_are_gone_before_the_phase_spreads_them(scan):
    plan, index = plan_flatfield(scan), scan.indices(FrameKind.PROJECTION)[7]
    hit = Correction(scan, plan, slice(0, 16), PLAIN).integrals(index)
    clean = Correction(scan, plan, slice(0, 16), {**PLAIN, "zingers": 0.3}).integrals(index)
    assert float(hit.min()) < -0.5
    assert float(clean.min()) > -0.5


def _spoil(source, index, value):
    kind, image, angle, summed = source.frames[index]
    source.frames[index] = (kind, np.full_like(image, value, dtype=np.float64), angle, summed)


@pytest.mark.parametrize("value", [0.0, 100.0, np.nan])
def test_frames_without_light_or_numbers_are_named(scan, value):
    projections = scan.indices(FrameKind.PROJECTION)
    for place in (3, 21):
        _spoil(scan, projections[place], value)
    engine = PLUGIN()
    resolved = engine.resolve(scan, {"centre": 15.5})
    with pytest.raises(LostFrames, match="2 of 40 projections hold no light or no numbers") as found:
        list(engine.slices(scan, resolved, [4], lambda _d, _t: None))
    assert found.value.frames == (projections[3], projections[21])
    again = engine.resolve(scan, {"centre": 15.5, "exclude": list(found.value.frames)})
    ((row, image),) = engine.slices(scan, again, [4], lambda _d, _t: None)
    assert row == 4
    assert np.isfinite(image).all()
