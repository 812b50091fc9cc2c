"""TIFF projections as PCO, SLS, APS, SkyScan and others write them: a file a frame, or files of many pages."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, ClassVar

from tomovault.core.errors import NoScan, UserError
from tomovault.core.layout import FileLayout, FrameKind, FrameSegment, Layout
from tomovault.core.ports import Format, Listing
from tomovault.core.scan import CONDITION_UNITS, Candidate, Condition, FileRole, ScanFile, ScanReport
from tomovault.formats.origin import clean, nx_facts, origin_of
from tomovault.formats.scan_folder import ScanFolder
from tomovault.formats.tiff_certificate import base_of, certify
from tomovault.formats.tiff_header import DESCRIPTION, MAKE, MODEL, SOFTWARE
from tomovault.formats.tiff_names import names_of, owned_by, stem_of
from tomovault.formats.tiff_series import Stack, StackFile, date_of, read_lone, read_stack
from tomovault.formats.tiff_texts import ENDINGS, conditions_of

#: Larger files beside the frames are data of another kind, and are left out with a warning.
LARGEST_SIDE_FILE = 256 * 1024 * 1024
#: The key of the candidate that stands for all lone files of a folder; no prefix can be this.
_LONE = "*.tif"
#: Prefixes that say nothing of the sample: the folder's name is the scan's then.
_COMMON = frozenset({"", "raw", "proj", "projection", "projections", "image", "images", "img", "frame", "tomo"} | {
    "radio", "radios", "scan", "p", "im", "data", "pco", "tiff", "tif",
})  # fmt: skip
_ROLES = {
    FrameKind.FLAT: FileRole.FLAT,
    FrameKind.DARK: FileRole.DARK,
}
_NAMED = 20
_CAMERA_FOLDER = re.compile(r"^scan\d{4,}$")


class TiffStack:
    """The `tiff_stack` format; a candidate's key is the prefix of its file names."""

    name: ClassVar[str] = "tiff_stack"

    def recognise(self, listing: Listing) -> Sequence[Candidate]:
        """One candidate a prefix with an index, and one for all files that stand alone."""
        names = names_of(listing)
        found = [Candidate(self.name, listing.folder, series.prefix) for series in names.stacks]
        if names.lone:
            found.append(Candidate(self.name, listing.folder, _LONE))
        return found

    def members(self, candidate: Candidate, listing: Listing) -> tuple[Sequence[str], Sequence[str]]:
        """The frames, the flats and darks, and the texts beside them."""
        names = names_of(listing)
        if candidate.key == _LONE:
            return names.lone, ()
        own = [s for s in names.stacks if s.prefix == candidate.key]
        own += owned_by(candidate.key, names.calibrations, (s.prefix for s in names.stacks))
        found = {n for s in own for n in s.names.values()}
        found |= {n for n in listing.files if n.lower().endswith(ENDINGS)}
        return sorted(found), ()

    def inspect(self, candidate: Candidate, *, settled: bool) -> Sequence[ScanReport]:
        """The stack of a prefix, or every lone file that holds more than one image."""
        _refuse_camera_folder(os.path.normpath(candidate.folder))
        if candidate.key == _LONE:
            return _inspect_lone(candidate, settled=settled)
        stack = read_stack(os.path.normpath(candidate.folder), candidate.key, settled=settled)
        if stack is None:
            raise NoScan("flats and darks that belong to the stack in a folder beside it")
        if not any(file.tiff is not None for file in stack.files):
            first = next((f for f in stack.files if f.problem), None)
            why = f"; {first.state.path}: {first.problem}" if first is not None else ""
            raise UserError(f"none of {len(stack.files)} files can be read as TIFF{why}")
        return [_report(stack, settled=settled)]

    def layout(self, report: ScanReport) -> Layout:
        """The images that lie in their files as plain arrays, in the order of the acquisition."""
        stack = _read_again(report)
        wanted = {file.state.path for file in report.files}
        files = tuple(f for f in _lay_out(stack) if f.path in wanted)
        return Layout(files, nx_facts(report))


def _refuse_camera_folder(folder: str) -> None:
    """Images in `scanNNNN` beside a master are kept with the BLISS scan that the camera wrote them for."""
    if _CAMERA_FOLDER.match(os.path.basename(folder)) is None:
        return
    with ScanFolder(os.path.dirname(folder)) as above:
        masters = [name for name in above.states if name.endswith(".h5")]
    if masters:
        raise NoScan(f"images of a camera, kept with the BLISS master {masters[0]} beside their folder")


def _inspect_lone(candidate: Candidate, *, settled: bool) -> list[ScanReport]:
    reports, others, damaged = [], [], []
    for stack in read_lone(os.path.normpath(candidate.folder), settled=settled):
        file = stack.files[0]
        if len(file.pages) > 1 or (stack.stated_pages or 1) > 1:
            reports.append(_report(stack, settled=settled))
        elif file.problem:
            damaged.append(f"{stack.prefix}: {file.problem}")
        else:
            page = file.pages[0]
            others.append(f"{stack.prefix}: one image of {page.height} x {page.width}")
    if reports:
        return reports
    told = "; ".join([*damaged, *others][:_NAMED])
    more = len(damaged) + len(others) - _NAMED
    told += f"; and {more} more" if more > 0 else ""
    if damaged and not others:
        raise UserError(f"no whole TIFF file: {told}")
    raise NoScan(f"single images, no stack: {told}")


def _report(stack: Stack, *, settled: bool) -> ScanReport:
    certificate = certify(stack, settled=settled)
    large = [s.path for s in stack.sides if s.size > LARGEST_SIDE_FILE]
    if large:
        text = f"{len(large)} large files that are no frames are left out, the first is {large[0]}"
        certificate = replace(certificate, problems=(*certificate.problems, text))
    origin = origin_of(stack.root + "/")
    conditions = _conditions(stack)
    angles = stack.text is not None and stack.text.step_deg is not None
    return ScanReport(
        format=TiffStack.name,
        name=_name(stack),
        root=stack.root,
        entry=stack.inner + stack.prefix,
        identity=_identity(stack),
        certificate=certificate,
        files=tuple(sorted(_closure(stack), key=lambda f: f.state.path)),
        conditions=conditions,
        acquired_at=_oldest(stack),
        beamline=origin.beamline,
        proposal=origin.proposal,
        metadata=_metadata(stack, angles=angles),
    )


def _name(stack: Stack) -> str:
    folder = os.path.basename(stack.root.rstrip("/"))
    if stack.lone:
        return stack.prefix.rpartition(".")[0]
    stem = stem_of(stack.prefix)
    return folder if stack.inner or stem.lower() in _COMMON else stem


def _metadata(stack: Stack, *, angles: bool) -> dict[str, Any]:
    keys = dict(list(stack.text.keys.items())[:500]) if stack.text is not None else {}
    said = {word: stack.told.get(tag) for word, tag in (("make", MAKE), ("model", MODEL), ("software", SOFTWARE))}
    found: dict[str, Any] = {
        **said,
        "date": date_of(stack),
        "description": stack.told.get(DESCRIPTION),
        "text": keys,
        "text_file": stack.text.name if stack.text is not None else None,
        "acquired_at_source": "mtime of the oldest frame",
    }
    if not any(p.offset is not None for f in stack.of(FrameKind.PROJECTION) for p in f.pages):
        found["no_reconstruction"] = "its images are not stored as plain arrays"
    elif not angles:
        found["no_reconstruction"] = "nothing says at which angles its projections were taken"
    plain: dict[str, Any] = clean({key: value for key, value in found.items() if value})
    # Paths are kept as they are: `clean` would change bytes that are not UTF-8.
    return plain | {"prefix": stack.prefix, "inner": stack.inner, "lone": stack.lone}


def _conditions(stack: Stack) -> dict[str, Condition]:
    found = conditions_of(stack.text) if stack.text is not None else {}
    projections = stack.of(FrameKind.PROJECTION) or list(stack.files)
    first = next((f for f in projections if f.pages), None)
    if first is not None:
        page = first.pages[0]
        found["frame_width"] = Condition(page.width, CONDITION_UNITS["frame_width"], first.state.path)
        found["frame_height"] = Condition(page.height, CONDITION_UNITS["frame_height"], first.state.path)
    return found


def _closure(stack: Stack) -> Iterator[ScanFile]:
    for file in stack.files:
        yield ScanFile(file.state, _ROLES.get(file.kind, FileRole.PROJECTION))
    for state in stack.sides:
        if state.size <= LARGEST_SIDE_FILE:
            text = stack.text_state is not None and state.path == stack.text_state.path
            yield ScanFile(state, FileRole.METADATA if text else FileRole.SIDE)


def _identity(stack: Stack) -> str:
    """Digest over the directory entries of the frames themselves; flats, darks and texts may come later."""
    digest = hashlib.sha256(b"tiff_stack\0")
    digest.update((stack.inner + stack.prefix).encode("utf-8", "surrogateescape"))
    frames = stack.of(FrameKind.PROJECTION) or stack.files
    for state in sorted((f.state for f in frames), key=lambda s: s.path):
        digest.update(b"\0" + state.path.encode("utf-8", "surrogateescape"))
        digest.update(f" {state.size} {state.mtime_ns}".encode("ascii"))
    return digest.hexdigest()


def _oldest(stack: Stack) -> datetime | None:
    try:
        return datetime.fromtimestamp(min(f.state.mtime_ns for f in stack.files) / 1e9, UTC)
    except (OverflowError, ValueError, OSError):
        return None


def _read_again(report: ScanReport) -> Stack:
    prefix, inner, lone = (report.metadata.get(key) for key in ("prefix", "inner", "lone"))
    if not isinstance(prefix, str) or not isinstance(inner, str) or inner.rstrip("/") in (".", "..") or "/" in prefix:
        raise UserError(f"{report.root}: the report is not one of a TIFF stack")
    if lone:
        stack = next(iter(read_lone(report.root, settled=False, only=prefix)), None)
    else:
        stack = read_stack(os.path.join(report.root, inner).rstrip("/"), prefix, settled=False)
    if stack is None:
        raise UserError(f"{report.root}: the stack {prefix!r} is not there any more")
    return stack


def _lay_out(stack: Stack) -> list[FileLayout]:
    """Images by file, in ascending and disjoint places; one that overlaps another is left literal."""
    layouts: list[FileLayout] = []
    order = position = 0
    base = base_of(stack)
    several = stack.lone or any(len(f.pages) > 1 for f in stack.of(FrameKind.PROJECTION))
    for file in stack.files:
        segments: list[FrameSegment] = []
        for number, page in sorted(enumerate(file.pages), key=lambda numbered: numbered[1].offset or 0):
            end = segments[-1].offset + segments[-1].length if segments else 0
            if page.offset is None or page.dtype is None or page.offset < end or page.end > file.state.size:
                continue
            angle = _angle(stack, file, position + number if several else file.index - base)
            shape = (page.height, page.width)
            segments.append(FrameSegment(page.offset, page.length, page.dtype, shape, file.kind, order + number, angle))
        order += len(file.pages)
        position += len(file.pages) if file.kind is FrameKind.PROJECTION else 0
        if segments:
            layouts.append(FileLayout(file.state.path, file.state.size, tuple(segments)))
    return sorted(layouts, key=lambda layout: layout.path)


def _angle(stack: Stack, file: StackFile, position: int) -> float | None:
    if stack.text is None or file.kind is not FrameKind.PROJECTION:
        return None
    return stack.text.angle_deg(position)


PLUGIN: type[Format] = TiffStack
