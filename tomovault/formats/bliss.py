"""BLISS datasets: an HDF5 master, and camera files in `scanNNNN` folders that it points to."""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from typing import ClassVar

from tomovault.core.layout import Layout
from tomovault.core.ports import Format, Listing
from tomovault.core.scan import Candidate, ScanReport
from tomovault.formats.bliss_names import FORMAT, scan_folders, stem_of
from tomovault.formats.endings import files_ending

#: Loaded only where files are opened: a watcher that asks for names needs no HDF5 library.
_READER = "tomovault.formats.bliss_inspect"


class BlissDataset:
    """The `bliss` format; a candidate's key is the master's file name."""

    name: ClassVar[str] = FORMAT

    def recognise(self, listing: Listing) -> Sequence[Candidate]:
        """Every `.h5` beside `scanNNNN` folders or named like its folder; its content decides later."""
        folder_name = os.path.basename(listing.folder.rstrip("/"))
        beside = bool(scan_folders(listing.folders))
        return [
            Candidate(FORMAT, listing.folder, name)
            for name in files_ending(listing, (".h5",))
            if name.endswith(".h5") and (beside or stem_of(name) == folder_name)
        ]

    def members(self, candidate: Candidate, listing: Listing) -> tuple[Sequence[str], Sequence[str]]:
        """The master, and the folders that cameras write into."""
        return [name for name in (candidate.key,) if name in listing.files], scan_folders(listing.folders)

    def inspect(self, candidate: Candidate, *, settled: bool) -> Sequence[ScanReport]:
        """Every scan of the master; none where it is no BLISS master."""
        reports: list[ScanReport] = importlib.import_module(_READER).inspect_master(candidate, settled=settled)
        return reports

    def layout(self, report: ScanReport) -> Layout:
        """The frames in uncompressed camera files, in acquisition order."""
        layout: Layout = importlib.import_module(_READER).lay_out(report)
        return layout


PLUGIN: type[Format] = BlissDataset
