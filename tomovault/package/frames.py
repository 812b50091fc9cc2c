"""Where an engine gets the frames of a scan from: its package or, where that keeps the files whole, the files."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from tomovault.core.layout import FrameKind
from tomovault.core.ports import FormatFamily, FrameSource, Throttle
from tomovault.core.record import Moot
from tomovault.core.scan import Candidate
from tomovault.formats.certified import find_report
from tomovault.package.files_source import FilesSource
from tomovault.package.reader import PackageReader


@contextlib.contextmanager
def open_frames(
    package: str | None,
    candidate: Candidate | None,
    entry: str,
    identity: str,
    *,
    formats: FormatFamily,
    digest: str,
    throttle: Throttle,
) -> Iterator[FrameSource]:
    """A block with the scan's frames: from the package at that path if it has any, else from the files at `candidate`.
    Either is None where it is not on disk.

    Raises Moot where neither has a projection that can be read, SourceChanged where the files are not those that were
    certified, and what `PackageReader.open` raises.
    """
    if package is not None:
        with PackageReader.open(package, throttle=throttle) as reader:
            if reader.indices(FrameKind.PROJECTION):
                yield reader
                return
    if candidate is None:
        raise Moot("its package keeps its files whole, and they are not on disk")
    report = find_report(formats, candidate, entry, identity)
    with FilesSource(report.root, formats.layout(report), digest=digest, throttle=throttle) as source:
        if not source.indices(FrameKind.PROJECTION):
            raise Moot("no projection in its files can be read as a frame")
        yield source
