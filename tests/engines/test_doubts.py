"""What a person should know of a reconstruction before they call it right."""

import numpy as np
import pytest

from tomovault.core.layout import FrameKind
from tomovault.engines.fourier import PLUGIN


def doubts(kit, angles, **scan):
    line = 0.01 * kit.sinogram([a if a is not None else 0.0 for a in angles], 32, 15.5, radius=12)
    return PLUGIN().resolve(kit.scan(line, angles, counts=20000, **scan), {})["warnings"]


EVEN = [180.0 * n / 60 for n in range(60)]


def test_a_scan_that_has_everything_leaves_no_doubt(kit):
    assert doubts(kit, EVEN) == []
    assert doubts(kit, EVEN[::-1]) == []


@pytest.mark.parametrize(
    ("angles", "more", "word"),
    [
        (EVEN, {"flats": 0, "profile": False}, "no flats"),
        (EVEN, {"darks": 0}, "no darks"),
        ([None] * 60, {}, "no angles"),
        ([*EVEN[:20], *EVEN[40:]], {}, "nothing was measured over 63 degrees"),
        ([*EVEN[:20], *EVEN[20:40][::-1], *EVEN[40:]], {}, "do not rise or fall steadily: they turn at projection 20"),
    ],
)
def test_what_is_missing_is_said(kit, angles, more, word):
    found = doubts(kit, angles, **more)
    assert any(word in one for one in found), found


def test_a_centre_that_cannot_be_found_is_said(kit):
    frames = [(FrameKind.FLAT, np.full((16, 16), 7, "<u2"), None, 1)]
    frames += [(FrameKind.PROJECTION, np.full((16, 16), 7, "<u2"), 18.0 * n, 1) for n in range(11)]
    told = PLUGIN().resolve(kit.Source(frames), {})["warnings"]
    assert any("the centre could not be found" in one for one in told), told
