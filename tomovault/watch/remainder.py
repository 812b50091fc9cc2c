"""What stands in an area and no scan explains, by folder and owner. Names and sizes only; nothing is opened."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tomovault.core.scan import FileState
from tomovault.watch.listing import Descent, read_folder


@dataclass(frozen=True)
class Remainder:
    """Files of one owner in one folder, that of the deepest level that is told of on its own.

    `newest_ns` is the latest modification as the server says it. `beside_scans` is True where a scan stands in the
    folder, too, or below it.
    """

    folder: str
    uid: int
    files: int
    bytes: int
    newest_ns: int
    beside_scans: bool = False


@dataclass
class Walked:
    """How far a walk is: everything there is, and what could not be read as (path, why).

    `at` is the folder, below the root, that is being added up; `before` are folders, files and bytes of all before it,
    and `unreadable_before` is how many of the unreadable were.
    """

    folders: int = 0
    files: int = 0
    bytes: int = 0
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    at: str = ""
    before: tuple[int, int, int] = (0, 0, 0)
    unreadable_before: int = 0


#: Whether a file, by its folder and state, belongs to a scan.
Explains = Callable[[str, FileState], bool]


def walk_remainder(
    root: str,
    explains: Explains,
    holds_scans: Callable[[str], bool],
    *,
    levels: int,
    walked: Walked,
    progress: Callable[[], None] = lambda: None,
    begin_at: str = "",
) -> Iterator[Remainder]:
    """Yield what is not explained, folder by folder of at most so many `levels` below the root, in the order of a walk
    depth first. What is deeper is added to its folder at that level. `walked` is kept up to date on the way, and
    `progress` is called before each folder: what it raises ends the walk. Another one may `begin_at` the folder where
    that one was (`Walked.at`): what is before it in the order is left out.

    Links are counted and not followed, other mounts not entered. Raises OSError where the root cannot be read.
    """
    sums: dict[int, Remainder] = {}
    told = ""
    first = begin_at.split("/") if begin_at else []
    with Descent(root) as descent:
        todo = [""]
        while todo:
            relative = todo.pop()
            folder = f"{root}/{relative}" if relative else root
            parts = relative.split("/") if relative else []
            on_the_way = len(parts) < len(first) and parts == first[: len(parts)]
            if parts[: len(first)] < first and not on_the_way:
                continue
            place = "/".join([root, *parts[:levels]])
            if place != told and not on_the_way:
                yield from sums.values()
                sums, told = {}, place
                walked.at, walked.before = "/".join(parts[:levels]), (walked.folders, walked.files, walked.bytes)
                walked.unreadable_before = len(walked.unreadable)
            if not on_the_way:
                progress()
            try:
                listing, _ = read_folder(descent.enter(relative), folder)
            except OSError as problem:
                if not relative:
                    raise
                walked.unreadable.append((folder, problem.strerror or str(problem)))
                continue
            todo.extend(os.path.join(relative, name) for name in reversed(listing.folders))
            if on_the_way:
                continue
            walked.folders += 1
            for state in listing.files.values():
                walked.files += 1
                walked.bytes += state.size
                if not explains(folder, state):
                    sums[state.uid] = _with(sums.get(state.uid), state, place, holds_scans(folder))
    yield from sums.values()


def _with(found: Remainder | None, state: FileState, place: str, beside: bool) -> Remainder:
    if found is None:
        return Remainder(place, state.uid, 1, state.size, state.mtime_ns, beside)
    return Remainder(
        place,
        state.uid,
        found.files + 1,
        found.bytes + state.size,
        max(found.newest_ns, state.mtime_ns),
        found.beside_scans or beside,
    )
