"""What one sweep over an area found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tomovault.core.scan import Candidate

#: Law 3: so many scans, and this fraction of all, may be missing in one sweep before it is disbelieved.
MISSING_SCANS = 3
MISSING_FRACTION = 0.01


@dataclass(frozen=True)
class Seen:
    """A candidate that is there.

    `snapshot` is the hex sha256 over (name, size, mtime_ns, inode) of its members; `settled` says that it
    was equal for at least the quiet time, `quiet_for_s` for how long at least, both by the watcher's clock.
    `listing_bytes` is the size of the members together; `newest` the latest of their modification times in
    ns as the server says it, 0 without members: something to show, never to decide by.
    """

    candidate: Candidate
    snapshot: str
    settled: bool
    quiet_for_s: float
    listing_bytes: int
    newest: int


@dataclass(frozen=True)
class FolderLinks:
    """Every symbolic link in a folder: what it points to, as it is written there, by its name."""

    folder: str
    links: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Sweep:
    """One pass over an area.

    `seen`: every candidate known to be there, also those of folders that were not listed again.
    `changed`: those of `seen` that are new, or whose snapshot or settledness differ from the sweep before.
    `vanished`: known before, newly gone, in a place that could be read. `absent`: all that are gone, each
    with the number of sweeps that found its place readable and it not there; until `Walker.forget`.
    What is in none of these is unknown, for a reason in `unreadable` (path, reason) or because the sweep
    was `stopped` (why; '' if it ended by itself). `listed` of `folders` visited were listed; `stats` counts
    lstat and fstat calls. `links`: of each folder with links that was read anew, and of each that had some before
    and has none now.
    """

    seen: tuple[Seen, ...]
    vanished: tuple[Candidate, ...]
    unreadable: tuple[tuple[str, str], ...]
    folders: int
    stats: int
    duration_s: float
    stopped: str = ""
    changed: tuple[Seen, ...] = ()
    absent: tuple[tuple[Candidate, int], ...] = ()
    listed: int = 0
    links: tuple[FolderLinks, ...] = ()

    @property
    def unsettled(self) -> tuple[Seen, ...]:
        """Candidates that changed within the quiet time: being written, as far as one can see."""
        return tuple(seen for seen in self.seen if not seen.settled)


def missing_brake(previous_count: int, vanished_count: int) -> bool:
    """True if more went missing in one sweep than may be believed: more than max(1 %, 3) of what was there."""
    return vanished_count > max(MISSING_FRACTION * previous_count, MISSING_SCANS)
