"""The journal beside quarantined files: what was about to go in, on disk before anything moves, and what went in."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tomovault.tiers.ground import Ground

JOURNAL = "journal.jsonl"

#: Others must not see what lay behind a closed folder.
PRIVATE = 0o700


class Journal:
    """What is known of every path that went into one quarantine folder, a JSON line a step; the last word counts."""

    def __init__(self, ground: Ground, parts: Sequence[str]) -> None:
        self._ground = ground
        self._parts = tuple(parts)
        self._taken_up = False
        self.entries: dict[str, dict[str, Any]] = {}
        with contextlib.suppress(FileNotFoundError), ground.folder(self._parts) as fd:
            file = os.open(JOURNAL, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
            with os.fdopen(file, encoding="ascii", errors="replace") as lines:
                for line in lines:
                    self._taken_up = True
                    self._take(line)

    def _take(self, line: str) -> None:
        try:
            entry = json.loads(line)
            path = entry["path"]
        except (ValueError, KeyError, TypeError):
            return  # the last line of a run that was cut off
        self.entries[path] = {**self.entries.get(path, {}), **entry}

    def add(self, entries: Iterable[Mapping[str, Any]], *, sync: bool = False) -> None:
        """The entries are in the journal and, with `sync`, on the disk with the folder that it is in."""
        text = "".join(json.dumps(dict(entry)) + "\n" for entry in entries)
        with self._ground.folder(self._parts, create=PRIVATE) as fd:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            with os.fdopen(os.open(JOURNAL, flags, 0o600, dir_fd=fd), "w", encoding="ascii") as file:
                # A run that was cut off may have left half a line.
                file.write(("\n" if self._taken_up else "") + text)
                file.flush()
                if sync:
                    os.fsync(file.fileno())
                    os.fsync(fd)
        self._taken_up = False
        for line in text.splitlines():
            self._take(line)

    def remove(self) -> None:
        """There is no journal any more."""
        with contextlib.suppress(FileNotFoundError), self._ground.folder(self._parts) as fd:
            os.unlink(JOURNAL, dir_fd=fd)
