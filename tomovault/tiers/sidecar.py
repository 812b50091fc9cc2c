"""The manifest beside a package: what a folder of a posix tier holds, with a digest of its own."""

from __future__ import annotations

import hashlib
import json
import os

from tomovault.core.errors import IntegrityError, UserError
from tomovault.core.ports import Parcel
from tomovault.core.replica import StoredFile
from tomovault.core.wire import from_plain, to_plain
from tomovault.tiers.blocks import drop_cache, open_regular, read_blocks
from tomovault.tiers.bundle import checked_names

SIDECAR = "tomovault-manifest.json"
_KIND = "tomovault-parcel"
_LARGEST_SIDECAR = 1 << 30


def identity(parcel: Parcel) -> object:
    """What a parcel is, wherever its files lie: equal for equal content of the same scan."""
    files = [(os.path.basename(f.location), f.size, f.sha256.lower()) for f in parcel.files]
    return parcel.scan, parcel.product, parcel.digest, parcel.manifest, files


def sidecar_text(parcel: Parcel) -> bytes:
    """The manifest beside a parcel's files, naming them without their folder."""
    names = checked_names(parcel)
    files = tuple(StoredFile(n, f.size, f.sha256.lower()) for n, f in zip(names, parcel.files, strict=True))
    body = json.dumps(to_plain(Parcel(**{**parcel.__dict__, "files": files})))
    sha256 = hashlib.sha256(body.encode("ascii")).hexdigest()
    return f'{{"{_KIND}": 1, "sha256": "{sha256}",\n"parcel": {body}}}\n'.encode("ascii")


def read_sidecar(folder: int) -> Parcel:
    """The parcel that the manifest in a folder names, its files' locations being names. Raises IntegrityError."""
    try:
        fd = open_regular(SIDECAR, dir_fd=folder)
        try:
            drop_cache(fd)
            text = b"".join(read_blocks(fd)) if os.fstat(fd).st_size <= _LARGEST_SIDECAR else b""
        finally:
            os.close(fd)
        plain = json.loads(text)
        body = json.dumps(plain["parcel"])
        if plain[_KIND] != 1 or plain["sha256"] != hashlib.sha256(body.encode("ascii")).hexdigest():
            raise ValueError("its digest is wrong")
        parcel = from_plain(Parcel, plain["parcel"])
        if checked_names(parcel) != [file.location for file in parcel.files]:
            raise ValueError("it names files that are not beside it")
        if any(file.size < 0 for file in parcel.files):
            raise ValueError("it names a file of less than no bytes")
    except FileNotFoundError as problem:
        raise IntegrityError(f"{SIDECAR} is not there", hint="use another copy") from problem
    except (OSError, ValueError, TypeError, KeyError, RecursionError, UserError) as problem:
        raise IntegrityError(f"{SIDECAR} is damaged: {problem}", hint="use another copy") from problem
    return parcel
