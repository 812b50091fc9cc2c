"""EDF series as SPEC and FReLoN write them: one folder, one file a frame, `.info` and `.xml` beside them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import ClassVar

from tomovault.core.errors import NoScan, UserError
from tomovault.core.layout import Layout
from tomovault.core.ports import Format, Listing
from tomovault.core.scan import Candidate, FileRole, FileState, ScanFile, ScanReport
from tomovault.formats.edf_certificate import certify
from tomovault.formats.edf_conditions import acquired_at, read_conditions, read_metadata
from tomovault.formats.edf_layout import lay_out_frames
from tomovault.formats.edf_leftovers import set_aside_leftovers
from tomovault.formats.edf_names import SeriesNames, prefixes, sort_names
from tomovault.formats.edf_series import Series, frame_names, read_series
from tomovault.formats.origin import nx_facts, origin_of
from tomovault.formats.scan_folder import ScanFolder

#: Larger files beside the frames are data of another kind, and are left out with a warning.
LARGEST_SIDE_FILE = 256 * 1024 * 1024

#: Images that somebody compressed afterwards.
_COMPRESSED = (".edf.gz", ".edf.bz2", ".edf.xz", ".edf.zst")

#: ESRF's name for the fast disk of a detector computer, as a part of the path.
_LOCAL_DISK = "lbsram"


class EdfSeries:
    """The `edf` format; a candidate's key is the prefix of its file names."""

    name: ClassVar[str] = "edf"

    def __init__(self) -> None:
        self._prefixes: tuple[Listing, tuple[str, ...]] | None = None

    def recognise(self, listing: Listing) -> Sequence[Candidate]:
        """One candidate a prefix, by names only."""
        found = self._prefixes_in(listing)
        metadata = _server_folder(listing.folder)
        return [Candidate(self.name, listing.folder, prefix, metadata) for prefix in found]

    def members(self, candidate: Candidate, listing: Listing) -> tuple[Sequence[str], Sequence[str]]:
        """Frames and metadata of the prefix; side files come and go without a change of the scan."""
        names = sort_names(candidate.key, listing.files, self._prefixes_in(listing))
        return sorted({*frame_names(names), *_texts(names)}), ()

    def _prefixes_in(self, listing: Listing) -> tuple[str, ...]:
        # Asked for once by `recognise` and once for each prefix by `members`, with one listing.
        last = self._prefixes
        if last is not None and last[0] is listing:
            return last[1]
        found = prefixes(_folder_name(listing.folder), listing.files)
        self._prefixes = (listing, found)
        return found

    def inspect(self, candidate: Candidate, *, settled: bool) -> Sequence[ScanReport]:
        """The scan of one prefix; none where there is no frame at all, whatever is announced."""
        with ExitStack() as stack:
            folder = stack.enter_context(ScanFolder(candidate.folder))
            metadata = _open_metadata(stack, candidate)
            series = set_aside_leftovers(read_series(folder, candidate.key, settled=settled, metadata=metadata))
            compressed = [name for name in folder.states if name.lower().endswith(_COMPRESSED)]
        if not series.frames and compressed:
            raise NoScan(
                f"{len(compressed)} of its images were compressed one by one ({compressed[0]}), which is not read as a "
                "series; `folders:` of the area in tomovault.yaml keeps such a folder as it is"
            )
        if not series.frames:
            return []
        return [_report(candidate, series, settled=settled)]

    def layout(self, report: ScanReport) -> Layout:
        """One frame a file; texts, side files, short and compressed files are literal."""
        prefix, inner = _said(report, "prefix"), _said(report, "folder")
        candidate = Candidate(
            self.name,
            os.path.join(report.root, inner).rstrip("/") or "/",
            prefix,
            os.path.join(report.root, _said(report, "metadata_folder"))
            if "metadata_folder" in report.metadata
            else None,
        )
        with ExitStack() as stack:
            folder = stack.enter_context(ScanFolder(candidate.folder))
            metadata = _open_metadata(stack, candidate)
            series = set_aside_leftovers(read_series(folder, prefix, settled=False, metadata=metadata))
        wanted = {file.state.path for file in report.files}
        files = [replace(f, path=inner + f.path) for f in lay_out_frames(series)]
        return Layout(tuple(f for f in files if f.path in wanted), nx_facts(report))


def _folder_name(folder: str) -> str:
    return os.path.basename(folder.rstrip("/"))


def _server_folder(folder: str) -> str | None:
    """Where the texts of a scan on a local disk are: under the same path without its part `lbsram`."""
    parts = folder.split("/")
    return "/".join(part for part in parts if part != _LOCAL_DISK) if _LOCAL_DISK in parts else None


def _texts(names: SeriesNames) -> Iterator[str]:
    yield from (name for name in (names.info, names.xml, names.abort) if name)


def _open_metadata(stack: ExitStack, candidate: Candidate) -> ScanFolder | None:
    if candidate.metadata_folder is None or not os.path.isdir(candidate.metadata_folder):
        return None
    return stack.enter_context(ScanFolder(candidate.metadata_folder))


def _report(candidate: Candidate, series: Series, *, settled: bool) -> ScanReport:
    folder = os.path.normpath(candidate.folder)
    root = folder
    if series.metadata_states and candidate.metadata_folder is not None:
        root = os.path.commonpath([folder, os.path.normpath(candidate.metadata_folder)])
    apart = root == "/"
    if apart:
        root = folder
    inner = _inner(root, folder)
    places = {"prefix": candidate.key, "folder": inner}
    files = [replace(f, state=replace(f.state, path=inner + f.state.path)) for f in _closure(series)]
    if series.metadata_states and candidate.metadata_folder is not None and not apart:
        outer = _inner(root, os.path.normpath(candidate.metadata_folder))
        places["metadata_folder"] = outer
        files += [
            ScanFile(replace(state, path=outer + name), FileRole.METADATA)
            for name, state in series.metadata_states.items()
        ]
    certificate = certify(series, settled=settled)
    if apart:
        text = f"the texts in {candidate.metadata_folder} share no folder with the frames and are not kept with them"
        certificate = replace(certificate, problems=(*certificate.problems, text))
    large = [s.path for s in _side_states(series) if s.size > LARGEST_SIDE_FILE]
    if large:
        certificate = replace(certificate, problems=(*certificate.problems, _too_large(large)))
    when, source = acquired_at(series)
    directory = series.first_header.keys.get("dir") if series.first_header else None
    origin = origin_of(directory) if directory else origin_of(folder + "/")
    metadata = read_metadata(series) | places | {"acquired_at_source": source}
    info = series.info or {}
    return ScanReport(
        format=EdfSeries.name,
        name=candidate.key or _folder_name(folder),
        root=root,
        entry="",
        identity=_identity(series),
        certificate=certificate,
        files=tuple(sorted(files, key=lambda f: f.state.path)),
        conditions=read_conditions(series),
        acquired_at=when,
        beamline=origin.beamline,
        proposal=origin.proposal,
        sample=info.get("sample") or None,
        owner=None,
        metadata=metadata,
    )


def _inner(root: str, folder: str) -> str:
    relative = os.path.relpath(folder, root)
    return "" if relative == "." else relative + "/"


def _too_large(names: Sequence[str]) -> str:
    return f"{len(names)} large files that are no frames are left out, the first is {names[0]}"


def _closure(series: Series) -> Iterator[ScanFile]:
    """Every file of the scan in the folder itself."""
    names = series.names
    roles = dict.fromkeys(names.projections.values(), FileRole.PROJECTION)
    roles |= {flat.name: FileRole.FLAT for flat in names.flats}
    roles |= dict.fromkeys(names.reduced_flats.values(), FileRole.FLAT)
    roles |= dict.fromkeys(names.darks, FileRole.DARK)
    roles |= dict.fromkeys(_texts(names), FileRole.METADATA)
    for name, role in roles.items():
        if name not in series.left_out:
            yield ScanFile(series.states[name], role)
    for state in _side_states(series):
        if state.size <= LARGEST_SIDE_FILE:
            yield ScanFile(state, FileRole.SIDE)


def _side_states(series: Series) -> Iterator[FileState]:
    return (series.states[name] for name in series.names.side if name not in series.left_out)


def _identity(series: Series) -> str:
    """Digest over the projections' directory entries: flats, darks and texts may legally come, go and be rewritten."""
    digest = hashlib.sha256(b"edf\0")
    digest.update(series.prefix.encode("utf-8", "surrogateescape"))
    for index in sorted(series.names.projections):
        state = series.states[series.names.projections[index]]
        digest.update(f"\0{index} {state.size} {state.mtime_ns}".encode("ascii"))
    return digest.hexdigest()


def _said(report: ScanReport, key: str) -> str:
    """A path or prefix that this module wrote into the report's metadata; never one that leads out of the root."""
    value = report.metadata.get(key)
    if not isinstance(value, str) or ".." in value.split("/"):
        raise UserError(f"{report.root}: the report is not one of an EDF series")
    return value


PLUGIN: type[Format] = EdfSeries
