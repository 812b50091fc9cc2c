"""The files behind the images that an HDF5 file names, each one found, opened and measured.

A virtual dataset whose source is missing reads as zeros without an error, so nothing is taken on the
word of the file that names it, called the master here.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import h5py

from tomovault.core.errors import TomovaultError, Transient
from tomovault.core.scan import FileState
from tomovault.formats.hdf5_open import open_hdf5
from tomovault.formats.hdf5_stacks import ImageStack, Mapped, covered, unnamed, virtual_runs
from tomovault.formats.hdf5_storage import Storage, look_at_storage
from tomovault.formats.hdf5_values import DAMAGE
from tomovault.formats.index_ranges import in_words
from tomovault.formats.scan_folder import is_all_zero, state_of

#: Camera files may lie beside the dataset, as far up as the folder of all raw data, and no further.
_LEVELS_UP = 2
#: A master may point at a camera's master, that at its files; more is a loop.
_DEEPEST = 4


class SourceProblem(Exception):
    """Why frames are not where they should be, in words."""


@dataclass(frozen=True)
class Run:
    """Frames [at, at + count) of a stack, found as frames [first, ...) of a measured dataset of a file.

    `good` of them are written; `file` is a real absolute path.
    """

    file: str
    dataset: str
    at: int
    first: int
    count: int
    good: int
    storage: Storage
    plain: bool = True


@dataclass
class CheckedStack:
    """A stack with every source looked at."""

    stack: ImageStack
    frames: int
    runs: list[Run] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    busy: bool = False
    visited: set[str] = field(default_factory=set)

    @property
    def good(self) -> int:
        """Frames that are really there."""
        return covered((run.at, run.good) for run in self.runs if run.good)


@dataclass(frozen=True)
class _Found:
    """What a name in a file leads to: exactly one of the three. `single`: one image, of two dimensions."""

    storage: Storage | None = None
    runs: tuple[Mapped, ...] | None = None
    link: tuple[str, str] | None = None
    frames: int = 0
    single: bool = False


class CameraFiles:
    """Looks behind image stacks; every file is opened once and its state kept by real path. `opened` is the master
    where the caller has it open.
    """

    def __init__(self, folder: str, master: str, opened: h5py.File | None = None) -> None:
        self._opened = opened
        self.folder = os.path.realpath(folder)
        self.master = os.path.join(self.folder, master)
        self.states: dict[str, FileState] = {}
        self._found: dict[tuple[str, str], _Found | SourceProblem | Transient] = {}
        limit = self.folder
        for _ in range(_LEVELS_UP):
            limit = os.path.dirname(limit) if os.path.dirname(limit) != "/" else limit
        self._limit = limit

    def check(self, stack: ImageStack) -> CheckedStack:
        """Every source of a stack: there, a regular file, readable, long enough, of the same shape."""
        checked = CheckedStack(stack, stack.frames)
        if stack.problem:
            checked.problems.append(f"{stack.path}: {stack.problem}")
            return checked
        try:
            if stack.external is not None:
                file, path = stack.external
                found = self._look(self._locate(file, self.folder), path, 0, single=stack.single)
                checked.frames = found.frames
                self._collect(checked, Mapped(file, path, 0, 0, found.frames), self.folder, 0)
            for source in stack.sources:
                self._collect(checked, source, self.folder, 0)
        except SourceProblem as problem:
            checked.problems.append(str(problem))
        except Transient as busy:
            checked.busy = True
            checked.problems.append(busy.message)
        if stack.external is None and (holes := unnamed(stack.sources, 0, checked.frames)):
            checked.problems.append(f"{stack.path}: no file is named for its images {in_words(holes)}")
        return checked

    def passed_through(self, stacks: Iterable[Iterable[CheckedStack]]) -> Iterator[tuple[str, FileState]]:
        """Files that these stacks' links name and that lead on to others, with their states."""
        for checked in (c for part in stacks for c in part):
            for real in checked.visited:
                if real in self.states:
                    yield real, self.states[real]

    def _collect(self, checked: CheckedStack, wanted: Mapped, base: str, depth: int) -> None:
        try:
            runs = list(self._resolve(checked, wanted, base, depth))
        except SourceProblem as problem:
            checked.problems.append(str(problem))
            return
        except Transient as busy:
            checked.busy = True
            checked.problems.append(busy.message)
            return
        for run in runs:
            name = self._named(run.file)
            if run.good < run.count:
                why = run.storage.problem or f"it holds {run.storage.frames} images"
                checked.problems.append(
                    f"{name}: {why}; images {run.first}-{run.first + run.count - 1} of it are needed"
                )
            shape = checked.stack.shape
            if shape != (0, 0) and run.plain and run.storage.shape != shape:
                checked.problems.append(f"{name}: its images are {run.storage.shape}, the master says {shape}")
            checked.runs.append(run)

    def _resolve(self, checked: CheckedStack, wanted: Mapped, base: str, depth: int) -> Iterator[Run]:
        real = self.master if wanted.file == "." and base == self.folder else self._locate(wanted.file, base)
        checked.visited.add(real)
        found = self._look(real, wanted.dataset, depth, single=checked.stack.single)
        below = os.path.dirname(real)
        if found.link is not None:
            yield from self._resolve(
                checked,
                Mapped(found.link[0], found.link[1], wanted.at, wanted.first, wanted.count, wanted.plain),
                below,
                depth + 1,
            )
        elif found.runs is not None:
            if holes := unnamed(found.runs, wanted.first, wanted.count):
                words = f"no file is named for images {in_words(holes)} of {wanted.dataset}"
                checked.problems.append(f"{self._named(real)}: {words}")
            for inner in found.runs:
                part = _overlap(wanted, inner)
                if part is not None:
                    file = real if inner.file == "." else inner.file
                    yield from self._resolve(
                        checked,
                        Mapped(file, inner.dataset, *part, plain=wanted.plain and inner.plain),
                        below,
                        depth + 1,
                    )
        elif found.storage is not None:
            good = max(0, min(wanted.count, found.storage.frames - wanted.first))
            yield Run(real, wanted.dataset, wanted.at, wanted.first, wanted.count, good, found.storage, wanted.plain)

    def _locate(self, name: str, base: str) -> str:
        """The real path of a linked file, inside the allowed tree, a regular file. Raises SourceProblem."""
        if name == ".":
            return self.master
        path = os.path.join(base, name)
        if os.path.isabs(name) and not os.path.lexists(name):
            # The library falls back to the last part of the name beside the file that points to it.
            path = os.path.join(base, os.path.basename(name))
        real = os.path.realpath(path)
        if os.path.commonpath([real, self._limit]) != self._limit:
            raise SourceProblem(f"{name} lies outside {self._limit}; it is not followed")
        try:
            found = os.lstat(real)
        except FileNotFoundError:
            raise SourceProblem(f"{name} is missing") from None
        except OSError as error:
            raise SourceProblem(f"{name} cannot be looked at: {error.strerror}") from error
        if not stat.S_ISREG(found.st_mode):
            raise SourceProblem(f"{name} is not a regular file")
        self.states[real] = state_of(real, found)
        return real

    def _look(self, real: str, dataset: str, depth: int, *, single: bool) -> _Found:
        if depth > _DEEPEST:
            raise SourceProblem(f"{self._named(real)}: its links lead in a circle")
        key = (real, dataset)
        if key not in self._found:
            self._found[key] = self._open_and_look(real, dataset)
        found = self._found[key]
        if isinstance(found, _Found) and found.single and not single:
            raise SourceProblem(f"{self._named(real)}: {dataset} is no stack of images")
        if isinstance(found, _Found):
            return found
        raise found

    def _open_and_look(self, real: str, dataset: str) -> _Found | SourceProblem | Transient:
        name = self._named(real)
        try:
            if self._opened is not None and real == self.master:
                return _look_inside(self._opened, dataset, os.stat(real).st_size)
            with open_hdf5(real) as file:
                return _look_inside(file, dataset, os.stat(real).st_size)
        except Transient as busy:
            return busy
        except TomovaultError as error:
            return SourceProblem(f"{name}: {error.message.removeprefix(real + ': ')}")
        except DAMAGE as error:
            return SourceProblem(f"{name}: {' '.join(str(error).split())[:300]}")

    def _named(self, real: str) -> str:
        return os.path.relpath(real, self.folder)


def _look_inside(file: h5py.File, dataset: str, size: int) -> _Found:
    link = file.get(dataset, getlink=True)
    if isinstance(link, h5py.ExternalLink):
        return _Found(link=(link.filename, link.path))
    found = file.get(dataset) if link is not None else None
    if not isinstance(found, h5py.Dataset):
        raise ValueError(f"it does not hold {dataset}")
    if found.ndim not in (2, 3) or (found.ndim == 2 and found.is_virtual):
        raise ValueError(f"{dataset} is no stack of images")
    if found.is_virtual:
        return _Found(runs=virtual_runs(found), frames=int(found.shape[0]))
    storage = look_at_storage(found, size)
    return _Found(storage=storage, frames=int(found.shape[0]) if found.ndim == 3 else 1, single=found.ndim == 2)


def _overlap(wanted: Mapped, inner: Mapped) -> tuple[int, int, int] | None:
    """(at, first, count) of the frames that `inner` gives of what is wanted from the stack it belongs to."""
    start = max(wanted.first, inner.at)
    end = min(wanted.first + wanted.count, inner.at + inner.count)
    if start >= end:
        return None
    return wanted.at + start - wanted.first, inner.first + start - inner.at, end - start


def closure_root(folder: str, files: CameraFiles, closure: Iterable[str]) -> tuple[str, str]:
    """The common root of these real paths and the master's folder, and that folder's path below it ('' or 'a/b/')."""
    common = os.path.commonpath([files.folder, *(os.path.dirname(path) for path in closure)])
    inner = os.path.relpath(files.folder, common)
    root = os.path.normpath(folder)
    if inner == ".":
        return root, ""
    for _ in inner.split("/"):
        root = os.path.dirname(root)
    return root, inner + "/"


def zero_frames(run: Run) -> bool:
    """True if the first or the last frame of a run is all zero: a file made to its full size and never filled.

    Only where frames are plain runs of bytes. Raises OSError.
    """
    offsets = run.storage.offsets
    if offsets is None or run.good < 1:
        return False
    descriptor = os.open(run.file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        ends = {offsets[run.first], offsets[run.first + run.good - 1]}
        return any(is_all_zero(descriptor, offset, run.storage.frame_bytes) for offset in ends)
    finally:
        os.close(descriptor)
