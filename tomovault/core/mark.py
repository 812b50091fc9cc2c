"""The mark in a folder that we restored into: which files are ours, so that they are not taken for a new scan.

It stands in the user's tree and may be forged: it only says what to compare. What it excuses must be on the manifest
of a product that the catalogue knows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from tomovault.core.errors import UserError
from tomovault.core.wire import from_plain, to_plain

#: The name of the mark; the walker never looks at it, and no format takes it for a file of a scan.
MARK = ".tomovault-restored.json"

#: A larger mark is not read: some 400,000 files.
MOST_BYTES = 64 << 20

_ABOUT = (
    "tomovault restored the files listed here. While they are as listed they are a copy of the scan named here and "
    "not taken for a new one. Deleting this file deletes no data."
)
_VERSION = 1


@dataclass(frozen=True)
class MarkedFile:
    """A file as it was restored; `path` is relative to the folder of the mark. Of one that is made by the restore
    itself the size is -1, and nothing else is known before; only the record of that restore tells its size.
    """

    path: str
    size: int
    mtime_ns: int
    sha256: str
    link_target: str | None = None


@dataclass(frozen=True)
class Marked:
    """What one restore put there. `area` is the identity of the area, `scan` and `digest` name what was restored."""

    area: str
    scan: str
    digest: str
    whole: bool
    job: str
    at: str
    files: tuple[MarkedFile, ...]


def read_mark(text: bytes) -> tuple[Marked, ...]:
    """What a mark says. Raises UserError with the reason where it is none."""
    try:
        plain: Any = json.loads(text)
        if not isinstance(plain, dict) or plain.get("tomovault") != _VERSION:
            raise ValueError("it is not a mark of this version")
        if not isinstance(plain.get("restored"), list):
            raise ValueError("it lists nothing")
        return tuple(from_plain(Marked, one) for one in plain["restored"])
    except (ValueError, TypeError, RecursionError, MemoryError) as problem:
        raise UserError(f"the mark {MARK} cannot be understood: {str(problem)[:200]}") from problem


def write_mark(restored: tuple[Marked, ...]) -> bytes:
    """The bytes of a mark. Raises UserError where they would be too many to be read again."""
    plain = {"tomovault": _VERSION, "about": _ABOUT, "restored": to_plain(restored)}
    text = json.dumps(plain, separators=(",", ":")).encode("ascii")
    if len(text) > MOST_BYTES:
        raise UserError(
            f"{sum(len(one.files) for one in restored)} files are too many for one folder of a watched area",
            hint="restore outside of the watched areas, or into several folders",
        )
    return text


def add_marked(before: tuple[Marked, ...], new: Marked) -> tuple[Marked, ...]:
    """The mark after one more restore; of the same product it lists every file once, as last restored.

    Restores that made files are kept apart, one entry a job, since those are known by their job.
    """
    apart = _made(new)
    before = tuple(one for one in before if not (apart and _made(one) and one.job == new.job))
    same = [o for o in before if (o.scan, o.digest) == (new.scan, new.digest) and not apart and not _made(o)]
    files = {file.path: file for one in (*same, new) for file in one.files}
    joined = replace(new, whole=new.whole or any(o.whole for o in same), files=tuple(files.values()))
    return (*(one for one in before if one not in same), joined)


def _made(marked: Marked) -> bool:
    """Whether a restore put files there that are no original ones."""
    return any(file.size < 0 for file in marked.files)


def files_by_path(restored: tuple[Marked, ...]) -> Mapping[str, tuple[MarkedFile, ...]]:
    """Each path with what the restores into this folder put there."""
    found: dict[str, tuple[MarkedFile, ...]] = {}
    for one in restored:
        for file in one.files:
            found[file.path] = (*found.get(file.path, ()), file)
    return found
