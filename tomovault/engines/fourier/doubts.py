"""What a person should know of a reconstruction before they call it right: sentences from its resolved parameters."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from tomovault.engines.fourier.geometry import HOLE_DEG

#: Estimates of the centre from single pairs of projections that scatter more than this are not to be relied on.
SPREAD_PIXELS = 0.5


def doubts_about(resolved: Mapping[str, Any]) -> list[str]:
    """Each in a sentence; none where everything that the scan should have is there."""
    told = []
    if not resolved["flats"]:
        told.append("there are no flats: the open beam is estimated from the projections")
    if not resolved["darks"]:
        told.append("there are no darks: nothing is subtracted")
    if resolved["angles_assumed"]:
        told.append("the scan has no angles: they are taken as evenly spaced")
    elif (place := _turns_at(resolved["angles_deg"])) is not None:
        told.append(f"the angles do not rise or fall steadily: they turn at projection {place}")
    gap = resolved["weights"]["largest_gap_deg"]
    if gap > HOLE_DEG:
        told.append(f"nothing was measured over {gap:.0f} degrees")
    if resolved["centre_method"] == "middle":
        told.append("the centre could not be found: the middle of the detector is taken")
    elif resolved["centre_spread"] > SPREAD_PIXELS:
        told.append(f"the centre is uncertain: its estimates scatter by {resolved['centre_spread']:.1f} pixels")
    return told


def _turns_at(angles: Sequence[float]) -> int | None:
    """The first projection at which the angles go the other way; None where they never do."""
    steps = [(after > before) - (after < before) for before, after in itertools.pairwise(angles)]
    moving = [(place, step) for place, step in enumerate(steps) if step]
    return next((place for place, step in moving if step != moving[0][1]), None)
