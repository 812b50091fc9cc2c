"""Tape file 0 of every cartridge: what this is, how to read it without tomovault, and a program that does."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from datetime import datetime
from importlib import resources
from typing import Any

from tomovault.core.errors import IntegrityError
from tomovault.tiers.bundle import Source
from tomovault.tiers.cartridge import RECORD, CartridgeHeader

LABEL = "LABEL.json"
_KIND = "tomovault-label"
_LARGEST_LABEL = 4 << 20

README = """\
This cartridge belongs to a tomovault archive of tomography data.

WHAT IS ON IT
  Tape file 0 is this label: LABEL.json, this README.txt and restorer.py.
  Each further tape file is one bundle: a POSIX pax tar, written in records of 262144 bytes, the last one filled
  with zeros, and closed by a filemark. In this order:
    MANIFEST.json              JSON: bundle, tier, pool, copy, and for each package its scan, scan name, product,
                               digest and files with size, sha256 and the offset of the first byte in the tape file
    manifests/0001.json        the list of the original files of the first package, with their sha256
    packages/0001/NAME         the package itself; a .tomo.h5 file is HDF5 and opens with h5py and hdf5plugin
    (the same for 0002 and so on)
    TRAILER.json               JSON: bundle, the number of bytes before this member, and their sha256
  A tape file without a TRAILER.json that is right was never finished: ignore it.

HOW TO RESTORE WITH mt AND tar ALONE (a real drive, here /dev/nst0; N is the number of the tape file)
  mt -f /dev/nst0 setblk 0
  mt -f /dev/nst0 rewind
  mt -f /dev/nst0 fsf N
  tar -x -b 512 -f /dev/nst0
  Then compare `sha256sum packages/*/*` with the sha256 in MANIFEST.json.

HOW TO RESTORE FROM A CARTRIDGE OF AN EMULATED LIBRARY (a file named by its barcode)
  It holds the same tape files, each record and filemark behind a head of 36 bytes. restorer.py is one file that
  needs nothing but Python 3:
  python3 restorer.py CARTRIDGE --list
  python3 restorer.py CARTRIDGE --extract N FOLDER
  python3 restorer.py CARTRIDGE --tar N > bundle.tar
  It reads a bundle that was copied from a real tape (dd bs=262144) as well. To get restorer.py itself without it:
  its text stands in the first tape file, so `strings` or any editor shows it.
  Head, little endian: 8 bytes marker ("TV" and the first six bytes of the cartridge's uuid), 1 byte type (1 record,
  2 filemark), 3 zeros, u32 length of what follows, u32 crc32 of it, u32 tape file number, u64 (record: its number;
  filemark: offset of the filemark before), u32 crc32 of the 32 bytes before it. The first head is at offset 512.
"""


def write_label(
    header: CartridgeHeader, *, tier: str, pool: str, copy: int, now: datetime, write: Callable[[bytes], None]
) -> None:
    """The whole of tape file 0 goes to `write`."""
    label: dict[str, Any] = {
        _KIND: 1,
        "barcode": header.barcode,
        "uuid": header.uuid,
        "generation": header.generation,
        "tier": tier,
        "pool": pool,
        "copy": copy,
        "record": RECORD,
        "labelled_at": now.isoformat(),
    }
    restorer = resources.files("tomovault.tiers").joinpath("restorer.py").read_bytes()
    texts = ((LABEL, json.dumps(label, indent=1).encode("ascii")), ("README.txt", README.encode("ascii")))
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, text in (*texts, ("restorer.py", restorer)):
            info = tarfile.TarInfo(name)
            info.size = len(text)
            info.mtime = int(now.timestamp())
            tar.addfile(info, io.BytesIO(text))
    write(stream.getvalue())


def read_label(source: Source) -> dict[str, Any]:
    """What LABEL.json says. Raises IntegrityError where tape file 0 is no label."""
    try:
        with tarfile.open(fileobj=io.BytesIO(source.read(_LARGEST_LABEL)), mode="r:") as tar:
            stream = tar.extractfile(LABEL)
            label = json.loads(stream.read()) if stream else {}
    except (tarfile.TarError, KeyError, ValueError, RecursionError) as problem:
        raise IntegrityError(f"the cartridge's label is damaged: {problem}") from problem
    if not isinstance(label, dict) or label.get(_KIND) != 1:
        raise IntegrityError("tape file 0 is not a label of tomovault")
    return label
