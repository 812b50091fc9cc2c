"""Files on their way into a watched area: written where the walker does not look, re-read there, then put in place.

A folder of a scan appears under its name whole and marked as ours, or not at all. What stands there is never replaced.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from tomovault.core.errors import IntegrityError, Refused, SourceChanged, Transient, UserError
from tomovault.core.manifest import ManifestFile
from tomovault.core.mark import Marked
from tomovault.core.ports import Checkpoint, Progress, Throttle
from tomovault.core.replica import StoredFile
from tomovault.tiers.blocks import open_regular, read_blocks, shown, translating, write_all
from tomovault.tiers.folders import problem_of
from tomovault.tiers.ground import OWN_FOLDER, Ground, exists, move, parts_below, split
from tomovault.tiers.restored_mark import leave_mark

#: Where files lie until they are put in place, a folder for each job, below `.tomovault` of the area.
ARRIVING = "arriving"

_PART = ".tomovault-part"
_OURS = (".tomovault", "TOMOVAULT-README")
#: So many folders of one name are looked at before a person is asked.
_MOST_NAMES = 99
_OCCUPIED = (errno.ELOOP, errno.ENOTDIR)
_NOT_GIVEN = (errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EINVAL)


@dataclass(frozen=True)
class Place:
    """Where files are to stand: below the folder `folder` of the area `area_path`.

    `key` begins the names of the scan's files in `key_folder` below it, '' where every file there would be the scan's.
    """

    area_path: str
    folder: str
    key: str = ""
    key_folder: str = ""


@dataclass(frozen=True)
class Choice:
    """The folder that files go to, whether it is there, and which of them stand in it already, by their paths there."""

    folder: str
    exists: bool
    kept: frozenset[str] = frozenset()
    why: str = ""


@dataclass
class Arrival:
    """The files of one scan on their way from below `root`. `names` says for each path on the manifest the path below
    the destination, whose folder is a copy of the folder `top` below `root`.
    """

    job: str
    root: str
    files: Sequence[ManifestFile]
    names: Mapping[str, str]
    reading: Throttle
    writing: Throttle
    checkpoint: Checkpoint
    progress: Progress
    top: str = ""
    _moved: int = field(default=0, init=False)

    def choose(self, place: Place) -> Choice:
        """The folder, or the first of `folder~2`, `folder~3` ... in which no other file is in the way.

        A file that is there with the right bytes stays. One with other bytes, and one that would be taken for a file
        of the scan, is in the way. Raises Refused where every name is taken.
        """
        why = ""
        with Ground(place.area_path) as ground:
            for number in range(1, _MOST_NAMES + 1):
                folder = place.folder if number == 1 else f"{place.folder}~{number}"
                parts = parts_below(place.area_path, folder)
                try:
                    with ground.folder(parts) as fd:
                        inner = Ground(f"/proc/self/fd/{fd}")
                    with inner:
                        problem, kept = self._look(inner, place)
                except FileNotFoundError:
                    return Choice(folder, False, why=why)
                except OSError as problem_there:
                    if problem_there.errno not in _OCCUPIED:
                        raise
                    problem, kept = "a link or a file is in the way", frozenset()
                if not problem:
                    return Choice(folder, True, kept, why)
                why = why or f"{shown(folder)}: {problem}"
        raise Refused(
            f"{why}, and {_MOST_NAMES} folders of that name are taken",
            by="law 5: no other file is ever replaced",
            hint="move what stands there away, or let the rule name another path",
        )

    def _look(self, there: Ground, place: Place) -> tuple[str, frozenset[str]]:
        """(what is in the way, '' for nothing; paths that stand there with the right bytes)."""
        present = []
        for meta in self.files:
            path = self.names[meta.path]
            parts, name = split(path)
            try:
                with there.folder(parts) as fd:
                    now = os.stat(name, dir_fd=fd, follow_symlinks=False)
                    link = os.readlink(name, dir_fd=fd) if stat.S_ISLNK(now.st_mode) else None
            except FileNotFoundError:
                continue
            if link != meta.link_target or (link is None and not _alike(now, meta)):
                return f"{shown(path)} is another file", frozenset()
            present.append(meta)
        if stranger := self._stranger(there, place):
            return f"{shown(stranger)} would be taken for one of its files", frozenset()
        kept = set()
        for meta in present:
            path = self.names[meta.path]
            if meta.link_target is None:
                parts, name = split(path)
                with there.folder(parts) as fd:
                    if problem_of(fd, name, StoredFile(path, meta.size, meta.sha256), self.writing):
                        return f"{shown(path)} is another file", frozenset()
            kept.add(path)
        return "", frozenset(kept)

    def _stranger(self, there: Ground, place: Place) -> str:
        """A file that a format would take for one of the scan's, '' where there is none."""
        ours = set(self.names.values())
        inner = [part for part in place.key_folder.split("/") if part]
        with contextlib.suppress(FileNotFoundError), there.folder(inner) as fd, os.scandir(fd) as entries:
            for entry in entries:
                name = entry.name
                if "/".join((*inner, name)) in ours or name.startswith(_OURS) or not name.startswith(place.key):
                    continue
                if not entry.is_dir(follow_symlinks=False):
                    return name
        return ""

    # --- writing ---------------------------------------------------------------------------------

    def stage(self, place: Place, choice: Choice) -> str:
        """Every file that is not there yet lies in the folder that is returned, synced and re-read from the disk.

        What an attempt that was killed had finished is taken as it is, and re-read. Raises SourceChanged where a file
        of the source is not what was packed, IntegrityError where what was written does not re-read, NoSpace.
        """
        stem = os.path.basename(choice.folder)
        todo = [f for f in self.files if self.names[f.path] not in choice.kept]
        total = 2 * sum(f.size for f in todo)
        with translating(shown(choice.folder)), Ground(place.area_path) as ground:
            with ground.folder(self._own, create=0o755) as own:
                for name in os.listdir(own):
                    if name != stem:
                        _remove(own, name)
            with ground.folder((*self._own, stem), create=0o700):
                pass
        staged = os.path.join(place.area_path, *self._own, stem)
        with Ground(self.root) as source, Ground(staged) as target:
            for meta in sorted(todo, key=lambda f: f.hardlink_of is not None):
                self._bring(meta, source, target, total)
                self.checkpoint("move.file")
            with translating(shown(choice.folder)):
                self._dress_folders(source, target, todo)
            self.checkpoint("move.staged")
            self._verify(todo, target, total)
        self.checkpoint("move.verified")
        return staged

    @property
    def _own(self) -> tuple[str, ...]:
        return (OWN_FOLDER, ARRIVING, self.job)

    def _bring(self, meta: ManifestFile, source: Ground, target: Ground, total: int) -> None:
        parts, name = split(self.names[meta.path])
        with translating(shown(meta.path)), target.folder(parts, create=0o700) as fd:
            if meta.link_target is not None:
                if not exists(fd, name):
                    os.symlink(meta.link_target, name, dir_fd=fd)
                    os.utime(name, ns=(meta.mtime_ns, meta.mtime_ns), dir_fd=fd, follow_symlinks=False)
                return
            if self._link_hard(meta, target, fd, name):
                return
        with target.folder(parts) as fd:
            if not _is_finished(fd, name, meta):
                self._copy(meta, source, fd, name, total)
                return
        self._step(meta.size, total)

    def _link_hard(self, meta: ManifestFile, target: Ground, fd: int, name: str) -> bool:
        """Whether a further name of a file is one here too; where that one is not staged the bytes are copied."""
        first = self.names.get(meta.hardlink_of or "")
        if first is None:
            return False
        parts, first_name = split(first)
        try:
            with target.folder(parts) as at:
                if not exists(fd, name):
                    os.link(first_name, name, src_dir_fd=at, dst_dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def _copy(self, meta: ManifestFile, source: Ground, fd: int, name: str, total: int) -> None:
        digest, size = hashlib.sha256(), 0
        with contextlib.suppress(FileNotFoundError):
            os.unlink(_PART, dir_fd=fd)
        with _reading(source, meta) as given, translating(shown(meta.path)):
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            out = os.open(_PART, flags, 0o600, dir_fd=fd)
            try:
                for block in given(self.reading):
                    digest.update(block)
                    size += len(block)
                    self.writing.spend(len(block))
                    write_all(out, block)
                    self._step(len(block), total)
                if size != meta.size or digest.hexdigest() != meta.sha256:
                    raise SourceChanged(
                        f"{shown(meta.path)} is not what was packed", hint="it is looked at again once it is quiet"
                    )
                _dress(out, meta)
                os.fsync(out)
            finally:
                os.close(out)
            os.rename(_PART, name, src_dir_fd=fd, dst_dir_fd=fd)

    def _dress_folders(self, source: Ground, target: Ground, todo: Sequence[ManifestFile]) -> None:
        """Each folder has the mode of the one that it is a copy of, and its names are on the disk."""
        top = [part for part in self.top.split("/") if part]
        folders = {tuple(split(self.names[f.path])[0]) for f in todo}
        every = {()} | {folder[:n] for folder in folders for n in range(1, len(folder) + 1)}
        for there in sorted(every, key=len, reverse=True):
            here = (*top, *there)
            with target.folder(there) as fd:
                try:
                    with source.folder(here) as at:
                        mode = stat.S_IMODE(os.fstat(at).st_mode)
                except FileNotFoundError as problem:
                    raise SourceChanged(f"{'/'.join(here)} was moved or removed while it was copied") from problem
                os.fchmod(fd, (mode | 0o700) & 0o1777)
                os.fsync(fd)

    def _verify(self, todo: Sequence[ManifestFile], target: Ground, total: int) -> None:
        bad = []
        for meta in todo:
            path = self.names[meta.path]
            parts, name = split(path)
            if meta.link_target is not None:
                continue
            with target.folder(parts) as fd:
                problem = problem_of(fd, name, StoredFile(path, meta.size, meta.sha256), self.writing)
            if problem:
                bad.append(problem)
            self._step(meta.size, total)
        if bad:
            raise IntegrityError(f"{len(bad)} files do not re-read where they were copied to, first {bad[0]}")

    def _step(self, count: int, total: int) -> None:
        self._moved += count
        self.progress(min(self._moved, total), total)

    # --- in place ----------------------------------------------------------------------------------

    def put_in_place(self, place: Place, choice: Choice, staged: str, mark: Marked) -> None:
        """The files stand below the folder of the choice, which carries the mark before the first of them.

        Raises Transient, with nothing of ours left there, where something appeared there meanwhile.
        """
        area = place.area_path
        parts = parts_below(area, choice.folder)
        with translating(shown(choice.folder)), Ground(area) as ground:
            if choice.exists:
                leave_mark(area, choice.folder, mark, self.checkpoint)
                self._merge(ground, parts, staged)
            else:
                leave_mark(area, staged, mark, self.checkpoint)
                with ground.folder(parts[:-1], create=0o777) as to, ground.folder(self._own) as own:
                    try:
                        move(own, to, parts[-1])
                    except FileExistsError as problem:
                        raise _appeared(choice.folder) from problem
                    os.fsync(to)
        self.checkpoint("move.placed")

    def _merge(self, ground: Ground, parts: Sequence[str], staged: str) -> None:
        placed: list[tuple[list[str], str]] = []
        with Ground(staged) as source:
            for path in self.names.values():
                inner, name = split(path)
                try:
                    with source.folder(inner) as here, ground.folder([*parts, *inner], create=0o777) as there:
                        if not exists(here, name):
                            continue
                        move(here, there, name)
                        os.fsync(there)
                except FileNotFoundError:
                    continue  # nothing of that folder was staged: it stands there already
                except FileExistsError as problem:
                    for folders, ours in placed:
                        with ground.folder(folders) as there:
                            os.unlink(ours, dir_fd=there)
                    raise _appeared("/".join(parts)) from problem
                placed.append(([*parts, *inner], name))
                self.checkpoint("move.merged")

    def clean_up(self, area_path: str, stale: Sequence[str] = ()) -> None:
        """Nothing of this job, nor of the jobs `stale`, lies where files arrive."""
        with contextlib.suppress(OSError), Ground(area_path) as ground:
            with ground.folder((OWN_FOLDER, ARRIVING)) as fd:
                for job in (self.job, *stale):
                    _remove(fd, job)


def _appeared(folder: str) -> Transient:
    return Transient(f"{shown(folder)} was written to by somebody else meanwhile", hint="it is looked at again")


def _alike(now: os.stat_result, meta: ManifestFile) -> bool:
    return stat.S_ISREG(now.st_mode) and now.st_size == meta.size


def _is_finished(fd: int, name: str, meta: ManifestFile) -> bool:
    """Whether a killed attempt had finished the file: it is re-read with the others."""
    try:
        now = os.stat(name, dir_fd=fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    if _alike(now, meta) and now.st_mtime_ns == meta.mtime_ns:
        return True
    os.unlink(name, dir_fd=fd)
    return False


@contextlib.contextmanager
def _reading(source: Ground, meta: ManifestFile) -> Iterator[_Given]:
    """The blocks of a user's file. Raises SourceChanged where it is gone or something else has its name."""
    parts, name = split(meta.path)
    try:
        with source.folder(parts) as at:
            fd = open_regular(name, dir_fd=at)
    except OSError as problem:
        if problem.errno in (errno.EACCES, errno.EPERM):
            raise UserError(f"{shown(meta.path)} cannot be read: {problem.strerror}") from problem
        raise SourceChanged(f"{shown(meta.path)}: {problem.strerror}", hint="the scan is looked at again") from problem
    try:
        yield _Given(fd)
    finally:
        os.close(fd)


@dataclass(frozen=True)
class _Given:
    fd: int

    def __call__(self, throttle: Throttle) -> Iterator[bytes]:
        os.posix_fadvise(self.fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)
        yield from read_blocks(self.fd, throttle)


def _dress(fd: int, meta: ManifestFile) -> None:
    """Owner, attributes, mode and times, in this order: each may undo those after it. What is not allowed stays."""
    now = os.fstat(fd)
    if meta.uid is not None and meta.gid is not None and (now.st_uid, now.st_gid) != (meta.uid, meta.gid):
        with _as_allowed():
            os.fchown(fd, meta.uid, meta.gid)
    for name, value in meta.xattrs:
        with _as_allowed():
            os.setxattr(fd, name, base64.b64decode(value))
    now = os.fstat(fd)
    same = (now.st_uid, now.st_gid) == (meta.uid, meta.gid)
    with _as_allowed():
        os.fchmod(fd, meta.mode & (0o7777 if same else 0o1777))
    os.utime(fd, ns=(meta.mtime_ns, meta.mtime_ns))


@contextlib.contextmanager
def _as_allowed() -> Iterator[None]:
    try:
        yield
    except OSError as problem:
        if problem.errno not in _NOT_GIVEN:
            raise


def _remove(folder: int, name: str) -> None:
    """Nothing has that name in the folder; no link is followed."""
    try:
        shutil.rmtree(name, dir_fd=folder)
    except FileNotFoundError:
        return
    except NotADirectoryError:
        os.unlink(name, dir_fd=folder)
