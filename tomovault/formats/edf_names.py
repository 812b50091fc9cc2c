"""What the names in an EDF scan's folder mean. Names only: nothing is opened here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
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

#: Indices are read up to ten million.
_MOST_DIGITS = 7

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
    if not name.startswith(("ref", "dark")):
        return False
    return any(pattern.match(name) for pattern in (_REF_PAIR, _REF_OLD, _REF_HST, _DARK))


def _is_slice(name: str) -> bool:
    return name.endswith(".edf") and "slice_" in name


def prefixes(folder_name: str, names: Iterable[str]) -> tuple[str, ...]:
    """The scan prefixes that a folder's names speak of, sorted; () where it holds no such scan.

    Prefixes that metadata or the folder's name confirm come first; the others are what stands before four digits.
    """
    listed = {n for n in names if not is_noise(n)}
    splits = {n: list(_splits(n)) for n in listed if is_frame_name(n)}
    widths: dict[str, int] = {}
    for found in splits.values():
        for prefix, digits in found:
            widths[prefix] = min(widths.get(prefix, len(digits)), len(digits))
    known = {p for p in (_stem(n, widths) for n in listed) if p is not None}
    known |= {folder_name} if f"{folder_name}.xml" in listed or folder_name in widths else set()
    padded = {p for p in known if widths.get(p, 4) > 4}
    for found in splits.values():
        prefix, digits = found[0]
        if len(digits) == 4 and not any(_zeros_of(prefix, p) for p in padded):
            known.add(prefix)
    for found in splits.values():
        if not any(p in known and _read_index(digits, widths[p]) is not None for p, digits in found):
            prefix, digits = found[0]
            known.add(prefix if digits.startswith("0") else prefix + digits[:-4])
    return tuple(sorted(known))


def _splits(name: str) -> Iterator[tuple[str, str]]:
    """Every way to read a frame's name as prefix and at least four digits, the shortest prefix first."""
    match = _NUMBERED.match(name)
    if match is not None:
        digits = match["digits"]
        for at in range(max(0, len(digits) - _MOST_DIGITS), len(digits) - 3):
            yield match["prefix"] + digits[:at], digits[at:]


def _stem(name: str, widths: Mapping[str, int]) -> str | None:
    """The prefix that a `.info` or `.abo` file belongs to (a PCO writes `prefix0000.info`)."""
    if not name.endswith((".info", ".abo")) or _VOLUME.search(name):
        return None
    stem = name.rpartition(".")[0]
    if stem.endswith("0000") and stem not in widths:
        stem = stem[:-4]
    return stem or None


def _zeros_of(longer: str, prefix: str) -> bool:
    """True where a prefix is another one and the zeros that pad its indices."""
    return longer.startswith(prefix) and longer != prefix and not longer[len(prefix) :].strip("0")


def _width(prefix: str, frames: Iterable[str]) -> int:
    """The number of digits that a prefix's indices are padded to: 4, or more where no index has fewer."""
    lengths = {
        len(n) - len(prefix) - 4
        for n in frames
        if n.startswith(prefix) and n[len(prefix) : -4].isascii() and n[len(prefix) : -4].isdigit()
    }
    fitting = [width for width in lengths if width >= 4]
    return min(fitting, default=4)


def _index(name: str, prefix: str, width: int = 4) -> int | None:
    """The index of a projection of `prefix`, None if the name is not one."""
    if not name.startswith(prefix) or not name.endswith(".edf"):
        return None
    return _read_index(name[len(prefix) : -4], width)


def _read_index(digits: str, width: int) -> int | None:
    """`width` digits, or more without a zero first."""
    if not (digits.isascii() and digits.isdigit()) or not width <= len(digits) <= _MOST_DIGITS:
        return None
    return None if len(digits) > width and digits[0] == "0" else int(digits)


def sort_names(prefix: str, names: Iterable[str], others: Iterable[str] = ()) -> SeriesNames:
    """Sort a folder's names for the scan `prefix`; `others` are the other prefixes in the same folder."""
    rivals = [other for other in others if other != prefix]
    listed = sorted(names)
    width = _width(prefix, [n for n in listed if is_frame_name(n)])
    projections: dict[int, str] = {}
    rest: list[str] = []
    for name in listed:
        if is_noise(name) or name in _REDUCTION or _is_slice(name) or _VOLUME.search(name):
            continue
        index = None if _is_calibration(name) else _index(name, prefix, width)
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
