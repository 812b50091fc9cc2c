"""What an archive of objects was given, as this site knows it: a small file for each object."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace

from tomovault.core.errors import IntegrityError, Transient
from tomovault.core.replica import StoredFile
from tomovault.core.wire import from_plain, to_plain
from tomovault.tiers.blocks import replace_file, shown, translating
from tomovault.tiers.bundle import BundlePackage, package_key

_OBJECTS = "objects"
_SUFFIX = ".json"


class NotThere(IntegrityError):
    """The archive says that it has no such object."""


@dataclass(frozen=True)
class Given:
    """An object: where the archive says it is, the name it was put under, and the package in it, by `parcel_key` and by
    its files, whose locations are their members in the bundle.
    """

    uri: str
    name: str
    key: str
    files: tuple[StoredFile, ...]
    removed: bool = False


class Objects:
    """The objects of one tier, below its folder. One is found by its package and by its place, without a search."""

    def __init__(self, path: str, tier: str) -> None:
        self._path = path
        self._tier = tier

    def at(self, uri: str) -> Given | None:
        """The object at a place; None for one that was never put from here, or is not known any more."""
        return self._read(self._file_of(uri))

    def of(self, key: str) -> list[Given]:
        """The objects that were made of a package, in the order in which they were put; removed ones among them."""
        with translating(f"tier {self._tier}"):
            try:
                with open(self._index_of(key), encoding="utf-8", errors="surrogateescape") as stream:
                    uris = json.load(stream)
            except FileNotFoundError:
                return []
            except ValueError as problem:
                raise self._damaged(self._index_of(key)) from problem
        found = (self.at(uri) for uri in uris)
        return [given for given in found if given is not None and given.key == key]

    def note(self, given: Given) -> None:
        """The object is known, synced: by its place first, so that what is found by its package is always there."""
        uris = [one.uri for one in self.of(given.key)]
        with translating(f"tier {self._tier}"):
            self._write(self._file_of(given.uri), to_plain(given))
            if given.uri not in uris:
                self._write(self._index_of(given.key), [*uris, given.uri])

    def mark_removed(self, given: Given) -> None:
        """It is given out no more."""
        self.note(replace(given, removed=True))

    def all(self) -> Iterator[Given]:
        """Every object that is not removed, in the order of their names."""
        folder = os.path.join(self._path, _OBJECTS)
        with translating(f"tier {self._tier}"):
            names = os.listdir(folder) if os.path.isdir(folder) else []
        found = (self._read(os.path.join(folder, name)) for name in names if name.startswith("u"))
        yield from sorted((one for one in found if one is not None and not one.removed), key=lambda one: one.name)

    def _read(self, path: str) -> Given | None:
        with translating(f"tier {self._tier}"):
            try:
                with open(path, encoding="utf-8", errors="surrogateescape") as stream:
                    return from_plain(Given, json.load(stream))
            except FileNotFoundError:
                return None
            except (ValueError, TypeError, KeyError, AttributeError) as problem:
                raise self._damaged(path) from problem

    def _damaged(self, path: str) -> Transient:
        return Transient(
            f"tier {self._tier}: {shown(path)} is damaged", hint="put it back from a backup, or move it away"
        )

    def _write(self, path: str, plain: object) -> None:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        replace_file(path, json.dumps(plain).encode("ascii"))

    def _file_of(self, uri: str) -> str:
        digest = hashlib.sha256(uri.encode("utf-8", "surrogateescape")).hexdigest()
        return os.path.join(self._path, _OBJECTS, f"u{digest[:40]}{_SUFFIX}")

    def _index_of(self, key: str) -> str:
        return os.path.join(self._path, _OBJECTS, f"k{key[:40]}{_SUFFIX}")


def given_of(uri: str, name: str, package: BundlePackage) -> Given:
    """The object of a bundle of one package."""
    files = tuple(StoredFile(f.member, f.size, f.sha256) for f in package.files)
    return Given(uri, name, package_key(package), files)
