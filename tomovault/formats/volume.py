"""Volumes that others reconstructed: PyHST's `.vol`, slices in TIFF or EDF, Zeiss `.txm`.

A volume is a scan of its own, so that it is packed, archived and protected as an original; it says which scan it was
made from where that is known.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar

from tomovault.core.errors import NoScan
from tomovault.core.layout import FileLayout, Layout
from tomovault.core.ports import Format, Listing
from tomovault.core.scan import (
    CONDITION_UNITS,
    Candidate,
    Certificate,
    Condition,
    FileRole,
    FileState,
    FrameCounts,
    ScanFile,
    ScanReport,
    Verdict,
)
from tomovault.formats.origin import clean, nx_facts, origin_of
from tomovault.formats.quantities import is_known
from tomovault.formats.scan_folder import ScanFolder
from tomovault.formats.volume_data import Volume, read_volume
from tomovault.formats.volume_facts import facts_of_slices
from tomovault.formats.volume_names import VolumeNames, find_volumes, stem_of_volume

_TEXTS = (".info", ".xml", ".par", ".txt", ".log")


class ForeignVolume:
    """The `volume` format; a candidate's key is the file's name, or the slices' prefix with a star."""

    name: ClassVar[str] = "volume"

    def recognise(self, listing: Listing) -> Sequence[Candidate]:
        """One candidate a volume, by names only."""
        found = find_volumes(_last_part(listing.folder), listing.files, listing.folders)
        return [Candidate(self.name, listing.folder, volume.key) for volume in found]

    def members(self, candidate: Candidate, listing: Listing) -> tuple[Sequence[str], Sequence[str]]:
        """Its data files, and the texts of the folder."""
        found = find_volumes(_last_part(listing.folder), listing.files, listing.folders)
        names = next((v.names for v in found if v.key == candidate.key), ())
        texts = [n for n in listing.files if n.lower().endswith(_TEXTS)]
        return sorted({n for n in (*names, *texts) if n in listing.files}), ()

    def inspect(self, candidate: Candidate, *, settled: bool) -> Sequence[ScanReport]:
        """The volume, with its size against what is announced."""
        with ScanFolder(os.path.normpath(candidate.folder)) as folder:
            volume = _read(folder, candidate.key)
        return [_report(folder.path, volume, settled=settled)]

    def layout(self, report: ScanReport) -> Layout:
        """A frame a slice, where slices are plain arrays."""
        with ScanFolder(report.root) as folder:
            volume = _read(folder, report.entry)
        sizes = {state.path: state.size for state in volume.data}
        wanted = {file.state.path for file in report.files}
        files = [
            FileLayout(name, sizes[name], segments)
            for name, segments in sorted(volume.slices.segments.items())
            if name in sizes and name in wanted
        ]
        return Layout(tuple(files), nx_facts(report))


def _read(folder: ScanFolder, key: str) -> Volume:
    found = find_volumes(_last_part(folder.path), folder.states, folder.folders)
    names = next((volume for volume in found if volume.key == key), None)
    if names is None:
        raise NoScan(f"{key} is not there any more")
    return read_volume(folder, names, found)


def _report(root: str, volume: Volume, *, settled: bool) -> ScanReport:
    origin = origin_of(root + "/")
    files = [ScanFile(state, FileRole.PROJECTION) for state in volume.data]
    files += [ScanFile(state, FileRole.METADATA) for state in volume.texts]
    return ScanReport(
        format=ForeignVolume.name,
        name=_name(root, volume.names),
        root=root,
        entry=volume.names.key,
        identity=_identity(volume),
        certificate=_certify(volume, settled=settled),
        files=tuple(sorted(files, key=lambda f: f.state.path)),
        conditions=_conditions(volume),
        acquired_at=_newest(volume.data),
        beamline=origin.beamline,
        proposal=origin.proposal,
        metadata=_metadata(volume),
    )


def _name(root: str, names: VolumeNames) -> str:
    """A name that no scan beside it has."""
    if not names.prefix:
        return f"{stem_of_volume(names.key)}_volume"
    stem = names.prefix.rstrip("_-. ")
    common = stem.lower() in ("", "slice", "slices", "recon", "rec", "reco", "reconstruction")
    return f"{_last_part(root)}_volume" if common else f"{stem}_volume"


def _certify(volume: Volume, *, settled: bool) -> Certificate:
    slices = volume.slices
    verdict = Verdict.COMPLETE
    if slices.doubts:
        verdict = Verdict.UNDECIDED
    if slices.missing:
        verdict = Verdict.INCOMPLETE
    if not settled:
        verdict = Verdict.ACQUIRING
    if slices.there is None:
        evidence = ["how many slices there are is not known"]
    else:
        evidence = [f"{slices.there} slices of {slices.rows} x {slices.columns} {slices.dtype or 'voxels'}"]
    if slices.expected is not None:
        evidence.append(f"announced: {slices.expected} slices in {slices.source}")
    if volume.of:
        evidence.append(f"made from {volume.of}, by {volume.of_source}")
    evidence.append("no change seen for the quiet time" if settled else "still changing")
    problems = (*slices.missing, *slices.doubts, *slices.warnings)
    return Certificate(verdict, FrameCounts(), FrameCounts(projections=0), problems, tuple(evidence))


def _conditions(volume: Volume) -> dict[str, Condition]:
    slices, key = volume.slices, volume.names.key
    found: dict[str, Condition] = {}
    if count := slices.expected or slices.there:
        found["n_slices"] = Condition(count, None, slices.source if slices.expected else key)
    if slices.columns:
        found["frame_width"] = Condition(slices.columns, CONDITION_UNITS["frame_width"], key)
        found["frame_height"] = Condition(slices.rows, CONDITION_UNITS["frame_height"], key)
    if slices.voxel_um is not None and is_known("pixel_size", slices.voxel_um):
        found["pixel_size"] = Condition(slices.voxel_um, CONDITION_UNITS["pixel_size"], slices.voxel_source)
    return found


def _metadata(volume: Volume) -> dict[str, Any]:
    plain: dict[str, Any] = clean(
        {
            "shape": volume.names.shape.value,
            "of": volume.of,
            "of_source": volume.of_source,
            "parameters": dict(list(volume.said.items())[:500]),
            **facts_of_slices(readable=bool(volume.slices.segments)),
            "acquired_at_source": "mtime of the newest file",
        }
    )
    return {key: value for key, value in plain.items() if value}


def _identity(volume: Volume) -> str:
    digest = hashlib.sha256(b"volume\0" + volume.names.key.encode("utf-8", "surrogateescape"))
    for state in volume.data:
        digest.update(b"\0" + state.path.encode("utf-8", "surrogateescape"))
        digest.update(f" {state.size} {state.mtime_ns}".encode("ascii"))
    return digest.hexdigest()


def _newest(data: Sequence[FileState]) -> datetime | None:
    try:
        return datetime.fromtimestamp(max(state.mtime_ns for state in data) / 1e9, UTC)
    except (OverflowError, ValueError, OSError):
        return None


def _last_part(folder: str) -> str:
    return folder.rstrip("/").rpartition("/")[2]


PLUGIN: type[Format] = ForeignVolume
