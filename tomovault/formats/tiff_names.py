"""What the TIFF names of a folder mean: stacks of projections, their flats and darks, slices, lone files.

Names only: nothing is opened. `group_names` gives each TIFF name of a folder to one kind, so that the formats that
share it claim no file twice.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tomovault.core.ports import Listing
from tomovault.formats.edf_names import is_frame_name, is_noise

_TIFF = re.compile(r"\.tiff?$", re.I)
_ENDINGS = (".tif", ".tiff")
#: The last run of digits is the index; longer runs are dates or serial numbers.
_MOST_DIGITS = 9
_WORDS = re.compile(r"[^A-Za-z]+|(?<=[a-z])(?=[A-Z])")

_DARK_WORDS = frozenset({"dark", "darks", "drk", "df", "darkfield", "darkfields", "darkframe", "darkframes", "bias"})
_FLAT_WORDS = frozenset(
    {"flat", "flats", "ff", "bak", "bright", "brights", "white", "whites", "ref", "refs", "reference", "references"}
    | {"openbeam", "flatfield", "flatfields", "brightfield"}
)
#: Ends of names that are written without a separator, as ALS 8.3.2 writes `namebak_0000_0019`.
_DARK_ENDS, _FLAT_ENDS = ("drk", "dark", "darks"), ("bak", "flat", "flats")
#: Words of reconstructed slices; the weak ones are also words of recorders, and count only without flats and darks.
_SLICE_WORDS = frozenset({"slice", "slices", "recon", "recons", "reconstruction", "reconstructed", "reconstructions"})
_WEAK_WORDS = frozenset({"rec", "recs", "reco", "vol", "volume", "volumes"})
#: Folders that hold the projections of a scan whose flats and darks stand beside them, or above.
_INNER_FOLDERS = frozenset(
    {"tif", "tiff", "tiffs", "raw", "proj", "projs", "projection", "projections", "radio", "radios"}
    | {"radiograph", "radiographs", "images", "frames", "tomo", "sample"}
)
#: A nabu volume in TIFF has its configuration beside it under this ending.
_NABU_TEXT = "_infos.txt"


class Meaning(enum.StrEnum):
    """What a series of names is to a scan."""

    PROJECTIONS = "projections"
    FLATS = "flats"
    DARKS = "darks"
    SLICES = "slices"


@dataclass(frozen=True)
class Series:
    """Names with one prefix and an index each."""

    prefix: str
    meaning: Meaning
    names: Mapping[int, str]


@dataclass(frozen=True)
class TiffNames:
    """The TIFF names of one folder. `lone` have no index, or are the only one of their prefix. `for_inner` are flats
    and darks of the projections in a folder below.
    """

    stacks: tuple[Series, ...] = ()
    calibrations: tuple[Series, ...] = ()
    slices: tuple[Series, ...] = ()
    lone: tuple[str, ...] = ()
    lone_slices: tuple[str, ...] = ()
    for_inner: tuple[Series, ...] = ()


def is_tiff_name(name: str) -> bool:
    """True for a name that ends like a TIFF file's and is not a temporary or hidden one."""
    return name[-5:].lower().endswith(_ENDINGS) and not is_noise(name)


def names_of(listing: Listing) -> TiffNames:
    """`group_names` of a listing."""
    return group_names(_last_part(listing.folder), listing.files, listing.folders)


def group_names(folder: str, names: Iterable[str], folders: Sequence[str] = ()) -> TiffNames:
    """Sort the TIFF names of the folder called `folder`, which holds the subfolders `folders`.

    Empty where the folder holds frames of an EDF series: there they are side files of that scan. Flats and darks
    alone, beside a folder of projections, belong to the stack in it, and are left to it.
    """
    listed = list(names)
    tiffs = sorted(name for name in listed if is_tiff_name(name))
    if not tiffs or any(name.endswith(".edf") and is_frame_name(name) for name in listed):
        return TiffNames()
    volumes = sorted(name.removesuffix(_NABU_TEXT) for name in listed if name.endswith(_NABU_TEXT))
    series, lone = _series(tiffs)
    weak = not any(s.meaning in (Meaning.FLATS, Meaning.DARKS) for s in series)
    sliced = {s.prefix for s in series if _is_sliced(folder, s, volumes, weak=weak)}
    slices = tuple(Series(s.prefix, Meaning.SLICES, s.names) for s in series if s.prefix in sliced)
    rest = [s for s in series if s.prefix not in sliced]
    below = not is_inner(folder) and any(is_inner(name) for name in folders)
    stacks, calibrations, singles = _split(rest)
    lone_slices = [name for name in (*lone, *singles) if _is_volume_file(folder, name, volumes, weak=weak)]
    lone = [name for name in (*lone, *singles) if name not in lone_slices]
    if not stacks and calibrations and not slices:
        if below:
            return TiffNames(lone=tuple(lone), lone_slices=tuple(lone_slices), for_inner=calibrations)
        lone += [name for c in calibrations if len(c.names) == 1 for name in c.names.values()]
        stacks, calibrations = _alone(folder, tuple(c for c in calibrations if len(c.names) > 1)), ()
    if stacks or slices:
        lone = []  # side files of what is there
    return TiffNames(stacks, calibrations, slices, tuple(sorted(lone)), tuple(sorted(lone_slices)))


def _alone(folder: str, series: tuple[Series, ...]) -> tuple[Series, ...]:
    """Series that are called flats or darks, with no projections beside them. A single one is a scan of a sample
    that is called so, unless its folder says the same.
    """
    if len(series) != 1 or folder_meaning(folder) in (Meaning.FLATS, Meaning.DARKS):
        return series
    return (Series(series[0].prefix, Meaning.PROJECTIONS, series[0].names),)


def is_inner(folder: str) -> bool:
    """True for the name of a folder whose flats and darks may stand outside of it."""
    return folder.lower() in _INNER_FOLDERS


def folder_meaning(folder: str) -> Meaning | None:
    """What a folder that is called like this holds, where its name says."""
    meaning = meaning_of(folder + "_")
    return None if meaning is Meaning.PROJECTIONS and not is_inner(folder) else meaning


def meaning_of(prefix: str) -> Meaning:
    """What the words of a prefix say: darks, flats, or else projections."""
    words = [word.lower() for word in _WORDS.split(prefix) if word]
    if any(word in _DARK_WORDS for word in words):
        return Meaning.DARKS
    if any(word in _FLAT_WORDS for word in words):
        return Meaning.FLATS
    for word in words:
        if word.endswith(_DARK_ENDS):
            return Meaning.DARKS
        if word.endswith(_FLAT_ENDS):
            return Meaning.FLATS
    return Meaning.PROJECTIONS


def owned_by(prefix: str, series: Iterable[Series], stacks: Iterable[str]) -> list[Series]:
    """The calibrations of the stack `prefix`: those named after it, and those named after no stack at all."""
    others = list(stacks)
    return [s for s in series if _owner(s.prefix, others) in (prefix, None)]


def belongs_to(name: str, prefix: str, stacks: Iterable[str]) -> bool:
    """Whether a side file is one of the stack `prefix`: the longest stem that it begins with decides."""
    return _owner(name, stacks) in (prefix, None)


def stem_of(prefix: str) -> str:
    """A prefix without the separators at its end: `name_0001.tif` belongs to the scan `name`."""
    return prefix.rstrip("_-. ") or prefix


def _owner(name: str, stacks: Iterable[str]) -> str | None:
    found = [stack for stack in stacks if stem_of(stack) and name.startswith(stem_of(stack))]
    return max(found, key=len, default=None)


def _series(tiffs: Sequence[str]) -> tuple[list[Series], list[str]]:
    """Names by prefix and index. Two names of one index (`a1.tif`, `a01.tif`) are told apart by their padding."""
    groups: dict[str, dict[int, str]] = {}
    lone: list[str] = []
    for name in tiffs:
        stem = name[: name.rindex(".")]
        bare = stem.rstrip("0123456789")
        prefix = bare if len(stem) - len(bare) <= _MOST_DIGITS else stem[:-_MOST_DIGITS]
        if prefix == stem:
            lone.append(name)
            continue
        index, group = int(stem[len(prefix) :]), groups.setdefault(prefix, {})
        if index in group:
            lone.append(name)
        else:
            group[index] = name
    return [Series(prefix, meaning_of(prefix), names) for prefix, names in sorted(groups.items())], lone


def _split(series: Sequence[Series]) -> tuple[tuple[Series, ...], tuple[Series, ...], list[str]]:
    """Stacks of two and more, calibrations of any length, and single files."""
    stacks = tuple(s for s in series if s.meaning is Meaning.PROJECTIONS and len(s.names) > 1)
    calibrations = tuple(s for s in series if s.meaning in (Meaning.FLATS, Meaning.DARKS))
    kept = {s.prefix for s in (*stacks, *calibrations)}
    return stacks, calibrations, [name for s in series if s.prefix not in kept for name in s.names.values()]


def _is_sliced(folder: str, series: Series, volumes: Sequence[str], *, weak: bool) -> bool:
    if series.meaning is not Meaning.PROJECTIONS:
        return False
    return _says_slices(series.prefix, weak=weak) or _is_volume_name(folder, series.prefix, volumes, weak=weak)


def _is_volume_file(folder: str, name: str, volumes: Sequence[str], *, weak: bool) -> bool:
    return _is_volume_name(folder, name, volumes, weak=weak) or _says_slices(_TIFF.sub("_", name), weak=weak)


def _is_volume_name(folder: str, name: str, volumes: Sequence[str], *, weak: bool) -> bool:
    return any(name.startswith(volume) for volume in volumes) or _says_slices(folder + "_", weak=weak)


def _says_slices(text: str, *, weak: bool) -> bool:
    words = {word.lower() for word in _WORDS.split(text) if word}
    return bool(words & _SLICE_WORDS) or (weak and bool(words & _WEAK_WORDS))


def _last_part(folder: str) -> str:
    return folder.rstrip("/").rpartition("/")[2]
