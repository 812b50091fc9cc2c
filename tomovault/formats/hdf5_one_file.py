"""Formats whose scan is one HDF5 file: what their plug-ins share as long as no file is opened."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable, Sequence
from typing import ClassVar

from tomovault.core.layout import Layout
from tomovault.core.ports import Listing
from tomovault.core.scan import Candidate, ScanReport
from tomovault.formats.edf_names import is_noise
from tomovault.formats.endings import files_ending

ENDINGS = (".h5", ".hdf5", ".hdf", ".nx", ".nxs")

#: Loaded only where files are opened: a watcher that asks for names needs no HDF5 library.
_INSPECTION = "tomovault.formats.hdf5_inspect"
#: Files that a Lima camera writes for a BLISS master; there may be one a frame, and none is a scan.
_CAMERA_FOLDER = re.compile(r"(^|/)scan\d{4,}/?$")
_SEPARATOR = re.compile(r"[^0-9A-Za-z]")
_NUMBER = re.compile(r"(?<!\d)\d{4,}(?!\d)")
_CAMERA_FILE = re.compile(r"_\d{4,}\.h5$")
#: The number of a scan at Diamond, which its camera's files carry too.
_RUN = re.compile(r"^(?:[a-z]\d\d-)?(\d{4,})$")


def stem_of(name: str) -> str:
    """A file's name without its ending."""
    return next((name[: -len(end)] for end in ENDINGS if name.lower().endswith(end)), name)


def _by_word(names: Iterable[str]) -> dict[str, list[str]]:
    """Names by each beginning of theirs that ends before a separator, and by each number of four digits or more."""
    found: dict[str, list[str]] = {}
    for name in names:
        stem = stem_of(name)
        words = {stem[: at.start()] for at in _SEPARATOR.finditer(stem)} | set(_NUMBER.findall(stem))
        for word in words - {""}:
            found.setdefault(word, []).append(name)
    return found


def look_inside(candidate: Candidate) -> None:
    """What each of these formats has to do first, alone: the file is opened and what it is is decided. Nothing is told
    of what is wrong with it, which the format meets again and has the words for.
    """
    importlib.import_module(_INSPECTION).look_inside(candidate)


class OneFileFormat:
    """A candidate a file, whose key is the file's name. The content is read by `read` of the module `reader`."""

    name: ClassVar[str]
    reader: ClassVar[str]
    endings: ClassVar[tuple[str, ...]] = ENDINGS
    #: Whether files of this format link to others, whose names are like their own.
    linked: ClassVar[bool] = False

    def __init__(self) -> None:
        self._relatives: tuple[Listing, dict[str, list[str]], dict[str, list[str]]] | None = None

    def recognise(self, listing: Listing) -> Sequence[Candidate]:
        """Every file with one of the endings that is neither a link nor a camera's file; its content decides later."""
        of_camera = _CAMERA_FOLDER.search(listing.folder) is not None
        return [
            Candidate(self.name, listing.folder, name)
            for name in files_ending(listing, self.endings)
            if not (of_camera and _CAMERA_FILE.search(name))
        ]

    def members(self, candidate: Candidate, listing: Listing) -> tuple[Sequence[str], Sequence[str]]:
        """The file; and for a format that links to others, what is named after it: `<stem>-pco.h5`, `<stem>_images/`,
        or `pco1-24888.hdf` beside `24888.nxs`. Which of them it needs is seen when it is inspected.
        """
        if candidate.key not in listing.files:
            return [], ()
        if not self.linked:
            return [candidate.key], ()
        files, folders = self._related(listing)
        stem = stem_of(candidate.key)
        words = [stem, *_RUN.findall(stem)]
        named = {name for word in words for name in files.get(word, ())} | {candidate.key}
        return sorted(named), sorted({name for word in words for name in folders.get(word, ())})

    def _related(self, listing: Listing) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
        """Files and subfolders by the words that a file of this format may be named; made once a listing."""
        kept = self._relatives
        if kept is None or kept[0] is not listing:
            names = [name for name in listing.files if name.lower().endswith(ENDINGS) and not is_noise(name)]
            kept = (listing, _by_word(names), _by_word(listing.folders))
            self._relatives = kept
        return kept[1], kept[2]

    def inspect(self, candidate: Candidate, *, settled: bool) -> Sequence[ScanReport]:
        """Every scan of the file. Raises NoScan where it is of another kind."""
        inspection, reader = importlib.import_module(_INSPECTION), importlib.import_module(self.reader)
        reports: list[ScanReport] = inspection.inspect_file(candidate, self.name, reader.read, settled=settled)
        return reports

    def layout(self, report: ScanReport) -> Layout:
        """The frames that are plain runs of bytes in the file, and in the files that it links to."""
        inspection, reader = importlib.import_module(_INSPECTION), importlib.import_module(self.reader)
        layout: Layout = inspection.lay_out_file(report, self.name, reader.read)
        return layout
