"""Tomographies of Zeiss X-ray microscopes: one `.txrm` file a scan."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar

from tomovault.core.errors import NoScan, UserError
from tomovault.core.layout import FileLayout, FrameKind, FrameSegment, Layout
from tomovault.core.ports import Format, Listing
from tomovault.core.scan import (
    CONDITION_UNITS,
    Candidate,
    Certificate,
    Condition,
    FileRole,
    FrameCounts,
    ScanFile,
    ScanReport,
    Verdict,
)
from tomovault.formats.edf_names import is_noise
from tomovault.formats.endings import files_ending
from tomovault.formats.index_ranges import in_words, missing_ranges
from tomovault.formats.origin import clean, nx_facts, origin_of
from tomovault.formats.scan_folder import ScanFolder
from tomovault.formats.zeiss_file import ZeissFile, read_zeiss

_ENDINGS = (".txrm", ".xrm")
#: Endings of the microscope's own files, which are never side files of another.
_OWN = (*_ENDINGS, ".txm")
_LARGEST_SIDE_FILE = 256 * 1024 * 1024
#: The Energy stream is in eV at synchrotrons; a laboratory source has small numbers there, or none.
_LEAST_EV = 1000.0


class ZeissScan:
    """The `txrm` format; a candidate's key is the file name."""

    name: ClassVar[str] = "txrm"

    def recognise(self, listing: Listing) -> Sequence[Candidate]:
        """Every `.txrm` and `.xrm` file."""
        return [Candidate(self.name, listing.folder, name) for name in files_ending(listing, _ENDINGS)]

    def members(self, candidate: Candidate, listing: Listing) -> tuple[Sequence[str], Sequence[str]]:
        """The file."""
        return [name for name in (candidate.key,) if name in listing.files], ()

    def inspect(self, candidate: Candidate, *, settled: bool) -> Sequence[ScanReport]:
        """The scan in the file; a single image is none."""
        name = candidate.key
        with ScanFolder(os.path.normpath(candidate.folder)) as folder:
            if name not in folder.states:
                raise NoScan(f"{name} is not there any more")
            found = _read(folder, name)
            if (found.expected or 0) <= 1 and len(found.images) <= 1:
                raise NoScan(f"{name} holds one image of {found.height} x {found.width}, no tomography")
            return [_report(folder, name, found, settled=settled)]

    def layout(self, report: ScanReport) -> Layout:
        """The images whose streams lie in one piece; the others stay in the file as it is."""
        masters = [f.state.path for f in report.files if f.role is FileRole.MASTER]
        with ScanFolder(report.root) as folder:
            if len(masters) != 1 or masters[0] not in folder.states:
                raise UserError(f"{report.root}: the report is not one of a Zeiss file")
            found = _read(folder, masters[0])
        segments = tuple(_segments(found))
        files = (FileLayout(masters[0], found.size, segments),) if segments else ()
        return Layout(files, nx_facts(report))


def _read(folder: ScanFolder, name: str) -> ZeissFile:
    try:
        with folder.open_file(name) as descriptor:
            return read_zeiss(descriptor, name)
    except OSError as problem:
        raise UserError(f"{name} cannot be read: {problem.strerror or problem}") from problem


def _segments(found: ZeissFile) -> Iterator[FrameSegment]:
    images = [(i, FrameKind.PROJECTION) for i in found.images]
    if found.reference is not None:
        images.insert(0, (found.reference, FrameKind.FLAT))
    rows = [(image, kind, order) for order, (image, kind) in enumerate(images)]
    end = 0
    for image, kind, order in sorted(rows, key=lambda row: row[0].offset or 0):
        if image.offset is None or found.dtype is None or image.offset < end or image.length != found.frame_bytes:
            continue
        place = image.number - 1
        angle = found.angles_deg[place] if kind is FrameKind.PROJECTION and place < len(found.angles_deg) else None
        shape = (found.height, found.width)
        yield FrameSegment(image.offset, image.length, found.dtype, shape, kind, order, angle)
        end = image.offset + image.length


def _report(folder: ScanFolder, name: str, found: ZeissFile, *, settled: bool) -> ScanReport:
    state = folder.states[name]
    files = [ScanFile(state, FileRole.MASTER), *_beside(folder, name, found)]
    digest = hashlib.sha256(f"txrm\0{name}\0{state.size} {state.mtime_ns}".encode("utf-8", "surrogateescape"))
    origin = origin_of(folder.path + "/")
    return ScanReport(
        format=ZeissScan.name,
        name=name.rpartition(".")[0],
        root=folder.path,
        entry=name,
        identity=digest.hexdigest(),
        certificate=_certify(found, settled=settled),
        files=tuple(sorted(files, key=lambda f: f.state.path)),
        conditions=_conditions(name, found),
        acquired_at=_when(state.mtime_ns),
        beamline=origin.beamline,
        proposal=origin.proposal,
        metadata=_metadata(found),
    )


def _beside(folder: ScanFolder, name: str, found: ZeissFile) -> Iterator[ScanFile]:
    """Files with the same stem, and the reference that the file names."""
    stem = name.rpartition(".")[0] + "."
    reference = found.texts.get("ReferenceFile", "").replace("\\", "/").rpartition("/")[2]
    for other, state in folder.states.items():
        if other == name or state.link_target is not None or is_noise(other) or state.size > _LARGEST_SIDE_FILE:
            continue
        if other == reference:
            yield ScanFile(state, FileRole.FLAT)
        elif other.startswith(stem) and not other.lower().endswith(_OWN):
            yield ScanFile(state, FileRole.SIDE)


def _certify(found: ZeissFile, *, settled: bool) -> Certificate:
    whole = [i.number for i in found.images if i.whole]
    flats = None if found.reference is None else int(found.reference.whole)
    problems: list[str] = []
    evidence: list[str] = []
    expected = found.expected
    if expected is not None:
        evidence.append(f"NoOfImages {expected}, ImagesTaken {found.taken}")
        gaps = [(a + 1, b + 1) for a, b in missing_ranges((n - 1 for n in whole), expected)]
        if gaps:
            count = sum(last - first + 1 for first, last in gaps)
            problems.append(f"{count} of {expected} images are missing or cut: {in_words(gaps)}")
        else:
            evidence.append(f"every image 1-{expected} is wholly in the file")
        if found.taken is not None and found.taken < expected:
            problems.append(f"{found.taken} of {expected} images were taken")
    if found.needed > found.size:
        problems.append(f"{found.size} bytes of {found.needed}: the file is cut")
    if found.reference is not None and not found.reference.whole:
        problems.append("the reference image is cut")
    verdict = Verdict.INCOMPLETE if problems else Verdict.COMPLETE
    if expected is None or found.taken is None:
        problems.append("no NoOfImages or no ImagesTaken in the file: nothing says when it is complete")
        verdict = Verdict.UNDECIDED
    if found.dtype is None:
        problems.append("samples of an unknown type; the file is kept whole")
    evidence.append("no change seen for the quiet time" if settled else "still changing")
    return Certificate(
        verdict if settled else Verdict.ACQUIRING,
        FrameCounts(projections=expected),
        FrameCounts(projections=len(whole), flats=flats),
        tuple(problems),
        tuple(evidence),
    )


def _conditions(name: str, found: ZeissFile) -> dict[str, Condition]:
    values: dict[str, tuple[float | int | None, str]] = {
        "pixel_size": (found.number("PixelSize"), "PixelSize"),
        "exposure": (found.number("ExpTimes"), "ExpTimes"),
        "distance": (_positive(found, "DtoRADistance"), "DtoRADistance"),
        "source_distance": (_positive(found, "StoRADistance"), "StoRADistance"),
        "frame_width": (found.width, "ImageWidth"),
        "frame_height": (found.height, "ImageHeight"),
        "n_projections": (found.expected, "NoOfImages"),
    }
    energy = found.number("Energy") or 0.0
    if energy >= _LEAST_EV:
        values["energy"] = (energy * 1e-3, "Energy")
    angles = found.angles_deg[: found.taken] if found.taken else found.angles_deg
    if len(angles) > 1:
        values["scan_range"] = (max(angles) - min(angles), "Angles")
    conditions = {
        key: Condition(value, CONDITION_UNITS[key], f"{name}:ImageInfo/{stream}")
        for key, (value, stream) in values.items()
        if value is not None and value > 0
    }
    voltage = found.number("Voltage")
    if voltage is not None and voltage > 0:
        conditions["voltage"] = Condition(voltage, "kV", f"{name}:ImageInfo/Voltage")
    return conditions


def _positive(found: ZeissFile, stream: str) -> float | None:
    """A distance; the microscope counts the source's from the other side."""
    value = found.number(stream)
    return None if value is None else abs(value)


def _metadata(found: ZeissFile) -> dict[str, Any]:
    said: dict[str, Any] = {key.lower(): text for key, text in found.texts.items()}
    said |= {key.lower(): table[0] for key, table in found.numbers.items()}
    said["acquired_at_source"] = "mtime of the file"
    if not any(i.offset is not None for i in found.images):
        said["no_reconstruction"] = "its images are not stored in one piece each"
    elif len(found.angles_deg) < (found.expected or 0):
        said["no_reconstruction"] = "the file does not say at which angles its images were taken"
    plain: dict[str, Any] = clean(said)
    return plain


def _when(mtime_ns: int) -> datetime | None:
    try:
        return datetime.fromtimestamp(mtime_ns / 1e9, UTC)
    except (OverflowError, ValueError, OSError):
        return None


PLUGIN: type[Format] = ZeissScan
