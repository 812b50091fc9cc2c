"""Formats whose scan is one HDF5 file: what their plug-ins share as long as no file is opened."""

from __future__ import annotations

import importlib
import re
from collections.abc import Sequence
from typing import ClassVar

from tomovault.core.layout import Layout
from tomovault.core.ports import Listing
from tomovault.core.scan import Candidate, ScanReport
from tomovault.formats.edf_names import is_noise

ENDINGS = (".h5", ".hdf5", ".hdf", ".nx", ".nxs")

#: Loaded only where files are opened: a watcher that asks for names needs no HDF5 library.
_INSPECTION = "tomovault.formats.hdf5_inspect"
#: Files that a Lima camera writes for a BLISS master; there may be one a frame, and none is a scan.
_CAMERA_FOLDER = re.compile(r"(^|/)scan\d{4,}/?$")
_CAMERA_FILE = re.compile(r"_\d{4,}\.h5$")


class OneFileFormat:
    """A candidate a file, whose key is the file's name. The content is read by `read` of the module `reader`."""

    name: ClassVar[str]
    reader: ClassVar[str]
    endings: ClassVar[tuple[str, ...]] = ENDINGS

    def recognise(self, listing: Listing) -> Sequence[Candidate]:
        """Every file with one of the endings that is neither a link nor a camera's file; its content decides later."""
        of_camera = _CAMERA_FOLDER.search(listing.folder) is not None
        return [
            Candidate(self.name, listing.folder, name)
            for name, state in sorted(listing.files.items())
            if name.lower().endswith(self.endings)
            and state.link_target is None
            and not is_noise(name)
            and not (of_camera and _CAMERA_FILE.search(name))
        ]

    def members(self, candidate: Candidate, listing: Listing) -> tuple[Sequence[str], Sequence[str]]:
        """The file alone; what it links to is looked at when it is inspected."""
        return [name for name in (candidate.key,) if name in listing.files], ()

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
