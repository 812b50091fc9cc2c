"""reconstruct: make a volume from a package, with every parameter stored as it was used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from tomovault.core.errors import IntegrityError, UserError
from tomovault.core.layout import FrameKind
from tomovault.core.ports import Action, Bench
from tomovault.core.record import Made, Outcome, Processing, Result, Stored
from tomovault.core.replica import Form, ProductKind
from tomovault.core.wire import from_plain


@dataclass(frozen=True)
class Order:
    """Which package, with which parameters (empty: the engine's own), and where the volume goes."""

    package: str
    area: str
    folder: str
    stem: str
    domain: str
    threads: int
    parameters: Mapping[str, Any]
    floor_bytes: int = 0


class Reconstruct:
    """See the module."""

    name: ClassVar[str] = "reconstruct"

    def perform(self, order: Mapping[str, Any], bench: Bench) -> Result:
        """The volume is on disk and re-read to its digest, its resolved parameters inside and recorded."""
        from tomovault.package.reader import PackageReader
        from tomovault.package.volume import verify_volume, write_volume

        wanted = from_plain(Order, dict(order))
        source = PackageReader.open(wanted.package, throttle=bench.throttle(wanted.area))
        if not source.indices(FrameKind.PROJECTION):
            raise UserError(f"{wanted.stem}: its package holds no projections that can be read as frames")
        engine = bench.engine()
        started_at = bench.now()
        resolved = dict(engine.resolve(source, wanted.parameters))
        rows = list(resolved.get("rows") or range(source.frame_shape[0]))
        written = write_volume(
            wanted.folder,
            wanted.stem,
            rows,
            engine.slices(source, resolved, rows, bench.progress),
            resolved=resolved,
            engine=engine.name,
            version=engine.version(),
            nx=source.facts(),
            job=bench.job,
            now=bench.now(),
            threads=wanted.threads,
            throttle=bench.throttle(wanted.area),
            checkpoint=bench.checkpoint,
            floor_bytes=wanted.floor_bytes,
            progress=bench.progress,
        )
        written_at = bench.now()
        if verify_volume(written.files[0].location, throttle=bench.throttle(wanted.area)) != written.digest:
            raise IntegrityError(f"the volume of {wanted.stem} does not re-read to its digest")
        processing = Processing(
            engine=engine.name,
            engine_version=engine.version(),
            parameters={"purpose": "volume", **resolved},
            started_at=started_at,
            finished_at=bench.now(),
            outputs=(written.digest,),
        )
        size = sum(f.size for f in written.files)
        return Result(
            Outcome.SUCCEEDED,
            (
                Made(ProductKind.VOLUME, written.digest, size, len(written.files), processing=processing),
                Stored(
                    kind=ProductKind.VOLUME,
                    digest=written.digest,
                    form=Form.PACKAGE,
                    tier=wanted.area,
                    domain=wanted.domain,
                    location=written.files[0].location,
                    files=written.files,
                    bytes=size,
                    sha256=written.files[0].sha256,
                    written_at=written_at,
                    verified_at=bench.now(),
                ),
            ),
        )


PLUGIN: type[Action] = Reconstruct
