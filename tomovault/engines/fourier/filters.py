"""Reconstruction filters, and lengths that a Fourier transform likes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tomovault.core.errors import UserError

#: Windows over the band-limited ramp, as functions of the frequency in cycles per pixel (|v| <= 1/2).
#: 'ramp-sinc2' is the ramp damped as linear interpolation in a back-projection damps it.
FILTERS: tuple[str, ...] = ("shepp-logan", "ramp", "ramp-sinc2", "hann")


def filter_response(name: str, padded: int) -> npt.NDArray[np.float64]:
    """The filter at the frequencies of `numpy.fft.fftfreq(padded)`, in cycles per pixel.

    The ramp is the transform of its band-limited kernel (1/4 at 0, -1/(pi n)^2 at odd n, 0 at even n: Kak and
    Slaney, Principles of Computerized Tomographic Imaging, eq. 3.61), which keeps the mean of a slice right.
    Raises UserError for an unknown name.
    """
    frequency = np.fft.fftfreq(padded)
    windows = {
        "ramp": np.ones(padded),
        "shepp-logan": np.sinc(frequency),
        "ramp-sinc2": np.sinc(frequency) ** 2,
        "hann": 0.5 * (1.0 + np.cos(2.0 * np.pi * frequency)),
    }
    if name not in windows:
        raise UserError(f"the filter {name!r} is not known", hint=f"known filters: {', '.join(FILTERS)}")
    distance = np.minimum(np.arange(padded), padded - np.arange(padded))
    kernel = np.zeros(padded)
    odd = distance % 2 == 1
    kernel[odd] = -1.0 / (np.pi * distance[odd]) ** 2
    kernel[0] = 0.25
    response: npt.NDArray[np.float64] = np.fft.fft(kernel).real * windows[name]
    # The highest frequency has no partner of the other sign, so it could not stay real under a shift.
    response[padded // 2] = 0.0
    return response


def good_length(least: int) -> int:
    """The smallest even number >= `least` whose only prime factors are 2, 3 and 5."""
    length = max(2, least + least % 2)
    while not _smooth(length):
        length += 2
    return length


def _smooth(number: int) -> bool:
    for factor in (2, 3, 5):
        while number % factor == 0:
            number //= factor
    return number == 1
