"""A run of an engine on a scan of which single frames may hold nothing: they are left out, and it is said which."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from tomovault.core.errors import LostFrames
from tomovault.core.layout import FrameKind
from tomovault.core.ports import Engine, FrameSource

T = TypeVar("T")

#: A shutter, a refill of the ring or a transfer costs a frame now and then; where more are lost, a person looks.
LOST_SHARE = 0.05


def run_without_lost(
    engine: Engine, source: FrameSource, parameters: Mapping[str, Any], make: Callable[[dict[str, Any]], T]
) -> T:
    """What `make` returns for the resolved parameters, in which every frame that turned out to hold nothing is left
    out; they are listed as `lost`, with a warning.

    Raises LostFrames where more than `LOST_SHARE` of the projections, and more than one, would be left out.
    """
    lost: list[int] = []
    most = max(1.0, LOST_SHARE * len(source.indices(FrameKind.PROJECTION)))
    while True:
        asked = [*(parameters.get("exclude") or ()), *lost]
        resolved = dict(engine.resolve(source, {**parameters, "exclude": asked} if lost else parameters))
        if lost:
            told = f"frames {', '.join(map(str, lost))} hold no light or no numbers, and are left out"
            resolved |= {"lost": list(lost), "warnings": [*resolved.get("warnings", ()), told]}
        try:
            return make(resolved)
        except LostFrames as found:
            more = [frame for frame in found.frames if frame not in lost]
            if not more or len(lost) + len(more) > most:
                raise
            lost = sorted([*lost, *more])
