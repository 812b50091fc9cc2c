"""The entries of a BLISS master, one by one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import h5py

from tomovault.formats.hdf5_stacks import ImageStack, stack_of
from tomovault.formats.hdf5_values import count_of, item_of, plain, text_of, value_of

#: Entries `N.1`; `N.2` and on hold the slower counters of the same scan, never images.
_ENTRY = re.compile(r"^(?P<number>\d{1,6})\.1$")
#: Titles of tomography sequences.
_SEQUENCE_TITLE = re.compile(r"^(tomo:(?!dark|flat|step|return)\w+|holotomo|multitomo|pcotomo|back_and_forth)", re.I)


@dataclass(frozen=True)
class Entry:
    """One entry `N.1` as far as a certificate needs it."""

    name: str
    number: int
    title: str
    start_time: str | None = None
    end_time: str | None = None
    end_reason: str | None = None
    writer_status: str | None = None
    image_key: int | None = None
    sequence: bool = False
    subscans: tuple[str, ...] = ()
    announced: Mapping[str, int] = field(default_factory=dict)
    stacks: tuple[ImageStack, ...] = ()

    @property
    def ended(self) -> bool:
        """The writer has closed it."""
        return self.end_time is not None


def read_entries(master: h5py.File) -> list[Entry]:
    """Every entry `N.1` of the master itself, by number; entries of linked masters are not its own."""
    found = []
    for name in master:
        match = _ENTRY.match(name)
        if match and isinstance(master.get(name, getlink=True), h5py.HardLink):
            group = item_of(master, name)
            if isinstance(group, h5py.Group):
                found.append(_read_entry(group, name, int(match["number"])))
    return sorted(found, key=lambda entry: entry.number)


def is_bliss(master: h5py.File, entries: Sequence[Entry]) -> bool:
    """Whether the content is what a BLISS writer leaves, or at least has its shape."""
    writers = " ".join(str(plain(master.attrs.get(key, "")) or "") for key in ("creator", "publisher")).lower()
    if "bliss" in writers:
        return True
    return any((e.start_time and e.title) or e.sequence or e.image_key is not None or e.stacks for e in entries)


def _read_entry(group: h5py.Group, name: str, number: int) -> Entry:
    title = text_of(group, "title") or ""
    key = value_of(group, "technique/image_key")
    image_key = key if isinstance(key, int) and not isinstance(key, bool) else None
    planned = item_of(group, "technique/scan") is not None or item_of(group, "technique/subscans") is not None
    return Entry(
        name=name,
        number=number,
        title=title,
        start_time=text_of(group, "start_time"),
        end_time=text_of(group, "end_time"),
        end_reason=text_of(group, "end_reason"),
        writer_status=text_of(group, "writer/status"),
        image_key=image_key,
        sequence=image_key is None and (planned or _SEQUENCE_TITLE.match(title) is not None),
        subscans=_subscan_types(group),
        announced=_announced(group),
        stacks=tuple(_stacks(group)),
    )


def _subscan_types(group: h5py.Group) -> tuple[str, ...]:
    subscans = item_of(group, "technique/subscans")
    if not isinstance(subscans, h5py.Group):
        return ()
    numbered = [(int(m.group(1)), n) for n in subscans if (m := re.match(r"^scan(\d{1,6})$", n))]
    return tuple(text_of(subscans, f"{name}/type") or "" for _, name in sorted(numbered))


def _announced(group: h5py.Group) -> dict[str, int]:
    """Announced numbers of frames: of the sequence (tomo_n, dark_n, flat_n) or of a subscan."""
    places = {
        "tomo_n": ("technique/scan/tomo_n",),
        "dark_n": ("technique/dark/dark_n", "technique/scan/dark_n"),
        "flat_n": ("technique/flat/flat_n", "technique/scan/flat_n"),
        "proj_n": ("technique/proj/proj_n", "technique/scan/proj_n"),
    }
    found = {key: [count_of(group, path) for path in paths] for key, paths in places.items()}
    return {key: known[0] for key, counts in found.items() if (known := [c for c in counts if c is not None])}


def _stacks(group: h5py.Group) -> Iterator[ImageStack]:
    instrument = item_of(group, "instrument")
    if not isinstance(instrument, h5py.Group):
        return
    for camera in instrument:
        detector = item_of(instrument, camera)
        if not isinstance(detector, h5py.Group):
            continue
        for key in ("image", "data"):
            stack = stack_of(detector, camera, key)
            if stack is not None:
                yield stack
                break
