"""Re-reading a package: all of it back to the original files' digests, or its stored bytes only."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from tomovault.core.errors import IntegrityError, TomovaultError, UserError
from tomovault.core.ports import Progress, Throttle
from tomovault.core.replica import StoredFile
from tomovault.package.between import Between
from tomovault.package.manifest import PackageManifest, PackedFile
from tomovault.package.names import beside_name, part_name, stem_of
from tomovault.package.rebuild import Rebuilder, describe_frame
from tomovault.package.store import ChunkStore, drop_cache, hash_file, inner_manifest, open_stored, read_manifest
from tomovault.package.tree import shown
from tomovault.package.written import Written

_STEP = 4 << 20
_MOST_TOLD = 20


def verify_package(files: Sequence[StoredFile], *, throttle: Throttle, threads: int = 2, progress: Progress) -> str:
    """Re-read a package from its disk, after its pages were dropped from memory, and rebuild every original file.

    `files` are its parts, the first one first. Returns '' if every stored byte hashes to what `files` says, every
    chunk to what the manifest says, and every rebuilt file to its original's digest; else what is wrong, by file
    and frame. Raises Transient if it cannot be read at all now.
    """
    problem = _look_at(files)
    if problem:
        return problem
    try:
        manifest = inner_manifest(files[0].location)
    except IntegrityError as damage:
        return f"{damage.message}; {scrub_package(files, throttle=throttle, progress=progress)}"
    problem = _check_parts(files, manifest) or _check_beside(files[0].location, manifest)
    if problem:
        return problem
    with ChunkStore(files[0].location, manifest) as store:
        check = _FullCheck(files, store, throttle, progress)
        return check.run(max(1, threads))


def prove_package(
    written: Written, *, throttle: Throttle, threads: int = 2, progress: Progress
) -> tuple[StoredFile, ...]:
    """Re-read a package that was just written from its disk, as `verify_package` does; what each file of it is.

    Every byte was compared: frames by their digests, and the rest of the first file by the one that was taken as it
    was written. Raises IntegrityError, naming file and frame, where anything is not what was written; Transient if it
    cannot be read now.
    """
    first = written.first
    files = (StoredFile(first.location, first.size, ""), *written.others)
    problem = _look_at(files)
    if not problem:
        manifest = inner_manifest(first.location)
        if manifest.text != written.manifest:
            problem = f"{first.location} has another manifest inside than was written"
        problem = problem or _check_parts(files, manifest) or _check_beside(first.location, manifest)
    if not problem:
        with ChunkStore(first.location, manifest) as store:
            check = _FullCheck(files, store, throttle, progress, first.between)
            problem = check.run(max(1, threads))
            files = (dataclasses.replace(files[0], sha256=check.first_digest), *files[1:])
    if problem:
        raise IntegrityError(f"the package {os.path.basename(first.location)} does not re-read: {problem}")
    return files


def scrub_package(files: Sequence[StoredFile], *, throttle: Throttle, progress: Progress) -> str:
    """Re-read the stored bytes of a package from its disk and compare them with `files`; nothing is decoded.

    Returns '' if all is right, else which parts are not and what is lost with the bytes that changed.
    """
    problem = _look_at(files)
    if problem:
        return problem
    total, done, bad = sum(f.size for f in files), 0, []
    for file in files:
        handle = open_stored(file.location)
        try:
            if hash_file(handle, throttle) != file.sha256:
                bad.append(f"{file.location}: the stored bytes are not what was written")
        finally:
            os.close(handle)
        done += file.size
        progress(done, total)
    return "; ".join(bad + _name_lost(files[0].location)) if bad else ""


def _look_at(files: Sequence[StoredFile]) -> str:
    """Sizes of all parts; their pages are dropped."""
    if not files:
        raise UserError("a package without files")
    for file in files:
        try:
            handle = open_stored(file.location)
        except UserError as missing:
            return missing.message
        try:
            size = os.fstat(handle).st_size
            drop_cache(handle)
        finally:
            os.close(handle)
        if size != file.size:
            return f"{file.location} is {size} bytes long, not {file.size}"
    return ""


def _check_parts(files: Sequence[StoredFile], manifest: PackageManifest) -> str:
    stem = stem_of(files[0].location)
    if len(files) != len(manifest.parts):
        return f"{files[0].location} has {len(manifest.parts)} parts, not {len(files)}"
    for number, (file, part) in enumerate(zip(files, manifest.parts, strict=True)):
        if os.path.basename(file.location) != part_name(stem, number):
            return f"{file.location} is not the place of part {number}"
        if number and part.get("sha256") != file.sha256:
            return f"{file.location} is not the part that the manifest names"
    return ""


def _check_beside(first: str, manifest: PackageManifest) -> str:
    path = os.path.join(os.path.dirname(first), beside_name(stem_of(first)))
    try:
        with open(path, "rb") as source:
            text = source.read()
    except FileNotFoundError:
        return ""
    return "" if text == manifest.text.encode("utf-8") else f"{path} is not the manifest of this package"


def _name_lost(first: str) -> list[str]:
    """Chunks whose stored bytes are wrong, each with the file that it belongs to."""
    try:
        manifest = read_manifest(first)
    except TomovaultError as problem:
        return [problem.message]
    contents, lost = manifest.contents, []
    records = {(f.group, f.position): f for f in contents.frames}
    with ChunkStore(first, manifest) as store:
        for file in contents.files:
            for kind, start, second in file.segments:
                if kind == "F":
                    chunks = [contents.groups[start].chunks[second]]
                    name = f"{describe_frame(records.get((start, second)))} of {shown(file.meta.path)}"
                else:
                    chunks = [contents.literals[block][0] for block, _, _ in store.literal_pieces(start, second)]
                    name = f"literal bytes of {shown(file.meta.path)}"
                for chunk in chunks:
                    try:
                        store.stored(chunk, name)
                    except IntegrityError as damage:
                        lost.append(damage.message)
    return _shortened(lost)


def _shortened(problems: list[str]) -> list[str]:
    more = len(problems) - _MOST_TOLD
    return problems if more <= 0 else [*problems[:_MOST_TOLD], f"and {more} more"]


class _Follower:
    """The digest of a whole part: takes the chunks that were read anyway, and reads what lies between them.

    `between` gets every byte that is read, in order.
    """

    def __init__(self, handle: int, throttle: Throttle, between: Between | None) -> None:
        self._handle = handle
        self._throttle = throttle
        self._between = between
        self._digest = hashlib.sha256()
        self._at = 0

    def take(self, offset: int, data: bytes) -> None:
        """Stored bytes at a place in the file; those behind us were read already."""
        if offset >= self._at:
            self._read_to(offset)
            self._pass(data)

    def finish(self) -> str:
        """Read to the end; returns the hex digest of the whole file."""
        self._read_to(os.fstat(self._handle).st_size)
        return self._digest.hexdigest()

    def _read_to(self, stop: int) -> None:
        while self._at < stop:
            count = min(_STEP, stop - self._at)
            self._throttle.spend(count)
            data = os.pread(self._handle, count, self._at)
            if not data:
                return
            self._pass(data)

    def _pass(self, data: bytes) -> None:
        self._digest.update(data)
        if self._between is not None:
            self._between.take(self._at, data)
        self._at += len(data)


class _FullCheck:
    """With `between`, the digest of what lies between the frames of the first file, that of the file need not be known:
    `first_digest` is what it was found to be.
    """

    def __init__(
        self,
        files: Sequence[StoredFile],
        store: ChunkStore,
        throttle: Throttle,
        progress: Progress,
        between: str = "",
    ) -> None:
        self.first_digest = ""
        self._files, self._store = files, store
        self._throttle, self._progress = throttle, progress
        self._expected = between
        self._between = Between(store.manifest.contents, 0) if between else None
        self._followers = [
            _Follower(store.handle(number), throttle, None if number else self._between) for number in range(len(files))
        ]
        self._problems: list[str] = []
        self._following: deque[Future[None]] = deque()

    def run(self, threads: int) -> str:
        contents = self._store.manifest.contents
        self._done, self._total = 0, sum(f.meta.size for f in contents.files)
        with ThreadPoolExecutor(1, thread_name_prefix="follow") as other:
            self._rebuild([f for f in contents.files if _has_bytes(f)], threads, other)
            self._check_links(contents.files)
            self._check_derived()
            for future in self._following:
                future.result()
            digests = [other.submit(follower.finish).result() for follower in self._followers]
        self.first_digest = digests[0]
        for file, digest in list(zip(self._files, digests, strict=True))[0 if self._between is None else 1 :]:
            if digest != file.sha256:
                self._problems.append(f"{file.location}: the stored bytes are not what was written")
        if self._between is not None and self._between.hexdigest() != self._expected:
            self._problems.append(f"{self._files[0].location}: what lies between the frames is not what was written")
        return "; ".join(_shortened(self._problems))

    def _rebuild(self, files: list[PackedFile], threads: int, other: ThreadPoolExecutor) -> None:
        digest, damaged = hashlib.sha256(), False
        for piece in Rebuilder(self._store, threads=threads, throttle=self._throttle).pieces(files):
            if piece.damage is not None:
                self._problems.append(piece.damage.message)
                damaged = True
            elif piece.data is not None:
                if piece.chunk is not None:
                    follower = self._followers[piece.chunk.part]
                    self._following.append(other.submit(follower.take, piece.chunk.offset, piece.stored))
                    while len(self._following) > threads + 2:
                        self._following.popleft().result()
                digest.update(piece.data)
            else:
                if not damaged and digest.hexdigest() != piece.file.meta.sha256:
                    self._problems.append(f"{shown(piece.file.meta.path)} does not come back as it was")
                digest, damaged = hashlib.sha256(), False
            self._done += piece.length
            self._progress(self._done, self._total)

    def _check_links(self, files: Sequence[PackedFile]) -> None:
        digests = {f.meta.path: f.meta.sha256 for f in files}
        for file in files:
            first = file.meta.hardlink_of
            if first is not None and digests.get(first) != file.meta.sha256:
                self._problems.append(f"{shown(file.meta.path)} is not the file that it is a hard link of")

    def _check_derived(self) -> None:
        derived = self._store.manifest.contents.derived
        for row, chunk in enumerate([] if derived is None else derived.group.chunks):
            try:
                self._store.stored(chunk, f"derived frame {row}")
            except IntegrityError as damage:
                self._problems.append(damage.message)


def _has_bytes(file: PackedFile) -> bool:
    return file.meta.link_target is None and file.meta.hardlink_of is None
