"""Everything that a certificate of a TIFF stack rests on, read from its folder and the folders around it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from tomovault.core.errors import UserError
from tomovault.core.layout import FrameKind
from tomovault.core.scan import FileState
from tomovault.formats.edf_names import is_noise
from tomovault.formats.scan_folder import ScanFolder, is_all_zero
from tomovault.formats.spec_text import LONGEST_TEXT
from tomovault.formats.tiff_header import DATE, DESCRIPTION, MOST_PAGES, Page, TiffError, TiffFile, read_tiff
from tomovault.formats.tiff_names import (
    Meaning,
    Series,
    TiffNames,
    belongs_to,
    folder_meaning,
    group_names,
    is_inner,
    is_tiff_name,
    owned_by,
    stem_of,
)
from tomovault.formats.tiff_texts import ENDINGS, StackText, parse_text

#: Files that are scans, or parts of scans, of other formats: never side files of a stack.
_OTHERS = re.compile(r"\.(edf|vol|raw|rec|h5|hdf5?|nxs?|txrm|xrm|his|vol\.info|raw\.info|vol\.xml|par)$", re.I)
#: Bodies that are all zero are read whole until so many are known to be.
_ZERO_READS = 3
_IMAGEJ = re.compile(r"^images=(\d{1,9})$", re.M)


@dataclass(frozen=True)
class StackFile:
    """One TIFF file: where it is below the scan's root, what kind of frames it holds and what was read of it.

    `problem` says why it is not whole ('' if it is).
    """

    state: FileState
    kind: FrameKind
    index: int
    tiff: TiffFile | None = None
    problem: str = ""
    zero: bool = False

    @property
    def pages(self) -> tuple[Page, ...]:
        """Images that can be described."""
        return self.tiff.pages if self.tiff is not None else ()


@dataclass(frozen=True)
class Stack:
    """One scan of TIFF files. `files` are in the order of the acquisition, `sides` beside them, `left_out` links;
    `in_one_series`: darks and flats have their numbers among those of the projections.
    """

    root: str
    inner: str
    prefix: str
    files: tuple[StackFile, ...]
    sides: tuple[FileState, ...] = ()
    text: StackText | None = None
    text_state: FileState | None = None
    left_out: tuple[str, ...] = ()
    lone: bool = False
    in_one_series: bool = False
    stated_pages: int | None = None
    told: Mapping[int, str] = field(default_factory=dict)

    def of(self, kind: FrameKind) -> list[StackFile]:
        """Files of one kind."""
        return [f for f in self.files if f.kind is kind]


def is_side_name(name: str) -> bool:
    """True for a file that belongs to nothing else and may describe the stack beside it."""
    return not is_noise(name) and not is_tiff_name(name) and _OTHERS.search(name) is None


def read_stack(path: str, prefix: str, *, settled: bool) -> Stack | None:
    """The stack `prefix` of a folder, with the flats and darks that stand beside it or above; None if it is not
    there, or belongs to a stack in a folder beside this one. Raises UserError where the folder cannot be read.
    """
    with ExitStack() as opened:
        folder = opened.enter_context(ScanFolder(path))
        names = group_names(os.path.basename(path.rstrip("/")), folder.states, folder.folders)
        own = next((s for s in names.stacks if s.prefix == prefix), None)
        if own is None:
            return None
        around = _open_around(opened, folder, names, own)
        if around is None:
            return None
        root = os.path.dirname(path.rstrip("/")) if around else path
        inner = os.path.basename(path.rstrip("/")) + "/" if around else ""
        places = [_Place(folder, inner, owned_by(prefix, names.calibrations, (s.prefix for s in names.stacks)))]
        places += around
        text, text_state = _find_text(places, prefix, [s.prefix for s in names.stacks])
        kinds = _by_range(own, text) if own.meaning is Meaning.PROJECTIONS else {}
        files, left_out = _read_files(places, own, kinds, settled=settled)
        stacks = [s.prefix for s in names.stacks]
        taken = {f.state.path for f in files} | set(left_out)
        sides = [s for s in _sides(places[0], names, prefix, stacks) if s.path not in taken]
    if text_state is not None and text_state.path not in {s.path for s in sides}:
        sides.append(text_state)
    first = next((f.tiff for f in files if f.tiff is not None), None)
    return Stack(
        root=root,
        inner=inner,
        prefix=prefix,
        files=tuple(files),
        sides=tuple(sides),
        text=text,
        text_state=text_state,
        left_out=tuple(left_out),
        in_one_series=bool(kinds),
        told={} if first is None else first.texts,
    )


def read_lone(path: str, *, settled: bool, only: str | None = None) -> Iterator[Stack]:
    """Each lone file of a folder (or `only` that one) as a stack of its own pages, with the files beside it that are
    called like it.
    """
    with ScanFolder(path) as folder:
        names = group_names(os.path.basename(path.rstrip("/")), folder.states, folder.folders)
        lone = [n for n in names.lone if folder.states[n].link_target is None and only in (None, n)]
        stems = [name.rpartition(".")[0] for name in names.lone]
        for name in lone:
            file = _read_file(folder, name, name, FrameKind.PROJECTION, 0, zero=settled)
            stated = _stated_pages(file.tiff)
            if file.tiff is not None and stated is not None:
                file = _spread(file, stated)
            own = name.rpartition(".")[0]
            beside = [s for n, s in sorted(folder.states.items()) if is_side_name(n) and belongs_to(n, own, stems)]
            yield Stack(
                root=path,
                inner="",
                prefix=name,
                files=(file,),
                sides=tuple(s for s in beside if s.link_target is None),
                lone=True,
                stated_pages=stated,
                told={} if file.tiff is None else file.tiff.texts,
            )


@dataclass
class _Place:
    """An open folder, the prefix of its paths below the root, and the calibrations to take from it."""

    folder: ScanFolder
    inner: str
    calibrations: list[Series]


def _open_around(opened: ExitStack, folder: ScanFolder, names: TiffNames, own: Series) -> list[_Place] | None:
    """The folder above and its subfolders of flats and darks; [] where this folder stands for itself, None where
    it is itself one that a stack beside it takes its flats or darks from.
    """
    path = folder.path.rstrip("/")
    meaning = folder_meaning(os.path.basename(path))
    if meaning is None or names.calibrations or ".tomovault" in folder.folders or os.path.dirname(path) in ("/", ""):
        return []
    try:
        above = opened.enter_context(ScanFolder(os.path.dirname(path)))
    except UserError:
        return []
    if meaning is not Meaning.PROJECTIONS or own.meaning is not Meaning.PROJECTIONS:
        return None if any(_holds_stack(opened, above, name) for name in above.folders if is_inner(name)) else []
    inside = group_names(os.path.basename(above.path), above.states, above.folders)
    places = [_Place(above, "", list(inside.for_inner))]
    for name in above.folders:
        if folder_meaning(name) in (Meaning.FLATS, Meaning.DARKS):
            places += _calibration_folder(opened, above, name)
    return places if any(place.calibrations for place in places) else []


def _calibration_folder(opened: ExitStack, above: ScanFolder, name: str) -> list[_Place]:
    meaning = folder_meaning(name)
    try:
        folder = opened.enter_context(ScanFolder(os.path.join(above.path, name)))
    except UserError:
        return []
    numbered = group_names(name, folder.states)
    series = [replace(s, meaning=meaning) for s in (*numbered.stacks, *numbered.calibrations) if meaning]
    lone = [n for n in numbered.lone if meaning]
    if meaning and lone:
        series.append(Series(f"{name}/", meaning, dict(enumerate(lone))))
    return [_Place(folder, f"{name}/", series)]


def _holds_stack(opened: ExitStack, above: ScanFolder, name: str) -> bool:
    try:
        folder = opened.enter_context(ScanFolder(os.path.join(above.path, name)))
    except UserError:
        return False
    found = group_names(name, folder.states)
    return any(s.meaning is Meaning.PROJECTIONS for s in found.stacks) and not found.calibrations


def _find_text(
    places: Sequence[_Place], prefix: str, stacks: Sequence[str]
) -> tuple[StackText | None, FileState | None]:
    """The best text that announces a number of projections: named after the stack, else the only one."""
    for place in places:
        folder = place.folder
        names = [n for n in folder.states if n.lower().endswith(ENDINGS) and not is_noise(n)]
        own = [n for n in names if n.rpartition(".")[0].rstrip("_-. ") == stem_of(prefix)]
        others = [n for n in names if n not in own] if len(stacks) == 1 else []
        for name in (*own, *others):
            state = folder.states[name]
            if state.link_target is not None:
                continue
            try:
                text = parse_text(place.inner + name, folder.read_text(name, LONGEST_TEXT))
            except OSError:
                continue
            if text.projections:
                return text, replace(state, path=place.inner + name)
    return None, None


def _by_range(series: Series, text: StackText | None) -> dict[int, FrameKind]:
    """Kinds of indices where one series holds darks, flats, projections and flats again, counted from 1."""
    if text is None or not text.in_one_series or not (text.darks or text.flats) or text.inter_flats:
        return {}
    darks, flats, projections = text.darks or 0, text.flats or 0, text.projections or 0
    if max(series.names) <= projections:
        return {}
    kinds: dict[int, FrameKind] = {}
    for index in series.names:
        if index <= darks:
            kinds[index] = FrameKind.DARK
        elif index <= darks + flats:
            kinds[index] = FrameKind.FLAT
        elif index > darks + flats + projections:
            kinds[index] = FrameKind.FLAT if index <= darks + 2 * flats + projections else FrameKind.ALIGNMENT
    return kinds


_KINDS = {
    Meaning.DARKS: FrameKind.DARK,
    Meaning.FLATS: FrameKind.FLAT,
    Meaning.PROJECTIONS: FrameKind.PROJECTION,
    Meaning.SLICES: FrameKind.INVALID,
}
_ORDER = {FrameKind.DARK: 0, FrameKind.FLAT: 1}


def _read_files(
    places: Sequence[_Place], own: Series, by_range: Mapping[int, FrameKind], *, settled: bool
) -> tuple[list[StackFile], list[str]]:
    """Darks, flats, then the series itself by index; links are left out."""
    wanted: list[tuple[_Place, str, FrameKind, int]] = []
    for place in places:
        for series in sorted(place.calibrations, key=lambda s: (_ORDER[_KINDS[s.meaning]], s.prefix)):
            wanted += [(place, n, _KINDS[series.meaning], i) for i, n in sorted(series.names.items())]
    wanted.sort(key=lambda row: _ORDER[row[2]])
    usual = _KINDS[own.meaning]
    wanted += [(places[0], n, by_range.get(i, usual), i) for i, n in sorted(own.names.items())]
    files: list[StackFile] = []
    left_out: list[str] = []
    zeros = pages = 0
    for place, name, kind, index in wanted:
        path = place.inner + name
        if place.folder.states[name].link_target is not None:
            left_out.append(path)
            continue
        file = _read_file(
            place.folder, name, path, kind, index, zero=settled, whole=zeros < _ZERO_READS, most=MOST_PAGES - pages
        )
        zeros += file.zero
        pages += len(file.pages)
        files.append(file)
    return files, left_out


def _read_file(
    folder: ScanFolder,
    name: str,
    path: str,
    kind: FrameKind,
    index: int,
    *,
    zero: bool,
    whole: bool = True,
    most: int = MOST_PAGES,
) -> StackFile:
    file = StackFile(replace(folder.states[name], path=path), kind, index)
    try:
        with folder.open_file(name) as descriptor:
            tiff = read_tiff(descriptor, most_pages=max(1, most))
            first = tiff.pages[0]
            blank = (
                zero
                and not tiff.problem
                and first.offset is not None
                and is_all_zero(descriptor, first.offset, first.length, whole=whole)
            )
    except TiffError as error:
        return replace(file, problem=str(error))
    except OSError as error:
        return replace(file, problem=f"cannot be read: {error.strerror or error}")
    return replace(file, tiff=tiff, problem=tiff.problem, zero=blank)


def _sides(place: _Place, names: TiffNames, prefix: str, stacks: Sequence[str]) -> list[FileState]:
    """Everything else in the folder that is of no other format; files named after another stack are its own."""
    in_series = {n for s in (*names.stacks, *names.calibrations, *names.slices) for n in s.names.values()}
    return [
        replace(state, path=place.inner + name)
        for name, state in sorted(place.folder.states.items())
        if state.link_target is None
        and name not in in_series
        and name not in names.lone_slices
        and (is_side_name(name) or is_tiff_name(name))
        and belongs_to(name, prefix, stacks)
    ]


def _stated_pages(tiff: TiffFile | None) -> int | None:
    """The number of images that ImageJ or tifffile wrote into the description of the first."""
    text = "" if tiff is None else tiff.texts.get(DESCRIPTION, "")
    if text.startswith("ImageJ="):
        found = _IMAGEJ.search(text)
        return int(found[1]) if found else 1
    if text.startswith("{"):
        try:
            shape = json.loads(text).get("shape")
        except (ValueError, AttributeError, RecursionError):
            return None
        page = tiff.pages[0] if tiff is not None else None
        if page is None or not isinstance(shape, list) or shape[1:] != [page.height, page.width]:
            return None
        return shape[0] if isinstance(shape[0], int) and shape[0] > 0 else None
    return None


def _spread(file: StackFile, stated: int) -> StackFile:
    """ImageJ writes a stack of more than 4 GB with one directory: the other images follow without their own."""
    tiff = file.tiff
    if tiff is None or len(tiff.pages) != 1 or not 1 < stated <= MOST_PAGES or tiff.pages[0].offset is None:
        return file
    first = tiff.pages[0]
    start = first.offset or 0
    there = min(stated, (tiff.size - start) // first.length)
    pages = tuple(
        replace(first, offset=start + at * first.length, end=start + (at + 1) * first.length) for at in range(there)
    )
    problem = file.problem or ("" if there == stated else f"{tiff.size} bytes of {start + stated * first.length}")
    return replace(file, tiff=replace(tiff, pages=pages or tiff.pages), problem=problem)


def date_of(stack: Stack) -> str:
    """The DateTime of the first image, '' where it has none."""
    return stack.told.get(DATE, "")
