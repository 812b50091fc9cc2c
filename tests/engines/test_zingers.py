"""Zingers: what stands out of its neighbourhood is replaced by it, and nothing else is touched."""

import numpy as np
import pytest

from tomovault.engines.fourier.zingers import remove_zingers


def plain_rule(image, threshold):
    """The same in plain words: every pixel against the median of the nine about it."""
    padded = np.pad(image, 1, mode="edge")
    result = image.copy()
    for row in range(image.shape[0]):
        for column in range(image.shape[1]):
            median = np.median(padded[row : row + 3, column : column + 3])
            if image[row, column] - median > threshold:
                result[row, column] = median
    return result


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (7, 1), (12, 17)])
def test_it_is_the_median_of_nine_wherever_it_stands_out(seed, shape):
    rng = np.random.default_rng(seed)
    image = rng.normal(0.5, 0.1, shape).astype(np.float32)
    image[rng.random(shape) < 0.1] += 2.0
    wanted = plain_rule(image, np.float32(0.25))
    count = remove_zingers(image, 0.25)
    assert np.array_equal(image, wanted)
    assert count <= image.size


def test_single_hits_go_and_a_smooth_image_stays():
    down, across = np.mgrid[:40, :60]
    smooth = (0.5 + 0.3 * np.sin(down / 9.0) * np.cos(across / 7.0)).astype(np.float32)
    hit = smooth.copy()
    hit[5, 7], hit[0, 0], hit[39, 30] = 3.0, 9.0, 1.9
    assert remove_zingers(hit, 0.25) == 3
    assert float(np.abs(hit - smooth).max()) < 0.1
    untouched = smooth.copy()
    assert remove_zingers(untouched, 0.25) == 0
    assert np.array_equal(untouched, smooth)


def test_dark_pixels_are_left_alone():
    image = np.full((9, 9), 0.8, np.float32)
    image[4, 4] = 0.0
    assert remove_zingers(image, 0.25) == 0
    assert image[4, 4] == 0.0
