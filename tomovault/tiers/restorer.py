#!/usr/bin/env python3
"""Read a tomovault cartridge, or a bundle copied from a tape, with nothing but Python 3 and its standard library.

    python3 restorer.py CARTRIDGE --list
    python3 restorer.py CARTRIDGE --extract FILE# FOLDER      every package of a bundle, checked against its sha256
    python3 restorer.py CARTRIDGE --tar FILE# > bundle.tar    a tape file as it is on a real tape

CARTRIDGE is a cartridge file of an emulated library, or a tar (then FILE# is 1), or '-' for a tar on standard input.
Exit code 0 if all was right, 4 if a digest was wrong or a bundle is not whole, 2 if the request was wrong.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import struct
import sys
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from typing import IO, Any, BinaryIO

MAGIC = b"TOMOVAULT TAPE1\n"
HEADER = 512
FRAME = struct.Struct("<8sBBHIIIQI")
BLOCK = 1 << 20


class Bad(Exception):
    """The medium is not what it should be."""


class TapeFile(io.RawIOBase):
    """The records of one tape file as a stream; with a hash of the first `hash_bytes` bytes."""

    def __init__(self, blocks: Iterator[bytes], hash_bytes: int = 0) -> None:
        super().__init__()
        self._blocks = blocks
        self._buffer = b""
        self._left = hash_bytes
        self.sha = hashlib.sha256()

    def read(self, count: int = -1, /) -> bytes:
        """The next bytes, fewer only at the end."""
        parts = []
        while count != 0:
            if not self._buffer:
                self._buffer = next(self._blocks, b"")
                self.sha.update(self._buffer[: self._left])
                self._left -= min(self._left, len(self._buffer))
                if not self._buffer:
                    break
            part = self._buffer if count < 0 else self._buffer[:count]
            self._buffer = self._buffer[len(part) :]
            count = count - len(part) if count > 0 else count
            parts.append(part)
        return b"".join(parts)


def read_frames(stream: BinaryIO) -> Iterator[tuple[int, int, bytes, bool]]:
    """(type, tape file number, payload, whole) of each frame of a cartridge file, until one is not a frame."""
    header = stream.read(HEADER)
    if len(header) < HEADER or struct.unpack("<I", header[-4:])[0] != zlib.crc32(header[:-4]):
        raise Bad("the cartridge's header is damaged")
    about = json.loads(header[len(MAGIC) : -4].rstrip(b"\0"))
    marker = b"TV" + bytes.fromhex(about["uuid"])[:6]
    offset = HEADER
    while True:
        stream.seek(offset)
        head = stream.read(FRAME.size)
        if not is_head(head, marker):
            found = find_head(stream, marker, offset + 1)
            if found is None:
                return
            offset = found
            continue
        _, kind, _, _, length, crc, file, _, _ = FRAME.unpack(head)
        payload = stream.read(length)
        yield kind, file, payload, len(payload) == length and zlib.crc32(payload) == crc
        offset += FRAME.size + length


def is_head(head: bytes, marker: bytes) -> bool:
    """Whether these bytes are an undamaged head of a frame."""
    return len(head) == FRAME.size and head[:8] == marker and head[-4:] == struct.pack("<I", zlib.crc32(head[:-4]))


def find_head(stream: BinaryIO, marker: bytes, offset: int) -> int | None:
    """Where the next undamaged head is, at `offset` or behind it; None if there is none."""
    while True:
        stream.seek(offset)
        window = stream.read(BLOCK)
        at = window.find(marker)
        while at >= 0:
            stream.seek(offset + at)
            if is_head(stream.read(FRAME.size), marker):
                return offset + at
            at = window.find(marker, at + 1)
        if len(window) < BLOCK:
            return None
        offset += BLOCK - len(marker) + 1


def is_cartridge(path: str) -> bool:
    """Whether a file is a cartridge of an emulated library."""
    if path == "-":
        return False
    with open(path, "rb") as stream:
        return stream.read(len(MAGIC)) == MAGIC


def tape_blocks(path: str, number: int) -> Iterator[bytes]:
    """The payloads of one tape file, in order. Damaged records are handed over: the digests will tell."""
    if path == "-":
        yield from iter(lambda: sys.stdin.buffer.read(BLOCK), b"")
        return
    with open(path, "rb") as stream:
        if not is_cartridge(path):
            yield from iter(lambda: stream.read(BLOCK), b"")
            return
        for kind, file, payload, whole in read_frames(stream):
            if file > number:
                return
            if file == number and kind == 1:
                if not whole:
                    sys.stderr.write(f"a record of tape file {number} is damaged\n")
                yield payload


def closed_files(path: str) -> list[int]:
    """Numbers of the tape files that could hold a bundle."""
    if not is_cartridge(path):
        return [1]
    with open(path, "rb") as stream:
        return sorted({file for kind, file, _, _ in read_frames(stream) if kind == 2 and file > 0})


def open_tar(path: str, number: int) -> tarfile.TarFile:
    """A tape file as a tar that is read forward."""
    return tarfile.open(mode="r|", fileobj=TapeFile(tape_blocks(path, number)), errors="surrogateescape")


def read_manifest(tar: tarfile.TarFile) -> Any:
    """The manifest, which is the first member."""
    first = tar.next()
    if first is None or first.name != "MANIFEST.json":
        raise Bad("it does not begin with MANIFEST.json")
    return json.loads(content(tar, first).read())


def content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    """A member's bytes."""
    stream = tar.extractfile(member)
    if stream is None:
        raise Bad(f"{member.name!r} is no file")
    return stream


def say(text: str) -> None:
    """One line of text; bytes that are no text are shown as escapes."""
    sys.stdout.write(text.encode("utf-8", "backslashreplace").decode("utf-8").replace("\n", "\\n") + "\n")


def list_cartridge(path: str) -> int:
    """One line for each bundle and each file in it. Returns the exit code."""
    code = 0
    for number in closed_files(path):
        try:
            with open_tar(path, number) as tar:
                manifest = read_manifest(tar)
        except (Bad, tarfile.TarError, ValueError) as problem:
            say(f"#{number}  not a whole bundle: {problem}")
            code = 4
            continue
        say(f"#{number}  bundle {manifest['bundle']}, written {manifest['written_at']}")
        for package in manifest["packages"]:
            say(f"    {package['scan_name']}  {package['product']}  {package['digest']}")
            for file in package["files"]:
                say(f"        {file['member']}  {file['size']}  {file['sha256']}")
    return code


def extract(path: str, number: int, folder: str) -> int:
    """Every package of a bundle is under `folder`. Returns the exit code."""
    wrong = 0
    trailer = None
    with open_tar(path, number) as tar:
        manifest = read_manifest(tar)
        packages = manifest["packages"]
        wanted = {f["member"]: f for p in packages for f in [p["manifest"]] + p["files"]}
        for member in tar:
            if member.name == "TRAILER.json":
                trailer = json.loads(content(tar, member).read())
            elif member.name in wanted and member.isreg():
                file = wanted.pop(member.name)
                wrong += not write_out(content(tar, member), file, folder)
    for name in wanted:
        say("MISSING  " + name)
    if trailer is None or trailer["bundle"] != manifest["bundle"]:
        say("the bundle has no trailer: it was never finished, trust nothing in it that has no digest of its own")
        return 4
    if path != "-" and not trailer_is_right(path, number, trailer):
        say("the trailer's digest is not that of the bundle")
        wrong += 1
    return 4 if wrong or wanted else 0


def write_out(stream: IO[bytes], file: dict[str, Any], folder: str) -> bool:
    """One member as a file; returns whether its digest is right."""
    parts = [part for part in file["member"].split("/") if part not in ("", ".", "..")]
    target = os.path.join(folder, *parts)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    sha = hashlib.sha256()
    with open(target, "xb") as out:
        for block in iter(lambda: stream.read(BLOCK), b""):
            sha.update(block)
            out.write(block)
        out.flush()
        os.fsync(out.fileno())
    right = bool(sha.hexdigest() == file["sha256"])
    say(("ok       " if right else "DAMAGED  ") + file["member"])
    return right


def trailer_is_right(path: str, number: int, trailer: dict[str, Any]) -> bool:
    """Whether the bytes before the trailer have the digest that it gives."""
    tape = TapeFile(tape_blocks(path, number), trailer["bytes"])
    while tape.read(BLOCK):
        continue
    return bool(tape.sha.hexdigest() == trailer["sha256"])


def write_tar(path: str, number: int) -> int:
    """A tape file goes to standard output. Returns the exit code."""
    for block in tape_blocks(path, number):
        sys.stdout.buffer.write(block)
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cartridge")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--list", action="store_true")
    what.add_argument("--extract", nargs=2, metavar=("FILE#", "FOLDER"))
    what.add_argument("--tar", metavar="FILE#")
    options = parser.parse_args(arguments)
    try:
        if options.list:
            return list_cartridge(options.cartridge)
        if options.extract:
            return extract(options.cartridge, int(options.extract[0]), options.extract[1])
        return write_tar(options.cartridge, int(options.tar))
    except (Bad, tarfile.TarError, ValueError, KeyError) as problem:
        sys.stderr.write(f"not a whole bundle: {problem}\n")
        return 4
    except OSError as problem:
        sys.stderr.write(f"{problem}\n")
        return 2


if __name__ == "__main__":
    sys.exit(main())
