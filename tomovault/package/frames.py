"""Where an engine gets the frames of a scan from: its package or, where that keeps the files whole, the files."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from tomovault.core.layout import FrameKind
from tomovault.core.ports import Bench, FrameSource
from tomovault.core.record import Moot
from tomovault.core.replica import StoredFile
from tomovault.core.scan import Candidate
from tomovault.formats.certified import find_report
from tomovault.package.files_source import FilesSource
from tomovault.package.reader import PackageReader
from tomovault.package.recheck import suspecting


@dataclass(frozen=True)
class Frames:
    """Where the frames of a scan are: its `package`, which is that `replica` with these `files`, and the place of its
    files, a `candidate`; each None where it is not on disk. `digest` is that of the original.
    """

    candidate: Candidate | None
    entry: str
    identity: str
    package: str | None
    digest: str
    replica: str = ""
    files: tuple[StoredFile, ...] = ()


@contextlib.contextmanager
def open_frames(
    frames: Frames, area: str, bench: Bench, *, kind: FrameKind = FrameKind.PROJECTION
) -> Iterator[FrameSource]:
    """A block with the scan's frames: from the package if it has any of the `kind`, else from the files.

    Raises Moot where neither has one that can be read, SourceChanged where the files are not those that were
    certified, Unfinished with a word about it where the package is bad, and what `PackageReader.open` raises.
    """
    with suspecting(frames.replica, frames.files, bench, area), _opened(frames, area, bench, kind) as source:
        yield source


@contextlib.contextmanager
def _opened(frames: Frames, area: str, bench: Bench, kind: FrameKind) -> Iterator[FrameSource]:
    throttle = bench.throttle(area)
    if frames.package is not None:
        with PackageReader.open(frames.package, throttle=throttle) as reader:
            if reader.indices(kind):
                yield reader
                return
    if frames.candidate is None:
        raise Moot("its package keeps its files whole, and they are not on disk")
    report = find_report(bench.formats, frames.candidate, frames.entry, frames.identity)
    layout = bench.formats.layout(report)
    with FilesSource(report.root, layout, digest=frames.digest, throttle=throttle) as source:
        if not source.indices(kind):
            what = "slice" if kind is FrameKind.INVALID else "projection"
            raise Moot(f"no {what} in its files can be read as a frame")
        yield source
