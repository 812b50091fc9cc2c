"""preview: projections at 0 and 90 degrees and the middle slice, small enough to look at anywhere; of a volume that
others made its three middle planes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar

from tomovault.core.layout import FrameKind
from tomovault.core.ports import Action, Bench, Engine, FrameSource
from tomovault.core.record import Outcome, Result
from tomovault.core.replica import ProductKind
from tomovault.core.wire import from_plain
from tomovault.package.frames import Frames, open_frames
from tomovault.package.names import Whose

if TYPE_CHECKING:
    from tomovault.package.preview import PreviewWritten


@dataclass(frozen=True)
class Order:
    """From which `frames`, with which parameters (empty: the engine's own), and where the preview goes. Where it is
    `of_slices`, the frames are those of a volume, and no engine is asked. What is `told` of the run is stored beside
    its parameters.
    """

    frames: Frames
    area: str
    folder: str
    stem: str
    domain: str
    whose: Whose
    parameters: Mapping[str, Any]
    floor_bytes: int = 0
    of_slices: bool = False
    told: Mapping[str, Any] = field(default_factory=dict)


class Preview:
    """See the module."""

    name: ClassVar[str] = "preview"

    def perform(self, order: Mapping[str, Any], bench: Bench) -> Result:
        """The preview is on disk and re-read to its digest; the slice's parameters are stored as numbers.

        Raises Unfinished, with a word about it, where the package is bad, Moot where no frame can be read.
        """
        wanted = from_plain(Order, dict(order))
        kind = FrameKind.INVALID if wanted.of_slices else FrameKind.PROJECTION
        with open_frames(wanted.frames, wanted.area, bench, kind=kind) as source:
            return _make_of_volume(wanted, source, bench) if wanted.of_slices else _make(wanted, source, bench)


def _make(wanted: Order, source: FrameSource, bench: Bench) -> Result:
    from tomovault.package.preview import make_preview
    from tomovault.package.runs import run_without_lost

    engine = bench.engine()
    started_at = bench.now()
    row = source.frame_shape[0] // 2

    def slice_of(resolved: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
        image = next(data for _, data in engine.slices(source, resolved, [row], bench.progress))
        return image, {**wanted.told, **resolved}

    image, resolved = run_without_lost(engine, source, {**wanted.parameters, "rows": [row]}, slice_of)
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
    return _told(wanted, made, bench, started_at, engine, {"slice_row": row, **resolved})


def _make_of_volume(wanted: Order, source: FrameSource, bench: Bench) -> Result:
    from tomovault.package.preview import make_preview_of_volume

    started_at = bench.now()
    made = make_preview_of_volume(
        source,
        wanted.folder,
        wanted.stem,
        whose=wanted.whose,
        job=bench.job,
        now=started_at,
        progress=bench.progress,
        checkpoint=bench.checkpoint,
        floor_bytes=wanted.floor_bytes,
    )
    return _told(wanted, made, bench, started_at)


def _told(
    wanted: Order,
    made: PreviewWritten,
    bench: Bench,
    started_at: datetime,
    engine: Engine | None = None,
    parameters: Mapping[str, Any] | None = None,
) -> Result:
    from tomovault.package.made import facts_of_made
    from tomovault.package.preview import verify_preview

    facts = facts_of_made(
        ProductKind.PREVIEW,
        made.digest,
        made.files,
        name=wanted.stem,
        re_read=lambda path: verify_preview(path, throttle=bench.throttle(wanted.area)),
        engine=engine,
        parameters=parameters or {},
        started_at=started_at,
        tier=wanted.area,
        domain=wanted.domain,
        now=bench.now,
    )
    return Result(Outcome.SUCCEEDED, facts)


PLUGIN: type[Action] = Preview
