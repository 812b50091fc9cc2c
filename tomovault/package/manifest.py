"""The manifest of a package: everything needed to give the original files back, as one JSON text.

Inside the package it is the scalar string `/tomovault/manifest`; beside it, the file `<stem>.manifest.json`.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tomovault.core.errors import IntegrityError
from tomovault.core.layout import FrameKind
from tomovault.core.manifest import ManifestFile, manifest_digest, path_bytes
from tomovault.package.coding import BLOSC2, FRAME_CODEC, LITERAL_BLOCK, LITERAL_CODEC, RAW

FORMAT_VERSION = 1

#: In every manifest, so that a package can be understood without this program.
IN_WORDS = (
    "Each file is its segments written one after the other. ['L', offset, length] are bytes of the literal store, "
    "['F', group, index] is a frame of a group. Each chunk of a group or of the literal store is [part, offset, "
    "length, sha256 of the stored bytes]: that many bytes at that offset of that part of the package (parts[0] is "
    "the file with this manifest). A chunk of a group is a frame, encoded as 'codec' says, or as it is where the "
    "group's codec is 'none'. The literal store is its chunks decoded (as they are where as long as 'block') and "
    "joined, of each the first 'raw' bytes (its fifth number)."
)

#: ('L', offset, length) or ('F', group, index).
Segment = tuple[str, int, int]


class StoredChunk(NamedTuple):
    """Where the bytes of a chunk lie: `offset` and `length` in part number `part`."""

    part: int
    offset: int
    length: int
    sha256: str


class FrameRecord(NamedTuple):
    """One frame of the acquisition and where it is stored."""

    order: int
    kind: FrameKind
    group: int
    position: int
    angle_deg: float | None
    summed: int


@dataclass
class FrameGroup:
    """Frames of one dtype and shape. `codec` is '' until the first frames have shown whether they shrink."""

    name: str
    dtype: str
    shape: tuple[int, int]
    codec: str = ""
    chunks: list[StoredChunk] = field(default_factory=list)


@dataclass
class DerivedFrames:
    """Frames made for readers of the view (a sum divided by its count); `orders` says of which frame each is."""

    group: FrameGroup
    orders: list[int] = field(default_factory=list)
    exact: bool = True


@dataclass(frozen=True)
class PackedFile:
    """An original file and the segments that rebuild it. A link or a further hard link has none."""

    meta: ManifestFile
    segments: tuple[Segment, ...] = ()


@dataclass
class Contents:
    """What a package holds; grows while it is written."""

    groups: list[FrameGroup] = field(default_factory=list)
    literals: list[tuple[StoredChunk, int]] = field(default_factory=list)
    frames: list[FrameRecord] = field(default_factory=list)
    files: list[PackedFile] = field(default_factory=list)
    derived: DerivedFrames | None = None

    def all_chunks(self) -> list[StoredChunk]:
        """Every stored chunk, of groups, literals and derived frames."""
        chunks = [chunk for group in self.groups for chunk in group.chunks]
        chunks += [chunk for chunk, _ in self.literals]
        if self.derived is not None:
            chunks += self.derived.group.chunks
        return chunks


@dataclass(frozen=True)
class PackageManifest:
    """A manifest that was read and found consistent. `parts` are names and sizes of the files of the package."""

    product: str
    stem: str
    scan: Mapping[str, Any]
    nx: Mapping[str, Any]
    parts: tuple[Mapping[str, Any], ...]
    contents: Contents
    text: str


def write_text(
    contents: Contents,
    *,
    stem: str,
    scan: Mapping[str, Any],
    nx: Mapping[str, Any],
    parts: list[dict[str, Any]],
    provenance: Mapping[str, Any],
) -> str:
    """The manifest as ASCII JSON, the bulky lists one item a line."""
    files = tuple(f.meta for f in contents.files)
    head = {
        "tomovault": FORMAT_VERSION,
        "kind": "package",
        "product": manifest_digest(files),
        "stem": stem,
        "in_words": IN_WORDS,
        "scan": dict(scan),
        "nx": dict(nx),
        "codec": FRAME_CODEC,
        "provenance": dict(provenance),
        "versions": provenance.get("versions", {}),
        "parts": parts,
    }
    body = contents_to_plain(contents)
    return json.dumps({**head, **body}, separators=(",", ":"), allow_nan=False)


def contents_to_plain(contents: Contents) -> dict[str, Any]:
    """Plain JSON values of everything in `contents`."""
    derived = contents.derived
    return {
        "files": [_file_to_plain(f) for f in contents.files],
        "groups": [_group_to_plain(g) for g in contents.groups],
        "literals": {
            "codec": LITERAL_CODEC,
            "block": LITERAL_BLOCK,
            "bytes": sum(raw for _, raw in contents.literals),
            "chunks": [[*chunk, raw] for chunk, raw in contents.literals],
        },
        "frames": [[f.order, int(f.kind), f.group, f.position, f.angle_deg, f.summed] for f in contents.frames],
        "derived": None
        if derived is None
        else {**_group_to_plain(derived.group), "orders": derived.orders, "exact": derived.exact},
    }


def contents_from_plain(plain: Mapping[str, Any]) -> Contents:
    """The reverse of `contents_to_plain`; raises KeyError, TypeError, ValueError or IndexError."""
    derived = plain["derived"]
    return Contents(
        groups=[_group_from_plain(g) for g in plain["groups"]],
        literals=[(_chunk_from_plain(c[:4]), _count(c[4])) for c in plain["literals"]["chunks"]],
        frames=[
            FrameRecord(
                _whole(o), FrameKind(k), _count(g), _count(i), None if a is None else float(a), max(1, _count(s))
            )
            for o, k, g, i, a, s in plain["frames"]
        ],
        files=[_file_from_plain(f) for f in plain["files"]],
        derived=None
        if derived is None
        else DerivedFrames(_group_from_plain(derived), [_whole(o) for o in derived["orders"]], bool(derived["exact"])),
    )


def read_text(text: str) -> PackageManifest:
    """Parse a manifest and check that it fits together; raises IntegrityError if it does not."""
    try:
        plain = json.loads(text)
        if plain["tomovault"] != FORMAT_VERSION or plain["kind"] != "package":
            raise IntegrityError(f"a manifest of version {plain['tomovault']}, which this tomovault does not know")
        contents = contents_from_plain(plain)
        manifest = PackageManifest(
            product=str(plain["product"]),
            stem=str(plain["stem"]),
            scan=dict(plain["scan"]),
            nx=dict(plain["nx"]),
            parts=tuple(dict(p) for p in plain["parts"]),
            contents=contents,
            text=text,
        )
        _check_references(contents, len(manifest.parts))
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RecursionError) as problem:
        raise IntegrityError(f"a package's manifest cannot be understood: {problem}") from problem
    if manifest_digest(tuple(f.meta for f in contents.files)) != manifest.product:
        raise IntegrityError("a package's manifest does not match its own product digest")
    return manifest


def _check_references(contents: Contents, parts: int) -> None:
    literal_bytes = sum(raw for _, raw in contents.literals)
    for chunk in contents.all_chunks():
        if chunk.part >= parts:
            raise ValueError("a chunk lies in a part that does not exist")
    for file in contents.files:
        length = sum(_segment_length(contents, s, literal_bytes) for s in file.segments)
        whole = file.meta.link_target is None and file.meta.hardlink_of is None
        if whole and length != file.meta.size:
            raise ValueError("the segments of a file are not as long as the file")
    for frame in contents.frames:
        _segment_length(contents, ("F", frame.group, frame.position), literal_bytes)


def _segment_length(contents: Contents, segment: Segment, literal_bytes: int) -> int:
    kind, first, second = segment
    if kind == "L":
        if first + second > literal_bytes:
            raise ValueError("a segment reaches beyond the literal store")
        return second
    group = contents.groups[first]
    if second >= len(group.chunks):
        raise ValueError("a segment names a frame that does not exist")
    return frame_bytes(group)


def frame_bytes(group: FrameGroup) -> int:
    """Bytes of one frame of a group, decoded."""
    return group.shape[0] * group.shape[1] * int(group.dtype[2:])


def _group_to_plain(group: FrameGroup) -> dict[str, Any]:
    return {
        "name": group.name,
        "dtype": group.dtype,
        "shape": list(group.shape),
        "codec": group.codec,
        "chunks": [list(c) for c in group.chunks],
    }


def _group_from_plain(plain: Mapping[str, Any]) -> FrameGroup:
    rows, columns = plain["shape"]
    if plain["codec"] not in (BLOSC2, RAW):
        raise ValueError(f"unknown codec {plain['codec']!r}")
    dtype = str(plain["dtype"])
    if dtype[:1] not in "<>|" or dtype[1:2] not in "uif":
        raise ValueError(f"unknown dtype {dtype!r}")
    return FrameGroup(
        str(plain["name"]),
        dtype,
        (_count(rows), _count(columns)),
        plain["codec"],
        [_chunk_from_plain(c) for c in plain["chunks"]],
    )


def _chunk_from_plain(plain: list[Any]) -> StoredChunk:
    part, offset, length, digest = plain
    return StoredChunk(_count(part), _count(offset), _count(length), str(digest))


def _whole(value: Any) -> int:
    if type(value) is not int:
        raise ValueError(f"{value!r} is not a whole number")
    return value


def _count(value: Any) -> int:
    if _whole(value) < 0:
        raise ValueError(f"{value!r} is negative")
    return int(value)


def _text_to_plain(plain: dict[str, Any], key: str, text: str) -> None:
    raw = path_bytes(text)
    try:
        plain[key] = raw.decode("utf-8")
    except UnicodeDecodeError:
        plain[key] = raw.decode("utf-8", "replace")
        plain[f"{key}_b64"] = base64.b64encode(raw).decode("ascii")


def _text_from_plain(plain: Mapping[str, Any], key: str) -> str | None:
    if f"{key}_b64" in plain:
        return base64.b64decode(plain[f"{key}_b64"], validate=True).decode("utf-8", "surrogateescape")
    value = plain.get(key)
    return None if value is None else str(value)


_OPTIONAL = ("uid", "gid", "owner", "group", "inode", "device", "ctime_ns")


def _file_to_plain(file: PackedFile) -> dict[str, Any]:
    meta = file.meta
    plain: dict[str, Any] = {}
    _text_to_plain(plain, "path", meta.path)
    plain.update(size=meta.size, mode=meta.mode, mtime_ns=meta.mtime_ns, sha256=meta.sha256, role=meta.role)
    if meta.link_target is not None:
        _text_to_plain(plain, "link_target", meta.link_target)
    if meta.hardlink_of is not None:
        _text_to_plain(plain, "hardlink_of", meta.hardlink_of)
    for key in _OPTIONAL:
        value = getattr(meta, key)
        if value is not None:
            plain[key] = value
    if meta.xattrs:
        plain["xattrs"] = [list(pair) for pair in meta.xattrs]
    plain["segments"] = [list(s) for s in file.segments]
    return plain


def _file_from_plain(plain: Mapping[str, Any]) -> PackedFile:
    path = _text_from_plain(plain, "path")
    if path is None:
        raise ValueError("a file without a path")
    meta = ManifestFile(
        path=path,
        size=_count(plain["size"]),
        sha256=str(plain["sha256"]),
        mode=_count(plain["mode"]),
        mtime_ns=_whole(plain["mtime_ns"]),
        link_target=_text_from_plain(plain, "link_target"),
        hardlink_of=_text_from_plain(plain, "hardlink_of"),
        xattrs=tuple((str(name), str(value)) for name, value in plain.get("xattrs", ())),
        role=str(plain.get("role", "side")),
        **{key: plain.get(key) for key in _OPTIONAL},
    )
    segments = tuple((_segment_kind(k), _count(a), _count(b)) for k, a, b in plain["segments"])
    return PackedFile(meta, segments)


def _segment_kind(value: Any) -> str:
    if value not in ("L", "F"):
        raise ValueError(f"unknown segment {value!r}")
    return str(value)
