"""Reading volumes in HDF5.

nabu writes each piece of a volume to a file of its own and then a master whose virtual dataset joins them; the run's
configuration stands beside the data. tomopy's `write_hdf5` (dxchange) writes `/exchange/data` and nothing else.
"""

from __future__ import annotations

import math
import os
import re
from typing import Any

import h5py

from tomovault.core.errors import NoScan
from tomovault.core.layout import FrameKind
from tomovault.core.scan import CONDITION_UNITS, Condition, FrameCounts
from tomovault.formats.hdf5_inspect import FoundScan, Opened
from tomovault.formats.hdf5_kind import RESULTS, entries_of
from tomovault.formats.hdf5_series import Findings, Series, frames_of
from tomovault.formats.hdf5_stacks import find_stack
from tomovault.formats.hdf5_values import item_of, text_of
from tomovault.formats.spec_text import number
from tomovault.formats.volume_facts import facts_of_slices

_MOST_SLICES = 1_000_000
_PART = re.compile(r"^(?P<volume>.+)_\d{5,6}\.(?:h5|hdf5)$")
#: Places of the run's configuration below `reconstruction`, where nabu wrote what it read and where.
_LOCATIONS = ("configuration/nabu_config/dataset/location", "configuration/dataset/location")
_VOXELS = ("configuration/processing_options/reconstruction/voxel_size_cm",)


def read(opened: Opened) -> list[FoundScan]:
    """The volume of the file. Raises NoScan for a piece of a volume whose master stands above."""
    place, entry = _place(opened.file)
    _refuse_part(opened)
    stack = find_stack(opened.file, place)
    if stack is None:
        raise NoScan(f"{place} is no volume")
    checked = opened.files.check(stack)
    count = min(checked.frames, _MOST_SLICES)
    series = Series(checked, (FrameKind.INVALID,) * count)
    there = len(series.there())
    found = Findings()
    (found.open if checked.busy else found.missing).extend(checked.problems[:20])
    if there < count:
        found.missing.append(f"{count - there} of {count} slices are not there")
    elif not found.missing:
        found.evidence.append(f"every one of {count} slices is wholly in its file")
    if count == 0:
        found.doubts.append("it has no slices")
    if stack.growable:
        found.doubts.append("the dataset was made to get more slices; nothing says that these are all")
    of, source = _made_from(opened, entry)
    if of:
        found.evidence.append(f"made from {of}, by {source}")
    metadata: dict[str, Any] = {
        "of": of,
        "of_source": source,
        "shape": "hdf5",
        **facts_of_slices(readable=any(frames_of([series]).values())),
    }
    return [
        FoundScan(
            series=(series,),
            findings=found,
            expected=FrameCounts(),
            found=FrameCounts(projections=0),
            conditions=_conditions(opened, entry, place, count, stack.shape),
            metadata=metadata,
        )
    ]


def _place(file: h5py.File) -> tuple[str, h5py.Group | None]:
    for entry in entries_of(file):
        if isinstance(item_of(entry, RESULTS), h5py.Dataset):
            return f"{str(entry.name).rstrip('/')}/{RESULTS}", entry
    return "/exchange/data", None


def _refuse_part(opened: Opened) -> None:
    """nabu puts the pieces of `X.hdf5` into a folder `X`, beside it, as `X/X_00000.hdf5`."""
    part = _PART.match(opened.name)
    folder = opened.folder.rstrip("/")
    if part is None or part["volume"] != os.path.basename(folder):
        return
    for ending in (".hdf5", ".h5"):
        if os.path.isfile(folder + ending):
            raise NoScan(f"it is a piece of the volume {os.path.basename(folder)}{ending} in the folder above")


def _made_from(opened: Opened, entry: h5py.Group | None) -> tuple[str | None, str]:
    group = item_of(entry, "reconstruction") if entry is not None else None
    if isinstance(group, h5py.Group):
        for path in _LOCATIONS:
            location = text_of(group, path)
            if location:
                last = location.replace("\\", "/").rstrip("/").rpartition("/")[2]
                return re.sub(r"\.(nx|nxs|h5|hdf5)$", "", last), f"{path} in the file"
    folder = os.path.basename(opened.folder.rstrip("/"))
    bare = re.sub(r"_(rec|recon|slices|volume|vol)$", "", folder)
    if bare != folder:
        return bare, "the name of its folder"
    stem = opened.name.rpartition(".")[0]
    bare = re.sub(r"_(rec|recon|vol|volume)$", "", stem)
    return (bare, "its name") if bare != stem else (None, "")


def _conditions(
    opened: Opened, entry: h5py.Group | None, place: str, count: int, shape: tuple[int, int]
) -> dict[str, Condition]:
    source = f"{opened.name}:{place}"
    seen = {"n_slices": count, "frame_height": shape[0], "frame_width": shape[1]}
    # A volume behind a link that leads nowhere has an unknown number of slices, not none.
    found = {name: Condition(value, CONDITION_UNITS.get(name), source) for name, value in seen.items() if value > 0}
    group = item_of(entry, "reconstruction") if entry is not None else None
    for path in _VOXELS if isinstance(group, h5py.Group) else ():
        value = (number((text_of(group, path) or "").strip("()[] ").split(",")[0]) or 0.0) * 1e4
        if 0 < value < math.inf:
            found["pixel_size"] = Condition(value, CONDITION_UNITS["pixel_size"], f"{opened.name}:{path}")
    return found
