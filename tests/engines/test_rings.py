"""Rings: stripes of columns that answer differently go out of a sinogram; the object and its order of angles stay."""

import numpy as np
import pytest

from tomovault.engines.fourier import PLUGIN
from tomovault.engines.fourier.rings import _BLOCK_BYTES, remove_rings, rings_bytes

MU = 0.01


def even_angles(count, span=180.0):
    return [span * n / count for n in range(count)]


@pytest.fixture
def sinogram(kit):
    """With a little noise: of equal values it is not defined which comes first."""
    clean = MU * kit.sinogram(even_angles(180), 128, 63.5, radius=55)
    return (clean + np.random.default_rng(0).normal(0, 1e-4, clean.shape)).astype(np.float32)


def test_stripes_are_gone_and_the_object_is_not(sinogram):
    rng = np.random.default_rng(1)
    stripes = np.where(rng.random(128) < 0.06, rng.choice([-0.05, 0.05], 128), 0.0).astype(np.float32)
    striped, untouched = sinogram + stripes, sinogram.copy()
    remove_rings(striped, 9)
    remove_rings(untouched, 9)
    left = (striped - untouched).mean(axis=0)
    assert np.abs(left).sum() < 0.3 * np.abs(stripes).sum()
    assert float(np.sqrt(np.mean((untouched - sinogram) ** 2))) < 0.05 * float(sinogram.std())


@pytest.mark.parametrize("level", [0.0, 0.7])
def test_a_sinogram_that_is_the_same_in_every_column_stays(level):
    rng = np.random.default_rng(2)
    flat = np.repeat(rng.normal(level, 0.2, (50, 1)), 40, axis=1).astype(np.float32)
    kept = flat.copy()
    remove_rings(kept, 5)
    assert np.array_equal(kept, flat)


def test_the_order_of_angles_does_not_matter(sinogram):
    order = np.random.default_rng(3).permutation(len(sinogram))
    straight, shuffled = sinogram.copy(), sinogram[order]
    remove_rings(straight, 11)
    remove_rings(shuffled, 11)
    assert np.array_equal(straight[order], shuffled)


def test_blocks_of_angles_do_not_show(monkeypatch, sinogram):
    whole, parts = sinogram.copy(), sinogram.copy()
    remove_rings(whole, 11)
    monkeypatch.setattr("tomovault.engines.fourier.rings._BLOCK_BYTES", 4 * 128 * 11 * 7)
    remove_rings(parts, 11)
    assert np.array_equal(whole, parts)
    assert rings_bytes(180, 128, 11) > 0
    assert _BLOCK_BYTES > 0


def test_a_slice_with_rings_comes_out_nearly_as_without(kit):
    angles = even_angles(192)
    line = MU * kit.sinogram(angles, 96, 47.5, radius=40)
    rng = np.random.default_rng(4)
    gain = np.where(rng.random(96) < 0.06, rng.choice([-0.08, 0.08], 96), 0.0)
    truth = MU * kit.slice(96, radius=40)

    def error(stripes, **wishes):
        source, engine = kit.scan(line + stripes, angles), PLUGIN()
        resolved = engine.resolve(source, {"centre": 47.5, **wishes})
        ((_, image),) = engine.slices(source, resolved, [0], lambda _d, _t: None)
        return float(np.sqrt(np.mean((image - truth)[20:76, 20:76] ** 2)))

    clean, ringed = error(0.0), error(gain)
    cleaned = error(gain, rings="sorting")
    assert ringed > 2.5 * clean
    assert cleaned < 0.5 * ringed
    # What remains is what the method itself takes from the object.
    assert cleaned == pytest.approx(error(0.0, rings="sorting"), rel=0.05)
