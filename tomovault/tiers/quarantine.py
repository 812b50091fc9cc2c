"""Moving a scan's files out of sight, back again, or away for good: file by file, on hostile ground.

What is to go is in a journal on the disk before the first rename, so that a run cut off anywhere can be taken up
again. Every step goes through descriptors below the area's root, opened once, and holds the area's lock.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tomovault.core.errors import Refused, Transient
from tomovault.core.ports import Checkpoint, Throttle
from tomovault.tiers.claim import require_claim
from tomovault.tiers.ground import NOT_NOW, Ground, exists, hash_below, move, parts_below, split
from tomovault.tiers.removal_journal import PRIVATE, Journal

FILES = "files"

_MADE_AGAIN = 0o755


@dataclass(frozen=True)
class Victim:
    """One file as it was when its copies were made. What is None is unknown and forces a re-hash.

    `may_vanish`: acquisition software removes it itself, as ESRF's does with single flats once they are averaged.
    `as_it_is`: a file of ours that goes whatever its bytes are now.
    """

    path: str
    size: int
    sha256: str
    mtime_ns: int | None = None
    ctime_ns: int | None = None
    inode: int | None = None
    link_target: str | None = None
    may_vanish: bool = False
    as_it_is: bool = False

    @property
    def known_by(self) -> str | None:
        """The digest by which its bytes are known in quarantine; None where they may be any."""
        return None if self.as_it_is else self.sha256


@dataclass
class Moved:
    """What a move did: `left` says, for each file that stays, why; `errors` of these the file system refused."""

    moved: list[str] = field(default_factory=list)
    bytes: int = 0
    left: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    errors: int = 0


@dataclass(frozen=True)
class Place:
    """Where a removal happens: `below` (an area's root or a vault) holds both the files' root and their quarantine."""

    below: str
    root: str
    quarantine: str

    @property
    def scan_parts(self) -> list[str]:
        """From `below` to the files' root."""
        return parts_below(self.below, self.root)

    @property
    def own_parts(self) -> list[str]:
        """From `below` to the folder of journal and files."""
        return parts_below(self.below, self.quarantine)

    def inside(self, folders: Sequence[str]) -> list[str]:
        """From `below` to a folder of quarantined files."""
        return [*self.own_parts, FILES, *folders]


def too_many(wrong: int, total: int) -> bool:
    """More than max(1 %, 3) of the files, or half of them: so much difference means that something else is wrong."""
    return wrong > max(3, total // 100) or (wrong > 0 and 2 * wrong >= total)


def why_changed(fd: int, name: str, victim: Victim, throttle: Throttle) -> tuple[str, os.stat_result]:
    """('' if the file is the one that was packed, else what is different; its state). FileNotFoundError if absent.

    Equal size, mtime, ctime and inode are enough; anything else is re-hashed.
    """
    state = os.stat(name, dir_fd=fd, follow_symlinks=False)
    if victim.link_target is not None:
        if not stat.S_ISLNK(state.st_mode):
            return "is not the link that was packed", state
        return ("" if os.readlink(name, dir_fd=fd) == victim.link_target else "points elsewhere now"), state
    if not stat.S_ISREG(state.st_mode):
        return "is not a regular file any more", state
    if victim.as_it_is:
        return "", state
    if state.st_size != victim.size:
        return ("has grown" if state.st_size > victim.size else "has become shorter"), state
    if (state.st_mtime_ns, state.st_ctime_ns, state.st_ino) == (victim.mtime_ns, victim.ctime_ns, victim.inode):
        return "", state
    digest, state = hash_below(fd, name, throttle)
    return ("" if digest == victim.sha256 else "has other content"), state


@dataclass(frozen=True)
class _Work:
    """One pass over the files of a removal."""

    ground: Ground
    place: Place
    journal: Journal
    may_continue: Callable[[], bool]
    throttle: Throttle
    checkpoint: Checkpoint


# --- phase one ---------------------------------------------------------------------------------------


def move_in(
    place: Place,
    victims: Sequence[Victim],
    *,
    keep: frozenset[str],
    may_continue: Callable[[], bool],
    throttle: Throttle,
    checkpoint: Checkpoint,
) -> Moved:
    """Every victim that is as it was packed lies in quarantine, on the same file system; the rest stays.

    Paths in `keep` are needed by other scans and stay. Raises Refused if too many of the victims are missing or
    shorter, if the file system refuses too many, or if not one of them may go; Transient if the claim on this job
    was lost or the file system does not answer. What was moved before that stays in the journal, for `put_back`.
    """
    outcome = Moved(left=[f"{v.path}: another scan needs it" for v in victims if v.path in keep])
    wanted = [v for v in victims if v.path not in keep]
    with Ground(place.below) as ground, ground.locked():
        journal = Journal(ground, place.own_parts)
        work = _Work(ground, place, journal, may_continue, throttle, checkpoint)
        _plan(ground, place, wanted, journal)
        checkpoint("prune.planned")
        for victim in wanted:
            checkpoint("prune.file")
            _move_one(work, victim, outcome)
            if outcome.errors > max(3, len(wanted) // 100):
                raise Refused(
                    f"{outcome.errors} files of {place.root} cannot be moved, last {outcome.left[-1]}",
                    by="law 5: brake on errors",
                    hint="tomovault doctor shows what may be done in the area",
                )
        if not outcome.moved:
            why = (outcome.left or outcome.missing or ["it has no files"])[0]
            raise Refused(f"nothing of {place.root} may be moved, first {why}", by="law 5: only what was packed goes")
        journal.add((), sync=True)
        for folders in {tuple(split(path)[0]) for path in outcome.moved}:
            ground.sync(place.inside(folders))
            ground.sync([*place.scan_parts, *folders])
        checkpoint("prune.moved")
    return outcome


def _plan(ground: Ground, place: Place, victims: Sequence[Victim], journal: Journal) -> None:
    """Every victim that is there is in the journal, and the journal on the disk, before the first of them moves."""
    wrong = []
    planned = []
    for victim in victims:
        folders, name = split(victim.path)
        try:
            with ground.folder([*place.scan_parts, *folders]) as fd:
                state = os.stat(name, dir_fd=fd, follow_symlinks=False)
        except OSError as problem:
            _stop_if_not_now(problem, victim.path)
            if not victim.may_vanish and not _is_inside(ground, place, victim.path):
                wrong.append(f"{victim.path}: {problem.strerror}")
            continue
        if victim.link_target is None and state.st_size < victim.size and not victim.as_it_is:
            wrong.append(f"{victim.path}: has become shorter")
        if victim.path not in journal.entries:
            planned.append(_entry(victim.path, state, "planned", sha256=victim.known_by))
    if too_many(len(wrong), len(victims)):
        raise Refused(
            f"{len(wrong)} of {len(victims)} files are missing or shorter than packed, first {wrong[0]}",
            by="law 3: absence is never an order",
            hint="see whether the area is the right one and mounted whole; tomovault verify SCAN re-reads its copies",
        )
    with ground.folder(place.inside(()), create=PRIVATE) as inside, ground.folder(place.scan_parts) as scan:
        if os.fstat(inside).st_dev != os.fstat(scan).st_dev:
            raise Refused(f"{place.quarantine} is not on the file system of {place.root}", by="law 5: same file system")
    journal.add(planned, sync=True)


def _entry(path: str, state: os.stat_result, step: str, **more: Any) -> Mapping[str, Any]:
    return {
        "path": path,
        "inode": state.st_ino,
        "size": state.st_size,
        "mtime_ns": state.st_mtime_ns,
        "ctime_ns": state.st_ctime_ns,
        "step": step,
        **more,
    }


def _move_one(work: _Work, victim: Victim, outcome: Moved) -> None:
    ground, place = work.ground, work.place
    folders, name = split(victim.path)
    try:
        if _is_inside(ground, place, victim.path):
            reason = _take_up(work, victim)
            if reason:
                outcome.left.append(f"{victim.path}: {reason}")
                return
            _count(outcome, victim)
            with ground.folder([*place.scan_parts, *folders]) as source:
                if exists(source, name):
                    outcome.left.append(f"{victim.path}: a new file stands in its place")
            return
        with (
            ground.folder([*place.scan_parts, *folders]) as source,
            ground.folder(place.inside(folders), create=PRIVATE) as target,
        ):
            reason, checked = why_changed(source, name, victim, work.throttle)
            if not reason:
                reason = _move_checked(work, source, target, victim, checked)
            if reason:
                outcome.left.append(f"{victim.path}: {reason}")
            else:
                _count(outcome, victim)
    except FileNotFoundError:
        if victim.path not in outcome.moved:
            outcome.missing.append(victim.path)
    except OSError as problem:
        _stop_if_not_now(problem, victim.path)
        if problem.errno in (errno.ELOOP, errno.ENOTDIR):
            outcome.left.append(f"{victim.path}: a link or a file stands where a folder was")
        else:
            outcome.errors += 1
            outcome.left.append(f"{victim.path}: {problem.strerror}")


def _take_up(work: _Work, victim: Victim) -> str:
    """'' once the journal says that a file went in which an earlier run moved; else why it is in its place again.

    A run that was cut off between the rename and its line had not compared what it moved with what it had checked.
    """
    ground, place = work.ground, work.place
    if work.journal.entries.get(victim.path, {}).get("step") == "moved":
        return ""
    folders, name = split(victim.path)
    with ground.folder(place.inside(folders)) as inside:
        reason, state = why_changed(inside, name, victim, work.throttle)
        if reason:
            require_claim(work.may_continue, "moved")
            with ground.folder([*place.scan_parts, *folders], create=_MADE_AGAIN) as source:
                move(inside, source, name)
            return reason
    work.journal.add([_entry(victim.path, state, "moved", sha256=victim.known_by)])
    return ""


def _move_checked(work: _Work, source: int, target: int, victim: Victim, checked: os.stat_result) -> str:
    """'' once the file that was checked is in quarantine, its ctime recorded again; else why it stays."""
    name = split(victim.path)[1]
    require_claim(work.may_continue, "moved")
    move(source, target, name)
    work.checkpoint("prune.renamed")
    moved = os.stat(name, dir_fd=target, follow_symlinks=False)
    if any(getattr(moved, k) != getattr(checked, k) for k in ("st_ino", "st_dev", "st_size", "st_mtime_ns")):
        move(target, source, name)
        return "was replaced while it was checked"
    work.journal.add([_entry(victim.path, moved, "moved", sha256=victim.known_by)])
    return ""


def _stop_if_not_now(problem: OSError, path: str) -> None:
    if problem.errno in NOT_NOW:
        raise Transient(f"{path}: {problem.strerror}", hint="the file system answered with an error") from problem


def _count(outcome: Moved, victim: Victim) -> None:
    outcome.moved.append(victim.path)
    outcome.bytes += victim.size


def _is_inside(ground: Ground, place: Place, path: str) -> bool:
    folders, name = split(path)
    try:
        with ground.folder(place.inside(folders)) as fd:
            return exists(fd, name)
    except FileNotFoundError:
        return False


# --- back again --------------------------------------------------------------------------------------


def put_back(
    place: Place, *, moved: Sequence[str] = (), may_continue: Callable[[], bool], checkpoint: Checkpoint
) -> tuple[int, int, list[str]]:
    """Every quarantined file stands where it was, unless something else stands there now or it was removed already.

    Returns (files, bytes, conflicts). What conflicts stays in quarantine. `moved` is what went in: looked for where
    there is no journal any more, since that goes with the last file of an emptying or an undo. Raises Transient if the
    claim on this job was lost or the file system does not answer.
    """
    files = size = 0
    conflicts = []
    with Ground(place.below) as ground, ground.locked():
        journal = Journal(ground, place.own_parts)
        touched = set()
        for path, entry in _entries(journal, moved).items():
            checkpoint("undo.file")
            try:
                back, problem = _put_one_back(ground, place, path, entry, may_continue)
            except OSError as problem_:
                _stop_if_not_now(problem_, path)
                back, problem = False, str(problem_.strerror)
            if problem:
                conflicts.append(f"{path}: {problem}")
            elif back:
                files += 1
                size += int(entry["size"])
                touched.add(tuple(split(path)[0]))
        for folders in touched:
            ground.sync([*place.scan_parts, *folders])
        if not conflicts:
            _clear(ground, place, journal)
    return files, size, conflicts


def _entries(journal: Journal, moved: Sequence[str]) -> Mapping[str, Mapping[str, Any]]:
    return journal.entries or {path: {"path": path, "step": "moved", "size": 0} for path in moved}


@dataclass(frozen=True)
class Stock:
    """Paths of a journal with their sizes: those in quarantine, and those neither there nor in their place."""

    kept: Mapping[str, int]
    removed: Mapping[str, int]


def take_stock(place: Place, *, moved: Sequence[str] = ()) -> Stock:
    """Where the files are that a permit moved; without a journal their sizes are told as 0. Raises OSError where the
    file system does not answer.
    """
    kept, removed = {}, {}
    with Ground(place.below) as ground, ground.locked():
        for path, entry in _entries(Journal(ground, place.own_parts), moved).items():
            if _is_inside(ground, place, path):
                kept[path] = int(entry["size"])
            elif entry["step"] == "moved" and not _stands(ground, place, path, entry)[0]:
                removed[path] = int(entry["size"])
    return Stock(kept, removed)


def _put_one_back(
    ground: Ground, place: Place, path: str, entry: Mapping[str, Any], may_continue: Callable[[], bool]
) -> tuple[bool, str]:
    """(whether it stands in its place, what is in the way)."""
    folders, name = split(path)
    if not _is_inside(ground, place, path):
        if entry["step"] != "moved":
            return False, ""
        return _stands(ground, place, path, entry)
    with (
        ground.folder(place.inside(folders)) as source,
        ground.folder([*place.scan_parts, *folders], create=_MADE_AGAIN) as target,
    ):
        require_claim(may_continue, "put back")
        try:
            move(source, target, name)
        except FileExistsError:
            return False, "something else stands in its place"
    return True, ""


def _stands(ground: Ground, place: Place, path: str, entry: Mapping[str, Any]) -> tuple[bool, str]:
    folders, name = split(path)
    try:
        with ground.folder([*place.scan_parts, *folders]) as target:
            state = os.stat(name, dir_fd=target, follow_symlinks=False)
    except FileNotFoundError:
        return False, "was removed already"
    if state.st_ino == entry.get("inode", state.st_ino):
        return True, ""
    return False, "something else stands in its place"


# --- phase two ---------------------------------------------------------------------------------------


def empty(
    place: Place, *, may_continue: Callable[[], bool], throttle: Throttle, checkpoint: Checkpoint
) -> tuple[int, int, list[str]]:
    """Every file that lies in quarantine as it was put there is unlinked; returns (files, bytes, left).

    Subfolders of the scan that are empty then are gone too. Raises Transient if the claim on this job was lost or
    the file system does not answer.
    """
    files = size = 0
    left = []
    with Ground(place.below) as ground, ground.locked():
        journal = Journal(ground, place.own_parts)
        work = _Work(ground, place, journal, may_continue, throttle, checkpoint)
        for path, entry in journal.entries.items():
            checkpoint("remove.file")
            try:
                gone, problem = _remove_one(work, path, entry)
            except OSError as problem_:
                _stop_if_not_now(problem_, path)
                gone, problem = False, str(problem_.strerror)
            if problem:
                left.append(f"{path}: {problem}")
            elif gone:
                files += 1
                size += int(entry["size"])
        if not left:
            _remove_empty_folders(ground, place, journal.entries)
            _clear(ground, place, journal)
    return files, size, left


def _remove_one(work: _Work, path: str, entry: Mapping[str, Any]) -> tuple[bool, str]:
    """(whether it is gone, why it stays). One that never went in is neither."""
    folders, name = split(path)
    try:
        with work.ground.folder(work.place.inside(folders)) as fd:
            state = os.stat(name, dir_fd=fd, follow_symlinks=False)
            seen = (state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)
            same = seen == (entry["inode"], entry["size"], entry["mtime_ns"], entry["ctime_ns"])
            if not same and not _is_still(fd, name, state, entry, work.throttle):
                return False, "is not the file that was put into quarantine"
            if entry["step"] != "moved":  # only a journal of an earlier version does not say so by now
                work.journal.add([{"path": path, "step": "moved", "inode": state.st_ino}], sync=True)
            require_claim(work.may_continue, "removed")
            os.unlink(name, dir_fd=fd)
    except FileNotFoundError:
        return entry["step"] == "moved", ""
    return True, ""


def _is_still(fd: int, name: str, state: os.stat_result, entry: Mapping[str, Any], throttle: Throttle) -> bool:
    """One whose times differ, as those of a hard link do when another name of it goes, is judged by its content."""
    if (state.st_ino, state.st_size) != (entry["inode"], entry["size"]):
        return False
    if entry["sha256"] is None:
        return True
    return stat.S_ISLNK(state.st_mode) or hash_below(fd, name, throttle)[0] == entry["sha256"]


def _remove_empty_folders(ground: Ground, place: Place, paths: Iterable[str]) -> None:
    folders = {tuple(split(path)[0][:depth]) for path in paths for depth in range(1, len(split(path)[0]) + 1)}
    for folder in sorted(folders, key=len, reverse=True):
        with contextlib.suppress(OSError), ground.folder([*place.scan_parts, *folder[:-1]]) as fd:
            os.rmdir(folder[-1], dir_fd=fd)


def _clear(ground: Ground, place: Place, journal: Journal) -> None:
    """The quarantine folder is gone with its journal, unless something is in it still."""
    folders = {tuple(split(path)[0][:depth]) for path in journal.entries for depth in range(len(split(path)[0]) + 1)}
    for folder in sorted(folders | {()}, key=len, reverse=True):
        *above, last = place.inside(folder)
        with contextlib.suppress(OSError), ground.folder(above) as fd:
            os.rmdir(last, dir_fd=fd)
    *above, last = place.own_parts
    with contextlib.suppress(FileNotFoundError), ground.folder(place.own_parts) as fd:
        if exists(fd, FILES):
            return
    journal.remove()
    with contextlib.suppress(OSError), ground.folder(above) as fd:
        os.rmdir(last, dir_fd=fd)
