"""A tape file: a pax tar that says what is in it before and proves it after.

    MANIFEST.json                 what follows, with sizes, digests and offsets (`Bundle`)
    manifests/0001.json           the manifest text of the first package
    packages/0001/<file name>     its files
    ...
    TRAILER.json                  bundle, bytes before this member, their sha256

The manifest ends with its last record, so that damage to a package's record never hides what else is there.
Headers are those of the standard library's tarfile in pax format, so `tar` reads a bundle. A bundle without a valid
trailer does not exist.
"""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from tomovault.core.errors import IntegrityError, UserError
from tomovault.core.ports import Checkpoint, Parcel, Throttle
from tomovault.core.replica import StoredFile
from tomovault.core.wire import from_plain, to_plain
from tomovault.tiers.blocks import BLOCK, is_file_name, source_blocks
from tomovault.tiers.cartridge import RECORD

MANIFEST = "MANIFEST.json"
TRAILER = "TRAILER.json"
_KIND = "tomovault-bundle"
_FORMAT = 1
_TAR_BLOCK = 512
#: A manifest larger than this is damage, not a manifest.
_LARGEST_TEXT = 1 << 30
_OFFSET_DIGITS = 20
#: Where a tar header has the sum of its own bytes, this field taken for spaces.
_CHECKSUM = (148, 156)

#: Name, size and sha256 of a file.
Row = tuple[str, int, str]


class NoTrailer(IntegrityError):
    """The tape file ends before the trailer: the bundle was never finished and does not exist."""


class Source(Protocol):
    """A tape file, or any stream that can be read forward."""

    position: int

    def read(self, count: int) -> bytes:
        """The next bytes, fewer only at the end."""

    def skip_to(self, position: int) -> None:
        """Pass over bytes."""


@dataclass(frozen=True)
class BundleFile:
    """A package's file as a member of the tar: `offset` is of its first byte within the tape file."""

    name: str
    size: int
    sha256: str
    member: str
    offset: int = 0


@dataclass(frozen=True)
class BundlePackage:
    """A package in a bundle, with where its manifest text is."""

    scan: str
    scan_name: str
    product: str
    digest: str
    group: str
    manifest: BundleFile
    files: tuple[BundleFile, ...]


@dataclass(frozen=True)
class Bundle:
    """What MANIFEST.json holds. `copy` counts from 1; `trailer` is the offset of the trailer's header."""

    bundle: str
    job: str
    tier: str
    pool: str
    copy: int
    written_at: datetime
    packages: tuple[BundlePackage, ...]
    trailer: int = 0

    def members(self) -> Iterator[BundleFile]:
        """All members between manifest and trailer, in their order."""
        for package in self.packages:
            yield package.manifest
            yield from package.files


def file_name(stored: StoredFile) -> str:
    """The name of a file without its folder, short and safe enough for any file system. Raises UserError."""
    name = os.path.basename(stored.location)
    if not is_file_name(name):
        raise UserError(f"{stored.location!r} does not end in a file's name")
    return name


def checked_names(parcel: Parcel) -> list[str]:
    """The names of a parcel's files. Raises UserError where there are none or two are equal."""
    names = [file_name(stored) for stored in parcel.files]
    if not names:
        raise UserError(f"the parcel of {parcel.scan_name!r} has no files")
    if len(set(names)) != len(names):
        raise UserError(f"two files of the parcel of {parcel.scan_name!r} have one name")
    return names


def parcel_key(parcel: Parcel) -> str:
    """Hex sha256 of what a parcel is: equal for equal content of the same scan, wherever its files lie."""
    files: list[Row] = [
        (name, f.size, f.sha256.lower()) for name, f in zip(checked_names(parcel), parcel.files, strict=True)
    ]
    return _key(parcel.scan, parcel.product, parcel.digest, files, hashlib.sha256(manifest_bytes(parcel)).hexdigest())


def package_key(package: BundlePackage) -> str:
    """As `parcel_key`, of a package found on a medium."""
    files: list[Row] = [(f.name, f.size, f.sha256) for f in package.files]
    return _key(package.scan, package.product, package.digest, files, package.manifest.sha256)


def _key(scan: str, product: str, digest: str, files: Sequence[Row], manifest: str) -> str:
    return hashlib.sha256(json.dumps([scan, product, digest, files, manifest]).encode("ascii")).hexdigest()


def manifest_bytes(parcel: Parcel) -> bytes:
    """The manifest text as stored."""
    return parcel.manifest.encode("utf-8", "surrogateescape")


def plan_bundle(
    parcels: Sequence[Parcel], *, bundle: str, job: str, tier: str, pool: str, copy: int, now: datetime
) -> Bundle:
    """The bundle of these parcels with every offset. Raises UserError for a parcel that cannot be stored."""
    packages = []
    for number, parcel in enumerate(parcels, start=1):
        text = manifest_bytes(parcel)
        sha = hashlib.sha256(text).hexdigest()
        member = f"manifests/{number:04d}.json"
        files = tuple(
            BundleFile(name, f.size, f.sha256.lower(), f"packages/{number:04d}/{name}")
            for name, f in zip(checked_names(parcel), parcel.files, strict=True)
        )
        manifest = BundleFile(member, len(text), sha, member)
        packages.append(
            BundlePackage(parcel.scan, parcel.scan_name, parcel.product, parcel.digest, parcel.group, manifest, files)
        )
    return _placed(Bundle(bundle, job, tier, pool, copy, now, tuple(packages)))


def _placed(bundle: Bundle) -> Bundle:
    """Offsets filled in. The manifest's own length does not depend on them: its text is padded with spaces."""
    position = _end_of(MANIFEST, _manifest_size(bundle), bundle, 0)
    packages = []
    for package in bundle.packages:
        found = []
        for file in (package.manifest, *package.files):
            offset = position + len(_tar_header(file.member, file.size, bundle))
            found.append(replace(file, offset=offset))
            position = _end_of(file.member, file.size, bundle, position)
        packages.append(replace(package, manifest=found[0], files=tuple(found[1:])))
    return replace(bundle, packages=tuple(packages), trailer=position)


def _end_of(name: str, size: int, bundle: Bundle, start: int) -> int:
    return start + len(_tar_header(name, size, bundle)) + size + -size % _TAR_BLOCK


def _tar_header(name: str, size: int, bundle: Bundle) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = size
    info.mode = 0o444
    info.mtime = int(bundle.written_at.timestamp())
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _manifest_text(bundle: Bundle) -> bytes:
    return json.dumps({_KIND: _FORMAT, **to_plain(bundle)}, indent=1).encode("ascii")


def _manifest_size(bundle: Bundle) -> int:
    bare = tuple(
        replace(p, manifest=replace(p.manifest, offset=0), files=tuple(replace(f, offset=0) for f in p.files))
        for p in bundle.packages
    )
    offsets = 1 + sum(1 for _ in bundle.members())
    least = len(_manifest_text(replace(bundle, packages=bare, trailer=0))) + _OFFSET_DIGITS * offsets
    return least + -(least + _TAR_BLOCK) % RECORD


def bundle_size(bundle: Bundle) -> int:
    """Bytes of the tar up to the end of its trailer, at most."""
    return bundle.trailer + 8 * _TAR_BLOCK


def write_bundle(
    bundle: Bundle,
    parcels: Sequence[Parcel],
    write: Callable[[bytes], None],
    throttle: Throttle,
    checkpoint: Checkpoint,
) -> None:
    """The whole tar goes to `write`; each source is read once and checked on the way.

    Raises IntegrityError, SourceChanged, and whatever `write` raises.
    """
    sha, position = hashlib.sha256(), 0

    def put(data: bytes) -> None:
        nonlocal position
        sha.update(data)
        position += len(data)
        write(data)

    text = _manifest_text(bundle).ljust(_manifest_size(bundle))
    _put_text(put, MANIFEST, text, bundle)
    checkpoint("archive.manifest")
    for package, parcel in zip(bundle.packages, parcels, strict=True):
        _put_text(put, package.manifest.member, manifest_bytes(parcel), bundle)
        for file, stored in zip(package.files, parcel.files, strict=True):
            put(_tar_header(file.member, file.size, bundle))
            if position != file.offset:
                raise IntegrityError(f"{file.member} begins at {position}, planned was {file.offset}")
            for block in source_blocks(stored, throttle):
                put(block)
            put(bytes(-file.size % _TAR_BLOCK))
            checkpoint("archive.member")
    trailer = {_KIND: _FORMAT, "bundle": bundle.bundle, "bytes": position, "sha256": sha.hexdigest()}
    _put_text(put, TRAILER, json.dumps(trailer).encode("ascii"), bundle)
    put(bytes(2 * _TAR_BLOCK))
    checkpoint("archive.trailer")


def _put_text(put: Callable[[bytes], None], name: str, text: bytes, bundle: Bundle) -> None:
    put(_tar_header(name, len(text), bundle))
    put(text + bytes(-len(text) % _TAR_BLOCK))


class HashedSource:
    """A source whose bytes are hashed from its beginning, as they are read."""

    def __init__(self, source: Source, throttle: Throttle) -> None:
        self._source = source
        self._throttle = throttle
        self.sha = hashlib.sha256()

    @property
    def position(self) -> int:
        """Bytes read so far."""
        return self._source.position

    def read(self, count: int) -> bytes:
        """As `Source.read`."""
        data = self._source.read(count)
        self._throttle.spend(len(data))
        self.sha.update(data)
        return data


def next_member(read: Callable[[int], bytes]) -> tuple[str, int] | None:
    """Name and size of the member whose header comes next; None at the end of the tar. Raises IntegrityError."""
    pax: dict[str, bytes] = {}
    while True:
        header = read(_TAR_BLOCK)
        if len(header) < _TAR_BLOCK or not header.strip(b"\0"):
            return None
        try:
            info = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
        except tarfile.HeaderError as problem:
            raise IntegrityError(f"a tar header is damaged: {problem}") from problem
        if info.type != tarfile.XHDTYPE:
            name = pax["path"].decode("utf-8", "surrogateescape") if "path" in pax else info.name
            return name, _whole_number(pax["size"]) if "size" in pax else _sound_size(info.size)
        pax = _pax_records(_read_padded(read, _sound_size(info.size)))


def _pax_records(body: bytes) -> dict[str, bytes]:
    """Records of a pax header: '<length> <key>=<value>' and a newline each (POSIX.1-2001, pax interchange format)."""
    records = {}
    at = 0
    while at < len(body):
        length, _, _ = body[at:].partition(b" ")
        count = _whole_number(length)
        if count <= len(length) + 1:
            raise IntegrityError("a pax header is damaged")
        key, _, value = body[at + len(length) + 1 : at + count - 1].partition(b"=")
        records[key.decode("ascii", "replace")] = value
        at += count
    return records


def _whole_number(digits: bytes) -> int:
    if not digits.isdigit() or len(digits) > _OFFSET_DIGITS:
        raise IntegrityError("a pax header is damaged: a size in it is no number")
    return int(digits)


def _sound_size(size: int) -> int:
    if size < 0:
        raise IntegrityError(f"a tar header tells of {size} bytes")
    return size


def _read_padded(read: Callable[[int], bytes], size: int) -> bytes:
    if size > _LARGEST_TEXT:
        raise IntegrityError(f"a text of {size} bytes in a bundle is damage")
    return read(size + -size % _TAR_BLOCK)[:size]


def read_manifest(source: Source | HashedSource) -> Bundle:
    """The manifest at the beginning of a tape file. Raises IntegrityError where there is none."""
    member = next_member(source.read)
    if member is None or member[0] != MANIFEST:
        raise IntegrityError("it does not begin with a bundle's manifest")
    try:
        plain = json.loads(_read_padded(source.read, member[1]))
        if plain.pop(_KIND, None) != _FORMAT:
            raise ValueError("not of a format known here")
        bundle = from_plain(Bundle, plain)
        _check_manifest(bundle, source.position)
    except (ValueError, TypeError, AttributeError, RecursionError) as problem:
        raise IntegrityError(f"its manifest is damaged: {problem}") from problem
    return bundle


def _check_manifest(bundle: Bundle, position: int) -> None:
    """Raises ValueError for members that cannot stand as told behind the manifest, which ends at `position`."""
    if bundle.written_at.tzinfo is None:
        raise ValueError("a time without a zone")
    for number, package in enumerate(bundle.packages, start=1):
        _check_names(package, number)
    for file in bundle.members():
        if file.size < 0 or file.offset < position + _TAR_BLOCK:
            raise ValueError(f"{file.member!r} of {file.size} bytes begins at {file.offset}, which cannot be")
        position = file.offset + file.size + -file.size % _TAR_BLOCK
    if bundle.trailer < position:
        raise ValueError(f"its trailer is said to begin at {bundle.trailer}, which cannot be")


def _check_names(package: BundlePackage, number: int) -> None:
    """Raises ValueError unless each file has a name of its own, and its member the place that `plan_bundle` gives."""
    names = [file.name for file in package.files]
    if not names or len(set(names)) != len(names):
        raise ValueError(f"package {number} has no files, or two of one name")
    if strange := [name for name in names if not is_file_name(name)]:
        raise ValueError(f"{strange[0]!r} is no file's name")
    text = f"manifests/{number:04d}.json"
    right = [(text, text), *((name, f"packages/{number:04d}/{name}") for name in names)]
    for file, wanted in zip((package.manifest, *package.files), right, strict=True):
        if (file.name, file.member) != wanted:
            raise ValueError(f"{file.member!r} is where {wanted[1]!r} should be")


def read_text(source: Source, file: BundleFile) -> bytes:
    """A small member's bytes, `source` standing before it. Raises IntegrityError where they are not right."""
    source.skip_to(file.offset)
    data = _read_padded(source.read, file.size)
    if len(data) != file.size or hashlib.sha256(data).hexdigest() != file.sha256:
        raise IntegrityError(f"{file.member!r} is damaged")
    return data


def member_blocks(source: Source, file: BundleFile, throttle: Throttle) -> Iterator[bytes]:
    """The bytes of a member, `source` standing before it; whoever uses them checks their digest."""
    source.skip_to(file.offset)
    left = file.size
    while left:
        block = source.read(min(left, BLOCK))
        if not block:
            raise IntegrityError(f"the tape file ends within {file.member!r}")
        throttle.spend(len(block))
        left -= len(block)
        yield block


def check_file(source: Source, file: BundleFile, throttle: Throttle) -> None:
    """Every byte of one member was read and is right, `source` standing before it. Raises IntegrityError."""
    sha = hashlib.sha256()
    for block in member_blocks(source, file, throttle):
        sha.update(block)
    if sha.hexdigest() != file.sha256:
        raise IntegrityError(f"{file.member!r} is damaged: sha256 {sha.hexdigest()}")


def read_trailer(source: Source, bundle: Bundle) -> str:
    """The sha256 that the trailer gives of everything before it. Raises IntegrityError where there is no trailer."""
    source.skip_to(bundle.trailer)
    return _trailer(source.read, bundle)


def _trailer(read: Callable[[int], bytes], bundle: Bundle) -> str:
    member = next_member(read)
    if member is None:
        raise NoTrailer("it has no trailer: the bundle was never finished")
    if member[0] != TRAILER:
        raise IntegrityError(f"{member[0]!r} is where its trailer should be")
    try:
        trailer = json.loads(_read_padded(read, member[1]))
        right = trailer[_KIND] == _FORMAT and trailer["bundle"] == bundle.bundle and trailer["bytes"] == bundle.trailer
        sha256 = str(trailer["sha256"])
    except (ValueError, TypeError, KeyError, RecursionError) as problem:
        raise IntegrityError("its trailer is damaged") from problem
    if not right:
        raise IntegrityError("its trailer is of another bundle")
    return sha256


def check_bundle(source: Source, throttle: Throttle) -> Bundle:
    """Every byte of a tape file was read and is right: members, digests, trailer, and zeros to the end.

    Raises NoTrailer where it ends too early, and IntegrityError.
    """
    hashed = HashedSource(source, throttle)
    bundle = read_manifest(hashed)
    for file in bundle.members():
        member = next_member(hashed.read)
        if member is None:
            raise NoTrailer(f"it ends before {file.member!r}: the bundle was never finished")
        if member != (file.member, file.size) or hashed.position != file.offset:
            raise IntegrityError(f"{file.member!r} is not where the manifest says")
        _check_member(hashed, file)
    whole, tail = hashed.sha.hexdigest(), bytearray()

    def read(count: int) -> bytes:
        tail.extend(data := hashed.read(count))
        return data

    if hashed.position != bundle.trailer or _trailer(read, bundle) != whole:
        raise IntegrityError("the trailer's digest is not that of the bundle")
    _check_tail(bytes(tail), hashed)
    return bundle


def _check_tail(trailer: bytes, hashed: HashedSource) -> None:
    """Nothing is changed in what no digest speaks of: the head and the padding of the trailer, and what follows it."""
    head = trailer[:_TAR_BLOCK]
    start, end = _CHECKSUM
    told = b"%06o\0 " % (sum(head) - sum(head[start:end]) + sum(b" " * (end - start)))
    text = trailer[_TAR_BLOCK:].rstrip(b"\0")
    if head[start:end] != told or not text.endswith(b"}"):
        raise IntegrityError("its trailer is damaged")
    while rest := hashed.read(BLOCK):
        if rest.strip(b"\0"):
            raise IntegrityError("what follows its trailer is damaged")


def _check_member(hashed: HashedSource, file: BundleFile) -> None:
    sha, left = hashlib.sha256(), file.size
    while left:
        block = hashed.read(min(left, BLOCK))
        if not block:
            raise NoTrailer(f"the tape file ends within {file.member!r}")
        sha.update(block)
        left -= len(block)
    hashed.read(-file.size % _TAR_BLOCK)
    if sha.hexdigest() != file.sha256:
        raise IntegrityError(f"{file.member!r} is damaged: sha256 {sha.hexdigest()}")
