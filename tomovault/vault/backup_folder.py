"""The site's folder of backups: how they are called there, and which of them stay."""

from __future__ import annotations

import contextlib
import hashlib
import re
from datetime import datetime
from pathlib import Path

#: What is called so in the folder is ours to remove.
_NAME = re.compile(r"catalogue-(\d{8}T\d{6}Z)(?:-(\d+))?\.(?:db|dump)")
_LEFT = re.compile(_NAME.pattern + r"\.\d+\.tmp(-journal)?")


def free_name(folder: Path, now: datetime, ending: str) -> Path:
    """A name for a backup that is made now, behind all that are there: those of one second are numbered."""
    stamp = f"{now:%Y%m%dT%H%M%SZ}"
    ours = filter(None, (_NAME.fullmatch(path.name) for path in folder.iterdir()))
    found = [int(named[2] or 1) for named in ours if named[1] == stamp]
    return folder / f"catalogue-{stamp}{f'-{max(found) + 1}' if found else ''}.{ending}"


def digest_of(path: Path) -> tuple[int, str]:
    """Bytes and hex sha256 of a file."""
    sha, size = hashlib.sha256(), 0
    with path.open("rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            sha.update(block)
            size += len(block)
    return size, sha.hexdigest()


def sweep(folder: Path) -> None:
    """What was being written when a process before this one died is gone."""
    for path in folder.iterdir():
        if _LEFT.fullmatch(path.name):
            with contextlib.suppress(FileNotFoundError):
                path.unlink()


def keep_last(folder: Path, keep: int, needed: set[str]) -> None:
    """The newest are there, and those that a tier waits for; nothing else of ours."""
    found = [named for path in folder.iterdir() if (named := _NAME.fullmatch(path.name))]
    found.sort(key=lambda named: (named[1], int(named[2] or 1)))
    for named in found[:-keep]:
        if named[0] not in needed:
            (folder / named[0]).unlink(missing_ok=True)
