"""Which names of a folder are volumes that somebody reconstructed. Names only: nothing is opened."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tomovault.formats.edf_names import is_noise
from tomovault.formats.tiff_names import group_names

_EDF_SLICE = re.compile(r"^(?P<prefix>.*slice_?)(?P<digits>\d{3,7})\.edf$", re.DOTALL)
_VOLUME = re.compile(r"\.vol$", re.I)
_RAW = re.compile(r"\.(raw|rec)$", re.I)
_INFO = re.compile(r"\.(vol|raw|rec)\.info$", re.I)
_ENDINGS = (".vol", ".raw", ".rec", ".info", ".txm")
_ZEISS = re.compile(r"\.txm$", re.I)


class Shape(enum.StrEnum):
    """How a volume is stored."""

    RAW = "raw"
    TIFF = "tiff"
    TIFF_FILE = "tiff file"
    EDF = "edf"
    ZEISS = "zeiss"


@dataclass(frozen=True)
class VolumeNames:
    """One volume of a folder: `key` names it there, `names` are its data files in order."""

    key: str
    shape: Shape
    names: tuple[str, ...]
    prefix: str = ""


def find_volumes(folder: str, names: Iterable[str], folders: Sequence[str] = ()) -> list[VolumeNames]:
    """The volumes that the names of the folder called `folder` speak of, in the order of their keys."""
    listed = sorted(names)
    tiffs = group_names(folder, listed, folders)
    # Most names of a server are frames: a look at the ending is all that they get.
    listed = [name for name in listed if _may_be_one(name) and not is_noise(name)]
    there = set(listed)
    found = [
        VolumeNames(name, Shape.RAW, (name,))
        for name in listed
        if _VOLUME.search(name) or (_RAW.search(name) and f"{name}.info" in there)
    ]
    # A text without its volume is a volume that is not there: it is told, once.
    missing = {name.removesuffix(".info") for name in listed if _INFO.search(name)} - there
    found += [VolumeNames(name, Shape.RAW, (name,)) for name in sorted(missing)]
    found += [VolumeNames(name, Shape.ZEISS, (name,)) for name in listed if _ZEISS.search(name)]
    found += [
        VolumeNames(f"{s.prefix}*.tif", Shape.TIFF, tuple(s.names[i] for i in sorted(s.names)), s.prefix)
        for s in tiffs.slices
    ]
    found += [VolumeNames(name, Shape.TIFF_FILE, (name,)) for name in tiffs.lone_slices]
    return sorted([*found, *_edf_slices(listed)], key=lambda volume: volume.key)


def _may_be_one(name: str) -> bool:
    return name[-5:].lower().endswith(_ENDINGS) or ("slice" in name and name.endswith(".edf"))


def stem_of_volume(name: str) -> str:
    """The name of a volume's file without its ending."""
    return re.sub(r"\.(vol|raw|rec|txm|tiff?|edf)$", "", name, flags=re.I)


def _edf_slices(names: Iterable[str]) -> list[VolumeNames]:
    groups: dict[str, dict[int, str]] = {}
    for name in names:
        match = _EDF_SLICE.match(name)
        if match:
            groups.setdefault(match["prefix"], {}).setdefault(int(match["digits"]), name)
    return [
        VolumeNames(f"{prefix}*.edf", Shape.EDF, tuple(group[i] for i in sorted(group)), prefix)
        for prefix, group in sorted(groups.items())
    ]
