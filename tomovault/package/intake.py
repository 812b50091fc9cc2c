"""A scan's files read once: hashed in order while frames and literal bytes are cut out of them."""

from __future__ import annotations

import base64
import errno
import grp
import hashlib
import os
import pwd
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache

from tomovault.core.errors import SourceChanged
from tomovault.core.manifest import ManifestFile
from tomovault.core.ports import Throttle
from tomovault.package.encoding import Encoder
from tomovault.package.manifest import PackedFile, Segment
from tomovault.package.plan import Cut, PlannedFile
from tomovault.package.tree import SourceTree, check_unchanged, shown, source_problem

_STEP = 4 << 20
_AHEAD = 32 << 20
_LITERAL_STEP = 1 << 20

#: An extended attribute, or all of them, cannot be had here.
_NOT_FOR_US = (errno.ENOTSUP, errno.EPERM, errno.EACCES, errno.ENODATA, errno.ENOSYS)


class Intake:
    """Reads files in order and hands their bytes to an encoder. `total` bytes were read so far.

    `unread_attributes` counts the files of which an extended attribute of that name could not be read.
    """

    def __init__(self, tree: SourceTree, encoder: Encoder, throttle: Throttle) -> None:
        self.total = 0
        self.unread_attributes: Counter[str] = Counter()
        self._tree = tree
        self._encoder = encoder
        self._throttle = throttle
        self._linked: dict[tuple[int, int], ManifestFile] = {}

    def know(self, file: PackedFile) -> None:
        """Take note of a file that an earlier attempt packed."""
        meta = file.meta
        if meta.link_target is None and meta.inode is not None and meta.device is not None:
            self._linked.setdefault((meta.device, meta.inode), meta)

    def link(self, planned: PlannedFile) -> PackedFile:
        """A symbolic link as it is; nothing is followed."""
        state = planned.file.state
        target, now = self._tree.read_link(state)
        return PackedFile(_described(planned, now, "", link_target=target))

    def read(self, planned: PlannedFile, stored: Sequence[Segment]) -> Iterator[tuple[Segment, ...] | PackedFile]:
        """Read one file. Yields its segments so far after each piece (a part may be closed then), then the file.

        Pieces that `stored` already names are read for the digest only.
        """
        state = planned.file.state
        handle = self._tree.open_file(state)
        try:
            before = os.fstat(handle)
            first = self._linked.get((before.st_dev, before.st_ino))
            if first is not None and before.st_nlink > 1:
                yield PackedFile(_described(planned, before, first.sha256, hardlink_of=first.path))
                return
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_SEQUENTIAL)
            digest = hashlib.sha256()
            segments: list[Segment] = []
            for position, cut in enumerate(planned.cuts()):
                os.posix_fadvise(handle, cut.offset + cut.length, _AHEAD, os.POSIX_FADV_WILLNEED)
                if position < len(stored) and _same_kind(stored[position], cut):
                    self._skim(handle, cut, digest, state.path)
                    segments.append(stored[position])
                elif cut.frame is not None:
                    buffer = self._encoder.frame_buffer(cut.length)
                    self._fill(handle, memoryview(buffer), cut.offset, digest, state.path)
                    segments.append(self._encoder.add_frame(cut.frame, buffer))
                else:
                    segments.append(self._literal(handle, cut, digest, state.path))
                yield tuple(segments)
            xattrs, hidden = _extended(handle)
            for name in hidden:
                self.unread_attributes[name] += 1
            after = os.fstat(handle)
            check_unchanged(after, state)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            meta = _described(planned, after, digest.hexdigest(), xattrs=xattrs)
            self._linked.setdefault((after.st_dev, after.st_ino), meta)
            yield PackedFile(meta, _joined(segments))
        finally:
            os.close(handle)

    def foresee(self, planned: PlannedFile) -> None:
        """Let the kernel fetch the beginning of a file that is read soon."""
        if planned.file.state.link_target is not None:
            return
        try:
            handle = self._tree.open_path(planned.file.state.path)
        except SourceChanged:
            return  # it is told when the file is read
        os.posix_fadvise(handle, 0, _AHEAD, os.POSIX_FADV_WILLNEED)
        os.close(handle)

    def _literal(self, handle: int, cut: Cut, digest: hashlib._Hash, path: str) -> Segment:
        begin, done = -1, 0
        while done < cut.length:
            room, place = self._encoder.literal_room(min(_LITERAL_STEP, cut.length - done))
            begin = place if begin < 0 else begin
            self._fill(handle, room, cut.offset + done, digest, path)
            self._encoder.add_literal(len(room))
            done += len(room)
        return ("L", begin, cut.length)

    def _skim(self, handle: int, cut: Cut, digest: hashlib._Hash, path: str) -> None:
        buffer = bytearray(min(_STEP, cut.length))
        for at in range(cut.offset, cut.offset + cut.length, len(buffer)):
            room = memoryview(buffer)[: min(len(buffer), cut.offset + cut.length - at)]
            self._fill(handle, room, at, digest, path)

    def _fill(self, handle: int, room: memoryview, offset: int, digest: hashlib._Hash, path: str) -> None:
        done = 0
        while done < len(room):
            piece = room[done : done + _STEP]
            self._throttle.spend(len(piece))
            try:
                count = os.preadv(handle, [piece], offset + done)
            except OSError as problem:
                raise source_problem(problem, path) from problem
            if count == 0:
                raise SourceChanged(f"{shown(path)} became shorter while it was read")
            digest.update(piece[:count])
            done += count
        self.total += done


def _joined(segments: Sequence[Segment]) -> tuple[Segment, ...]:
    """Segments with neighbours in the literal store made one."""
    joined: list[Segment] = []
    for kind, first, second in segments:
        if kind == "L" and joined and joined[-1][0] == "L" and joined[-1][1] + joined[-1][2] == first:
            joined[-1] = ("L", joined[-1][1], joined[-1][2] + second)
        else:
            joined.append((kind, first, second))
    return tuple(joined)


def _same_kind(segment: Segment, cut: Cut) -> bool:
    return segment[0] == ("L" if cut.frame is None else "F")


def _described(
    planned: PlannedFile,
    now: os.stat_result,
    sha256: str,
    *,
    link_target: str | None = None,
    hardlink_of: str | None = None,
    xattrs: tuple[tuple[str, str], ...] = (),
) -> ManifestFile:
    state = planned.file.state
    return ManifestFile(
        path=state.path,
        size=now.st_size,
        sha256=sha256,
        mode=now.st_mode & 0o7777,
        mtime_ns=now.st_mtime_ns,
        link_target=link_target,
        uid=now.st_uid,
        gid=now.st_gid,
        owner=_user(now.st_uid),
        group=_group(now.st_gid),
        inode=now.st_ino,
        device=now.st_dev,
        ctime_ns=now.st_ctime_ns,
        hardlink_of=hardlink_of,
        xattrs=xattrs,
        role=planned.file.role.value,
    )


@lru_cache(maxsize=1024)
def _user(number: int) -> str | None:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return None


@lru_cache(maxsize=1024)
def _group(number: int) -> str | None:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return None


def _extended(handle: int) -> tuple[tuple[tuple[str, str], ...], tuple[str, ...]]:
    """Extended attributes in base64, and the names of those that cannot be read; none where the file system has none or
    hides them all.
    """
    found, hidden = [], []
    for name in _names_of_extended(handle):
        try:
            value = os.getxattr(handle, name)
        except OSError as problem:
            if problem.errno not in _NOT_FOR_US:
                raise
            if problem.errno != errno.ENODATA:  # else it was removed just now
                hidden.append(name)
        else:
            found.append((name, base64.b64encode(value).decode("ascii")))
    return tuple(found), tuple(hidden)


def _names_of_extended(handle: int) -> list[str]:
    try:
        return sorted(os.listxattr(handle))
    except OSError as problem:
        if problem.errno not in _NOT_FOR_US:
            raise
        return []
