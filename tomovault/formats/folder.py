"""Any folder that the site names: one scan, with all its files whole, so that nothing on a server is invisible.

Which folders, an area says in the site's file (`folders`); without that this format takes nothing. Names never tell
when such a scan is complete: a person declares it, or a file does that is always written last (`folder_done`).
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import ClassVar

from tomovault.core.errors import NoScan, TomovaultError, Transient, UserError
from tomovault.core.layout import Layout
from tomovault.core.ports import Format, Listing
from tomovault.core.scan import (
    Candidate,
    Certificate,
    FileRole,
    FileState,
    FrameCounts,
    ScanFile,
    ScanReport,
    Verdict,
)
from tomovault.formats.family import kinds, load
from tomovault.formats.origin import nx_facts, origin_of
from tomovault.formats.scan_folder import ScanFolder

#: A folder with more files, or deeper ones, is no scan but a tree of many.
MOST_FILES = 200_000
_DEEPEST = 64
#: So many places where other formats may have a scan are looked into.
_MOST_PLACES = 500
#: What is changed below the folders that the walker watches is not settled for so long, by either clock.
_RECENT_S = 120.0
#: Our own names, and the file system's.
_NOT_THEIRS = re.compile(r"^(\.tomovault|TOMOVAULT-README\.txt|lost\+found|\.snapshot|\.nfs0.*)$")


def matches(path: str, glob: str) -> bool:
    """Whether a path below the area matches: '*' and '?' stand for no '/', '**' for anything."""
    return _compiled(glob).fullmatch(path) is not None


def _compiled(glob: str) -> re.Pattern[str]:
    parts = re.split(r"(\*\*/?|\*|\?)", glob.strip("/"))
    words = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return re.compile("".join(words.get(part, re.escape(part)) for part in parts), re.DOTALL)


@dataclass
class _Tree:
    """What lies below a folder: files by path, and the listing of each folder."""

    files: dict[str, FileState] = field(default_factory=dict)
    listings: list[_FolderNames] = field(default_factory=list)
    empty: int = 0


@dataclass(frozen=True)
class _FolderNames:
    folder: str
    files: Mapping[str, FileState]
    folders: Sequence[str]


class GenericFolder:
    """The `folder` format; a candidate's key is the pattern of the file that marks the end, '' for none."""

    name: ClassVar[str] = "folder"

    def __init__(self, root: str = "", globs: Sequence[str] = (), done: str = "") -> None:
        """Takes the folders below `root` that one of `globs` matches, the uppermost ones."""
        self._root = root.rstrip("/")
        self._globs = tuple(globs)
        self._done = done

    def recognise(self, listing: Listing) -> Sequence[Candidate]:
        """The folder itself, if the site names it and no folder above it."""
        if not self._globs or not listing.folder.startswith(self._root + "/"):
            return []
        path = listing.folder[len(self._root) + 1 :].rstrip("/")
        parts = path.split("/")
        above = ("/".join(parts[:count]) for count in range(1, len(parts)))
        if not self._is_named(path) or any(self._is_named(upper) for upper in above):
            return []
        return [Candidate(self.name, listing.folder, self._done)]

    def _is_named(self, path: str) -> bool:
        return bool(path) and any(matches(path, glob) for glob in self._globs)

    def members(self, candidate: Candidate, listing: Listing) -> tuple[Sequence[str], Sequence[str]]:
        """Everything, down to the files of its subfolders."""
        files = [name for name in listing.files if not _NOT_THEIRS.match(name)]
        return sorted(files), [name for name in listing.folders if not _NOT_THEIRS.match(name)]

    def inspect(self, candidate: Candidate, *, settled: bool) -> Sequence[ScanReport]:
        """The folder with all its files, at any depth. Raises NoScan where another format has a scan in it, Transient
        where files were changed just now that are deeper than the walker looks.
        """
        root = os.path.normpath(candidate.folder)
        tree = _walk(root)
        if not tree.files:
            raise NoScan("it holds no files")
        if settled and _is_recent(tree, time.time()):
            raise Transient("files deep in it were changed a short while ago", hint="it will be looked at again")
        _refuse_others(tree)
        return [_report(root, candidate.key, tree, settled=settled)]

    def layout(self, report: ScanReport) -> Layout:
        """No frames: every file is kept whole."""
        return Layout((), nx_facts(report))


def _walk(root: str) -> _Tree:
    tree = _Tree()
    pending = [("", 0)]
    device: int | None = None
    while pending:
        inner, depth = pending.pop()
        with ScanFolder(os.path.join(root, inner).rstrip("/")) as folder:
            states = {name: state for name, state in folder.states.items() if not _NOT_THEIRS.match(name)}
            below = [name for name in folder.folders if not _NOT_THEIRS.match(name)]
            tree.listings.append(_FolderNames(folder.path, states, below))
        for name, state in states.items():
            device = state.device if device is None else device
            if state.device != device:
                raise UserError(f"{inner}{name} is on another file system")
            tree.files[inner + name] = replace(state, path=inner + name)
        tree.empty += not states and not below
        if len(tree.files) > MOST_FILES or depth > _DEEPEST:
            raise UserError(
                f"more than {MOST_FILES} files, or folders in folders more than {_DEEPEST} deep",
                hint="name folders further down in the area's key 'folders'",
            )
        pending += [(f"{inner}{name}/", depth + 1) for name in reversed(below)]
    return tree


def _refuse_others(tree: _Tree) -> None:
    """A file belongs to one scan: what another format takes is not taken again."""
    left = _MOST_PLACES
    for candidate in _places(tree):
        left -= 1
        if left < 0:
            raise UserError(
                f"more than {_MOST_PLACES} places in it may be scans of other formats",
                hint="name folders further down in the area's key 'folders'",
            )
        try:
            reports = load(candidate.format).inspect(candidate, settled=False)
        except TomovaultError:
            continue
        if reports:
            raise NoScan(f"it holds a scan of its own: {reports[0].name} ({candidate.format})")


def _places(tree: _Tree) -> Iterator[Candidate]:
    for listing in tree.listings:
        for kind in kinds():
            if kind != GenericFolder.name:
                yield from load(kind).recognise(listing)


def _report(root: str, done: str, tree: _Tree, *, settled: bool) -> ScanReport:
    origin = origin_of(root + "/")
    return ScanReport(
        format=GenericFolder.name,
        name=os.path.basename(root),
        root=root,
        entry="",
        identity=_identity(tree),
        certificate=_certify(tree, done, settled=settled),
        files=tuple(ScanFile(tree.files[path], FileRole.METADATA) for path in sorted(tree.files)),
        acquired_at=_newest(tree),
        beamline=origin.beamline,
        proposal=origin.proposal,
        metadata={
            "no_reconstruction": "it is a folder of files of no known format",
            "acquired_at_source": "mtime of the newest file",
        },
    )


def _is_recent(tree: _Tree, now: float) -> bool:
    """Whether a file deeper than the walker looks was changed a short while ago, by the server's clock."""
    deep = [max(s.mtime_ns, s.ctime_ns) / 1e9 for path, s in tree.files.items() if path.count("/") > 1]
    return any(abs(now - changed) < _RECENT_S for changed in deep)


def _certify(tree: _Tree, done: str, *, settled: bool) -> Certificate:
    links = sum(state.link_target is not None for state in tree.files.values())
    evidence = [f"{len(tree.files)} files" + (f", {links} of them links, kept as links" if links else "")]
    problems = [f"{tree.empty} empty folders are not kept"] if tree.empty else []
    marks = [name for name in tree.files if done and "/" not in name and fnmatch.fnmatchcase(name, done)]
    verdict = Verdict.UNDECIDED
    if marks:
        verdict = Verdict.COMPLETE
        evidence.append(f"{marks[0]} is there, which the site says is written last")
    elif done:
        problems.insert(0, f"there is no {done}, which the site says is written last")
    else:
        problems.insert(0, "nothing says when it is complete: a person declares it")
    evidence.append("no change seen for the quiet time" if settled else "still changing")
    return Certificate(
        verdict if settled else Verdict.ACQUIRING, FrameCounts(), FrameCounts(), tuple(problems), tuple(evidence)
    )


def _identity(tree: _Tree) -> str:
    digest = hashlib.sha256(b"folder\0")
    for path in sorted(tree.files):
        state = tree.files[path]
        digest.update(path.encode("utf-8", "surrogateescape") + f"\0{state.size} {state.mtime_ns}\0".encode("ascii"))
    return digest.hexdigest()


def _newest(tree: _Tree) -> datetime | None:
    try:
        return datetime.fromtimestamp(max(state.mtime_ns for state in tree.files.values()) / 1e9, UTC)
    except (OverflowError, ValueError, OSError):
        return None


PLUGIN: type[Format] = GenericFolder
