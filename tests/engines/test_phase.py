"""Phase of one distance: a wave that was propagated by Fresnel's integral gives its thickness back."""

import numpy as np
import pytest

from tomovault.core.errors import UserError
from tomovault.engines.fourier.phase import HC_M_KEV, Paganin, phase_bytes, resolve_phase

SETTINGS = {"energy_kev": 20.0, "distance_m": 0.05, "pixel_m": 1e-6, "delta_beta": 300.0}
WISHES = {"delta_beta": 200.0, "energy_kev": None, "distance_m": None, "pixel_m": None}


def propagated(thickness_um, settings, attenuation_per_um=1e-3):
    """Intensity behind a thin object of one material, after a distance, by the Fresnel transfer function."""
    wavelength = HC_M_KEV / settings["energy_kev"]
    beta = attenuation_per_um * 1e6 * wavelength / (4 * np.pi)
    delta = settings["delta_beta"] * beta
    k = 2 * np.pi / wavelength
    wave = np.exp((-k * beta - 1j * k * delta) * thickness_um * 1e-6)
    down, across = (np.fft.fftfreq(n, settings["pixel_m"]) for n in thickness_um.shape)
    chirp = np.exp(-1j * np.pi * wavelength * settings["distance_m"] * (down[:, None] ** 2 + across[None, :] ** 2))
    return np.abs(np.fft.ifft2(np.fft.fft2(wave) * chirp)) ** 2


@pytest.fixture
def blob():
    down, across = np.mgrid[-64:64, -80:80]
    return 30.0 * np.exp(-(down**2 + across**2) / (2 * 12.0**2)) + 10.0 * np.exp(-((across - 40) ** 2 + down**2) / 60.0)


def test_the_thickness_comes_back(blob):
    seen = propagated(blob, SETTINGS).astype(np.float32)
    retrieved = -np.log(Paganin(blob.shape, SETTINGS).retrieve(seen))
    truth = 1e-3 * blob
    raw = float(np.sqrt(np.mean((-np.log(seen) - truth) ** 2)))
    error = float(np.sqrt(np.mean((retrieved - truth) ** 2)))
    assert error < 0.05 * float(truth.std())
    assert error < 0.3 * raw


def test_at_no_distance_nothing_changes(blob):
    seen = np.exp(-1e-3 * blob).astype(np.float32)
    same = Paganin(blob.shape, {**SETTINGS, "distance_m": 1e-12}).retrieve(seen)
    assert same.dtype == np.float32
    assert float(np.abs(same - seen).max()) < 1e-5


def test_the_mean_is_kept():
    seen = np.random.default_rng(0).uniform(0.4, 1.0, (32, 32)).astype(np.float32)
    flat = np.full((32, 32), 0.7, np.float32)
    assert Paganin(flat.shape, SETTINGS).retrieve(flat) == pytest.approx(0.7, abs=1e-6)
    assert float(Paganin(seen.shape, SETTINGS).retrieve(seen).std()) < float(seen.std())
    assert phase_bytes((32, 32), 2) > seen.nbytes


def test_what_the_scan_tells_is_taken_and_a_wish_comes_before():
    facts = {"energy_kev": 26.0, "distance_m": 0.03, "x_pixel_m": 3e-6}
    assert resolve_phase({**WISHES, "delta_beta": None}, facts) is None
    found = resolve_phase({**WISHES, "distance_m": 0.1}, facts)
    assert found == {
        "method": "paganin",
        "delta_beta": 200.0,
        "energy_kev": 26.0,
        "distance_m": 0.1,
        "pixel_m": 3e-6,
    }


def test_what_nobody_tells_is_asked_for():
    with pytest.raises(UserError, match="needs energy_kev, distance_m, which the scan does not tell"):
        resolve_phase(WISHES, {"distance_m": 0.0, "x_pixel_m": 1e-6})
