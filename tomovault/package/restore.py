"""Original files given back as they were, into a folder that may hold anything."""

from __future__ import annotations

import base64
import contextlib
import errno
import hashlib
import os
import stat
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from tomovault.core.errors import IntegrityError, NoSpace, Refused, Transient, UserError
from tomovault.core.manifest import ManifestFile
from tomovault.core.ports import Checkpoint, Progress, Throttle
from tomovault.package.container import check_space, start_writeback
from tomovault.package.manifest import PackedFile
from tomovault.package.names import PART, check_job
from tomovault.package.place import place_entry
from tomovault.package.rebuild import Rebuilder
from tomovault.package.store import ChunkStore
from tomovault.package.tree import TargetTree, shown, split_path

_STEP = 4 << 20
_TEMPORARY = ".tomovault."


@dataclass(frozen=True)
class Restored:
    """What stands in the target now: `paths` were written, `kept` stood there already, byte for byte the same.

    `read_bytes` were read from the package; `notes` say what could not be given back (owners, attributes).
    """

    paths: tuple[str, ...]
    kept: tuple[str, ...]
    bytes: int
    read_bytes: int
    notes: tuple[str, ...] = ()


def restore_files(
    store: ChunkStore,
    target_dir: str,
    *,
    select: Callable[[ManifestFile], bool] | Sequence[str] | None,
    job: str,
    overwrite: bool,
    threads: int,
    throttle: Throttle,
    progress: Progress,
    checkpoint: Checkpoint,
    floor_bytes: int = 0,
) -> Restored:
    """Write the selected files (all of them by default) below an existing or new folder.

    Each is written under a temporary name that carries `job`, hashed on the way, given its mode, times, owner,
    links and attributes as far as permitted, synced, renamed. A file that is there with the same bytes is kept.
    Nothing outside `target_dir` is touched and no link in it is followed.

    Raises Refused for a different file in the way (unless `overwrite`) or a link, and NoSpace if what is to be
    written would leave less than `floor_bytes` free, before anything is written; Refused, too, for one that came
    into the way meanwhile, which is left as it is, Transient for one that also went again;
    IntegrityError naming file and frame if the package is damaged: then the other files are all restored.
    """
    check_job(job)
    chosen = _chosen(store, select)
    _make_target(target_dir)
    with TargetTree(target_dir) as tree:
        return _Restorer(store, tree, job, overwrite, throttle, progress, checkpoint).run(chosen, threads, floor_bytes)


def _chosen(store: ChunkStore, select: Callable[[ManifestFile], bool] | Sequence[str] | None) -> list[PackedFile]:
    files = store.manifest.contents.files
    for file in files:
        split_path(file.meta.path)
    if select is None:
        return list(files)
    if callable(select):
        return [f for f in files if select(f.meta)]
    wanted = set(select)
    unknown = sorted(wanted - {f.meta.path for f in files})
    if unknown:
        raise UserError(f"the package has no file {shown(unknown[0])}")
    return [f for f in files if f.meta.path in wanted]


def _make_target(target_dir: str) -> None:
    try:
        os.makedirs(target_dir, exist_ok=True)
    except OSError as problem:
        raise UserError(f"{target_dir}: {problem.strerror}", hint="choose a folder that can be written") from problem


@dataclass
class _Open:
    """A file that is being written under its temporary name."""

    file: PackedFile
    parts: tuple[str, ...]
    temporary: str
    handle: int
    digest: hashlib._Hash = field(default_factory=hashlib.sha256)
    size: int = 0
    damage: IntegrityError | None = None


class _Restorer:
    def __init__(
        self,
        store: ChunkStore,
        tree: TargetTree,
        job: str,
        overwrite: bool,
        throttle: Throttle,
        progress: Progress,
        checkpoint: Checkpoint,
    ) -> None:
        self._store, self._tree = store, tree
        self._job, self._overwrite = job, overwrite
        self._throttle, self._progress, self._checkpoint = throttle, progress, checkpoint
        self._notes: dict[str, int] = {}
        self._damage: list[IntegrityError] = []
        self._written: list[str] = []
        self._kept: list[str] = []
        self._syncing: deque[tuple[_Open, Future[None]]] = deque()
        self._count = 0
        self._done = 0

    def run(self, chosen: list[PackedFile], threads: int, floor_bytes: int) -> Restored:
        before = self._store.read_bytes
        self._checkpoint("restore.begin")
        for parts in {split_path(f.meta.path)[:-1] for f in chosen}:
            self._sweep(parts)
        self._kept = [f.meta.path for f in chosen if self._stands(f)]
        kept = set(self._kept)
        missing = [f for f in chosen if f.meta.path not in kept]
        total = sum(f.meta.size for f in missing)
        there = {f.meta.path for f in chosen}
        by_path = {f.meta.path: f for f in self._store.manifest.contents.files}
        whole, hard, soft = [], [], []
        for file in missing:
            if file.meta.link_target is not None:
                soft.append(file)
            elif file.meta.hardlink_of in there:
                hard.append(file)
            elif file.meta.hardlink_of is not None:
                whole.append(PackedFile(file.meta, by_path[file.meta.hardlink_of].segments))
            else:
                whole.append(file)
        if whole:
            check_space(os.path.join(self._tree.root, "."), floor_bytes, sum(f.meta.size for f in whole))
        self._write_whole(whole, threads, total)
        stands = {*self._kept, *self._written}
        for file in hard:
            if file.meta.hardlink_of in stands:
                self._link_hard(file)
        for file in soft:
            self._link_soft(file)
        self._tree.sync()
        self._checkpoint("restore.synced")
        if self._damage:
            more = len(self._damage) - 1
            raise IntegrityError(
                self._damage[0].message + (f" (and {more} more pieces)" if more else ""),
                hint="all other files were restored; restore these from another copy",
            )
        return Restored(
            paths=tuple(self._written),
            kept=tuple(self._kept),
            bytes=self._done,
            read_bytes=self._store.read_bytes - before,
            notes=tuple(f"{text} ({count} files)" for text, count in self._notes.items()),
        )

    # --- what is there already -------------------------------------------------------------------

    def _stands(self, file: PackedFile) -> bool:
        """True if the file is there as it should be; raises Refused if something else is."""
        parts = split_path(file.meta.path)
        folder = self._tree.folder(parts[:-1])
        try:
            now = os.stat(parts[-1], dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return False
        if stat.S_ISLNK(now.st_mode):
            same = file.meta.link_target == os.readlink(parts[-1], dir_fd=folder)
        else:
            same = (
                file.meta.link_target is None
                and stat.S_ISREG(now.st_mode)
                and now.st_size == file.meta.size
                and self._hash_there(parts, folder) == file.meta.sha256
            )
        if not same and (not self._overwrite or stat.S_ISDIR(now.st_mode)):
            raise Refused(
                f"{shown(file.meta.path)} is there already and is something else",
                by="restore never overwrites unless asked to",
                hint="restore into an empty folder, or replace what differs with --overwrite",
            )
        return same

    def _hash_there(self, parts: tuple[str, ...], folder: int) -> str:
        handle = os.open(parts[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
        digest = hashlib.sha256()
        with os.fdopen(handle, "rb", buffering=0) as source:
            while data := source.read(_STEP):
                digest.update(data)
        return digest.hexdigest()

    # --- whole files -----------------------------------------------------------------------------

    def _write_whole(self, files: list[PackedFile], threads: int, total: int) -> None:
        rebuilder = Rebuilder(self._store, threads=threads, throttle=self._throttle)
        current: _Open | None = None
        with ThreadPoolExecutor(1, thread_name_prefix="sync") as other:
            try:
                for piece in rebuilder.pieces(files):
                    current = current or self._create(piece.file)
                    if piece.damage is not None:
                        current.damage = current.damage or piece.damage
                        self._damage.append(piece.damage)
                    elif piece.data is not None:
                        self._append(current, piece.data)
                    else:
                        done, current = current, None
                        self._close(done, other)
                    self._done += piece.length
                    self._progress(self._done, total)
                while self._syncing:
                    self._rename_oldest()
            finally:
                self._drop(current)

    def _drop(self, current: _Open | None) -> None:
        """Remove what is not finished; nothing is left to do after a success."""
        for entry, future in self._syncing:
            future.cancel()
            if not future.cancelled():
                future.exception()
            self._discard(entry)
        self._syncing.clear()
        if current is not None:
            self._discard(current)

    def _create(self, file: PackedFile) -> _Open:
        parts = split_path(file.meta.path)
        folder = self._tree.folder(parts[:-1])
        temporary = self._temporary()
        with _problems(file.meta.path):
            handle = os.open(
                temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder
            )
        return _Open(file, parts, temporary, handle)

    def _sweep(self, parts: tuple[str, ...]) -> None:
        """Remove what a killed attempt of this job left in a folder."""
        folder = self._tree.folder(parts)
        for name in os.listdir(folder):
            if name.startswith(_TEMPORARY) and name.endswith(f".{self._job}{PART}"):
                os.unlink(name, dir_fd=folder)

    def _temporary(self) -> str:
        self._count += 1
        return f"{_TEMPORARY}{self._count}.{self._job}{PART}"

    def _append(self, entry: _Open, data: memoryview) -> None:
        entry.digest.update(data)
        with _problems(entry.file.meta.path):
            done = 0
            while done < len(data):
                done += os.write(entry.handle, data[done:])
        entry.size += len(data)
        start_writeback(entry.handle)

    def _close(self, entry: _Open, other: ThreadPoolExecutor) -> None:
        meta = entry.file.meta
        if entry.damage is None and entry.digest.hexdigest() != meta.sha256:
            entry.damage = IntegrityError(f"{shown(meta.path)} does not come back as it was")
            self._damage.append(entry.damage)
        if entry.damage is not None:
            self._discard(entry)
            return
        self._dress(entry.handle, meta)
        self._syncing.append((entry, other.submit(os.fsync, entry.handle)))
        while len(self._syncing) > 8:
            self._rename_oldest()

    def _rename_oldest(self) -> None:
        entry, future = self._syncing[0]
        with _problems(entry.file.meta.path):
            future.result()
        self._checkpoint("restore.file")
        self._place(entry.file, entry.parts, entry.temporary)
        self._syncing.popleft()
        os.close(entry.handle)

    def _place(self, file: PackedFile, parts: tuple[str, ...], temporary: str) -> None:
        """The file stands under its name: that which was written, or one with the same bytes that came meanwhile."""
        folder, path = self._tree.folder(parts[:-1]), file.meta.path
        with _problems(path):
            try:
                place_entry(folder, temporary, parts[-1], overwrite=self._overwrite)
                in_the_way = False
            except FileExistsError:
                in_the_way = True
        if not in_the_way:
            self._written.append(path)
            self._tree.touched.add(parts[:-1])
        elif self._stands(file):
            self._remove(temporary, folder)
            self._kept.append(path)
        else:
            raise Transient(f"{shown(path)} came and went while it was restored")

    def _discard(self, entry: _Open) -> None:
        os.close(entry.handle)
        self._remove(entry.temporary, self._tree.folder(entry.parts[:-1]))

    @staticmethod
    def _remove(temporary: str, folder: int) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=folder)

    def _dress(self, handle: int, meta: ManifestFile) -> None:
        """Owner, attributes, mode and times, in this order: each may undo those after it."""
        if meta.uid is not None and meta.gid is not None:
            with self._noted("owners are not what they were"):
                now = os.fstat(handle)
                if (now.st_uid, now.st_gid) != (meta.uid, meta.gid):
                    os.fchown(handle, meta.uid, meta.gid)
        for name, value in meta.xattrs:
            with self._noted(f"the attribute {name} could not be given back"):
                os.setxattr(handle, name, base64.b64decode(value))
        with self._noted("modes are not what they were"):
            os.fchmod(handle, meta.mode & self._mode_mask(handle, meta))
        os.utime(handle, ns=(meta.mtime_ns, meta.mtime_ns))

    @staticmethod
    def _mode_mask(handle: int, meta: ManifestFile) -> int:
        """Set-id bits are given back only to the owner that had them."""
        now = os.fstat(handle)
        return 0o7777 if (now.st_uid, now.st_gid) == (meta.uid, meta.gid) else 0o1777

    @contextlib.contextmanager
    def _noted(self, text: str) -> Iterator[None]:
        try:
            yield
        except OSError as problem:
            if problem.errno not in (errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EINVAL):
                raise
            self._notes[text] = self._notes.get(text, 0) + 1

    # --- links -----------------------------------------------------------------------------------

    def _link_hard(self, file: PackedFile) -> None:
        first, parts = split_path(file.meta.hardlink_of or ""), split_path(file.meta.path)
        source, folder = self._tree.folder(first[:-1]), self._tree.folder(parts[:-1])
        temporary = self._temporary()
        with _problems(file.meta.path):
            os.link(first[-1], temporary, src_dir_fd=source, dst_dir_fd=folder, follow_symlinks=False)
        self._place_link(file, parts, temporary)

    def _link_soft(self, file: PackedFile) -> None:
        meta, parts = file.meta, split_path(file.meta.path)
        folder = self._tree.folder(parts[:-1])
        temporary = self._temporary()
        with _problems(meta.path):
            os.symlink(meta.link_target or "", temporary, dir_fd=folder)
            with self._noted("owners are not what they were"):
                if meta.uid is not None and meta.gid is not None:
                    os.chown(temporary, meta.uid, meta.gid, dir_fd=folder, follow_symlinks=False)
            os.utime(temporary, ns=(meta.mtime_ns, meta.mtime_ns), dir_fd=folder, follow_symlinks=False)
        self._place_link(file, parts, temporary)

    def _place_link(self, file: PackedFile, parts: tuple[str, ...], temporary: str) -> None:
        try:
            self._place(file, parts, temporary)
        finally:
            # After a success nothing has that name; a rename of two names of one file does nothing and leaves it.
            self._remove(temporary, self._tree.folder(parts[:-1]))


@contextlib.contextmanager
def _problems(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as problem:
        if problem.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace(f"{shown(path)}: {problem.strerror}", hint="free space in the target") from problem
        if problem.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.EISDIR, errno.ENOTDIR):
            raise UserError(f"{shown(path)}: {problem.strerror}", hint="choose another folder") from problem
        raise Transient(f"{shown(path)}: {problem.strerror}") from problem
