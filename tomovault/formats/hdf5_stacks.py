"""The images that an HDF5 file speaks of: its own, of a virtual dataset, or behind a link."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import h5py

from tomovault.formats.hdf5_values import DAMAGE

#: Soft links that lead on to others are followed so many times.
_MOST_LINKS = 8


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
    is True where the dataset was made to get more images.
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


def find_stack(file: h5py.File, path: str) -> ImageStack | None:
    """The images at an absolute path, through soft links, up to a link to another file; None where there are none."""
    for _ in range(_MOST_LINKS):
        here: Any = file
        parts = [part for part in path.split("/") if part]
        for at, part in enumerate(parts):
            link = here.get(part, getlink=True) if isinstance(here, h5py.Group) else None
            rest = parts[at + 1 :]
            if isinstance(link, h5py.ExternalLink):
                beyond = "/".join([link.path.rstrip("/"), *rest])
                return ImageStack(part, path, external=(link.filename, beyond))
            if isinstance(link, h5py.SoftLink):
                start = "" if link.path.startswith("/") else here.name.rstrip("/") + "/"
                path = "/".join([start + link.path, *rest])
                break
            if link is None:
                return None
            if not rest:
                return stack_of(here, part, part)
            here = here.get(part)
        else:
            return None
    return None


def stack_of(detector: h5py.Group, camera: str, key: str) -> ImageStack | None:
    """The images under a name of a detector's group; None where there are none, or a link within the file."""
    path = f"{detector.name.rstrip('/')}/{key}"
    try:
        link = detector.get(key, getlink=True)
        if isinstance(link, h5py.ExternalLink):
            return ImageStack(camera, path, external=(link.filename, link.path))
        if not isinstance(link, h5py.HardLink):
            return None
        dataset = detector.get(key)
        if not isinstance(dataset, h5py.Dataset) or dataset.ndim != 3:
            return None
        frames, rows, columns = (int(n) for n in dataset.shape)
        own = (Mapped(".", path, 0, 0, frames),)
        sources = virtual_runs(dataset) if dataset.is_virtual else own
        growable = not dataset.is_virtual and dataset.maxshape[0] != frames
        return ImageStack(camera, path, frames, (rows, columns), dataset.dtype.str, sources, growable=growable)
    except DAMAGE as error:
        return ImageStack(camera, path, problem=f"its images cannot be read: {error}")


def virtual_runs(dataset: h5py.Dataset) -> tuple[Mapped, ...]:
    """The sources of a virtual dataset in the order of its frames. Raises what h5py raises, ValueError for patterns."""
    runs = []
    rows, columns = int(dataset.shape[1]), int(dataset.shape[2])
    for source in dataset.virtual_sources():
        if "%b" in source.file_name or "%b" in source.dset_name:
            raise ValueError("its sources are a pattern of names without an end")
        at, count = _frames_selected(source.vspace, int(dataset.shape[0]))
        # Where a whole source is selected, its extent is not stored: it starts at 0 and must hold what is mapped.
        first, needed = _frames_selected(source.src_space, count)
        everything = source.vspace.get_select_type() == h5py.h5s.SEL_ALL
        points = count * rows * columns if everything else source.vspace.get_select_npoints()
        whole = points == count * rows * columns and needed == count
        runs.append(Mapped(source.file_name, source.dset_name, at, first, max(count, needed), plain=whole))
    return tuple(sorted(runs, key=lambda run: run.at))


def _frames_selected(space: Any, otherwise: int) -> tuple[int, int]:
    """The first frame of a selection and their number; (0, otherwise) where everything is selected."""
    if space.get_select_type() == h5py.h5s.SEL_ALL:
        return 0, otherwise
    low, high = space.get_select_bounds()
    return int(low[0]), int(high[0]) - int(low[0]) + 1
