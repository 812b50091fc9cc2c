"""What kind of file an HDF5 file is, by its content. One function decides, so that one format claims a file.

In this order: a package of tomovault; a master or collection of BLISS (entries `1.1`, or its writer's name); ALS 8.3.2
(one group that says `nangles`); Data Exchange (`/exchange/data` and something beside it); then, by the first entry that
speaks: volumes and other results (`reconstruction`, `plugin`), Diamond NeXus (an NXtomo subentry, or `diamond_scan`),
NXtomo (its definition, or `image_key` and `rotation_angle`). So an entry that is an NXtomo itself is of the format
NXtomo, whoever wrote it, and one that only holds an NXtomo subentry is of Diamond's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import h5py

from tomovault.formats.hdf5_values import DAMAGE, item_of, plain, text_of

NXTOMO, DATA_EXCHANGE, ALS, NEXUS, BLISS = "nxtomo", "dataexchange", "als832", "nexus", "bliss"
VOLUME = "volume_hdf5"
#: Where a reconstruction program puts its slices, below the entry.
RESULTS = "reconstruction/results/data"

_IN_WORDS = {
    NXTOMO: "an NXtomo",
    DATA_EXCHANGE: "a Data Exchange file",
    ALS: "a file of ALS 8.3.2",
    NEXUS: "a Diamond NeXus file",
    BLISS: "a BLISS master",
    VOLUME: "a volume that a reconstruction program wrote",
}
_BLISS_ENTRY = re.compile(r"^(\w+_)?\d{1,6}\.\d$")
#: Below `/exchange`, or in the file: what tells an acquisition from a volume that was saved as `/exchange/data`.
_BESIDE_DATA = ("exchange/theta", "exchange/data_white", "exchange/data_dark", "measurement/instrument")
#: A look for images in an unknown file ends after so many items, and so deep.
_MOST_ITEMS = 2000
_DEEPEST = 8
#: Words that are in the first part of a file of each kind even where it cannot be opened; the first kind wins.
_MARKS: tuple[tuple[str, tuple[bytes, ...]], ...] = (
    (ALS, (b"nangles", b"num_bright_field")),
    (DATA_EXCHANGE, (b"exchange", b"data_white")),
    (DATA_EXCHANGE, (b"exchange", b"theta")),
    (NEXUS, (b"tomo_entry", b"NXsubentry")),
    (NEXUS, (b"diamond_scan", b"NXentry")),
    (NXTOMO, (b"NXtomo", b"image_key")),
    (NXTOMO, (b"image_key", b"rotation_angle")),
)


@dataclass(frozen=True)
class Kind:
    """A format that takes the file, '' if none of these does; and what the file is, in words."""

    format: str
    words: str


def kind_of(file: h5py.File) -> Kind:
    """Decide. Raises what h5py raises on damaged files."""
    if isinstance(item_of(file, "tomovault"), h5py.Group):
        return Kind("", "a file that tomovault made")
    if _is_bliss(file):
        return Kind("", "a BLISS master or collection; a master is taken where it is named like its folder")
    if scan_group(file) is not None:
        return _known(ALS)
    exchange = item_of(file, "exchange/data")
    if isinstance(exchange, h5py.Dataset):
        return _exchange(file, exchange)
    for entry in entries_of(file):
        found = _kind_of_entry(entry)
        if found is not None:
            return found
    return Kind("", _describe(file))


def marks_of(head: bytes) -> str:
    """The format that the first bytes of a file that cannot be opened speak of, '' where they do not."""
    if b"blissdata" in head and b"writer" in head and b"NXtomo" not in head:
        return BLISS
    return next((name for name, words in _MARKS if all(word in head for word in words)), "")


def words_for(name: str) -> str:
    """A format's files in words."""
    return _IN_WORDS[name]


def entries_of(file: h5py.File) -> Iterator[h5py.Group]:
    """Groups at the root that belong to the file and are, or may be, NeXus entries, by name."""
    for name in sorted(file):
        if isinstance(file.get(name, getlink=True), h5py.HardLink):
            group = file.get(name)
            if isinstance(group, h5py.Group) and (class_of(group) in ("NXentry", "") or name.startswith("entry")):
                yield group


def class_of(item: Any) -> str:
    """The `NX_class` of a group, '' where it has none."""
    try:
        found = plain(item.attrs.get("NX_class"))
    except DAMAGE:
        return ""
    return found if isinstance(found, str) else ""


def subentry_of(entry: h5py.Group) -> h5py.Group | None:
    """The NXtomo subentry of an entry."""
    for name in entry:
        if isinstance(entry.get(name, getlink=True), h5py.HardLink):
            group = entry.get(name)
            if isinstance(group, h5py.Group) and (name == "tomo_entry" or class_of(group) == "NXsubentry"):
                definition = text_of(group, "definition")
                if definition == "NXtomo" or (definition is None and name == "tomo_entry"):
                    return group
    return None


def scan_group(file: h5py.File) -> h5py.Group | None:
    """The one group of an ALS file: its attributes say `nangles`."""
    names = list(file)
    if len(names) != 1 or not isinstance(file.get(names[0], getlink=True), h5py.HardLink):
        return None
    group = file.get(names[0])
    return group if isinstance(group, h5py.Group) and "nangles" in group.attrs else None


def _known(name: str) -> Kind:
    return Kind(name, _IN_WORDS[name])


def _is_bliss(file: h5py.File) -> bool:
    writers = " ".join(str(plain(file.attrs.get(key, "")) or "") for key in ("creator", "publisher")).lower()
    if "bliss" in writers:
        return True
    names = [name for name in file if _BLISS_ENTRY.match(name)]
    return bool(names) and len(names) == len(file)


def _exchange(file: h5py.File, data: h5py.Dataset) -> Kind:
    if data.ndim != 3:
        return Kind("", f"a Data Exchange file without a stack of images: exchange/data is {tuple(data.shape)}")
    acquired = any(item_of(file, path) is not None for path in _BESIDE_DATA)
    if acquired or item_of(file, "process/acquisition") is not None:
        return _known(DATA_EXCHANGE)
    if data.dtype.kind == "f" and list(file) == ["exchange"] and list(file["exchange"]) == ["data"]:
        return _known(VOLUME)
    return Kind(
        "",
        f"exchange/data {tuple(data.shape)} alone, without theta, data_white, data_dark or a word of an acquisition: "
        "it may as well be a volume",
    )


def _kind_of_entry(entry: h5py.Group) -> Kind | None:
    if item_of(entry, "reconstruction") is not None:
        slices = item_of(entry, RESULTS)
        if isinstance(slices, h5py.Dataset) and slices.ndim == 3:
            return _known(VOLUME)
        return Kind("", "a volume: its entry holds a reconstruction")
    if item_of(entry, "plugin") is not None and item_of(entry, "instrument/detector/image_key") is None:
        return Kind("", "a processing list or a result of Savu")
    if item_of(entry, "darks") is not None or item_of(entry, "flats") is not None:
        return Kind("", "reduced darks or flats of a scan")
    if is_nxtomo(entry):
        return _known(NXTOMO)
    if subentry_of(entry) is not None or isinstance(item_of(entry, "diamond_scan"), h5py.Group):
        return _known(NEXUS)
    return None


def is_nxtomo(entry: h5py.Group) -> bool:
    """Whether an entry is an NXtomo itself, by its definition or by what it holds."""
    detector = item_of(entry, "instrument/detector")
    if not isinstance(detector, h5py.Group) or detector.get("data", getlink=True) is None:
        return False
    if text_of(entry, "definition") == "NXtomo":
        return True
    return item_of(detector, "image_key") is not None and item_of(entry, "sample/rotation_angle") is not None


def _describe(file: h5py.File) -> str:
    """What an unknown file holds, as far as a short look tells."""
    stacks: list[tuple[int, str]] = []
    left = _MOST_ITEMS
    pending: list[tuple[h5py.Group, int]] = [(file, 0)]
    while pending and left > 0:
        group, depth = pending.pop()
        for name in group:
            left -= 1
            if left <= 0:
                break
            item = item_of(group, name) if isinstance(group.get(name, getlink=True), h5py.HardLink) else None
            if isinstance(item, h5py.Group) and depth < _DEEPEST:
                pending.append((item, depth + 1))
            elif isinstance(item, h5py.Dataset) and item.ndim == 3 and item.dtype.kind in "uif":
                stacks.append((item.size or 0, f"{str(item.name).lstrip('/')} {tuple(item.shape)}"))
    if stacks:
        return f"images without angles, a part of a scan at most: {max(stacks)[1]}"
    return "an HDF5 file without any stack of images" if left > 0 else "an HDF5 file of another kind"
