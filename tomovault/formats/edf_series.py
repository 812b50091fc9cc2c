"""Everything that a certificate of an EDF series rests on, read from its folder."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from tomovault.core.scan import FileState
from tomovault.formats.edf_header import EdfHeader, HeaderError, read_header
from tomovault.formats.edf_names import SeriesNames, prefixes, sort_names
from tomovault.formats.scan_folder import ScanFolder, is_all_zero
from tomovault.formats.spec_text import LONGEST_TEXT, XmlText, parse_info, parse_xml, whole

#: Rotation axes of EDF scans, in order of preference.
ROTATION_MOTORS = ("srot", "somega")
#: Files whose samples are all zero are read whole, until so many are known to be zero.
_ZERO_READS = 3
#: Reading failed, but the bytes may be right: an answer of the file system, not of the file.
_REFUSED = frozenset({errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE, errno.ELOOP})


@dataclass(frozen=True)
class FrameFile:
    """One `.edf` as found. `problem` says why it is not whole ('' if it is); `refused` that it could not be read."""

    name: str
    size: int
    mtime_ns: int
    header_length: int = 0
    body: int = 0
    dtype: str | None = None
    shape: tuple[int, int] | None = None
    rotation_deg: float | None = None
    no_summed: int | None = None
    problem: str = ""
    refused: bool = False
    extra: int = 0
    zero: bool = False


@dataclass(frozen=True)
class Announced:
    """The counts that `.info` and `.xml` announce, each None where it is not said."""

    tomo_n_info: int | None = None
    tomo_n_xml: int | None = None
    ref_n: int | None = None
    ref_on: int | None = None
    dark_n: int | None = None

    @property
    def tomo_n(self) -> int | None:
        """The larger of the announced numbers of projections."""
        return max((n for n in (self.tomo_n_info, self.tomo_n_xml) if n), default=None)


@dataclass(frozen=True)
class Series:
    """One prefix of a folder: names, metadata and the state of every frame file by name."""

    prefix: str
    names: SeriesNames
    states: Mapping[str, FileState]
    frames: Mapping[str, FrameFile]
    info: Mapping[str, str] | None
    xml: XmlText | None
    announced: Announced
    first_header: EdfHeader | None = None
    problems: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    left_out: frozenset[str] = field(default_factory=frozenset)
    metadata_states: Mapping[str, FileState] = field(default_factory=dict)
    leftovers: tuple[str, ...] = ()


def read_series(folder: ScanFolder, prefix: str, *, settled: bool, metadata: ScanFolder | None = None) -> Series:
    """Look at every frame's header and size, and read the texts. Bodies are sampled for zeros only if `settled`."""
    own = prefixes(os.path.basename(folder.path), folder.states)
    names = sort_names(prefix, folder.states, own)
    problems: list[str] = []
    left_out: set[str] = set()
    targets: dict[str, str] = {}
    for name, state in folder.states.items():
        if state.link_target is None:
            continue
        target = folder.link_goes_to(name)
        if target is None:
            left_out.add(name)
            if name in _all_names(names):
                problems.append(f"{name} is a link to {state.link_target}, which is no file of this folder; left out")
        else:
            targets[name] = target
    frames, first_header = _read_frames(folder, names, targets, left_out, settled=settled)
    info, xml, refused = _read_texts(folder, names, targets, metadata, prefix)
    return Series(
        prefix=prefix,
        names=names,
        states=folder.states,
        frames=frames,
        info=info,
        xml=xml,
        announced=announce(info or {}, xml.values if xml else {}),
        first_header=first_header,
        problems=tuple(problems),
        refused=tuple(refused),
        left_out=frozenset(left_out),
        metadata_states=_metadata_states(metadata, prefix),
    )


def announce(info: Mapping[str, str], xml: Mapping[str, str]) -> Announced:
    """Counts from both texts; the `.info` comes first where both speak."""

    def said(key: str) -> int | None:
        value = whole(info.get(key))
        return whole(xml.get(key)) if value is None else value

    return Announced(
        tomo_n_info=whole(info.get("tomo_n")) or None,
        tomo_n_xml=whole(xml.get("tomo_n")) or None,
        ref_n=said("ref_n"),
        ref_on=said("ref_on"),
        dark_n=said("dark_n"),
    )


def frame_names(names: SeriesNames) -> Iterator[str]:
    """Every `.edf` of the series: projections by index, then flats, then darks."""
    for index in sorted(names.projections):
        yield names.projections[index]
    yield from (flat.name for flat in names.flats)
    yield from names.reduced_flats.values()
    yield from names.darks


def _all_names(names: SeriesNames) -> set[str]:
    texts = {n for n in (names.info, names.xml, names.abort) if n}
    return {*frame_names(names), *texts, *names.side}


def _read_frames(
    folder: ScanFolder, names: SeriesNames, targets: Mapping[str, str], left_out: set[str], *, settled: bool
) -> tuple[dict[str, FrameFile], EdfHeader | None]:
    frames: dict[str, FrameFile] = {}
    first: EdfHeader | None = None
    zeros = 0
    for name in frame_names(names):
        if name in left_out:
            continue
        frame, header = look_at_frame(folder, targets.get(name, name), zero=settled, whole=zeros < _ZERO_READS)
        zeros += frame.zero
        frames[name] = frame
        if first is None and header is not None:
            first = header
    return frames, first


def look_at_frame(
    folder: ScanFolder, name: str, *, zero: bool, whole: bool = True
) -> tuple[FrameFile, EdfHeader | None]:
    """Header, size against what the header promises, and (if `zero`) whether the body is all zero."""
    state = folder.states[name]
    blank = FrameFile(name, state.size, state.mtime_ns)
    try:
        with folder.open_file(name) as descriptor:
            size = os.fstat(descriptor).st_size
            header = read_header(descriptor)
            frame = _judge(name, size, state.mtime_ns, header)
            if zero and not frame.problem and is_all_zero(descriptor, header.length, frame.body, whole=whole):
                frame = _with(frame, zero=True)
            return frame, header
    except HeaderError as error:
        return _with(blank, problem=str(error)), None
    except OSError as error:
        refused = error.errno in _REFUSED
        return _with(blank, problem=f"cannot be read: {error.strerror or error}", refused=refused), None


def _judge(name: str, size: int, mtime_ns: int, header: EdfHeader) -> FrameFile:
    body = header.body
    problem = ""
    if body is None:
        problem, body = "the header does not say how long its data is", 0
    elif size < header.length + body:
        problem = f"{size} bytes of {header.length + body}"
    motors = header.motors()
    rotation = next((motors[m] for m in ROTATION_MOTORS if m in motors), None)
    return FrameFile(
        name=name,
        size=size,
        mtime_ns=mtime_ns,
        header_length=header.length,
        body=body,
        dtype=header.dtype,
        shape=header.shape,
        rotation_deg=rotation,
        no_summed=whole(header.keys.get("no_summed")),
        problem=problem,
        extra=max(0, size - header.length - body),
    )


def _with(frame: FrameFile, **changes: object) -> FrameFile:
    return FrameFile(**{**frame.__dict__, **changes})


def _read_texts(
    folder: ScanFolder, names: SeriesNames, targets: Mapping[str, str], metadata: ScanFolder | None, prefix: str
) -> tuple[dict[str, str] | None, XmlText | None, list[str]]:
    refused: list[str] = []

    def text(name: str | None, ending: str) -> bytes | None:
        place: ScanFolder | None = folder
        if name is None and metadata is not None:
            place, name = metadata, f"{prefix}{ending}"
        if place is None or name is None or name not in place.states:
            return None
        try:
            return place.read_text(targets.get(name, name) if place is folder else name, LONGEST_TEXT)
        except OSError as error:
            refused.append(f"{name} cannot be read: {error.strerror or error}")
            return None

    info, xml = text(names.info, ".info"), text(names.xml, ".xml")
    return (
        None if info is None else parse_info(info),
        None if xml is None else parse_xml(xml),
        refused,
    )


def _metadata_states(metadata: ScanFolder | None, prefix: str) -> dict[str, FileState]:
    if metadata is None:
        return {}
    wanted = [f"{prefix}{ending}" for ending in (".info", ".xml", ".abo")]
    return {n: metadata.states[n] for n in wanted if n in metadata.states and metadata.states[n].link_target is None}
