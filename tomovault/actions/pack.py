"""pack: make the package of a scan's original files, and believe it only after reading it back."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from tomovault.core.errors import TomovaultError
from tomovault.core.known import CODED_FRAMES
from tomovault.core.layout import FrameKind
from tomovault.core.manifest import ManifestFile
from tomovault.core.ports import Action, Bench, Progress, Throttle
from tomovault.core.record import Made, Outcome, Recognised, Result, Stored
from tomovault.core.replica import Form, ProductKind
from tomovault.core.scan import Candidate, FileState, ScanReport, has_slices
from tomovault.core.wire import from_plain
from tomovault.formats.certified import find_report
from tomovault.tiers.ground import Ground, hash_below, split


@dataclass(frozen=True)
class Twin:
    """A known scan that this one may be, found at a new place, and the path of its manifest text."""

    scan: str
    digest: str
    manifest: str


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
    twins: tuple[Twin, ...] = ()


#: The frames that an engine reads.
_NEEDED = frozenset({FrameKind.PROJECTION, FrameKind.FLAT, FrameKind.DARK})
#: The frames that the preview of a volume reads.
_SLICES = frozenset({FrameKind.INVALID})


class Pack:
    """See the module."""

    name: ClassVar[str] = "pack"

    def perform(self, order: Mapping[str, Any], bench: Bench) -> Result:
        """The package is on disk and re-reads to the digest of every original file.

        Where every file has name, size and digest of a known scan's, nothing is written: it is that scan.

        Raises SourceChanged where the scan is not the one that was certified any more, NoRoomYet where the package has
        no room, IntegrityError where it does not re-read.
        """
        from tomovault.package.verify import prove_package
        from tomovault.package.writer import write_package

        wanted = from_plain(Order, dict(order))
        report = find_report(bench.formats, wanted.candidate, wanted.entry, wanted.identity)
        for twin in wanted.twins:
            if is_same(report, twin, bench.throttle(wanted.area), bench.progress):
                bench.checkpoint("pack.recognised")
                known = Recognised(
                    same_as=twin.scan,
                    digest=twin.digest,
                    area=wanted.area,
                    domain=wanted.files_domain,
                    root=report.root,
                    bytes=report.size,
                    at=bench.now(),
                )
                return Result(Outcome.SUCCEEDED, (known,))
        layout = bench.formats.layout(report)
        needed = _SLICES if has_slices(report.metadata) else _NEEDED
        coded = sum(f.kind in needed for file in layout.files for f in file.coded)
        throttle = bench.throttle(wanted.area)
        written = write_package(
            report.root,
            report.files,
            layout,
            wanted.folder,
            wanted.stem,
            scan={**wanted.scan, CODED_FRAMES: coded},
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
        stored = prove_package(
            written,
            throttle=throttle,
            threads=wanted.threads,
            progress=lambda done, total: bench.progress(total + done, 2 * total),
        )
        verified_at = bench.now()
        made = Made(
            kind=ProductKind.ORIGINAL,
            digest=written.digest,
            bytes=written.original_bytes,
            files=written.original_files,
            manifest=written.manifest,
            details={CODED_FRAMES: coded},
        )
        package = Stored(
            kind=ProductKind.ORIGINAL,
            digest=written.digest,
            form=Form.PACKAGE,
            tier=wanted.area,
            domain=wanted.domain,
            location=stored[0].location,
            files=stored,
            bytes=written.bytes,
            sha256=stored[0].sha256,
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
        return Result(Outcome.SUCCEEDED, (made, package, files), error="; ".join(written.notes))


def is_same(report: ScanReport, twin: Twin, throttle: Throttle, progress: Progress) -> bool:
    """Whether the files of a report are those of a manifest, name by name and byte by byte as they lie on the disk.

    False where anything differs, cannot be read or changed meanwhile: when unsure it is another scan.
    """
    from tomovault.package.manifest import read_text

    try:
        listed = read_text(Path(twin.manifest).read_text("utf-8", "surrogateescape")).contents.files
    except (OSError, TomovaultError):
        return False
    wanted = {file.meta.path: file.meta for file in listed}
    found = {f.state.path: f.state for f in report.files}
    if {p: _size_of(m) for p, m in wanted.items()} != {p: _size_of(s) for p, s in found.items()}:
        return False
    done = 0
    try:
        with Ground(report.root) as ground:
            for path, state in found.items():
                if not _is_as_listed(ground, state, wanted[path], throttle):
                    return False
                done += state.size
                progress(done, 2 * report.size)
    except (OSError, TomovaultError):
        return False
    return True


def _size_of(file: ManifestFile | FileState) -> int | str:
    """The size of a file, or where a link points: a link's own size means nothing."""
    return file.size if file.link_target is None else file.link_target


def _is_as_listed(ground: Ground, state: FileState, meta: ManifestFile, throttle: Throttle) -> bool:
    parts, name = split(state.path)
    with ground.folder(parts) as fd:
        if meta.link_target is not None:
            return os.readlink(name, dir_fd=fd) == meta.link_target
        digest, now = hash_below(fd, name, throttle, from_disk=True)
    return bool(digest) and digest == meta.sha256 and (now.st_size, now.st_mtime_ns) == (state.size, state.mtime_ns)


PLUGIN: type[Action] = Pack
