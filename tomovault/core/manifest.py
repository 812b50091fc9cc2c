"""The list of a product's original files with their digests, and the digest of that list."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from tomovault.core.errors import IntegrityError


@dataclass(frozen=True)
class ManifestFile:
    """One original file: `path` relative to the scan's root, as surrogate-escaped text.

    `sha256` is the hex digest of its bytes ('' for a link). Everything after it is kept so that the file
    can be given back as it was, and stands outside the product's digest.
    """

    path: str
    size: int
    sha256: str
    mode: int = 0o644
    mtime_ns: int = 0
    link_target: str | None = None
    uid: int | None = None
    gid: int | None = None
    owner: str | None = None
    group: str | None = None
    inode: int | None = None
    device: int | None = None
    ctime_ns: int | None = None
    hardlink_of: str | None = None
    xattrs: tuple[tuple[str, str], ...] = ()
    role: str = "side"


def canonical_bytes(files: tuple[ManifestFile, ...]) -> bytes:
    """The canonical manifest: paths, sizes, links and digests only, sorted by path bytes.

    Paths are hexadecimal, since they may be any bytes; so the text is ASCII and has one form only.
    """
    rows: list[list[Any]] = [
        [path_bytes(f.path).hex(), f.size, f.sha256, None if f.link_target is None else path_bytes(f.link_target).hex()]
        for f in files
    ]
    rows.sort(key=lambda row: row[0])
    if len({row[0] for row in rows}) != len(rows):
        raise IntegrityError("a manifest names one path twice")
    return json.dumps({"tomovault": 1, "files": rows}, separators=(",", ":")).encode("ascii")


def manifest_digest(files: tuple[ManifestFile, ...]) -> str:
    """Hex sha256 of the canonical manifest: the digest of an original, equal for its every form."""
    return hashlib.sha256(canonical_bytes(files)).hexdigest()


def content_digest(parts: dict[str, str]) -> str:
    """Hex sha256 over named sha256 digests of decoded content: the digest of products that we made."""
    text = json.dumps({"tomovault": 1, "content": dict(sorted(parts.items()))}, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def path_bytes(path: str) -> bytes:
    """The bytes that the file system knows a name by."""
    return path.encode("utf-8", "surrogateescape")


#: ESRF's name for the fast disk of a detector computer, as a part of a path.
LOCAL_DISK = "lbsram"


def names_together(paths: Collection[str]) -> tuple[str, Mapping[str, str]]:
    """(folder of the data, name for each path) where the files of a scan stand in one folder; every path is its own
    name, and the folder '', unless the scan is split: its data below a folder `lbsram`, and texts under the same path
    without that part.
    """
    same = {path: path for path in paths}
    for folder in sorted({path.rpartition("/")[0] for path in paths}):
        parts = folder.split("/")
        if LOCAL_DISK not in parts:
            continue
        texts = "/".join(part for part in parts if part != LOCAL_DISK)
        names = {path: _name_below(path, folder, texts) for path in paths}
        if "" not in names.values() and len(set(names.values())) == len(names):
            return folder, names
    return "", same


def _name_below(path: str, *folders: str) -> str:
    """The path below the first of the folders that it is in, '' where it is in none."""
    for folder in folders:
        if not folder or path.startswith(folder + "/"):
            return path.removeprefix(folder + "/") if folder else path
    return ""
