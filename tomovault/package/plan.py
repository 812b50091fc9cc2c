"""What will be read, in which order, and cut into which segments; checked before anything is written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tomovault.core.errors import SourceChanged, UserError
from tomovault.core.layout import FileLayout, FrameSegment, Layout
from tomovault.core.scan import ScanFile
from tomovault.package.codec import LARGEST_FRAME
from tomovault.package.tree import shown, split_path

_LITERAL_CUT = 8 << 20


@dataclass(frozen=True)
class Cut:
    """`length` bytes at `offset`: one frame, or literal bytes where `frame` is None."""

    offset: int
    length: int
    frame: FrameSegment | None


@dataclass(frozen=True)
class PlannedFile:
    """A file of the scan and its frames."""

    file: ScanFile
    frames: tuple[FrameSegment, ...]

    def cuts(self) -> Iterator[Cut]:
        """The whole file, piece after piece."""
        at = 0
        for frame in self.frames:
            yield from _literals(at, frame.offset)
            yield Cut(frame.offset, frame.length, frame)
            at = frame.offset + frame.length
        yield from _literals(at, self.file.state.size)


def _literals(start: int, stop: int) -> Iterator[Cut]:
    """Literal bytes in pieces, so that a part can be closed within a huge file."""
    for at in range(start, stop, _LITERAL_CUT):
        yield Cut(at, min(_LITERAL_CUT, stop - at), None)


def plan_files(files: Sequence[ScanFile], layout: Layout) -> list[PlannedFile]:
    """Files in the order of their first frame, then those without frames, by path.

    Raises UserError where files or layout contradict themselves, SourceChanged where a file has another size than
    the layout was made for.
    """
    layouts = {entry.path: entry for entry in layout.files}
    states = {f.state.path: f for f in files}
    if len(states) != len(files) or len(layouts) != len(layout.files):
        raise UserError("a scan names one file twice")
    lost = sorted(set(layouts) - set(states))
    if lost:
        raise UserError(f"the layout names {shown(lost[0])}, which is no file of the scan")
    planned = []
    for file in files:
        split_path(file.state.path)
        entry = layouts.get(file.state.path)
        frames = () if entry is None or file.state.link_target is not None else _frames(entry, file)
        planned.append(PlannedFile(file, frames))
    orders = [frame.order for p in planned for frame in p.frames]
    if len(set(orders)) != len(orders):
        raise UserError("a layout gives two frames the same place in the acquisition")
    planned.sort(key=_place)
    return planned


def _place(planned: PlannedFile) -> tuple[int, int, str]:
    if planned.frames:
        return (0, planned.frames[0].order, planned.file.state.path)
    return (1, 0, planned.file.state.path)


def _frames(entry: FileLayout, file: ScanFile) -> tuple[FrameSegment, ...]:
    if entry.size != file.state.size:
        raise SourceChanged(f"{shown(entry.path)} has another size than when its frames were located")
    at = 0
    for frame in entry.frames:
        kind = np.dtype(frame.dtype)
        rows, columns = frame.shape
        if kind.kind not in "uif" or frame.summed < 1 or rows < 1 or columns < 1:
            raise UserError(f"a frame of {shown(entry.path)} has an impossible type or shape")
        if frame.length != rows * columns * kind.itemsize:
            raise UserError(f"a frame of {shown(entry.path)} is not as long as its shape asks for")
        if frame.offset < at or frame.offset + frame.length > entry.size:
            raise UserError(f"frames of {shown(entry.path)} overlap or reach beyond its end")
        at = frame.offset + frame.length
    return tuple(f for f in entry.frames if f.length <= LARGEST_FRAME)
