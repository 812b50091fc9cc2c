"""How bytes reach a file server: in pieces, late, under another name first, with times that are not ours."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from typing import Literal

import numpy as np

from tomovault.testing.timeline import Steps, Timeline
from tomovault.testing.truth import TruthLog

_PIECE = 64 * 1024
_LATE_TAIL = 4096
_DAY_S = 86400.0

#: Seconds added to the time of a finished file; 'backwards' takes 10 s more off each file.
_SKEWS = {"ahead": 300.0, "behind": -300.0, "future": 400 * _DAY_S, "copied": -30 * _DAY_S}

Piece = bytes | memoryview
Body = Literal["plain", "fsync", "steps", "tmp_rename", "preallocated", "zero", "late_tail", "late_body"]


class Disk:
    """Every change that a writer makes to the file system, each one logged after it happened."""

    def __init__(self, log: TruthLog, timeline: Timeline, *, mtime: str = "", lagging: bool = False, seed: int = 0):
        self.log = log
        self.timeline = timeline
        #: Changes that will still come by themselves.
        self.pending = 0
        self._mtime = mtime
        self._lagging = lagging
        self._rng = np.random.default_rng([seed, 0xD5])
        self._finished = 0

    def note(self, action: str, path: str, **more: object) -> None:
        """Log an action with the size that the file has now."""
        try:
            state = os.lstat(path)
            size = state.st_size if os.path.isfile(path) else None
        except FileNotFoundError:
            size = None
        self.log.add(action, path, at_s=self.timeline.now_s, size=size, **more)

    def make_folder(self, path: str) -> None:
        """The folder and its parents exist."""
        if not os.path.isdir(path):
            os.makedirs(path)
            self.note("folder", path)

    def put(self, path: str, pieces: Sequence[Piece], *, body: Body = "plain", wait_s: float = 0.0) -> Steps:
        """The file holds the pieces when this ends, or will by itself `wait_s` later for the late bodies.

        The first piece is a header: it is what stands in a file whose body is late.
        """
        if self._lagging:
            hidden = os.path.join(os.path.dirname(path), f".nfs{int(self._rng.integers(1 << 62)):016x}")
            yield from self._fill(hidden, pieces, body, wait_s)
            self.start(self._reveal(hidden, path), after_s=float(self._rng.uniform(3.0, 60.0)))
        elif body == "tmp_rename":
            yield from self._fill(path + ".tmp", pieces, "steps", wait_s)
            self.rename(path + ".tmp", path)
        else:
            yield from self._fill(path, pieces, body, wait_s)

    def put_now(self, path: str, content: Piece) -> None:
        """As `put`, at once; also under a lag."""
        with open(path, "wb") as file:
            self.note("create", path)
            file.write(content)
        self._finish(path)

    def start(self, steps: Steps, *, after_s: float) -> None:
        """Something that happens beside the writer; it counts as pending until it has ended."""

        def counted() -> Steps:
            try:
                yield from steps
            finally:
                self.pending -= 1

        self.pending += 1
        self.timeline.start(counted(), after_s=after_s)

    def settle(self) -> Steps:
        """End when nothing is pending."""
        while self.pending:
            yield 0.25

    def rename(self, source: str, target: str) -> None:
        """`os.replace`, logged."""
        os.replace(source, target)
        self.note("rename", target, source=source)

    def remove(self, path: str) -> None:
        """The file is gone."""
        os.unlink(path)
        self.note("remove", path)

    def link(self, path: str, target: str) -> None:
        """A symbolic link stands at `path`."""
        os.symlink(target, path)
        self.note("link", path, target=target)

    def cut(self, path: str, size: int) -> None:
        """The file is `size` bytes long from here on."""
        os.truncate(path, size)
        self._finish(path, action="cut")

    def copy(self, source: str, target: str, *, wait_s: float) -> Steps:
        """As `cp -p` on a slow line: half of the target is visible for `wait_s`."""
        with open(source, "rb") as file:
            content = file.read()
        with open(target, "wb") as file:
            file.write(content[: len(content) // 2])
            file.flush()
            self.note("create", target)
            yield wait_s
            file.write(content[len(content) // 2 :])
        shutil.copystat(source, target)
        self.note("close", target)

    def _fill(self, path: str, pieces: Sequence[Piece], body: Body, wait_s: float) -> Steps:
        last = len(pieces[-1])
        if body == "steps":
            yield from self._in_steps(path, pieces, wait_s)
        elif body == "preallocated":
            yield from self._late(path, pieces, last, wait_s, allocate=True)
        elif body in ("late_tail", "late_body"):
            tail = last if body == "late_body" else min(_LATE_TAIL, last // 2)
            yield from self._late(path, pieces, tail, wait_s, allocate=False)
        else:
            self._write(path, pieces, body)

    def _write(self, path: str, pieces: Sequence[Piece], body: Body) -> None:
        with open(path, "wb") as file:
            self.note("create", path)
            for piece in _cut_up(pieces):
                file.write(bytes(len(piece)) if body == "zero" and file.tell() else piece)
                if body == "fsync":
                    file.flush()
                    os.fsync(file.fileno())
        self._finish(path)

    def _in_steps(self, path: str, pieces: Sequence[Piece], wait_s: float) -> Steps:
        content = b"".join(pieces)
        step = max(1, -(-len(content) // 4))
        with open(path, "wb") as file:
            self.note("create", path)
            for start in range(0, len(content), step):
                file.write(content[start : start + step])
                file.flush()
                self.note("write", path)
                yield wait_s / 4
        self._finish(path)

    def _late(self, path: str, pieces: Sequence[Piece], tail: int, wait_s: float, *, allocate: bool) -> Steps:
        content = b"".join(pieces)
        with open(path, "wb") as file:
            file.write(content[:-tail])
            if allocate:
                file.truncate(len(content))
        self.note("create", path)
        self.start(self._rest(path, content[-tail:], len(content) - tail), after_s=wait_s)
        yield 0.0

    def _rest(self, path: str, content: bytes, offset: int) -> Steps:
        yield 0.0
        with open(path, "r+b") as file:
            file.seek(offset)
            file.write(content)
        self._finish(path)

    def _reveal(self, hidden: str, path: str) -> Steps:
        yield 0.0
        self.rename(hidden, path)

    def _finish(self, path: str, *, action: str = "close") -> None:
        self._finished += 1
        skew_s = -10.0 * self._finished if self._mtime == "backwards" else _SKEWS.get(self._mtime, 0.0)
        if skew_s:
            state = os.stat(path)
            skew_ns = int(skew_s * 1e9)
            os.utime(path, ns=(state.st_atime_ns + skew_ns, state.st_mtime_ns + skew_ns))
        self.note(action, path)


def _cut_up(pieces: Sequence[Piece]) -> Sequence[memoryview]:
    views = [memoryview(piece).cast("B") for piece in pieces if len(piece)]
    return [view[start : start + _PIECE] for view in views for start in range(0, len(view), _PIECE)]
