"""Manifest texts: files named by the digest of what they list, written whole or not at all."""

from __future__ import annotations

import base64
import errno
import fcntl
import json
import os
import re
from collections.abc import Mapping
from typing import Any

from sqlalchemy import select

from tomovault.catalog import tables
from tomovault.catalog.transaction import Tx
from tomovault.core.errors import IntegrityError, NoSpace, Transient, UserError
from tomovault.core.replica import ProductKind

_DIGEST = re.compile(r"[0-9a-f]{64}")


def manifest_path(folder: str, digest: str) -> str:
    """Where the manifest of a digest lies: `<folder>/<first two digits>/<digest>.json`."""
    if not _DIGEST.fullmatch(digest):
        raise UserError(f"not a sha256 in hexadecimal: {digest!r}")
    return os.path.join(folder, digest[:2], f"{digest}.json")


def write_manifest(folder: str, digest: str, text: str) -> str:
    """Write a manifest durably (temporary file, fsync, rename, fsync of the folder); returns its path.

    One that is there with the same text is left. Raises NoSpace when the disk is full, Transient on other
    trouble with the disk.
    """
    path = manifest_path(folder, digest)
    if read_manifest(folder, digest) == text:
        return path
    try:
        _write(path, text.encode("utf-8", "surrogateescape"))
    except OSError as problem:
        if problem.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace(f"no room for the manifest {path}", hint="free space on its disk") from problem
        raise Transient(f"the manifest {path} could not be written: {problem.strerror}") from problem
    return path


def read_manifest(folder: str, digest: str) -> str | None:
    """The text of a manifest, or None where there is none."""
    try:
        with open(manifest_path(folder, digest), encoding="utf-8", errors="surrogateescape", newline="") as file:
            return file.read()
    except FileNotFoundError:
        return None


def original_files(tx: Tx, scan_id: str) -> list[dict[str, Any]] | None:
    """The files in the manifest of a scan's newest original, in plain words of JSON, or None where there is none.

    Raises IntegrityError for a damaged one.
    """
    digest = original_digest(tx, scan_id)
    return files_of_manifest(tx.manifests, digest) if digest else None


def original_digest(tx: Tx, scan_id: str) -> str | None:
    """The digest of a scan's newest original, or None where it has none."""
    product = tables.product
    digest: str | None = tx.value(
        select(product.c.digest)
        .where(product.c.scan_id == scan_id, product.c.kind == ProductKind.ORIGINAL.value)
        .order_by(product.c.created_at.desc())
        .limit(1)
    )
    return digest


def files_of_manifest(folder: str, digest: str) -> list[dict[str, Any]] | None:
    """The files in the manifest of a digest, in plain words of JSON, or None where there is none.

    Raises IntegrityError for a damaged one.
    """
    text = read_manifest(folder, digest)
    if text is None:
        return None
    try:
        return list(json.loads(text)["files"])
    except (ValueError, KeyError, TypeError) as problem:
        raise IntegrityError(
            f"the manifest {manifest_path(folder, digest)} is damaged: {problem}",
            hint="put it back from a backup of the site's folder; each package holds the same text",
        ) from problem


def legible_files(folder: str, digest: str) -> list[dict[str, Any]] | None:
    """As `files_of_manifest`; None for a damaged one, too: where what no manifest tells is taken for unknown."""
    try:
        return files_of_manifest(folder, digest)
    except IntegrityError:
        return None


def entry_path(entry: Mapping[str, Any]) -> str:
    """The path of a file in a manifest, relative to the scan's root."""
    return os.fsdecode(base64.b64decode(entry["path_b64"])) if "path_b64" in entry else str(entry["path"])


def _write(path: str, content: bytes) -> None:
    parent = os.path.dirname(path)
    os.makedirs(parent, exist_ok=True)
    # One writer at a time, so that the temporary of one that was killed is written over by the next.
    with open(os.path.join(os.path.dirname(parent), ".lock"), "ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        temporary = f"{path}.tmp"
        try:
            with open(temporary, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.rename(temporary, path)
        except BaseException:
            if os.path.lexists(temporary):
                os.unlink(temporary)
            raise
    for folder in (parent, os.path.dirname(parent)):
        _sync_folder(folder)


def _sync_folder(folder: str) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
