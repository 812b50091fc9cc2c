"""Stored bytes read back: by their place in the manifest, checked against their digest, decoded by ourselves.

The HDF5 library is used for one thing only, to find the manifest: a damaged byte costs what it belongs to.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import h5py
import numpy.typing as npt

from tomovault.core.errors import IntegrityError, TomovaultError, Transient, UserError
from tomovault.core.ports import Throttle
from tomovault.package.codec import decode_block, decode_frame, decode_rows, sha256_hex
from tomovault.package.coding import BLOSC2, RAW
from tomovault.package.held import Held
from tomovault.package.manifest import PackageManifest, StoredChunk, frame_bytes, read_text
from tomovault.package.names import beside_name, part_name, stem_of

_STEP = 4 << 20
_BLOCKS_KEPT = 4


def open_stored(path: str) -> int:
    """A read-only descriptor of a file of ours, not through a link; the caller closes it."""
    try:
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError as problem:
        raise UserError(f"{path} does not exist") from problem
    except OSError as problem:
        raise Transient(f"{path} cannot be opened: {problem.strerror}") from problem


def drop_cache(handle: int) -> None:
    """Sync a file and drop its pages, so that what is read next comes from the disk."""
    os.fsync(handle)
    os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)


def hash_file(handle: int, throttle: Throttle | None = None, tell: Callable[[int], None] | None = None) -> str:
    """Hex sha256 of a whole file, read in order."""
    digest = hashlib.sha256()
    buffer = bytearray(_STEP)
    view = memoryview(buffer)
    os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_SEQUENTIAL)
    at = 0
    while True:
        if throttle is not None:
            throttle.spend(_STEP)
        count = os.preadv(handle, [view], at)
        if count == 0:
            return digest.hexdigest()
        digest.update(view[:count])
        at += count
        if tell is not None:
            tell(count)


def read_manifest(path: str) -> PackageManifest:
    """The manifest of a package, from inside it or, where that is damaged, from beside it.

    Raises UserError if there is no such file, IntegrityError if neither manifest is whole.
    """
    if not os.path.exists(path):
        raise UserError(f"{path} does not exist")
    try:
        return read_text(_inner_text(path))
    except IntegrityError as damaged:
        beside = os.path.join(os.path.dirname(path), beside_name(stem_of(path)))
        try:
            with open(beside, encoding="utf-8") as source:
                text = source.read()
        except (OSError, UnicodeDecodeError):
            raise damaged from None
        return read_text(text)


def inner_manifest(path: str) -> PackageManifest:
    """The manifest inside a package; raises IntegrityError if that one is damaged."""
    return read_text(_inner_text(path))


def _inner_text(path: str) -> str:
    try:
        with h5py.File(path, "r", locking=False) as source:
            text = source["/tomovault/manifest"][()]
        return str(bytes(text).decode("utf-8"))
    except (OSError, KeyError, RuntimeError, ValueError, TypeError) as problem:
        raise IntegrityError(f"{path} has no readable manifest: {problem}") from problem


class ChunkStore(Held):
    """The open parts of a package. Methods may be called from any thread."""

    def __init__(self, path: str, manifest: PackageManifest) -> None:
        self.manifest = manifest
        self.read_bytes = 0
        self._handles: dict[int, int] = {}
        self._folder, self._stem = os.path.dirname(os.path.abspath(path)), stem_of(path)
        self._lock = threading.Lock()
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self._good: set[tuple[int, int]] = set()
        self._starts: list[int] = []
        at = 0
        for _, raw in manifest.contents.literals:
            self._starts.append(at)
            at += raw

    def close(self) -> None:
        """Let go of the parts."""
        with self._lock:
            for handle in self._handles.values():
                os.close(handle)
            self._handles.clear()

    def handle(self, part: int) -> int:
        """The descriptor of a part, opened when first asked for."""
        with self._lock:
            if part not in self._handles:
                self._handles[part] = open_stored(os.path.join(self._folder, part_name(self._stem, part)))
            return self._handles[part]

    def stored(self, chunk: StoredChunk, what: str, *, throttle: Throttle | None = None) -> bytes:
        """The stored bytes of a chunk; raises IntegrityError, naming `what` is lost, if they are not right."""
        if throttle is not None:
            throttle.spend(chunk.length)
        handle = self.handle(chunk.part)
        try:
            if chunk.offset + chunk.length > os.fstat(handle).st_size:
                raise IntegrityError(f"{what}: the package ends before it")
            data = os.pread(handle, chunk.length, chunk.offset)
        except OSError as problem:
            raise Transient(f"{what} cannot be read: {problem.strerror}") from problem
        with self._lock:
            self.read_bytes += len(data)
        if sha256_hex(data) != chunk.sha256:
            raise IntegrityError(f"{what}: the stored bytes are not what was written")
        return data

    def frame_chunk(self, group: int, index: int) -> StoredChunk:
        """Where a frame lies."""
        return self.manifest.contents.groups[group].chunks[index]

    def foresee(self, chunk: StoredChunk) -> None:
        """Let the kernel fetch a chunk that is read soon; nothing is waited for, and nothing told."""
        with contextlib.suppress(OSError, TomovaultError):  # what is wrong is told by the read itself
            os.posix_fadvise(self.handle(chunk.part), chunk.offset, chunk.length, os.POSIX_FADV_WILLNEED)

    def frame_name(self, group: int, index: int) -> str:
        """A frame for a message: where it stands in its group."""
        return f"frame {index} of group {self.manifest.contents.groups[group].name}"

    def frame_into(
        self, group: int, index: int, into: memoryview, *, what: str = "", throttle: Throttle | None = None
    ) -> None:
        """Fill a buffer with one frame's bytes, as the instrument wrote them."""
        of = self.manifest.contents.groups[group]
        name = what or self.frame_name(group, index)
        data = self.stored(of.chunks[index], name, throttle=throttle)
        try:
            decode_frame(data, into, codec=of.codec)
        except IntegrityError as problem:
            raise IntegrityError(f"{name}: {problem.message}") from problem

    def frame_rows(
        self, group: int, index: int, rows: slice, *, what: str, throttle: Throttle | None = None
    ) -> npt.NDArray[Any]:
        """Some rows of one frame as an array of their own."""
        of = self.manifest.contents.groups[group]
        stored = self.stored(of.chunks[index], what, throttle=throttle)
        return decode_rows(stored, codec=of.codec, dtype=of.dtype, shape=of.shape, rows=rows)

    def frame_length(self, group: int) -> int:
        """Decoded bytes of a frame of a group."""
        return frame_bytes(self.manifest.contents.groups[group])

    def literal_pieces(self, offset: int, length: int) -> list[tuple[int, int, int]]:
        """The (block, start in the block, length) that make up a run of the literal store."""
        pieces = []
        block = _last_at_or_before(self._starts, offset)
        while length > 0:
            start = offset - self._starts[block]
            count = min(length, self.manifest.contents.literals[block][1] - start)
            if count > 0:
                pieces.append((block, start, count))
            offset, length, block = offset + count, length - count, block + 1
        return pieces

    def literal(self, block: int, start: int, length: int, *, what: str, throttle: Throttle | None = None) -> bytes:
        """Some bytes of one block of the literal store; the last few blocks decoded are kept."""
        with self._lock:
            whole = self._blocks.get(block)
        if whole is None:
            chunk, _ = self.manifest.contents.literals[block]
            data = self.stored(chunk, what, throttle=throttle)
            try:
                whole = decode_block(data)
            except IntegrityError as problem:
                raise IntegrityError(f"{what}: {problem.message}") from problem
            with self._lock:
                self._blocks[block] = whole
                while len(self._blocks) > _BLOCKS_KEPT:
                    self._blocks.popitem(last=False)
        return whole[start : start + length]


def _last_at_or_before(starts: list[int], offset: int) -> int:
    low, high = 0, len(starts)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if starts[middle] <= offset else (low, middle)
    return low


__all__ = [
    "BLOSC2",
    "RAW",
    "ChunkStore",
    "drop_cache",
    "hash_file",
    "inner_manifest",
    "open_stored",
    "read_manifest",
]
