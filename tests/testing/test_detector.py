import numpy as np
import pytest

from tomovault.core.errors import UserError
from tomovault.testing.detector import FRELON, SCMOS, Camera, illumination, named_detector
from tomovault.testing.phantom import Cylinder, Ellipsoid, Phantom, sample_phantom


def sigma_of(frame):
    """Noise from second differences down the columns, which take the profile and stripes out."""
    steps = np.diff(frame.astype(float), n=2, axis=0)
    return np.median(np.abs(steps)) / 0.6745 / np.sqrt(6.0)


@pytest.mark.parametrize("fast", [False, True])
def test_scmos_noise_is_that_of_its_electrons(fast):
    camera = Camera(SCMOS, (256, 256), seed=1, fast=fast)
    frame = camera.expose(None, 1)
    electrons = (np.median(frame) - 100) * 0.46
    assert sigma_of(frame) == pytest.approx(np.sqrt(electrons + 2.5**2) / 0.46, rel=0.1)
    assert frame.dtype == np.uint16
    dark = camera.dark(3)
    assert dark.mean() == pytest.approx(100, abs=2)
    assert dark[:, 0].std() == pytest.approx(2.5 / 0.46, rel=0.25)


def test_frelon_noise_is_correlated_between_neighbours_and_stays_in_14_bits():
    camera = Camera(FRELON, (256, 256), seed=1)
    one, other = camera.expose(None, 1).astype(float), camera.expose(None, 2).astype(float)
    noise = one - other
    assert max(one.max(), other.max()) <= 16383
    beside = np.corrcoef(noise[:, :-1].ravel(), noise[:, 1:].ravel())[0, 1]
    far = np.corrcoef(noise[:, :-9].ravel(), noise[:, 9:].ravel())[0, 1]
    assert beside > 0.2
    assert abs(far) < 0.05


def test_fast_frames_do_not_share_their_noise():
    camera = Camera(SCMOS, (64, 64), fast=True)
    mean = illumination((64, 64))
    one, other = (camera.expose(None, key) / mean for key in (1, 2))
    correlation = np.corrcoef((one - one.mean()).ravel(), (other - other.mean()).ravel())[0, 1]
    assert abs(correlation) < 0.2
    assert np.array_equal(camera.expose(None, 1), camera.expose(None, 1))


def test_a_frame_does_not_depend_on_what_came_before():
    first = Camera(FRELON, (32, 32), seed=5)
    second = Camera(FRELON, (32, 32), seed=5)
    second.expose(None, 8)
    assert np.array_equal(first.expose(None, 9), second.expose(None, 9))
    assert not np.array_equal(first.expose(None, 9), Camera(FRELON, (32, 32), seed=6).expose(None, 9))


def test_bad_detectors_are_refused():
    with pytest.raises(UserError, match="no detector 'film'") as problem:
        named_detector("film")
    assert problem.value.hint == "one of: frelon, scmos"
    with pytest.raises(UserError, match="no pixels"):
        Camera(SCMOS, (0, 5))


def test_chords_are_exact_at_the_centre_of_an_ellipsoid():
    solid = Ellipsoid(2.0, 0.0, 0.0, 0.0, 0.5, 0.25, 0.4)
    phantom = Phantom([solid])
    # Rays at angle 0 run along y: the chord through the centre is 2 b; at 90 degrees it is 2 a.
    assert phantom.projection(0, (201, 201))[100, 100] == pytest.approx(2.0 * 0.5, rel=1e-4)
    assert phantom.projection(90, (201, 201))[100, 100] == pytest.approx(2.0 * 1.0, rel=1e-4)


@pytest.mark.parametrize("angle", [0, 17, 90, 133.3])
def test_the_mass_of_an_ellipsoid_and_of_a_cylinder_is_the_same_at_every_angle(angle):
    ellipsoid = Phantom([Ellipsoid(1.0, 0.2, -0.1, 0.1, 0.5, 0.3, 0.4, turn_deg=20)])
    pixel = (2.0 / 256) ** 2
    assert ellipsoid.projection(angle, (256, 256)).sum() * pixel == pytest.approx(4 / 3 * np.pi * 0.06, rel=2e-3)
    cylinder = Phantom([Cylinder(1.0, 0.2, -0.1, 0.0, 0.5, 0.3, 0.5)])
    assert cylinder.projection(angle, (256, 256)).sum() * pixel == pytest.approx(np.pi * 0.15, rel=1e-2)


def test_half_a_turn_is_the_mirror_image_about_the_axis():
    phantom = sample_phantom(3, axis_offset=0.0)
    assert np.allclose(phantom.projection(30, (40, 64)), phantom.projection(210, (40, 64))[:, ::-1], atol=1e-3)
    assert phantom.projection(30, (40, 64)).min() >= -1e-4
    assert phantom.projection(30, (40, 64)).dtype == np.float32


def test_solids_off_the_detector_are_no_trouble():
    assert Phantom([Ellipsoid(1, 5, 5, 0, 0.1, 0.1, 0.1)]).projection(0, (8, 8)).max() == 0
