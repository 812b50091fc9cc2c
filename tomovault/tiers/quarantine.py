"""Moving a scan's files out of sight, back again, or away for good: file by file, on hostile ground.

Every step works through directory file descriptors below the area's root and never follows a link. The journal
beside the quarantined files is written before each rename, so that a run cut off anywhere can be taken up again.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tomovault.core.errors import Refused, Transient, UserError
from tomovault.core.ports import Checkpoint, Throttle

JOURNAL = "journal.jsonl"
FILES = "files"
_BLOCK = 1 << 20
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True)
class Victim:
    """One file as it was when its copies were made. What is None is unknown and forces a re-hash."""

    path: str
    size: int
    sha256: str
    mtime_ns: int | None = None
    ctime_ns: int | None = None
    inode: int | None = None
    link_target: str | None = None


@dataclass
class Moved:
    """What a move did: `left` says, for each file that stays, why."""

    moved: list[str] = field(default_factory=list)
    bytes: int = 0
    left: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


@contextlib.contextmanager
def open_folder(root: str, parts: Sequence[str], *, create: bool = False) -> Iterator[int]:
    """A descriptor of `root`/parts, no component below `root` being a link.

    Raises FileNotFoundError where a part is missing and `create` is off.
    """
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parts:
            if part in ("", ".", "..") or "/" in part:
                raise UserError(f"a manifest names the path part {part!r}, which is not allowed")
            if create:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, 0o750, dir_fd=fd)
            deeper = os.open(part, _FOLDER_FLAGS, dir_fd=fd)
            os.close(fd)
            fd = deeper
        yield fd
    finally:
        os.close(fd)


def split(path: str) -> tuple[list[str], str]:
    """Folder parts and name of a relative path."""
    *parts, name = path.split("/")
    return parts, name


def relative_to(root: str, below: str) -> list[str]:
    """The parts that lead from `root` down to `below`. Raises UserError if it is not below."""
    root_parts = [p for p in root.split("/") if p]
    parts = [p for p in below.split("/") if p]
    if parts[: len(root_parts)] != root_parts:
        raise UserError(f"{below} is not below {root}")
    return parts[len(root_parts) :]


def why_changed(fd: int, name: str, victim: Victim, throttle: Throttle) -> str:
    """'' if the file is the one that was packed, else what is different. Raises FileNotFoundError if absent.

    Equal size, mtime, ctime and inode are enough; anything else is re-hashed.
    """
    state = os.stat(name, dir_fd=fd, follow_symlinks=False)
    if victim.link_target is not None:
        if not stat.S_ISLNK(state.st_mode):
            return "is not the link that was packed"
        return "" if os.readlink(name, dir_fd=fd) == victim.link_target else "points elsewhere now"
    if not stat.S_ISREG(state.st_mode):
        return "is not a regular file any more"
    if state.st_size != victim.size:
        return "has grown" if state.st_size > victim.size else "has become shorter"
    if (state.st_mtime_ns, state.st_ctime_ns, state.st_ino) == (victim.mtime_ns, victim.ctime_ns, victim.inode):
        return ""
    return "" if hash_below(fd, name, throttle) == victim.sha256 else "has other content"


def hash_below(fd: int, name: str, throttle: Throttle) -> str:
    """Hex sha256 of a regular file in the folder `fd`; '' if it changed while it was read."""
    file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=fd)
    try:
        before = os.fstat(file)
        digest = hashlib.sha256()
        while block := os.read(file, _BLOCK):
            throttle.spend(len(block))
            digest.update(block)
        after = os.fstat(file)
    finally:
        os.close(file)
    same = (before.st_size, before.st_mtime_ns, before.st_ctime_ns) == (
        after.st_size,
        after.st_mtime_ns,
        after.st_ctime_ns,
    )
    return digest.hexdigest() if same else ""


def move_in(
    area_root: str,
    root: str,
    victims: Sequence[Victim],
    quarantine: str,
    *,
    keep: frozenset[str],
    may_continue: Callable[[], bool],
    throttle: Throttle,
    checkpoint: Checkpoint,
) -> Moved:
    """Every victim that is as it was packed lies in `quarantine`, on the same file system; the rest stays.

    Paths in `keep` are needed by other scans and stay. Raises Refused, having moved nothing, if more than
    max(1 %, 3) of the victims are missing or changed: so much difference means that something else is wrong.
    Raises Transient if the claim on this job was lost.
    """
    scan_parts = relative_to(area_root, root)
    journal = _Journal(quarantine)
    outcome = Moved()
    wanted = []
    for victim in victims:
        if victim.path in keep:
            outcome.left.append(f"{victim.path}: another scan needs it")
        else:
            wanted.append(victim)
    _look_first(area_root, scan_parts, wanted, journal, throttle)
    Path(quarantine, FILES).mkdir(parents=True, exist_ok=True)
    with open_folder(area_root, scan_parts) as scan_fd:
        if os.fstat(scan_fd).st_dev != os.stat(quarantine).st_dev:
            raise Refused(f"{quarantine} is not on the file system of {root}", by="law 5: same file system")
    for number, victim in enumerate(wanted):
        if number % 64 == 0 and not may_continue():
            raise Transient("the claim on this removal was lost; nothing more was moved")
        checkpoint("prune.file")
        _move_one(area_root, scan_parts, victim, quarantine, journal, outcome, throttle)
    journal.sync()
    checkpoint("prune.moved")
    _remove_empty_folders(area_root, scan_parts, wanted)
    return outcome


def _look_first(
    area_root: str, scan_parts: list[str], victims: Sequence[Victim], journal: _Journal, throttle: Throttle
) -> None:
    wrong = []
    for victim in victims:
        if victim.path in journal.paths:
            continue
        parts, name = split(victim.path)
        try:
            with open_folder(area_root, [*scan_parts, *parts]) as fd:
                state = os.stat(name, dir_fd=fd, follow_symlinks=False)
        except OSError as problem:
            wrong.append(f"{victim.path}: {problem.strerror}")
            continue
        if victim.link_target is None and state.st_size < victim.size:
            wrong.append(f"{victim.path}: has become shorter")
    if len(wrong) > max(3, len(victims) // 100):
        raise Refused(
            f"{len(wrong)} of {len(victims)} files are missing or shorter than packed, first {wrong[0]}",
            by="law 3: absence is never an order",
            hint="see whether the area is the right one and mounted whole; tomovault verify SCAN re-reads its copies",
        )


def _move_one(
    area_root: str,
    scan_parts: list[str],
    victim: Victim,
    quarantine: str,
    journal: _Journal,
    outcome: Moved,
    throttle: Throttle,
) -> None:
    parts, name = split(victim.path)
    try:
        with (
            open_folder(area_root, [*scan_parts, *parts]) as source,
            open_folder(str(Path(quarantine, FILES)), parts, create=True) as target,
        ):
            if victim.path in journal.paths and _exists(target, name):
                if not _exists(source, name):
                    _count(outcome, victim)
                else:
                    outcome.left.append(f"{victim.path}: a new file stands in its place")
                return
            reason = why_changed(source, name, victim, throttle)
            if reason:
                outcome.left.append(f"{victim.path}: {reason}")
                return
            checked = os.stat(name, dir_fd=source, follow_symlinks=False)
            journal.add({"path": victim.path, "inode": checked.st_ino, "size": checked.st_size, "step": "moving"})
            os.rename(name, name, src_dir_fd=source, dst_dir_fd=target)
            moved = os.stat(name, dir_fd=target, follow_symlinks=False)
            if (moved.st_ino, moved.st_size, moved.st_mtime_ns) != (
                checked.st_ino,
                checked.st_size,
                checked.st_mtime_ns,
            ):
                os.rename(name, name, src_dir_fd=target, dst_dir_fd=source)
                journal.add({"path": victim.path, "step": "returned"})
                outcome.left.append(f"{victim.path}: was replaced while it was checked")
                return
            journal.add(
                {
                    "path": victim.path,
                    "inode": moved.st_ino,
                    "size": moved.st_size,
                    "mtime_ns": moved.st_mtime_ns,
                    "ctime_ns": moved.st_ctime_ns,
                    "step": "moved",
                }
            )
            _count(outcome, victim)
    except FileNotFoundError:
        if _in_quarantine(quarantine, victim.path):
            _count(outcome, victim)
        else:
            outcome.missing.append(victim.path)
    except OSError as problem:
        if problem.errno in (errno.ELOOP, errno.ENOTDIR):
            outcome.left.append(f"{victim.path}: a link or a file stands where a folder was")
        else:
            outcome.left.append(f"{victim.path}: {problem.strerror}")


def _count(outcome: Moved, victim: Victim) -> None:
    outcome.moved.append(victim.path)
    outcome.bytes += victim.size


def _exists(fd: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _in_quarantine(quarantine: str, path: str) -> bool:
    return os.path.lexists(Path(quarantine, FILES, path))


def _remove_empty_folders(area_root: str, scan_parts: list[str], victims: Iterable[Victim]) -> None:
    folders = {tuple(split(v.path)[0][:depth]) for v in victims for depth in range(1, len(split(v.path)[0]) + 1)}
    for folder in sorted(folders, key=len, reverse=True):
        with contextlib.suppress(OSError), open_folder(area_root, [*scan_parts, *folder[:-1]]) as fd:
            os.rmdir(folder[-1], dir_fd=fd)


def put_back(area_root: str, root: str, quarantine: str, *, checkpoint: Checkpoint) -> tuple[int, int, list[str]]:
    """Every quarantined file stands where it was, unless something else stands there now.

    Returns (files, bytes, conflicts). What conflicts stays in quarantine.
    """
    scan_parts = relative_to(area_root, root)
    files = size = 0
    conflicts = []
    for entry in _Journal(quarantine).last_of_each():
        parts, name = split(entry["path"])
        checkpoint("undo.file")
        try:
            with open_folder(str(Path(quarantine, FILES)), parts) as source:
                with open_folder(area_root, [*scan_parts, *parts], create=True) as target:
                    if not _exists(source, name):
                        continue
                    if _exists(target, name):
                        conflicts.append(entry["path"])
                        continue
                    os.link(name, name, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)
                os.unlink(name, dir_fd=source)
        except FileNotFoundError:
            continue
        files += 1
        size += int(entry.get("size", 0))
    if not conflicts:
        _clear(quarantine)
    return files, size, conflicts


def empty(quarantine: str, *, may_continue: Callable[[], bool], checkpoint: Checkpoint) -> tuple[int, int, list[str]]:
    """Every file that lies in quarantine as it was put there is unlinked; returns (files, bytes, left).

    Raises Transient if the claim on this job was lost.
    """
    files = size = 0
    left = []
    for number, entry in enumerate(_Journal(quarantine).last_of_each()):
        if number % 64 == 0 and not may_continue():
            raise Transient("the claim on this removal was lost; nothing more was removed")
        parts, name = split(entry["path"])
        checkpoint("remove.file")
        try:
            with open_folder(str(Path(quarantine, FILES)), parts) as fd:
                state = os.stat(name, dir_fd=fd, follow_symlinks=False)
                if state.st_ino != entry["inode"] or state.st_size != entry["size"]:
                    left.append(f"{entry['path']}: is not the file that was put into quarantine")
                    continue
                os.unlink(name, dir_fd=fd)
        except FileNotFoundError:
            if entry["step"] == "moving":
                continue  # a run cut off before the rename: it never went in
        files += 1
        size += int(entry["size"])
    if not left:
        _clear(quarantine)
    return files, size, left


def _clear(quarantine: str) -> None:
    files = Path(quarantine, FILES)
    for folder, _, _ in os.walk(files, topdown=False, followlinks=False):
        with contextlib.suppress(OSError):
            os.rmdir(folder)
    if not files.exists():
        Path(quarantine, JOURNAL).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            os.rmdir(quarantine)


class _Journal:
    """What went into one quarantine folder, a JSON line a step."""

    def __init__(self, quarantine: str) -> None:
        self._path = Path(quarantine, JOURNAL)
        self._entries: dict[str, dict[str, Any]] = {}
        with contextlib.suppress(FileNotFoundError):
            for line in self._path.read_text("utf-8", "surrogateescape").splitlines():
                self._take(line)

    def _take(self, line: str) -> None:
        try:
            entry = json.loads(line)
        except ValueError:
            return  # the last line of a run that was cut off
        if entry.get("step") == "returned":
            self._entries.pop(entry["path"], None)
        else:
            self._entries[entry["path"]] = entry

    @property
    def paths(self) -> Mapping[str, Any]:
        """Paths that went in, or were about to."""
        return self._entries

    def last_of_each(self) -> list[dict[str, Any]]:
        """The last word on every path."""
        return list(self._entries.values())

    def add(self, entry: dict[str, Any]) -> None:
        """The entry is in the journal; `sync` puts it on the disk."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps(entry) + "\n"
        with self._path.open("a", encoding="ascii") as file:
            file.write(line)
        self._take(line)

    def sync(self) -> None:
        """What was added survives a power cut."""
        with contextlib.suppress(FileNotFoundError), self._path.open("rb") as file:
            os.fsync(file.fileno())
