"""preview: projections at 0 and 90 degrees and the middle slice, small enough to look at anywhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from tomovault.core.errors import UserError
from tomovault.core.layout import FrameKind
from tomovault.core.ports import Action, Bench, FrameSource
from tomovault.core.record import Outcome, Result
from tomovault.core.replica import ProductKind, StoredFile
from tomovault.core.scan import Candidate
from tomovault.core.wire import from_plain
from tomovault.formats.certified import find_report
from tomovault.package.names import Whose


@dataclass(frozen=True)
class Order:
    """Which scan, from its package where `package` is set, which is that `replica` with these `files`; else from its
    files.
    """

    candidate: Candidate
    entry: str
    identity: str
    package: str | None
    digest: str
    area: str
    folder: str
    stem: str
    domain: str
    whose: Whose
    parameters: Mapping[str, Any]
    floor_bytes: int = 0
    replica: str = ""
    files: tuple[StoredFile, ...] = ()


class Preview:
    """See the module."""

    name: ClassVar[str] = "preview"

    def perform(self, order: Mapping[str, Any], bench: Bench) -> Result:
        """The preview is on disk and re-read to its digest; the slice's parameters are stored as numbers.

        Raises Unfinished, with a word about it, where the package is bad.
        """
        from tomovault.package.recheck import suspecting

        wanted = from_plain(Order, dict(order))
        with suspecting(wanted.replica, wanted.files, bench, wanted.area):
            return _make(wanted, bench)


def _make(wanted: Order, bench: Bench) -> Result:
    from tomovault.package.made import facts_of_made
    from tomovault.package.preview import make_preview, verify_preview

    source = open_source(wanted, bench)
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


def open_source(wanted: Order, bench: Bench) -> FrameSource:
    """The scan's frames. Raises UserError where it has none that can be read as frames."""
    from tomovault.package.files_source import FilesSource
    from tomovault.package.reader import PackageReader

    source: FrameSource
    throttle = bench.throttle(wanted.area)
    if wanted.package is not None:
        source = PackageReader.open(wanted.package, throttle=throttle)
    else:
        report = find_report(bench.formats, wanted.candidate, wanted.entry, wanted.identity)
        source = FilesSource(report.root, bench.formats.layout(report), digest=wanted.digest, throttle=throttle)
    if not source.indices(FrameKind.PROJECTION):
        raise UserError(
            f"{wanted.stem}: no projection can be read as a frame",
            hint="its files are kept whole; a preview needs uncompressed frames",
        )
    return source


PLUGIN: type[Action] = Preview
