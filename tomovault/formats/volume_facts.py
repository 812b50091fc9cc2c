"""What the formats of volumes made by others say of them in the metadata."""

from __future__ import annotations

from tomovault.core.scan import FRAMES_ARE, SLICES

_NO_PROJECTIONS = "it is a volume, made by others; there are no projections in it"


def facts_of_slices(*, readable: bool) -> dict[str, str]:
    """No volume can be reconstructed again; only one with slices that can be read one by one has a preview."""
    if readable:
        return {"no_reconstruction": _NO_PROJECTIONS, FRAMES_ARE: SLICES}
    return {"no_reconstruction": f"{_NO_PROJECTIONS}, and none of its slices can be read by itself"}
