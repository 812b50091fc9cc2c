"""reconstruct: make a volume, with every parameter stored as it was used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from tomovault.core.errors import UserError
from tomovault.core.ports import Action, Bench, FrameSource, Progress
from tomovault.core.record import Outcome, Result
from tomovault.core.replica import ProductKind
from tomovault.core.wire import from_plain
from tomovault.package.frames import Frames, open_frames
from tomovault.package.names import Whose

if TYPE_CHECKING:
    from tomovault.package.volume import VolumeWritten


@dataclass(frozen=True)
class Order:
    """From which `frames`, with which parameters (empty: the engine's own), and where the volume goes.

    No run begins that would need more than `memory_bytes`; 0 is no limit. The values are stored as they are, or as
    counts of a `dtype`. With `resolved` parameters of an earlier run that is repeated. What is `told` of the run is
    stored beside its parameters.
    """

    frames: Frames
    area: str
    folder: str
    stem: str
    domain: str
    whose: Whose
    threads: int
    parameters: Mapping[str, Any]
    floor_bytes: int = 0
    memory_bytes: int = 0
    dtype: str = "float32"
    resolved: Mapping[str, Any] | None = None
    told: Mapping[str, Any] = field(default_factory=dict)


class Reconstruct:
    """See the module."""

    name: ClassVar[str] = "reconstruct"

    def perform(self, order: Mapping[str, Any], bench: Bench) -> Result:
        """The volume is on disk and re-read to its digest, its resolved parameters inside and recorded.

        Raises Unfinished, with a word about it, where the package is bad, Moot where no frame can be read.
        """
        wanted = from_plain(Order, dict(order))
        with open_frames(wanted.frames, wanted.area, bench) as source:
            return _make(wanted, source, bench)


def _make(wanted: Order, source: FrameSource, bench: Bench) -> Result:
    from tomovault.package.made import facts_of_made
    from tomovault.package.runs import run_without_lost
    from tomovault.package.volume import verify_volume, write_volume

    engine = bench.engine()
    started_at = bench.now()

    def write(resolved: Mapping[str, Any]) -> VolumeWritten:
        rows = list(resolved.get("rows") or range(source.frame_shape[0]))
        _require_memory(wanted, engine.estimate(source, {**resolved, "rows": rows}).memory_bytes)
        making, writing = _passes(bench.progress, wanted.dtype)
        return write_volume(
            wanted.folder,
            wanted.stem,
            rows,
            engine.slices(source, resolved, rows, making),
            resolved={**wanted.told, **resolved},
            engine=engine.name,
            version=engine.version(),
            nx=source.facts(),
            whose=wanted.whose,
            job=bench.job,
            now=bench.now(),
            threads=wanted.threads,
            throttle=bench.throttle(wanted.area),
            checkpoint=bench.checkpoint,
            floor_bytes=wanted.floor_bytes,
            progress=writing,
            dtype=wanted.dtype,
        )

    if wanted.resolved is None:
        written = run_without_lost(engine, source, wanted.parameters, write)
    else:
        again = engine.repeat(source, wanted.resolved)
        written = write({**again.resolved, "anew": dict(again.anew)})
    facts = facts_of_made(
        ProductKind.VOLUME,
        written.digest,
        written.files,
        name=wanted.stem,
        re_read=lambda path: verify_volume(path, throttle=bench.throttle(wanted.area)),
        engine=engine,
        parameters=written.resolved,
        started_at=started_at,
        tier=wanted.area,
        domain=wanted.domain,
        now=bench.now,
    )
    return Result(Outcome.SUCCEEDED, facts)


def _require_memory(wanted: Order, needed: int) -> None:
    if 0 < wanted.memory_bytes < needed:
        raise UserError(
            f"{wanted.stem}: its volume needs {needed} bytes of memory, and jobs may use {wanted.memory_bytes}",
            hint="raise `jobs.memory` in tomovault.yaml, or reconstruct on a larger machine",
        )


def _passes(progress: Progress, dtype: str) -> tuple[Progress, Progress]:
    """What tells how far the slices are made, and what how far they are written. Values are written as they are made;
    counts in a second pass, when all values are known.
    """
    from tomovault.package.casting import FLOAT

    if dtype == FLOAT:
        return progress, lambda _done, _total: None
    return (
        lambda done, total: progress(done, 2 * total),
        lambda done, total: progress(total + done, 2 * total),
    )


PLUGIN: type[Action] = Reconstruct
