"""pack: make the package of a scan's original files, and believe it only after reading it back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from tomovault.core.errors import IntegrityError
from tomovault.core.ports import Action, Bench
from tomovault.core.record import Made, Outcome, Result, Stored
from tomovault.core.replica import Form, ProductKind
from tomovault.core.scan import Candidate
from tomovault.core.wire import from_plain
from tomovault.formats.certified import find_report


@dataclass(frozen=True)
class Order:
    """Which scan to pack, and where the package goes. `scan` is what the manifest tells of it."""

    candidate: Candidate
    entry: str
    identity: str
    scan: Mapping[str, Any]
    area: str
    folder: str
    stem: str
    domain: str
    files_domain: str
    part_bytes: int
    floor_bytes: int
    threads: int


class Pack:
    """See the module."""

    name: ClassVar[str] = "pack"

    def perform(self, order: Mapping[str, Any], bench: Bench) -> Result:
        """The package is on disk and re-reads to the digest of every original file.

        Raises SourceChanged where the scan is not the one that was certified any more.
        """
        from tomovault.package.verify import verify_package
        from tomovault.package.writer import write_package

        wanted = from_plain(Order, dict(order))
        report = find_report(bench.formats, wanted.candidate, wanted.entry, wanted.identity)
        layout = bench.formats.layout(report)
        throttle = bench.throttle(wanted.area)
        written = write_package(
            report.root,
            report.files,
            layout,
            wanted.folder,
            wanted.stem,
            scan=wanted.scan,
            job=bench.job,
            now=bench.now(),
            threads=wanted.threads,
            part_bytes=wanted.part_bytes,
            floor_bytes=wanted.floor_bytes,
            throttle=throttle,
            checkpoint=bench.checkpoint,
            progress=lambda done, total: bench.progress(done, 2 * total),
        )
        written_at = bench.now()
        bench.checkpoint("pack.verify")
        problem = verify_package(
            written.files,
            throttle=throttle,
            threads=wanted.threads,
            progress=lambda done, total: bench.progress(total + done, 2 * total),
        )
        if problem:
            raise IntegrityError(f"the package of {wanted.stem} does not re-read: {problem}")
        verified_at = bench.now()
        made = Made(
            kind=ProductKind.ORIGINAL,
            digest=written.digest,
            bytes=written.original_bytes,
            files=written.original_files,
            manifest=written.manifest,
        )
        package = Stored(
            kind=ProductKind.ORIGINAL,
            digest=written.digest,
            form=Form.PACKAGE,
            tier=wanted.area,
            domain=wanted.domain,
            location=written.files[0].location,
            files=written.files,
            bytes=sum(f.size for f in written.files),
            sha256=written.files[0].sha256,
            written_at=written_at,
            verified_at=verified_at,
        )
        files = Stored(
            kind=ProductKind.ORIGINAL,
            digest=written.digest,
            form=Form.FILES,
            tier=wanted.area,
            domain=wanted.files_domain,
            location=report.root,
            files=(),
            bytes=written.original_bytes,
            sha256=written.digest,
            written_at=written_at,
            verified_at=written_at,
        )
        return Result(Outcome.SUCCEEDED, (made, package, files))


PLUGIN: type[Action] = Pack
