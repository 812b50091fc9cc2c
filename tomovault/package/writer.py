"""Making a package from a scan's files in one read of them; can be run again from any point it was killed at."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import h5py
import numpy as np

from tomovault.core.errors import IntegrityError, Refused, waits_for_room
from tomovault.core.layout import FrameKind, Layout
from tomovault.core.manifest import manifest_digest
from tomovault.core.ports import Checkpoint, Progress, Throttle
from tomovault.core.replica import StoredFile
from tomovault.core.scan import ScanFile
from tomovault.package.between import hash_between
from tomovault.package.container import PartFile, check_space, write_problems
from tomovault.package.encoding import Encoder
from tomovault.package.intake import Intake
from tomovault.package.journal import ClosedPart, Journal, closed_parts, fingerprint, load_journal, save_journal
from tomovault.package.landing import came_meanwhile
from tomovault.package.manifest import Contents, FrameRecord, PackedFile, Segment, write_text
from tomovault.package.names import JOURNAL, beside_name, check_job, check_stem, leftovers, part_name, temp_path
from tomovault.package.place import place_entry
from tomovault.package.plan import PlannedFile, plan_files
from tomovault.package.store import hash_file, open_stored, read_manifest
from tomovault.package.tree import SourceTree
from tomovault.package.view import ViewFrame, write_view
from tomovault.package.written import FirstFile, Written

#: Above this a package goes on in a further part.
PART_BYTES = 64_000_000_000

#: What frames shrink to at worst in practice, of their size; noise of 16-bit cameras gives 0.69.
_LIKELY_SIZE = 0.75


def write_package(
    root: str,
    files: Sequence[ScanFile],
    layout: Layout,
    folder: str,
    stem: str,
    *,
    scan: Mapping[str, Any],
    job: str,
    now: datetime,
    threads: int = 2,
    part_bytes: int = PART_BYTES,
    floor_bytes: int = 0,
    throttle: Throttle,
    checkpoint: Checkpoint,
    progress: Progress,
) -> Written:
    """Pack the files below `root` into `<folder>/<stem>.tomo.h5` and further parts, with the manifest beside it.

    Each file is read once. `floor_bytes` stay free on the file system of `folder`. A second call with the same
    `job` after a kill replaces what the first left, and goes on after the last part that it closed.

    Raises NoRoomYet before the first byte if all of it, as likely compressed, has no room; NoSpace if room ends later;
    SourceChanged if a file is not, or no longer, what `files` says; UserError for a file that cannot be read or a
    layout that contradicts itself; Refused if a package of another product has that name, Transient if one came to have
    it meanwhile. Then nothing of this job is left in the folder.
    """
    packer = _Packer(root, files, layout, folder, check_stem(stem), check_job(job), part_bytes, floor_bytes)
    packer.describe(scan, now)
    packer.call(throttle, checkpoint, progress)
    try:
        return packer.run(max(1, threads))
    except Exception:
        packer.abandon()
        raise


class _Packer:
    def __init__(
        self,
        root: str,
        files: Sequence[ScanFile],
        layout: Layout,
        folder: str,
        stem: str,
        job: str,
        part_bytes: int,
        floor_bytes: int,
    ) -> None:
        self._root, self._files, self._layout = root, files, layout
        self._folder, self._stem, self._job = os.path.abspath(folder), stem, job
        self._part_bytes, self._floor = part_bytes, floor_bytes
        self._closed: list[ClosedPart] = []
        self._contents = Contents()
        self._part: PartFile | None = None
        self._encoder: Encoder | None = None
        self._mark = fingerprint(files, part_bytes)
        self._journal = temp_path(self._folder, stem + JOURNAL, job)
        self._left = 0.0

    def describe(self, scan: Mapping[str, Any], now: datetime) -> None:
        self._scan = dict(scan)
        self._provenance = {
            "written_at": now.isoformat(),
            "job": self._job,
            "host": platform.node(),
            "root": os.fsencode(self._root).decode("utf-8", "backslashreplace"),
            "versions": versions(),
        }

    def call(self, throttle: Throttle, checkpoint: Checkpoint, progress: Progress) -> None:
        self._throttle, self._checkpoint, self._progress = throttle, checkpoint, progress

    # --- the steps -------------------------------------------------------------------------------

    def run(self, threads: int) -> Written:
        self._checkpoint("pack.begin")
        planned = plan_files(self._files, self._layout)
        with write_problems(self._folder):
            os.makedirs(self._folder, exist_ok=True)
        self._there_before = os.path.lexists(os.path.join(self._folder, part_name(self._stem, 0)))
        resumed = self._resume()
        self._shape = _view_shape(planned)
        total = sum(f.state.size for f in self._files)
        self._left = sum(_likely_bytes(p) for p in planned) - sum(p.bytes for p in self._closed)
        with waits_for_room():
            check_space(os.path.join(self._folder, "."), self._floor, int(max(0.0, self._left)))
        with SourceTree(self._root) as tree:
            encoder = Encoder(
                self._contents,
                view_shape=self._shape,
                threads=threads,
                on_frame=lambda: self._checkpoint("pack.frame"),
            )
            self._encoder = encoder
            try:
                self._next_part()
                intake = Intake(tree, encoder, self._throttle)
                self._take_in(planned, intake, resumed, total)
                encoder.finish_part()
            finally:
                encoder.close()
        text = self._finish_first()
        self._checkpoint("pack.written")
        first, others = self._sync()
        self._checkpoint("pack.synced")
        hashed = tuple(f.meta for f in self._contents.files)
        digest = manifest_digest(hashed)
        self._put_in_place(digest, first.location, others)
        self._checkpoint("pack.renamed")
        self._write_beside(text)
        self._checkpoint("pack.manifest")
        return Written(
            digest=digest,
            manifest=text,
            first=first,
            others=others,
            bytes=first.size + sum(s.size for s in others),
            original_bytes=sum(m.size for m in hashed),
            original_files=len(hashed),
            hashed=hashed,
            notes=tuple(
                f"the attribute {name} could not be read ({count} files)"
                for name, count in sorted(intake.unread_attributes.items())
            ),
        )

    def _resume(self) -> Journal:
        journal = load_journal(self._journal, self._mark)
        kept = set() if journal is None else {self._journal, *(p.temporary for p in journal.parts)}
        if journal is None:
            self._take_parts_back()
        for path in leftovers(self._folder, self._job):
            if path not in kept:
                os.unlink(path)
        if journal is None:
            return Journal([], self._contents, None, ())
        self._contents, self._closed = journal.contents, journal.parts
        return journal

    def _take_in(self, planned: list[PlannedFile], intake: Intake, resumed: Journal, total: int) -> None:
        done = {f.meta.path: f for f in self._contents.files}
        for file in self._contents.files:
            intake.know(file)
        ready = sum(f.meta.size for f in self._contents.files)
        todo = [p for p in planned if p.file.state.path not in done]
        for position, entry in enumerate(todo):
            state = entry.file.state
            if state.link_target is not None:
                self._contents.files.append(intake.link(entry))
                continue
            for later in todo[position + 1 : position + 4] if position == 0 else todo[position + 3 : position + 4]:
                intake.foresee(later)
            stored = resumed.segments if resumed.current == state.path else ()
            for step in intake.read(entry, stored):
                if isinstance(step, PackedFile):
                    self._contents.files.append(step)
                elif self._part_is_full():
                    self._close_part(state.path, step)
            self._progress(ready + intake.total, total)

    # --- parts -----------------------------------------------------------------------------------

    def _next_part(self) -> None:
        number = len(self._closed) + 1
        path = temp_path(self._folder, part_name(self._stem, number), self._job)
        expected = int(min(self._part_bytes, max(0.0, self._left)))
        self._part = PartFile(path, number, self._floor, expected)
        if self._encoder is not None:
            self._encoder.open_part(self._part)

    def _part_is_full(self) -> bool:
        return self._part is not None and self._part.written >= self._part_bytes

    def _close_part(self, current: str, segments: tuple[Segment, ...]) -> None:
        """Close the open part for good and note how far we are; the encoder may still hold later bytes of it."""
        part, encoder = self._part, self._encoder
        if part is None or encoder is None:
            return
        encoder.finish_part()
        part.close()
        self._part = None
        self._left -= part.written
        stored = _synced(part.path)
        self._closed.append(ClosedPart(part_name(self._stem, part.number), part.path, stored.size, stored.sha256))
        save_journal(self._journal, Journal(self._closed, self._contents, current, segments), self._mark)
        self._next_part()

    def _finish_first(self) -> str:
        """Give the open part the manifest and the view: it is the package's first file, number 0."""
        part = self._part
        if part is None:
            raise RuntimeError("no part is open")
        self._renumber(part.number)
        parts: list[dict[str, Any]] = [{"name": part_name(self._stem, 0)}]
        parts += [{"name": p.name, "bytes": p.bytes, "sha256": p.sha256} for p in self._closed]
        text = write_text(
            self._contents,
            stem=self._stem,
            scan=self._scan,
            nx=self._layout.nx,
            parts=parts,
            provenance=self._provenance,
        )
        with write_problems(part.path):
            self._write_view(part.file)
            encoded = text.encode("ascii")
            kind = h5py.string_dtype("utf-8", len(encoded))
            part.file.create_dataset("/tomovault/manifest", data=np.array(encoded, dtype=kind), dtype=kind)
            part.file["/tomovault"].attrs["in_words"] = (
                "manifest holds the original files' names and digests and says where each byte of them is"
            )
        part.close()
        return text

    def _renumber(self, last: int) -> None:
        """Chunks of the part that was open last lie in part 0."""
        contents = self._contents
        groups = contents.groups + ([] if contents.derived is None else [contents.derived.group])
        for group in groups:
            group.chunks = [c._replace(part=0) if c.part == last else c for c in group.chunks]
        contents.literals = [(c._replace(part=0) if c.part == last else c, raw) for c, raw in contents.literals]

    def _write_view(self, out: Any) -> None:
        contents, shape = self._contents, self._shape
        if shape is None:
            return
        derived = contents.derived
        divided = {} if derived is None else {order: row for row, order in enumerate(derived.orders)}
        rows = {id(g): _rows_in_parts(g.chunks) for g in contents.groups}
        if derived is not None:
            rows[id(derived.group)] = _rows_in_parts(derived.group.chunks)
        shown: list[ViewFrame] = []
        dtypes: set[str] = set()
        for record in sorted(contents.frames, key=lambda f: f.order):
            group, index, made = contents.groups[record.group], record.position, record.order in divided
            if group.shape != shape:
                continue
            if made and derived is not None:
                group, index = derived.group, divided[record.order]
            else:
                dtypes.add(group.dtype)
            shown.append(self._view_frame(record, group.name, group.chunks[index].part, rows[id(group)][index], made))
        inexact = derived is not None and not derived.exact
        name = str(self._scan.get("name") or self._stem)
        write_view(
            out,
            shown,
            shape=shape,
            dtypes=dtypes or {"<f4"},
            inexact=inexact,
            nx=self._layout.nx,
            name=name,
        )

    def _view_frame(self, record: FrameRecord, name: str, part: int, place: tuple[int, int], made: bool) -> ViewFrame:
        file = "." if part == 0 else part_name(self._stem, part)
        return ViewFrame(record, file, f"/tomovault/{name}", place[0], place[1], made)

    # --- to its place ----------------------------------------------------------------------------

    def _sync(self) -> tuple[FirstFile, tuple[StoredFile, ...]]:
        """Sync the first file; what is stored, under the names that it will have."""
        if self._part is None:
            raise RuntimeError("no part is open")
        handle = open_stored(self._part.path)
        try:
            with write_problems(self._part.path):
                between = hash_between(handle, self._contents, 0)
                os.fsync(handle)
            size = os.fstat(handle).st_size
        finally:
            os.close(handle)
        first = FirstFile(os.path.join(self._folder, part_name(self._stem, 0)), size, between)
        return first, tuple(StoredFile(os.path.join(self._folder, p.name), p.bytes, p.sha256) for p in self._closed)

    def _put_in_place(self, digest: str, first: str, others: tuple[StoredFile, ...]) -> None:
        """Every file has its final name, the first one last. Only files of the same product are replaced."""
        if self._part is None:
            raise RuntimeError("no part is open")
        again = os.path.lexists(first)
        if again:
            _may_replace(first, digest, there_before=self._there_before)
        moves = [(p.temporary, f.location) for p, f in zip(self._closed, others, strict=True)]
        placed: list[str] = []
        with write_problems(first):
            folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                for temporary, final in (*moves, (self._part.path, first)):
                    place_entry(folder, os.path.basename(temporary), os.path.basename(final), overwrite=again)
                    placed.append(final)
                os.fsync(folder)
            except OSError as problem:
                for path in () if again else placed:
                    os.unlink(path)
                if isinstance(problem, FileExistsError):
                    raise came_meanwhile(final) from problem
                raise
            finally:
                os.close(folder)

    def _take_parts_back(self) -> None:
        """Parts that a killed attempt of this job gave their names, for a package whose first file never stood, go."""
        if os.path.lexists(os.path.join(self._folder, part_name(self._stem, 0))):
            return
        for part in closed_parts(self._journal):
            path = os.path.join(self._folder, part.name)
            if not os.path.lexists(part.temporary) and _holds(path, part):
                os.unlink(path)

    def _write_beside(self, text: str) -> None:
        name = beside_name(self._stem)
        temporary = temp_path(self._folder, name, self._job)
        with write_problems(temporary):
            with open(temporary, "w", encoding="ascii") as out:
                out.write(text)
                out.flush()
                os.fsync(out.fileno())
            os.rename(temporary, os.path.join(self._folder, name))
            for path in leftovers(self._folder, self._job):
                os.unlink(path)
            sync_folder(self._folder)

    def abandon(self) -> None:
        """Remove everything that this job has in the folder under a temporary name."""
        if self._part is not None:
            self._part.abandon()
        for path in leftovers(self._folder, self._job):
            os.unlink(path)


def versions() -> dict[str, str]:
    """Versions of what the stored bytes depend on."""
    names = ("tomovault", "blosc2", "h5py", "hdf5plugin", "numpy", "zstandard")
    found = {name: importlib.metadata.version(name) for name in names}
    return {**found, "hdf5": h5py.version.hdf5_version, "python": platform.python_version()}


def sync_folder(folder: str) -> None:
    """Make renames in a folder durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _synced(path: str) -> StoredFile:
    """Sync a closed file and hash what it holds, both at once."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        with ThreadPoolExecutor(1) as other, write_problems(path):
            syncing = other.submit(os.fsync, handle)
            digest = hash_file(handle)
            syncing.result()
        return StoredFile(path, os.fstat(handle).st_size, digest)
    finally:
        os.close(handle)


def _holds(path: str, part: ClosedPart) -> bool:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return os.fstat(handle).st_size == part.bytes and hash_file(handle) == part.sha256
    finally:
        os.close(handle)


def _may_replace(first: str, digest: str, *, there_before: bool) -> None:
    """A package of the same product may be written again; another one, or one that cannot be read, stays."""
    try:
        there = read_manifest(first).product
    except IntegrityError:
        there = ""
    if there == digest:
        return
    if not there_before:
        raise came_meanwhile(first)
    raise Refused(
        f"{first} is there and is not a package of this product",
        by="a package is never replaced by another",
        hint="pack under another name, or move it away",
    )


def _view_shape(planned: Sequence[PlannedFile]) -> tuple[int, int] | None:
    """The shape of projections, or of whatever frames there are."""
    frames = sorted((f for p in planned for f in p.frames), key=lambda f: (f.kind is not FrameKind.PROJECTION, f.order))
    return (int(frames[0].shape[0]), int(frames[0].shape[1])) if frames else None


def _likely_bytes(planned: PlannedFile) -> float:
    frames = sum(f.length for f in planned.frames)
    return planned.file.state.size - frames + _LIKELY_SIZE * frames


def _rows_in_parts(chunks: Sequence[Any]) -> list[tuple[int, int]]:
    """For each chunk of a group its row in its part's dataset, and how many rows that has."""
    counts: dict[int, int] = {}
    rows = []
    for chunk in chunks:
        rows.append((counts.get(chunk.part, 0), chunk.part))
        counts[chunk.part] = counts.get(chunk.part, 0) + 1
    return [(row, counts[part]) for row, part in rows]
