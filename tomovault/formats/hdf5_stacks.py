"""The images that an HDF5 file speaks of: its own, of a virtual dataset, or behind a link."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import h5py

from tomovault.formats.hdf5_values import DAMAGE

#: Soft links that lead on to others are followed so many times.
_MOST_LINKS = 8
#: A virtual dataset in more pieces than frames that an acquisition takes is none that is followed.
_MOST_RUNS = 1_000_000


@dataclass(frozen=True)
class Mapped:
    """A run of frames of an image stack that lie in another file: frames [at, at + count) of the stack
    are frames [first, first + count) of `dataset` in `file`. `plain` is False where only parts of frames are mapped.
    """

    file: str
    dataset: str
    at: int
    first: int
    count: int
    plain: bool = True


@dataclass(frozen=True)
class ImageStack:
    """The images of one camera in one entry. `external` is a link's file and path, instead of `sources`; `growable`
    is True where the dataset was made to get more images, `single` where one of two dimensions is taken for one image.
    """

    camera: str
    path: str
    frames: int = 0
    shape: tuple[int, int] = (0, 0)
    dtype: str = ""
    sources: tuple[Mapped, ...] = ()
    external: tuple[str, str] | None = None
    problem: str = ""
    growable: bool = False
    single: bool = False


def find_stack(file: h5py.File, path: str, *, single: bool = False) -> ImageStack | None:
    """The images at an absolute path, through soft links, up to a link to another file; None where there are none.

    `single` takes a dataset of two dimensions for one image.
    """
    for _ in range(_MOST_LINKS):
        here: Any = file
        parts = [part for part in path.split("/") if part]
        for at, part in enumerate(parts):
            link = here.get(part, getlink=True) if isinstance(here, h5py.Group) else None
            rest = parts[at + 1 :]
            if isinstance(link, h5py.ExternalLink):
                beyond = "/".join([link.path.rstrip("/"), *rest])
                return ImageStack(part, path, external=(link.filename, beyond), single=single)
            if isinstance(link, h5py.SoftLink):
                start = "" if link.path.startswith("/") else here.name.rstrip("/") + "/"
                path = "/".join([start + link.path, *rest])
                break
            if link is None:
                return None
            if not rest:
                return stack_of(here, part, part, single=single)
            here = here.get(part)
        else:
            return None
    return None


def stack_of(detector: h5py.Group, camera: str, key: str, *, single: bool = False) -> ImageStack | None:
    """The images under a name of a detector's group; None where there are none, or a link within the file."""
    path = f"{detector.name.rstrip('/')}/{key}"
    try:
        link = detector.get(key, getlink=True)
        if isinstance(link, h5py.ExternalLink):
            return ImageStack(camera, path, external=(link.filename, link.path), single=single)
        if not isinstance(link, h5py.HardLink):
            return None
        dataset = detector.get(key)
        if isinstance(dataset, h5py.Dataset) and single and dataset.ndim == 2 and not dataset.is_virtual:
            frames, (rows, columns) = 1, (int(n) for n in dataset.shape)
            own = (Mapped(".", path, 0, 0, frames),)
            return ImageStack(camera, path, frames, (rows, columns), dataset.dtype.str, own, single=True)
        if not isinstance(dataset, h5py.Dataset) or dataset.ndim != 3:
            return None
        frames, rows, columns = (int(n) for n in dataset.shape)
        own = (Mapped(".", path, 0, 0, frames),)
        sources = virtual_runs(dataset) if dataset.is_virtual else own
        growable = not dataset.is_virtual and dataset.maxshape[0] != frames
        return ImageStack(
            camera, path, frames, (rows, columns), dataset.dtype.str, sources, growable=growable, single=single
        )
    except DAMAGE as error:
        return ImageStack(camera, path, problem=f"its images cannot be read: {error}")


def virtual_runs(dataset: h5py.Dataset) -> tuple[Mapped, ...]:
    """The sources of a virtual dataset in the order of its frames. Raises what h5py raises, ValueError for patterns
    and for sources whose frames are not frames of the dataset.
    """
    runs: list[Mapped] = []
    rows, columns = int(dataset.shape[1]), int(dataset.shape[2])
    for source in dataset.virtual_sources():
        if "%b" in source.file_name or "%b" in source.dset_name:
            raise ValueError("its sources are a pattern of names without an end")
        own = _frames_selected(source.vspace, int(dataset.shape[0]))
        count = _length(own)
        # Where a whole source is selected, its extent is not stored: it starts at 0 and must hold what is mapped.
        theirs = _frames_selected(source.src_space, count)
        if _length(theirs) != count:
            raise ValueError(f"{count} of its frames are {_length(theirs)} of {source.file_name}")
        everything = source.vspace.get_select_type() == h5py.h5s.SEL_ALL
        points = count * rows * columns if everything else source.vspace.get_select_npoints()
        whole = points == count * rows * columns
        runs += (Mapped(source.file_name, source.dset_name, *pair, plain=whole) for pair in _paired(own, theirs))
        if len(runs) > _MOST_RUNS:
            raise ValueError(f"its frames are in more than {_MOST_RUNS} pieces")
    return tuple(sorted(runs, key=lambda run: run.at))


def _length(runs: list[tuple[int, int]]) -> int:
    return sum(count for _, count in runs)


def _frames_selected(space: Any, otherwise: int) -> list[tuple[int, int]]:
    """Runs (first, count) of the frames of a selection, ascending; (0, otherwise) where everything is selected."""
    if space.get_select_type() == h5py.h5s.SEL_ALL:
        return [(0, otherwise)]
    low, high = (int(corner[0]) for corner in space.get_select_bounds())
    if space.get_select_type() != h5py.h5s.SEL_HYPERSLABS:
        raise ValueError("its sources are mapped point by point")
    if not space.is_regular_hyperslab():
        if space.get_select_hyper_nblocks() > _MOST_RUNS:
            raise ValueError(f"its frames are in more than {_MOST_RUNS} pieces")
        blocks = sorted((int(start[0]), int(end[0]) + 1) for start, end in space.get_select_hyper_blocklist())
        return _merged(blocks)
    _, stride, count, block = (int(numbers[0]) for numbers in space.get_regular_hyperslab())
    if count == 1 or stride == block:
        return [(low, high - low + 1)]
    if count > _MOST_RUNS:
        raise ValueError(f"its frames are in more than {_MOST_RUNS} pieces")
    return [(low + at * stride, block) for at in range(count)]


def _merged(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ranges (begin, end) in the order of their begins as runs (first, count) that neither touch nor overlap."""
    runs: list[tuple[int, int]] = []
    for begin, end in ranges:
        if runs and begin <= sum(runs[-1]):
            first, count = runs[-1]
            runs[-1] = (first, max(count, end - first))
        else:
            runs.append((begin, end - begin))
    return runs


def _paired(own: list[tuple[int, int]], theirs: list[tuple[int, int]]) -> Iterator[tuple[int, int, int]]:
    """(at, first, count) of each run that is one here and there; both have as many frames."""
    there = iter(theirs)
    first, left = 0, 0
    for at, count in own:
        while count:
            if not left:
                first, left = next(there)
            step = min(count, left)
            yield at, first, step
            at, first, count, left = at + step, first + step, count - step, left - step


def covered(ranges: Iterable[tuple[int, int]]) -> int:
    """How many frames lie in any of the runs (first, count); a frame that is put together from parts counts once."""
    return _length(_merged(sorted((first, first + count) for first, count in ranges)))


def unnamed(runs: Iterable[Mapped], first: int, count: int) -> list[tuple[int, int]]:
    """Ranges (first, last) of these frames of a virtual dataset that no source is named for: they read as zeros."""
    expected, end = first, first + count
    holes = []
    for at, length in _merged(sorted((run.at, run.at + run.count) for run in runs)):
        if min(at, end) > expected:
            holes.append((expected, min(at, end) - 1))
        expected = max(expected, at + length)
    return [*holes, (expected, end - 1)] if expected < end else holes
