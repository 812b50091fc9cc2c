"""A file on its way into a bucket: whole, or in parts where it is large; over nothing that is there.

The service is given the SHA-256 of what it gets and refuses other bytes. That proves that they came as they left, not
that they can be read back: nothing is verified by it.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tomovault.core.errors import IntegrityError, TomovaultError, Transient
from tomovault.tiers.blocks import BLOCK, open_regular, translating
from tomovault.tiers.object_archive import Occupied
from tomovault.tiers.s3_bucket import Head, S3Bucket

#: In the metadata of every object: the SHA-256 of its bytes, and the key of its package.
SHA256, PACKAGE = "tomovault-sha256", "tomovault-package"

_MOST_PARTS = 10_000


@dataclass(frozen=True)
class Sums:
    """Size and SHA-256 of a file, and the digests of its parts, of one where it is sent whole."""

    size: int
    sha256: str
    part: int
    parts: tuple[bytes, ...]

    @property
    def checksum(self) -> str:
        """What a service keeps of it: the SHA-256, or that of the parts' digests one after the other."""
        if len(self.parts) == 1:
            return _text(self.parts[0])
        return f"{_text(hashlib.sha256(b''.join(self.parts)).digest())}-{len(self.parts)}"

    def are_of(self, head: Head) -> bool:
        """Whether an object says that it has these bytes. A service that keeps no checksum is not asked for one."""
        return (head.size, head.metadata.get(SHA256)) == (self.size, self.sha256) and not self._denied_by(head.checksum)

    def _denied_by(self, checksum: str) -> bool:
        """Whether it is of other bytes. One that was made of other parts than ours says nothing; a service may leave
        the number of the parts out.
        """
        kept, _, parts = checksum.partition("-")
        right = ("", _text(bytes.fromhex(self.sha256)), self.checksum.partition("-")[0])
        return kept not in right and parts in ("", str(len(self.parts)))


def upload(bucket: S3Bucket, key: str, path: str, *, package: str, storage_class: str, part_size: int) -> None:
    """The object is there, with the file's bytes by all that its service says of it.

    One that an attempt before left is taken as it is, and parts that one left are given up; so nobody else may send
    the same key now. Raises Occupied for another object, which stays; IntegrityError where the service says other of
    ours than was sent; NoSpace, Transient, Refused.
    """
    sums = sums_of(path, part_size)
    there = bucket.head(key)
    if there is not None:
        if not sums.are_of(there):
            raise Occupied(key)
        return
    for left in bucket.uploads(key):
        bucket.abort(key, left)
    sent = True
    try:
        _send(bucket, key, path, sums, storage_class, {SHA256: sums.sha256, PACKAGE: package})
    except Occupied:  # it may be ours, if an answer was lost
        sent = False
    there = bucket.head(key)
    if there is None:
        raise Transient(f"bucket {bucket.name}: {key} was put, and is not there", hint="it is put again")
    if not sums.are_of(there):
        if not sent:
            raise Occupied(key)
        raise IntegrityError(
            f"bucket {bucket.name}: what it says of {key} is not of what was just put there",
            hint="the object stays and counts for nothing; ask those who run the service",
        )


def _send(bucket: S3Bucket, key: str, path: str, sums: Sums, storage_class: str, metadata: Mapping[str, str]) -> None:
    if len(sums.parts) == 1:
        with open(path, "rb") as body:
            bucket.put(key, body, checksum=sums.checksum, storage_class=storage_class, metadata=metadata)
        return
    begun = bucket.begin(key, storage_class=storage_class, metadata=metadata)
    try:
        sent = []
        for number, digest in enumerate(sums.parts, start=1):
            with Window(path, (number - 1) * sums.part, sums.part) as body:
                sent.append(bucket.send_part(key, begun, number, body, _text(digest)))
        bucket.finish(key, begun, sent)
    except (TomovaultError, Occupied, OSError):
        with contextlib.suppress(TomovaultError):
            bucket.abort(key, begun)
        raise


def sums_of(path: str, part_size: int) -> Sums:
    """A file, read once. Its parts are larger than `part_size` where there would be too many."""
    with translating(path):
        fd = open_regular(path)
        try:
            size = os.fstat(fd).st_size
            part = max(part_size, -(-size // _MOST_PARTS))
            part += -part % BLOCK
            whole, own, parts, done = hashlib.sha256(), hashlib.sha256(), [], 0
            while block := os.read(fd, BLOCK):
                whole.update(block)
                own.update(block)
                done += len(block)
                if done % part == 0 and done < size:
                    parts.append(own.digest())
                    own = hashlib.sha256()
        finally:
            os.close(fd)
    return Sums(size, whole.hexdigest(), part, (*parts, own.digest()))


def _text(digest: bytes) -> str:
    return base64.b64encode(digest).decode("ascii")


class Window(io.RawIOBase):
    """Some of a file's bytes, as a file of their own that can be read again."""

    def __init__(self, path: str, start: int, most: int) -> None:
        super().__init__()
        self._fd = open_regular(path)
        self._start = start
        self._size = max(0, min(most, os.fstat(self._fd).st_size - start))
        self._at = 0

    def __len__(self) -> int:
        return self._size

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """See `io.IOBase`."""
        begin = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = max(0, begin + offset)
        return self._at

    def tell(self) -> int:
        """See `io.IOBase`."""
        return self._at

    def readinto(self, buffer: Any) -> int:
        """See `io.RawIOBase`."""
        count = max(0, min(len(buffer), self._size - self._at))
        data = os.pread(self._fd, count, self._start + self._at)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def close(self) -> None:
        """See `io.IOBase`."""
        if not self.closed:
            os.close(self._fd)
        super().close()
