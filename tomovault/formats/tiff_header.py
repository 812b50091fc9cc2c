"""The directories of a TIFF file (6.0 and BigTIFF, both byte orders). Pixels are never decoded.

Only the tags that say where an image lies and what its samples are get read. Every number in the file may be a
lie: chains of directories may loop, counts may be huge, offsets may lead past the end.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

#: A file with more images than this is not looked at any further.
MOST_PAGES = 500_000
#: A directory with more tags is damaged: the longest of real cameras have about a hundred.
_MOST_TAGS = 4096
#: So many strips or tiles an image may have: an image of 8192 rows has 8192 strips at most.
_MOST_STRIPS = 1 << 20
#: Text of a tag is read up to here.
_LONGEST_TEXT = 64 * 1024
#: More is in no image that a detector writes: 2^31 samples a side.
_LARGEST_SIDE = 1 << 31
_FIRST_READ = 4096
#: Numbers read over all images of a file: a table that many images share would cost time without end.
_MOST_NUMBERS = 1 << 24

#: Bytes a value, and its struct code where it is whole, by TIFF type number; 16 to 18 are of BigTIFF.
_TYPES: Mapping[int, tuple[int, str]] = {
    1: (1, "B"), 2: (1, "s"), 3: (2, "H"), 4: (4, "I"), 6: (1, "b"), 7: (1, "B"), 8: (2, "h"), 9: (4, "i"),
    5: (8, ""), 10: (8, ""), 11: (4, ""), 12: (8, ""), 13: (4, "I"), 16: (8, "Q"), 17: (8, "q"), 18: (8, "Q"),
}  # fmt: skip

WIDTH, HEIGHT, BITS, COMPRESSION, DESCRIPTION = 256, 257, 258, 259, 270
MAKE, MODEL, STRIP_OFFSETS, SAMPLES, STRIP_ROWS, STRIP_BYTES = 271, 272, 273, 277, 278, 279
SOFTWARE, DATE, TILE_WIDTH, TILE_OFFSETS, TILE_BYTES, SAMPLE_FORMAT = 305, 306, 322, 324, 325, 339
_WANTED = frozenset(
    {WIDTH, HEIGHT, BITS, COMPRESSION, STRIP_OFFSETS, SAMPLES, STRIP_ROWS, STRIP_BYTES, TILE_WIDTH, TILE_OFFSETS}
    | {TILE_BYTES, SAMPLE_FORMAT}
)
_TEXTS = frozenset({DESCRIPTION, MAKE, MODEL, SOFTWARE, DATE})
_FORMATS: Mapping[int, str] = {1: "u", 2: "i", 3: "f", 4: "u"}
_BYTES: Mapping[str, tuple[int, ...]] = {"u": (8, 16, 32, 64), "i": (8, 16, 32, 64), "f": (16, 32, 64)}


class TiffError(ValueError):
    """The file is not a TIFF file, or not a whole one; the text says in what way."""


@dataclass(frozen=True)
class Page:
    """One image of a file. `offset` is None where its bytes are not one plain C-ordered array (compressed, tiled,
    in scattered strips, several samples a pixel); `dtype` is None for samples that numpy has no type for.

    `end` is one past the last byte that belongs to the image; it may lie beyond the end of the file.
    """

    width: int
    height: int
    dtype: str | None
    offset: int | None
    length: int
    end: int
    compression: int = 1


@dataclass(frozen=True)
class TiffFile:
    """All images of a file, and what the first directory says in words (tag number to text)."""

    size: int
    pages: tuple[Page, ...]
    texts: Mapping[int, str]
    problem: str = ""


def read_tiff(descriptor: int, *, most_pages: int = MOST_PAGES) -> TiffFile:
    """Read every directory of an open file.

    What is wrong after the first image is told in `problem`, with the images before it. Raises TiffError where
    not even the first image can be described, OSError where reading fails.
    """
    reader = _Reader(descriptor)
    pages: list[Page] = []
    texts: dict[int, str] = {}
    problem = ""
    try:
        for tags in reader.directories():
            if len(pages) >= most_pages:
                problem = f"it has more than {most_pages} images"
                break
            if not pages:
                texts = {tag: reader.text(tags[tag]) for tag in sorted(_TEXTS & tags.keys())}
            pages.append(_page(reader, tags))
    except TiffError as error:
        if not pages:
            raise
        problem = f"after {len(pages)} images: {error}"
    if not pages:
        raise TiffError("it holds no image")
    if not problem:
        problem = _shortness(pages, reader.size)
    if not problem and reader.end > reader.size:
        problem = f"{reader.size} bytes of {reader.end}, its directories are cut"
    return TiffFile(reader.size, tuple(pages), texts, problem)


def _shortness(pages: list[Page], size: int) -> str:
    short = [at for at, page in enumerate(pages) if page.end > size]
    if not short:
        return ""
    needed = max(pages[at].end for at in short)
    return f"{size} bytes of {needed}" + (f", {len(short)} of {len(pages)} images are cut" if len(pages) > 1 else "")


#: A tag as found: type number, count, and the offset of its values in the file.
_Tag = tuple[int, int, int]


class _Reader:
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.size = os.fstat(descriptor).st_size
        self._head = os.pread(descriptor, _FIRST_READ, 0)
        self._numbers_left = _MOST_NUMBERS
        #: One past the last byte that directories and the values of their tags take.
        self.end = 0
        if len(self._head) < 8:
            raise TiffError("the file is empty" if not self._head else "the file is too short for a TIFF header")
        order = {b"II": "<", b"MM": ">"}.get(self._head[:2])
        if order is None:
            raise TiffError("the file does not start with a TIFF header")
        self.order = order
        version = self.unpack("H", self._head[2:4])[0]
        if version not in (42, 43):
            raise TiffError(f"the TIFF header has version {version}, not 42 or 43")
        self.big = version == 43
        if self.big and (len(self._head) < 16 or self.unpack("HH", self._head[4:8]) != (8, 0)):
            raise TiffError("the BigTIFF header is damaged")

    def unpack(self, code: str, raw: bytes) -> tuple[int, ...]:
        return struct.unpack(self.order + code, raw)

    def read(self, offset: int, length: int) -> bytes:
        """Exactly these bytes. Raises TiffError where the file has not so many."""
        end = offset + length
        if offset < 0 or end > self.size:
            raise TiffError(f"{length} bytes at {offset} are past the end of {self.size} bytes")
        if end <= len(self._head):
            return self._head[offset:end]
        raw = os.pread(self._descriptor, length, offset)
        if len(raw) != length:
            raise TiffError(f"the file became shorter while it was read ({self.size} bytes)")
        return raw

    def directories(self) -> Iterator[dict[int, _Tag]]:
        """Each directory of the main chain once. Raises TiffError on a loop or where one cannot be read."""
        offset = self.unpack("Q", self._head[8:16])[0] if self.big else self.unpack("I", self._head[4:8])[0]
        seen: set[int] = set()
        while offset:
            if offset in seen:
                raise TiffError(f"its directories form a loop at {offset}")
            seen.add(offset)
            tags, offset = self._directory(offset)
            yield tags

    def _directory(self, offset: int) -> tuple[dict[int, _Tag], int]:
        head, entry, pointer = (8, 20, 8) if self.big else (2, 12, 4)
        count = self.unpack("Q" if self.big else "H", self.read(offset, head))[0]
        if not 0 < count <= _MOST_TAGS:
            raise TiffError(f"the directory at {offset} announces {count} tags")
        raw = self.read(offset + head, count * entry)
        tags: dict[int, _Tag] = {}
        for at in range(count):
            start = at * entry
            tag, kind = self.unpack("HH", raw[start : start + 4])
            number = self.unpack("Q" if self.big else "I", raw[start + 4 : start + 4 + pointer])[0]
            size = _TYPES.get(kind, (0, ""))[0] * number
            where = offset + head + start + 4 + pointer
            if size > pointer:
                where = self.unpack("Q" if self.big else "I", raw[start + 4 + pointer : start + entry])[0]
                self.end = max(self.end, where + size)
            if tag in _WANTED or tag in _TEXTS:
                tags.setdefault(tag, (kind, number, where))
        end = offset + head + count * entry
        self.end = max(self.end, end + pointer)
        following = self.read(end, pointer) if end + pointer <= self.size else bytes(pointer)
        return tags, self.unpack("Q" if self.big else "I", following)[0]

    def numbers(self, tag: _Tag, most: int) -> tuple[int, ...]:
        """The whole numbers of a tag. Raises TiffError for other types, or more than `most` of them."""
        kind, count, where = tag
        size, code = _TYPES.get(kind, (0, ""))
        if not code or code == "s" or not 0 < count <= most:
            raise TiffError(f"a tag has {count} values of type {kind}")
        self._numbers_left -= count
        if self._numbers_left < 0:
            raise TiffError(f"its tables of strips hold more than {_MOST_NUMBERS} numbers")
        return self.unpack(f"{count}{code}", self.read(where, count * size))

    def text(self, tag: _Tag) -> str:
        """The text of a tag, '' where it is none or lies outside of the file."""
        kind, count, where = tag
        if kind not in (1, 2, 7) or count < 1:
            return ""
        try:
            raw = self.read(where, min(count, _LONGEST_TEXT, max(0, self.size - where)))
        except TiffError:
            return ""
        return raw.partition(b"\0")[0].decode("utf-8", "replace")


def _page(reader: _Reader, tags: Mapping[int, _Tag]) -> Page:
    width, height = (_one(reader, tags, tag, 0) for tag in (WIDTH, HEIGHT))
    if not (0 < width < _LARGEST_SIDE and 0 < height < _LARGEST_SIDE):
        raise TiffError(f"an image of {width} x {height} pixels")
    compression = _one(reader, tags, COMPRESSION, 1)
    samples = _one(reader, tags, SAMPLES, 1)
    dtype = _dtype(reader, tags, samples)
    tiled = TILE_OFFSETS in tags or TILE_WIDTH in tags
    runs = _runs(reader, tags, tiled=tiled)
    length = width * height * int(dtype[2:]) if dtype is not None else 0
    end = max((offset + count for offset, count in runs), default=0)
    if compression != 1 or tiled or samples != 1 or dtype is None:
        return Page(width, height, dtype, None, length, end, compression)
    return _plain(runs, width, height, dtype, length, end)


def _plain(runs: list[tuple[int, int]], width: int, height: int, dtype: str, length: int, end: int) -> Page:
    """An uncompressed image: in one piece, or in strips that follow each other without a gap."""
    offset = runs[0][0]
    for (first, count), (second, _) in pairwise(runs):
        if first + count != second:
            return Page(width, height, dtype, None, length, end)
    together = sum(count for _, count in runs)
    if together < length:
        if len(runs) > 1 or together > 0:
            raise TiffError(f"an image of {length} bytes with strips of {together} bytes")
        end = offset + length
    return Page(width, height, dtype, offset, length, max(end, offset + length))


def _one(reader: _Reader, tags: Mapping[int, _Tag], tag: int, default: int) -> int:
    if tag not in tags:
        return default
    kind, count, where = tags[tag]
    return reader.numbers((kind, min(count, 1), where), 1)[0]


def _dtype(reader: _Reader, tags: Mapping[int, _Tag], samples: int) -> str | None:
    """numpy's type string of a sample; None where samples differ or numpy has no such type."""
    bits = set(reader.numbers(tags[BITS], 1024)) if BITS in tags else {1}
    kinds = set(reader.numbers(tags[SAMPLE_FORMAT], 1024)) if SAMPLE_FORMAT in tags else {1}
    if len(bits) != 1 or len(kinds) != 1 or samples < 1:
        return None
    kind = _FORMATS.get(kinds.pop())
    size = bits.pop()
    if kind is None or size not in _BYTES[kind]:
        return None
    return f"{'|' if size == 8 else reader.order}{kind}{size // 8}"


def _runs(reader: _Reader, tags: Mapping[int, _Tag], *, tiled: bool) -> list[tuple[int, int]]:
    """(offset, bytes) of each strip or tile. A missing table of lengths is zeros."""
    where, lengths = (TILE_OFFSETS, TILE_BYTES) if tiled and TILE_OFFSETS in tags else (STRIP_OFFSETS, STRIP_BYTES)
    if where not in tags:
        raise TiffError("an image without data: no strips and no tiles")
    offsets = reader.numbers(tags[where], _MOST_STRIPS)
    counts = reader.numbers(tags[lengths], _MOST_STRIPS) if lengths in tags else (0,) * len(offsets)
    if len(counts) != len(offsets):
        raise TiffError(f"{len(offsets)} strips with {len(counts)} lengths")
    if min(offsets) <= 0 or min(counts) < 0:
        raise TiffError("a strip at no place of the file")
    return list(zip(offsets, counts, strict=True))
