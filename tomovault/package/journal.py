"""Where an attempt got to: written when a part is closed, so that the next attempt goes on from there."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tomovault.core.scan import ScanFile
from tomovault.core.wire import to_plain
from tomovault.package.manifest import Contents, Segment, contents_from_plain, contents_to_plain


@dataclass(frozen=True)
class ClosedPart:
    """A part that is complete and synced under its temporary name."""

    name: str
    temporary: str
    bytes: int
    sha256: str


@dataclass
class Journal:
    """Closed parts, what is in them, and the segments already stored of the file that was being read."""

    parts: list[ClosedPart]
    contents: Contents
    current: str | None
    segments: tuple[Segment, ...]


def fingerprint(files: Sequence[ScanFile], part_bytes: int) -> str:
    """Equal only for attempts that would write the same parts: same files, unchanged since."""
    rows = [to_plain(f.state) for f in files] + [part_bytes]
    return hashlib.sha256(json.dumps(rows).encode("ascii")).hexdigest()


def save_journal(path: str, journal: Journal, mark: str) -> None:
    """Replace the journal, durably, by one that says all this."""
    plain: dict[str, Any] = {
        "fingerprint": mark,
        "parts": [to_plain(p) for p in journal.parts],
        "contents": contents_to_plain(journal.contents),
        "current": journal.current,
        "segments": [list(s) for s in journal.segments],
    }
    with open(path + "~", "w", encoding="ascii") as out:
        json.dump(plain, out)
        out.flush()
        os.fsync(out.fileno())
    os.replace(path + "~", path)


def closed_parts(path: str) -> list[ClosedPart]:
    """The parts that a journal names, wherever they are now; none where it cannot be read."""
    try:
        with open(path, encoding="ascii") as source:
            return [ClosedPart(**p) for p in json.load(source)["parts"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def load_journal(path: str, mark: str) -> Journal | None:
    """The journal of an earlier attempt at the same thing whose closed parts are all there, else None."""
    try:
        with open(path, encoding="ascii") as source:
            plain = json.load(source)
        if plain["fingerprint"] != mark:
            return None
        journal = Journal(
            [ClosedPart(**p) for p in plain["parts"]],
            contents_from_plain(plain["contents"]),
            plain["current"],
            tuple((str(k), int(a), int(b)) for k, a, b in plain["segments"]),
        )
        whole = all(os.stat(p.temporary).st_size == p.bytes for p in journal.parts)
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return None
    return journal if whole else None
