"""Frames of a scan read from its original files: plain ones here, those that are coded by a limited process."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tomovault.core.errors import SourceChanged, UserError
from tomovault.core.layout import CodedFrame, FrameKind, FrameSegment, Layout
from tomovault.core.ports import Throttle
from tomovault.formats.frames import CodedFrames
from tomovault.package.held import Held
from tomovault.package.tree import SourceTree, shown, source_problem

_KEPT_OPEN = 16


class FilesSource(Held):
    """A `core.ports.FrameSource` over the files that a layout describes, below `root`. Safe to use from threads.

    What `read` takes from the disk is spent of `throttle`.
    """

    def __init__(
        self, root: str, layout: Layout, digest: str | None = None, *, throttle: Throttle | None = None
    ) -> None:
        self._throttle = throttle
        self._layout = layout
        self._digest = digest
        self._frames: dict[int, tuple[str, FrameSegment | CodedFrame]] = {}
        for file in layout.files:
            self._frames |= {frame.order: (file.path, frame) for frame in file.frames}
            self._frames |= {frame.order: (file.path, frame) for frame in file.coded}
        self._tree = SourceTree(root)
        self._coded = CodedFrames()
        self._open: OrderedDict[str, int] = OrderedDict()
        self._lock = threading.Lock()

    def close(self) -> None:
        """Let go of the files."""
        with self._lock:
            for handle in self._open.values():
                os.close(handle)
            self._open.clear()
            self._tree.close()
        self._coded.close()

    @property
    def frame_shape(self) -> tuple[int, int]:
        """(rows, columns) of a projection; of any frame where there is none. Raises UserError without frames."""
        frames = sorted(
            (f for _, f in self._frames.values()), key=lambda f: (f.kind is not FrameKind.PROJECTION, f.order)
        )
        if not frames:
            raise UserError("no frames are known in these files")
        return (int(frames[0].shape[0]), int(frames[0].shape[1]))

    def indices(self, kind: FrameKind) -> Sequence[int]:
        """Acquisition order of the frames of one kind, ascending."""
        return sorted(order for order, (_, frame) in self._frames.items() if frame.kind is kind)

    def angle_deg(self, index: int) -> float | None:
        """Rotation angle of a frame."""
        return self._frame(index)[1].angle_deg

    def summed(self, index: int) -> int:
        """Number of exposures added up in a frame."""
        return self._frame(index)[1].summed

    def read(self, index: int, rows: slice | None = None) -> npt.NDArray[np.generic]:
        """One frame, or some of its rows, in its stored dtype; raises SourceChanged if its file is shorter or gone."""
        path, frame = self._frame(index)
        kind = np.dtype(frame.dtype)
        first, stop, step = (slice(None) if rows is None else rows).indices(frame.shape[0])
        if step != 1:
            return np.ascontiguousarray(self.read(index)[rows])
        if isinstance(frame, CodedFrame):
            return self._decode(path, frame, first, stop)
        part = np.empty((max(0, stop - first), frame.shape[1]), kind)
        if self._throttle is not None:
            self._throttle.spend(part.nbytes)
        self._fill(path, part.view(np.uint8).reshape(-1).data, frame.offset + first * frame.shape[1] * kind.itemsize)
        return part

    def facts(self) -> Mapping[str, Any]:
        """The layout's `nx` and, under 'digest', the product digest where it is known."""
        return {**self._layout.nx, "digest": self._digest}

    def _frame(self, index: int) -> tuple[str, FrameSegment | CodedFrame]:
        try:
            return self._frames[index]
        except KeyError:
            raise UserError(f"the scan has no frame {index}") from None

    def _decode(self, path: str, frame: CodedFrame, first: int, stop: int) -> npt.NDArray[np.generic]:
        """Rows of a frame; raises SourceChanged if its file is not there any more, UserError if it cannot be read."""
        if self._throttle is not None:
            self._throttle.spend(frame.stored_bytes)
        with self._lock:
            self._handle(path)
        return self._coded.read(os.path.join(self._tree.root, path), frame, (first, stop))

    def _fill(self, path: str, room: memoryview, offset: int) -> None:
        with self._lock:  # a descriptor must not be closed while it is read from
            handle = self._handle(path)
            done = 0
            while done < len(room):
                try:
                    count = os.preadv(handle, [room[done:]], offset + done)
                except OSError as problem:
                    raise source_problem(problem, path) from problem
                if count == 0:
                    raise SourceChanged(f"{shown(path)} is shorter than its frames say")
                done += count

    def _handle(self, path: str) -> int:
        if path in self._open:
            self._open.move_to_end(path)
            return self._open[path]
        handle = self._tree.open_path(path)
        self._open[path] = handle
        if len(self._open) > _KEPT_OPEN:
            _, oldest = self._open.popitem(last=False)
            os.close(oldest)
        return handle
