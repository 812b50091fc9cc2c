"""What of a package's file lies between its frames: hashed as it is written, to be held against what is read back.

The frames have digests of their own. With this one of the rest, every byte of the file has been compared once it is
re-read, and its digest as a whole need not be taken before.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence

from tomovault.package.manifest import Contents

_STEP = 4 << 20


class Between:
    """The digest of all bytes of a file that are in none of the frames that its manifest ties to an original file."""

    def __init__(self, contents: Contents, part: int) -> None:
        self._frames = _frames(contents, part)
        self._digest = hashlib.sha256()
        self._next = 0

    def take(self, at: int, data: bytes | memoryview) -> None:
        """Bytes of the file from `at`; what was given before lies before them, and nothing is left out but frames."""
        view, stop = memoryview(data), at + len(data)
        while at < stop:
            while self._next < len(self._frames) and self._frames[self._next][1] <= at:
                self._next += 1
            begin, end = self._frames[self._next] if self._next < len(self._frames) else (stop, stop)
            if begin > at:
                count = min(begin, stop) - at
                self._digest.update(view[:count])
            else:
                count = min(end, stop) - at
            view, at = view[count:], at + count

    def hexdigest(self) -> str:
        """Hex sha256 of what was taken."""
        return self._digest.hexdigest()

    def gaps(self, size: int) -> Iterator[tuple[int, int]]:
        """Where the rest lies in a file of that size: begin and end."""
        at = 0
        for begin, end in (*self._frames, (size, size)):
            if at < begin:
                yield at, begin
            at = max(at, end)


def hash_between(handle: int, contents: Contents, part: int) -> str:
    """Hex sha256 of what lies between the frames of an open file; nothing else of it is read."""
    between = Between(contents, part)
    for begin, end in between.gaps(os.fstat(handle).st_size):
        for at in range(begin, end, _STEP):
            between.take(at, os.pread(handle, min(_STEP, end - at), at))
    return between.hexdigest()


def _frames(contents: Contents, part: int) -> Sequence[tuple[int, int]]:
    """Begin and end of each frame in a part that some file is made of, in the order in which they lie there."""
    chunks = (
        contents.groups[first].chunks[second]
        for file in contents.files
        for kind, first, second in file.segments
        if kind == "F"
    )
    return sorted((c.offset, c.offset + c.length) for c in chunks if c.part == part)
