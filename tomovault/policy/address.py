"""Folders that rules name, below an area and in a collection, with placeholders for what is known of a scan. Pure."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from string import Formatter

from tomovault.core.known import KnownScan
from tomovault.policy.yaml_text import nearest

#: What a folder may name of a scan, such as {proposal}.
FIELDS = frozenset({"proposal", "sample", "owner", "beamline", "format", "area"})


def problem_of_folder(path: str) -> str:
    """What is wrong with a folder below an area; '' if nothing is."""
    if any(part in ("", ".", "..") or part.startswith(".tomovault") for part in path.split("/")):
        return "a path below the area, such as {proposal}/{sample}"
    return _problem_of_fields(path)


def problem_of_address(address: str) -> str:
    """What is wrong with the address of a folder in a collection; '' if nothing is."""
    collection, colon, path = address.partition(":")
    parts = path.removeprefix("/").removesuffix("/").split("/")
    if not colon or not collection or not path.startswith("/") or not path.isprintable():
        return f"{address!r} is no destination; write COLLECTION:/PATH, such as home:/{{proposal}}"
    if ".." in parts or "." in parts or ("" in parts and parts != [""]):
        return f"{path!r} is no path from the root of a collection"
    if "{" in collection or "}" in collection:
        return "a collection is named as it is, without placeholders; they are for the path"
    return _problem_of_fields(path)


def is_collection_id(named: str) -> bool:
    """Whether a collection is named by its UUID."""
    try:
        uuid.UUID(named)
    except ValueError:
        return False
    return True


def unknown_fields(path: str, scan: KnownScan) -> list[str]:
    """The placeholders of a folder that stand for something which is not known of the scan."""
    return sorted(field for field in _fields(path) if not getattr(scan, field))


def fill(path: str, scan: KnownScan) -> str:
    """A folder whose placeholders are all known, with their values in it, each as `one_part`."""
    return path.format(**{field: one_part(getattr(scan, field)) for field in _fields(path)})


def one_part(value: str) -> str:
    """A name from metadata as one part of a path, that is no hidden folder, nobody's home, and leads nowhere else."""
    part = value.replace("/", "_").replace("\0", "_").strip()
    return f"_{part[1:]}" if not part or part.startswith((".", "~")) else part


def _fields(path: str) -> frozenset[str]:
    return frozenset(field for _, field, _, _ in Formatter().parse(path) if field is not None)


def _problem_of_fields(path: str) -> str:
    try:
        fields = list(_placeholders(path))
    except ValueError:
        return f"{path!r} has a brace that is never closed"
    for name, more, how in fields:
        if name not in FIELDS or more or how:
            return f"{{{name}}} is not known{nearest(name, FIELDS)}"
    return ""


def _placeholders(path: str) -> Iterator[tuple[str, str | None, str | None]]:
    for _, name, more, how in Formatter().parse(path):
        if name is not None:
            yield name, more, how
