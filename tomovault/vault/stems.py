"""What a scan's files in the vault are called: by the scan's name, told apart where another scan has that name."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Any

from tomovault.catalog.namesakes import owner_of
from tomovault.core.known import KnownScan
from tomovault.core.replica import Form

if TYPE_CHECKING:
    from tomovault.vault.vault import Vault

#: A file name may have 255 bytes; what we append to a stem needs up to 40.
_STEM_BYTES = 150

#: What the first file of each product is called after the stem.
_ENDINGS = (".tomo.h5", ".preview.h5", ".volume.h5", ".reduced.h5")


def stem_of(scan: KnownScan, vault: Vault, tx: Any) -> str:
    """The name of a scan's files in the vault, short enough for a file system.

    It is the scan's name, or that and its id where files of that name there are, or will be, those of another scan.
    A scan that has or had files there keeps the name of these.
    """
    plain, apart = _shortened(_as_file_name(scan.name), _STEM_BYTES), _told_apart(scan)
    had = {r.location for r in scan.replicas if r.form is Form.PACKAGE and r.tier == scan.area}
    if not had.isdisjoint(_places(vault, scan, apart)):
        return apart
    return plain if owner_of(tx, scan, _places(vault, scan, plain)) == scan.id else apart


def own_locations(scan: KnownScan) -> list[str]:
    """Where files of a scan are in the vault. No two scans have such files in one place."""
    return sorted({r.location for r in scan.replicas if r.live and r.form is Form.PACKAGE and r.tier == scan.area})


def _places(vault: Vault, scan: KnownScan, stem: str) -> list[str]:
    return [str(vault.vault_folder(scan) / f"{stem}{ending}") for ending in _ENDINGS]


def _told_apart(scan: KnownScan) -> str:
    return f"{_shortened(_as_file_name(scan.name), _STEM_BYTES - len(scan.id) - 1)}-{scan.id}"


def _as_file_name(name: str) -> str:
    flat = name.replace("/", "_")
    return "_" + flat if flat.startswith(".") else flat


def _shortened(stem: str, limit: int) -> str:
    raw = os.fsencode(stem)
    if len(raw) <= limit:
        return stem
    return os.fsdecode(raw[: limit - 17]) + "-" + hashlib.sha256(raw).hexdigest()[:16]
