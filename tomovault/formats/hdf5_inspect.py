"""Inspection of a scan that is one HDF5 file: opening, the decision what it is, the reports and the layout."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import h5py

from tomovault.core.errors import NoScan, Transient, UserError
from tomovault.core.layout import Layout
from tomovault.core.scan import (
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
from tomovault.formats.hdf5_frames import lay_out_frames
from tomovault.formats.hdf5_kind import kind_of, marks_of, words_for
from tomovault.formats.hdf5_one_file import stem_of
from tomovault.formats.hdf5_open import open_hdf5
from tomovault.formats.hdf5_series import Findings, Series, frames_of
from tomovault.formats.hdf5_sources import CameraFiles, closure_root
from tomovault.formats.hdf5_values import DAMAGE
from tomovault.formats.origin import clean, nx_facts
from tomovault.formats.scan_folder import ScanFolder

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
#: So much of a file is looked at for a signature, and so much for words where it cannot be opened.
_BEGIN = 64 << 10
_HEAD = 4 << 20


@dataclass(frozen=True)
class Opened:
    """A file that a format's reader looks into. `name` is the file's, `folder` where it lies."""

    file: h5py.File
    name: str
    folder: str
    files: CameraFiles
    settled: bool


@dataclass
class FoundScan:
    """One scan in a file as its format's reader found it; `entry` tells a second one and further ones apart."""

    series: tuple[Series, ...]
    findings: Findings
    expected: FrameCounts
    found: FrameCounts
    entry: str = ""
    conditions: Mapping[str, Condition] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    acquired_at: datetime | None = None
    beamline: str | None = None
    proposal: str | None = None
    sample: str | None = None
    owner: str | None = None


#: Reads every scan of a file that was decided to be of its format; may raise NoScan and what h5py raises.
Reader = Callable[[Opened], Sequence[FoundScan]]


def inspect_file(candidate: Candidate, kind: str, read: Reader, *, settled: bool) -> list[ScanReport]:
    """The scans of a file. Raises NoScan where it is of another kind, Transient where a writer holds a file of which
    nothing can be said, UserError where it is not there.
    """
    state = _look(candidate)
    place = os.path.join(candidate.folder, candidate.key)
    try:
        opened = open_hdf5(place)
    except Transient as busy:
        seems = _seems(candidate)
        if seems == kind:
            return [_unreadable(candidate, kind, state, Verdict.ACQUIRING, busy.message)]
        if seems:
            raise NoScan(f"it is being written and looks like {words_for(seems)}") from busy
        raise
    except UserError as error:
        seems = _seems(candidate)
        if seems == kind:
            return [_unreadable(candidate, kind, state, _unless(settled), error.message)]
        if seems:
            raise NoScan(f"it cannot be read and looks like {words_for(seems)}") from error
        raise NoScan(error.message.removeprefix(f"{place}: ")) from error
    with opened:
        decided = False
        try:
            found = kind_of(opened)
            if found.format != kind:
                raise NoScan(f"it is {found.words}" if found.format else found.words)
            decided = True
            files = CameraFiles(candidate.folder, candidate.key, opened)
            scans = read(Opened(opened, candidate.key, candidate.folder, files, settled))
            _note_writer(opened, scans)
            return [
                _report(candidate, kind, state, files, scan, settled=settled, first=at == 0)
                for at, scan in enumerate(scans)
            ]
        except DAMAGE as error:
            text = _in_words(error)
            if decided or _seems(candidate) == kind:
                return [_unreadable(candidate, kind, state, _unless(settled), text)]
            raise NoScan(clean(text)) from error


def look_inside(candidate: Candidate) -> None:
    """All of `inspect_file` that does not depend on the format; nothing is told."""
    with suppress(UserError, Transient, MemoryError, *DAMAGE):
        _look(candidate)
        with open_hdf5(os.path.join(candidate.folder, candidate.key)) as opened:
            kind_of(opened)


def _in_words(error: Exception) -> str:
    return f"its content cannot be read: {' '.join(str(error).split())[:300]}"


def _seems(candidate: Candidate) -> str:
    """The format that the first part of a file speaks of which cannot be read as it should, '' if none."""
    with ScanFolder(candidate.folder) as folder:
        try:
            return marks_of(folder.read_text(candidate.key, _HEAD))
        except OSError:
            return ""


def _look(candidate: Candidate) -> FileState:
    with ScanFolder(candidate.folder) as folder:
        state = folder.states.get(candidate.key)
        place = os.path.join(candidate.folder, candidate.key)
        if state is None:
            raise NoScan(f"{place} is not there any more")
        if state.link_target is not None:
            raise NoScan("it is a link")
        try:
            head = folder.read_text(candidate.key, _BEGIN)
        except OSError as error:
            raise UserError(f"{place}: cannot be read: {error.strerror}") from error
    if not _is_hdf5(head):
        raise NoScan("it is empty" if not state.size else "it is not an HDF5 file")
    return state


def _is_hdf5(head: bytes) -> bool:
    """The signature stands at 0, or after a user block, at 512 or a doubling of it."""
    at = 0
    while at < len(head):
        if head.startswith(_SIGNATURE, at):
            return True
        at = max(512, 2 * at)
    return False


def _unless(settled: bool) -> Verdict:
    return Verdict.UNREADABLE if settled else Verdict.ACQUIRING


def _note_writer(opened: h5py.File, scans: Sequence[FoundScan]) -> None:
    if opened.swmr_mode:
        for scan in scans:
            scan.findings.open.append("a writer has it open, for single-writer access")


def _report(
    candidate: Candidate,
    kind: str,
    state: FileState,
    files: CameraFiles,
    scan: FoundScan,
    *,
    settled: bool,
    first: bool,
) -> ScanReport:
    closure = _closure(files, scan)
    root, prefix = closure_root(candidate.folder, files, closure)
    real_root = os.path.normpath(os.path.join(files.folder, *[".."] * prefix.count("/")))
    linked = {os.path.relpath(path, real_root): found for path, found in closure.items()}
    listed = [ScanFile(replace(state, path=prefix + candidate.key), FileRole.MASTER)]
    listed += [ScanFile(replace(found, path=path), FileRole.CAMERA) for path, found in linked.items()]
    stem = stem_of(candidate.key)
    told: dict[str, Any] = {"master": prefix + candidate.key, "folder": prefix, "part": scan.entry}
    if scan.acquired_at is None:
        told["acquired_at_source"] = "modification time of the file"
    if all(name.isascii() or clean(name) == name for name in (told["master"], *linked)):
        # What a neighbour may rely on before this scan is packed; names that are no text would be changed here.
        told["linked_files"] = sorted(linked)
    return ScanReport(
        format=kind,
        name=stem if first else f"{stem}_{scan.entry}",
        root=root,
        # Scans of several files may have one root; this tells them apart too.
        entry=candidate.key if first else f"{candidate.key}/{scan.entry}",
        identity=_identity(kind, scan.entry, state, linked),
        certificate=scan.findings.certify(scan.expected, scan.found, settled=settled),
        files=tuple(sorted(listed, key=lambda f: f.state.path)),
        conditions=dict(scan.conditions),
        acquired_at=scan.acquired_at or _written_at(state),
        beamline=scan.beamline,
        proposal=scan.proposal,
        sample=scan.sample,
        owner=scan.owner,
        metadata=clean({k: v for k, v in scan.metadata.items() if v not in (None, [], {})} | told),
    )


def _written_at(state: FileState) -> datetime | None:
    """Where the file does not say when it was taken: when it was written."""
    try:
        return datetime.fromtimestamp(state.mtime_ns / 1e9, UTC)
    except (OverflowError, ValueError, OSError):
        return None


def _closure(files: CameraFiles, scan: FoundScan) -> dict[str, FileState]:
    """By real path: every other file that images lie in or pass through."""
    found = {
        run.file: files.states[run.file] for s in scan.series for run in s.checked.runs if run.file in files.states
    }
    found |= dict(files.passed_through([[s.checked for s in scan.series]]))
    return {path: state for path, state in found.items() if path != files.master}


def _identity(kind: str, entry: str, state: FileState, linked: Mapping[str, FileState]) -> str:
    """Digest of the sizes and dates of the file and of those behind it: nothing else tells one rescan from another."""
    digest = hashlib.sha256(f"{kind}\0{entry}\0{state.size} {state.mtime_ns}".encode("utf-8", "surrogateescape"))
    for path in sorted(linked):
        digest.update(f"\0{path}\0{linked[path].size} {linked[path].mtime_ns}".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _unreadable(candidate: Candidate, kind: str, state: FileState, verdict: Verdict, problem: str) -> ScanReport:
    return ScanReport(
        format=kind,
        name=stem_of(candidate.key),
        root=os.path.normpath(candidate.folder),
        entry=candidate.key,
        identity=_identity(kind, "", state, {}),
        certificate=Certificate(verdict, problems=(clean(problem),)),
        files=(ScanFile(state, FileRole.MASTER),),
        metadata={"master": clean(candidate.key), "folder": ""},
    )


def lay_out_file(report: ScanReport, kind: str, read: Reader) -> Layout:
    """Where the frames of the report's scan are; a file where plain ones would overlap stays literal.

    Raises UserError where the file cannot be read.
    """
    masters = [file.state.path for file in report.files if file.role is FileRole.MASTER]
    if report.format != kind or len(masters) != 1 or ".." in masters[0].split("/"):
        raise UserError(f"{report.root}: the report is not one of {words_for(kind)}")
    inner, name = os.path.split(masters[0])
    folder = os.path.join(report.root, inner).rstrip("/") or "/"
    wanted = {file.state.path: file.state.size for file in report.files}
    part = str(report.metadata.get("part", ""))
    with open_hdf5(os.path.join(folder, name)) as opened:
        files = CameraFiles(folder, name, opened)
        try:
            scans = read(Opened(opened, name, folder, files, False)) if kind_of(opened).format == kind else ()
        except DAMAGE as error:
            raise UserError(f"{report.root}/{masters[0]}: {_in_words(error)}") from error
        scan = next((s for s in scans if clean(s.entry) == part), None)
        found = frames_of(scan.series) if scan is not None else {}
    real_root = os.path.normpath(os.path.join(files.folder, *[".."] * len([p for p in inner.split("/") if p])))
    layouts = []
    for real, frames in sorted(found.items()):
        path = os.path.relpath(real, real_root)
        layout = lay_out_frames(path, wanted[path], frames) if path in wanted else None
        if layout is not None:
            layouts.append(layout)
    # The time that a file was written is not when the scan began.
    guessed = "acquired_at_source" in report.metadata
    return Layout(tuple(layouts), nx_facts(replace(report, acquired_at=None) if guessed else report))
