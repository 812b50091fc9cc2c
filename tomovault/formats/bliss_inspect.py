"""Reading a BLISS dataset: its master, the files behind it, and the reports and layouts made from them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import h5py

from tomovault.core.errors import NoScan, Transient, UserError
from tomovault.core.layout import FrameKind, Layout
from tomovault.core.scan import Candidate, Certificate, FileRole, FileState, ScanFile, ScanReport, Verdict
from tomovault.formats.bliss_certificate import BlissScan, certify
from tomovault.formats.bliss_conditions import read_conditions, read_metadata, read_origin
from tomovault.formats.bliss_entries import Entry, is_bliss, read_entries
from tomovault.formats.bliss_names import FORMAT, scan_folder_name, scan_folders, stem_of
from tomovault.formats.bliss_scans import ScanEntries, group_scans, rotation_angles, start_of
from tomovault.formats.edf_names import is_noise
from tomovault.formats.hdf5_frames import Frame, frame_of, lay_out_frames
from tomovault.formats.hdf5_open import open_hdf5
from tomovault.formats.hdf5_sources import CameraFiles, CheckedStack, closure_root, zero_frames
from tomovault.formats.hdf5_values import DAMAGE, text_of
from tomovault.formats.origin import clean, nx_facts
from tomovault.formats.scan_folder import ScanFolder

#: A truncated master still holds such words; a foreign file does not.
_MARKS = (b"blissdata", b"bliss", b"writer", b"measurement")
_MARKED_WITHIN = 4 << 20


def inspect_master(candidate: Candidate, *, settled: bool) -> list[ScanReport]:
    """Every scan of a master; none if it is not a BLISS master or only links to others."""
    with ScanFolder(candidate.folder) as folder:
        state = folder.states.get(candidate.key)
        if state is None:
            raise NoScan(f"{os.path.join(candidate.folder, candidate.key)} is not there any more")
        if state.link_target is not None:
            return []
        subfolders = scan_folders(folder.folders)
        marked = bool(subfolders) or _looks_like_bliss(folder, candidate.key)
    try:
        master = open_hdf5(os.path.join(candidate.folder, candidate.key))
    except Transient as busy:
        return [_unreadable(candidate, state, subfolders, Verdict.ACQUIRING, busy.message)] if marked else []
    except UserError as error:
        verdict = Verdict.UNREADABLE if settled else Verdict.ACQUIRING
        return [_unreadable(candidate, state, subfolders, verdict, error.message)] if marked else []
    with master:
        try:
            entries = read_entries(master)
            if not is_bliss(master, entries):
                return []
            groups = group_scans(entries)
        except DAMAGE as error:
            verdict = Verdict.UNREADABLE if settled else Verdict.ACQUIRING
            text = f"its entries cannot be read: {' '.join(str(error).split())[:300]}"
            return [_unreadable(candidate, state, subfolders, verdict, text)]
        files = CameraFiles(candidate.folder, candidate.key)
        first = groups[0].head.name if groups else ""
        return [
            _report(
                candidate, state, master, files, _check(master, files, g, settled=settled), settled=settled, first=first
            )
            for g in groups
        ]


def _looks_like_bliss(folder: ScanFolder, name: str) -> bool:
    try:
        raw = folder.read_text(name, _MARKED_WITHIN)
    except OSError:
        return False
    return raw.startswith(b"\x89HDF\r\n\x1a\n") and all(mark in raw for mark in _MARKS)


def _check(master: h5py.File, files: CameraFiles, group: ScanEntries, *, settled: bool) -> BlissScan:
    camera = _tomography_camera(master, group)
    stacks: list[tuple[CheckedStack, ...]] = []
    zeros: dict[str, None] = {}
    for entry, kind in zip(group.parts, group.kinds, strict=True):
        checked = [files.check(stack) for stack in entry.stacks]
        checked.sort(key=lambda c: c.stack.camera != camera)
        stacks.append(tuple(checked))
        # Counting detectors have dark images of nothing but zeros.
        if settled and kind is not FrameKind.DARK:
            zeros |= dict.fromkeys(_zero_files(checked, files))
    return BlissScan(group, tuple(stacks), tuple(zeros))


def _tomography_camera(master: h5py.File, group: ScanEntries) -> str | None:
    named = text_of(master, f"{group.head.name}/technique/tomoconfig/detector")
    if named:
        return named
    counted: dict[str, int] = {}
    for entry in group.parts:
        for stack in entry.stacks:
            counted[stack.camera] = counted.get(stack.camera, 0) + 1 + stack.frames
    return max(counted, key=lambda c: counted[c], default=None)


def _zero_files(checked: Sequence[CheckedStack], files: CameraFiles) -> Iterator[str]:
    for stack in checked:
        for run in stack.runs:
            try:
                if zero_frames(run):
                    yield os.path.relpath(run.file, files.folder)
            except OSError as error:
                stack.problems.append(f"{os.path.relpath(run.file, files.folder)}: {error.strerror}")


def _report(
    candidate: Candidate,
    state: FileState,
    master: h5py.File,
    files: CameraFiles,
    scan: BlissScan,
    *,
    settled: bool,
    first: str,
) -> ScanReport:
    head = scan.entries.head
    stem = stem_of(candidate.key)
    closure = _closure(files, scan)
    root, prefix = closure_root(candidate.folder, files, closure)
    listed = [ScanFile(replace(state, path=prefix + candidate.key), FileRole.MASTER)]
    real_root = os.path.normpath(os.path.join(files.folder, *[".."] * prefix.count("/")))
    listed += [
        ScanFile(replace(s, path=os.path.relpath(path, real_root)), role)
        for path, (s, role) in closure.items()
        if path != files.master
    ]
    origin = read_origin(master, scan, candidate.folder)
    outer = scan.entries.set_name
    return ScanReport(
        format=FORMAT,
        name=stem if head.name == first else f"{stem}_{head.name}",
        root=root,
        entry=head.name,
        identity=_identity(head, closure, files),
        certificate=certify(scan, settled=settled),
        files=tuple(sorted(listed, key=lambda f: f.state.path)),
        conditions=read_conditions(master, candidate.key, scan),
        acquired_at=start_of(head),
        beamline=origin.beamline,
        proposal=origin.proposal,
        sample=text_of(master, f"{head.name}/sample/name"),
        set_name=f"{stem}_{outer}" if outer else None,
        metadata=read_metadata(master, scan) | {"master": prefix + candidate.key, "folder": prefix},
    )


def _closure(files: CameraFiles, scan: BlissScan) -> dict[str, tuple[FileState, FileRole]]:
    """By real path: every file that images lie in or pass through, and what else lies in the scan's folders."""
    found: dict[str, tuple[FileState, FileRole]] = {}
    for entry, _, stacks in scan.parts():
        for stack in stacks:
            for run in stack.runs:
                if run.file in files.states:
                    found[run.file] = (files.states[run.file], FileRole.CAMERA)
        waiting = not stacks
        for path, state in _folder_files(os.path.join(files.folder, scan_folder_name(entry.number))):
            found.setdefault(path, (state, FileRole.CAMERA if waiting else FileRole.SIDE))
    for path, state in files.passed_through(scan.stacks):
        found[path] = (state, FileRole.CAMERA)
    return found


def _folder_files(path: str) -> Iterator[tuple[str, FileState]]:
    try:
        with ScanFolder(path) as folder:
            states = dict(folder.states)
    except UserError:
        return  # the folder of an entry without camera files does not exist
    for name, state in states.items():
        if state.link_target is None and not is_noise(name):
            yield os.path.join(path, name), state


def _identity(head: Entry, closure: Mapping[str, tuple[FileState, FileRole]], files: CameraFiles) -> str:
    """Digest of the entry, its start and its camera files: later entries of the master do not change it."""
    digest = hashlib.sha256(b"bliss\0")
    digest.update(f"{head.name}\0{head.start_time}".encode("utf-8", "surrogateescape"))
    for path in sorted(closure):
        state, role = closure[path]
        if role is FileRole.CAMERA and path != files.master:
            name = os.path.relpath(path, files.folder)
            digest.update(f"\0{name}\0{state.size} {state.mtime_ns}".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _unreadable(
    candidate: Candidate, state: FileState, subfolders: Sequence[str], verdict: Verdict, problem: str
) -> ScanReport:
    """A master that cannot be opened, with everything that lies in the dataset's folders."""
    folder = os.path.normpath(candidate.folder)
    files = [ScanFile(state, FileRole.MASTER)]
    for name in subfolders:
        files += [
            ScanFile(replace(s, path=f"{name}/{os.path.basename(path)}"), FileRole.CAMERA)
            for path, s in _folder_files(os.path.join(folder, name))
        ]
    digest = hashlib.sha256(f"bliss\0unreadable\0{state.size} {state.mtime_ns}".encode("ascii"))
    return ScanReport(
        format=FORMAT,
        name=stem_of(candidate.key),
        root=folder,
        entry="",
        identity=digest.hexdigest(),
        certificate=Certificate(verdict, problems=(clean(problem),)),
        files=tuple(sorted(files, key=lambda f: f.state.path)),
        metadata={"master": candidate.key, "folder": ""},
    )


def lay_out(report: ScanReport) -> Layout:
    """Where the frames of the report's scan are in its files; all but plain runs of bytes stays literal."""
    path, inner = report.metadata.get("master"), report.metadata.get("folder", "")
    if not isinstance(path, str) or not isinstance(inner, str) or ".." in path.split("/"):
        raise UserError(f"{report.root}: the report is not one of a BLISS master")
    folder, key = os.path.join(report.root, inner).rstrip("/"), os.path.basename(path)
    files = CameraFiles(folder, key)
    wanted = {file.state.path: file.state.size for file in report.files}
    with open_hdf5(os.path.join(folder, key)) as master:
        group = next((g for g in group_scans(read_entries(master)) if g.head.name == report.entry), None)
        if group is None:
            return Layout(nx=nx_facts(report))
        scan = _check(master, files, group, settled=False)
        found = _frames(master, scan)
    real_root = os.path.normpath(os.path.join(files.folder, *[".."] * inner.count("/")))
    layouts = []
    for real, frames in sorted(found.items()):
        name = os.path.relpath(real, real_root)
        size = files.states[real].size if real in files.states else os.lstat(real).st_size
        layout = lay_out_frames(name, size, frames)
        if name in wanted and layout is not None:
            layouts.append(layout)
    return Layout(tuple(layouts), nx_facts(report))


def _frames(master: h5py.File, scan: BlissScan) -> dict[str, list[Frame]]:
    """Frames by file; the order counts over all parts, the tomography camera's frames only have a kind."""
    found: dict[str, list[Frame]] = {}
    start = 0
    for entry, kind, stacks in scan.parts():
        frames = max((s.frames for s in stacks), default=0)
        angles = rotation_angles(master, scan.entries, entry, stacks[0].frames) if stacks else None
        for rank, stack in enumerate(stacks):
            for run in stack.runs:
                for step in range(run.good):
                    at = run.at + step
                    frame = frame_of(
                        run,
                        run.first + step,
                        kind=kind if rank == 0 else FrameKind.INVALID,
                        order=start + rank * frames + at,
                        angle_deg=angles[at] if angles is not None and at < len(angles) else None,
                    )
                    if frame is not None:
                        found.setdefault(run.file, []).append(frame)
        start += frames * max(1, len(stacks))
    return found
