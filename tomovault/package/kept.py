"""A package that was brought back from elsewhere, put in its place on disk."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Sequence
from pathlib import Path

from tomovault.core.replica import StoredFile
from tomovault.package.landing import came_meanwhile, reread_file
from tomovault.package.place import place_entry


def keep_files(fetched: Sequence[StoredFile], folder: Path, own: Collection[str]) -> tuple[StoredFile, ...] | None:
    """The files, which lie somewhere below `folder`, stand in it under their names; the names are on disk.

    None where they stay as they are, since a file is there that is another's: neither of a package at a location of
    `own`, which is its scan's, nor the very same bytes. Raises Transient where such a file comes there meanwhile.
    """
    final = [StoredFile(str(folder / Path(f.location).name), f.size, f.sha256) for f in fetched]
    there = {place for place in final if os.path.lexists(place.location)}
    if final[0].location not in own and not all(_holds(place) for place in there):
        return None
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for file, place in zip(fetched, final, strict=True):
            arrived = os.path.relpath(file.location, folder)
            place_entry(handle, arrived, os.path.basename(place.location), overwrite=place in there)
        os.fsync(handle)
    except FileExistsError as taken:
        raise came_meanwhile(final[0].location) from taken
    finally:
        os.close(handle)
    return tuple(final)


def _holds(place: StoredFile) -> bool:
    state = os.lstat(place.location)
    alike = stat.S_ISREG(state.st_mode) and state.st_size == place.size
    return alike and reread_file(Path(place.location)).sha256 == place.sha256
