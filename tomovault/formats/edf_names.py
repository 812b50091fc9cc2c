"""What the names in an EDF scan's folder mean. Names only: nothing is opened here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

_NUMBERED = re.compile(r"^(?P<prefix>.*?)(?P<digits>\d{4,})\.edf$", re.DOTALL)
_REF_PAIR = re.compile(r"^ref(?P<first>\d+)_(?P<second>\d{1,7})\.edf$")
_REF_OLD = re.compile(r"^ref(?P<first>\d)(?P<second>\d{4,7})\.edf$")
_REF_HST = re.compile(r"^refHST(?P<index>\d{1,7})\.edf$")
_DARK = re.compile(r"^dark(?P<form>end|HST)?(?P<index>\d*)\.edf$")
_VOLUME = re.compile(r"(\.(vol|raw|rec)(\.info|\.xml)?|\.h5\.info)$")
_NOISE = re.compile(r"^\.|~$|\.(swp|swo|tmp|temp|part|partial|lock|filepart)$|^(Thumbs\.db|desktop\.ini|core)$|^#.*#$")
#: Made and removed again by the reduction of flats in the raw folder.
_REDUCTION = frozenset({"ref.par", "ref_median.edf", "ref.vol", "ref.vol.info", "ref.vol.xml"})

_METADATA = (".info", ".xml", ".abo")


@dataclass(frozen=True)
class FlatName:
    """A single flat: two numbers whose order (frame, angle) depends on the writer."""

    name: str
    first: int
    second: int
    old: bool = False


@dataclass(frozen=True)
class SeriesNames:
    """The files of one prefix by what their names say. Indices map to names."""

    projections: Mapping[int, str] = field(default_factory=dict)
    flats: Sequence[FlatName] = ()
    reduced_flats: Mapping[int, str] = field(default_factory=dict)
    dark_sums: Sequence[str] = ()
    dark_frames: Mapping[int, str] = field(default_factory=dict)
    reduced_darks: Sequence[str] = ()
    info: str | None = None
    xml: str | None = None
    abort: str | None = None
    side: Sequence[str] = ()

    @property
    def darks(self) -> tuple[str, ...]:
        """Every dark's name."""
        return (*self.dark_sums, *self.dark_frames.values(), *self.reduced_darks)


def is_noise(name: str) -> bool:
    """True for hidden files, editors' and file managers' files, temporaries and what tomovault itself leaves."""
    return bool(_NOISE.search(name)) or name.startswith("TOMOVAULT-")


def is_frame_name(name: str) -> bool:
    """True for an `.edf` that may be a projection: numbered, and neither a flat, a dark nor a slice."""
    return _NUMBERED.match(name) is not None and not _is_calibration(name) and not _is_slice(name)


def _is_calibration(name: str) -> bool:
    return any(pattern.match(name) for pattern in (_REF_PAIR, _REF_OLD, _REF_HST, _DARK))


def _is_slice(name: str) -> bool:
    return name.endswith(".edf") and "slice_" in name


def prefixes(folder_name: str, names: Iterable[str]) -> tuple[str, ...]:
    """The scan prefixes that a folder's names speak of, sorted; () where it holds no such scan."""
    listed = [n for n in names if not is_noise(n)]
    frames = [n for n in listed if is_frame_name(n)]
    known = {p for p in (_stem(n, frames) for n in listed) if p is not None}
    known |= {folder_name} if f"{folder_name}.xml" in listed else set()
    short = {m["prefix"] for n in frames if (m := _NUMBERED.match(n)) and len(m["digits"]) == 4}
    known |= {p for p in (*short, folder_name) if any(_index(n, p) is not None for n in frames)}
    for name in frames:
        if not any(_index(name, prefix) is not None for prefix in known):
            match = _NUMBERED.match(name)
            if match:
                known.add(match["prefix"] + match["digits"][:-4])
    return tuple(sorted(known))


def _stem(name: str, frames: Sequence[str]) -> str | None:
    """The prefix that a `.info` or `.abo` file belongs to (a PCO writes `prefix0000.info`)."""
    if not name.endswith((".info", ".abo")) or _VOLUME.search(name):
        return None
    stem = name.rpartition(".")[0]
    if stem.endswith("0000") and not any(_index(f, stem) is not None for f in frames):
        stem = stem[:-4]
    return stem or None


def _index(name: str, prefix: str) -> int | None:
    """The index of a projection of `prefix`, None if the name is not one: 4 digits, or more without a zero first."""
    if not name.startswith(prefix) or not name.endswith(".edf"):
        return None
    digits = name[len(prefix) : -4]
    if not (digits.isascii() and digits.isdigit()) or not 4 <= len(digits) <= 7:
        return None
    if len(digits) > 4 and digits[0] == "0":
        return None
    return int(digits)


def sort_names(prefix: str, names: Iterable[str], others: Iterable[str] = ()) -> SeriesNames:
    """Sort a folder's names for the scan `prefix`; `others` are the other prefixes in the same folder."""
    rivals = [other for other in others if other != prefix]
    projections: dict[int, str] = {}
    rest: list[str] = []
    for name in sorted(names):
        if is_noise(name) or name in _REDUCTION or _is_slice(name) or _VOLUME.search(name):
            continue
        index = None if _is_calibration(name) else _index(name, prefix)
        if index is None:
            rest.append(name)
        elif _owner(name, index, rivals):
            projections[index] = name
    metadata = {end: _metadata_name(prefix, end, rest) for end in _METADATA}
    taken = {name for name in metadata.values() if name}
    side = [
        name
        for name in rest
        if name not in taken and not _is_calibration(name) and not _belongs_to_rival(name, prefix, rivals)
    ]
    return SeriesNames(
        projections=projections,
        flats=_single_flats(rest),
        reduced_flats={int(m["index"]): n for n in rest if (m := _REF_HST.match(n))},
        dark_sums=[n for n in rest if (m := _DARK.match(n)) and m["form"] == "end"],
        dark_frames={int(m["index"]): n for n in rest if (m := _DARK.match(n)) and not m["form"] and m["index"]},
        reduced_darks=[n for n in rest if (m := _DARK.match(n)) and (m["form"] == "HST" or n == "dark.edf")],
        info=metadata[".info"],
        xml=metadata[".xml"],
        abort=metadata[".abo"],
        side=side,
    )


def _owner(name: str, index: int, rivals: Sequence[str]) -> bool:
    """False where another prefix explains the name with exactly four digits (`a_1` + 0000 against `a_` + 10000)."""
    return index < 10000 or not any(
        len(name) - len(rival) == len("0000.edf") and _index(name, rival) is not None for rival in rivals
    )


def _metadata_name(prefix: str, ending: str, names: Sequence[str]) -> str | None:
    for candidate in (f"{prefix}{ending}", f"{prefix}0000{ending}"):
        if candidate in names:
            return candidate
    return None


def _belongs_to_rival(name: str, prefix: str, rivals: Sequence[str]) -> bool:
    """True for a side file that a longer match gives to another scan of the folder."""
    return max((p for p in (prefix, *rivals) if p and name.startswith(p)), key=len, default=prefix) != prefix


def _single_flats(names: Iterable[str]) -> tuple[FlatName, ...]:
    found = []
    for name in names:
        match = _REF_PAIR.match(name) or _REF_OLD.match(name)
        if match:
            old = match.re is _REF_OLD
            found.append(FlatName(name, int(match["first"]), int(match["second"]), old))
    return tuple(found)
