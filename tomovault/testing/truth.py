"""What the simulated beamline really did, line by line, so that a test can judge what was seen of it."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, TextIO

from tomovault.core.scan import Verdict
from tomovault.testing.clock import Clock, SystemClock


@dataclass(frozen=True)
class TruthEvent:
    """One action: `t` monotonic seconds of the writer's clock, `at_s` acquisition time since its start.

    `size` is the size of the file at `path` after the action, None for folders and links. Actions are
    folder, create, write, close, rename, remove, link, cut, open, errno11, verdict, begin, note.
    """

    t: float
    wall: datetime
    at_s: float
    action: str
    path: str
    size: int | None = None
    more: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ScanTruth:
    """What is true of one scan when its writer has ended.

    `folder` holds its frames, `metadata_folder` its `.info` and `.xml` where that is another one. `key` and
    `entry` are the master's name and the entry in it for BLISS, '' for EDF. Counts are of frames that were
    asked for. `files` maps paths relative to `folder` to hex sha256, or is empty if that was not asked for.
    """

    writer: str
    variant: str
    name: str
    folder: str
    verdict: Verdict
    decidable: bool
    projections: int
    flats: int
    darks: int
    key: str = ""
    entry: str = ""
    metadata_folder: str | None = None
    set_name: str | None = None
    files: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Written:
    """What a writer left behind: one truth per scan, and how often its own opens met errno 11."""

    scans: tuple[ScanTruth, ...]
    errno11: int = 0


class TruthLog:
    """Appends events to a JSON lines file (if a path is given) and hands each to `on_event` (if given)."""

    def __init__(
        self,
        path: str | None = None,
        *,
        clock: Clock | None = None,
        on_event: Callable[[TruthEvent], None] | None = None,
    ) -> None:
        self.path = path
        self.errno11 = 0
        self._clock: Clock = clock if clock is not None else SystemClock()
        self._on_event = on_event
        self._lock = threading.Lock()
        self._file: TextIO | None = None if path is None else open(path, "a", encoding="ascii")

    def add(self, action: str, path: str, *, at_s: float, size: int | None = None, **more: Any) -> None:
        """The event is on its way to the file system (not synced) when this returns."""
        event = TruthEvent(self._clock.monotonic(), self._clock.now(), at_s, action, path, size, more)
        with self._lock:
            if action == "errno11":
                self.errno11 += 1
            if self._file is not None:
                self._file.write(_line_of(event))
                self._file.flush()
        if self._on_event is not None:
            self._on_event(event)

    def close(self) -> None:
        """No more events are taken to the file."""
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None

    def __enter__(self) -> TruthLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextmanager
def opened_log(log: TruthLog | str | None, clock: Clock | None) -> Iterator[TruthLog]:
    """The log that was given, or one of its own that is closed at the end."""
    if isinstance(log, TruthLog):
        yield log
        return
    with TruthLog(log, clock=clock) as own:
        yield own


def read_truth(path: str) -> list[TruthEvent]:
    """Every event of a truth log, in the order written; a last line that is still being written is left out.

    Raises ValueError naming the line where any other line is not an event.
    """
    with open(path, encoding="ascii") as file:
        text = file.read()
    lines = text.split("\n")
    events = []
    for number, line in enumerate(lines[:-1], start=1):
        try:
            row = json.loads(line)
            row["wall"] = datetime.fromisoformat(row["wall"])
            events.append(TruthEvent(**row))
        except (ValueError, TypeError, KeyError) as problem:
            raise ValueError(f"{path}:{number}: not an event of a truth log ({problem})") from problem
    return events


def digest_files(folder: str) -> dict[str, str]:
    """Hex sha256 of every regular file below `folder` by relative path with '/'; links are not followed."""
    found: dict[str, str] = {}
    for here, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = os.path.join(here, name)
            if not stat.S_ISREG(os.lstat(path).st_mode):
                continue
            with open(path, "rb") as file:
                found[os.path.relpath(path, folder)] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def _line_of(event: TruthEvent) -> str:
    row = {
        "t": event.t,
        "wall": event.wall.isoformat(),
        "at_s": round(event.at_s, 6),
        "action": event.action,
        "path": event.path,
        "size": event.size,
        "more": dict(event.more),
    }
    return json.dumps(row) + "\n"


def with_digests(truth: ScanTruth) -> ScanTruth:
    """The same truth with the digest of every file in its folder now."""
    return replace(truth, files=digest_files(truth.folder))


def log_verdict(log: TruthLog, truth: ScanTruth, at_s: float) -> None:
    """Write down that from now on the files of a scan allow its verdict."""
    log.add(
        "verdict",
        truth.folder,
        at_s=at_s,
        verdict=truth.verdict.value,
        decidable=truth.decidable,
        scan=truth.name,
        key=truth.key,
        entry=truth.entry,
        variant=truth.variant,
    )
