"""preview: projections at 0 and 90 degrees and the middle slice, small enough to look at anywhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from tomovault.core.ports import Action, Bench, FrameSource
from tomovault.core.record import Outcome, Result
from tomovault.core.replica import ProductKind
from tomovault.core.wire import from_plain
from tomovault.package.frames import Frames, open_frames
from tomovault.package.names import Whose


@dataclass(frozen=True)
class Order:
    """From which `frames`, with which parameters (empty: the engine's own), and where the preview goes."""

    frames: Frames
    area: str
    folder: str
    stem: str
    domain: str
    whose: Whose
    parameters: Mapping[str, Any]
    floor_bytes: int = 0


class Preview:
    """See the module."""

    name: ClassVar[str] = "preview"

    def perform(self, order: Mapping[str, Any], bench: Bench) -> Result:
        """The preview is on disk and re-read to its digest; the slice's parameters are stored as numbers.

        Raises Unfinished, with a word about it, where the package is bad, Moot where no frame can be read.
        """
        wanted = from_plain(Order, dict(order))
        with open_frames(wanted.frames, wanted.area, bench) as source:
            return _make(wanted, source, bench)


def _make(wanted: Order, source: FrameSource, bench: Bench) -> Result:
    from tomovault.package.made import facts_of_made
    from tomovault.package.preview import make_preview, verify_preview

    engine = bench.engine()
    started_at = bench.now()
    row = source.frame_shape[0] // 2
    resolved = dict(engine.resolve(source, {**wanted.parameters, "rows": [row]}))
    image = next(data for _, data in engine.slices(source, resolved, [row], bench.progress))
    bench.checkpoint("preview.reconstructed")
    made = make_preview(
        source,
        image,
        wanted.folder,
        wanted.stem,
        parameters={"engine": engine.name, "engine_version": engine.version(), "slice_row": row, **resolved},
        whose=wanted.whose,
        job=bench.job,
        now=bench.now(),
        checkpoint=bench.checkpoint,
        floor_bytes=wanted.floor_bytes,
    )
    facts = facts_of_made(
        ProductKind.PREVIEW,
        made.digest,
        made.files,
        name=wanted.stem,
        re_read=lambda path: verify_preview(path, throttle=bench.throttle(wanted.area)),
        engine=engine,
        parameters={"slice_row": row, **resolved},
        started_at=started_at,
        tier=wanted.area,
        domain=wanted.domain,
        now=bench.now,
    )
    return Result(Outcome.SUCCEEDED, facts)


PLUGIN: type[Action] = Preview
