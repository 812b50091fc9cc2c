"""What is known of a package that was written and not re-read."""

from __future__ import annotations

from dataclasses import dataclass

from tomovault.core.manifest import ManifestFile
from tomovault.core.replica import StoredFile


@dataclass(frozen=True)
class FirstFile:
    """The first file of a package. `between` is the sha256 of all that lies between its frames."""

    location: str
    size: int
    between: str


@dataclass(frozen=True)
class Written:
    """A package that is complete, synced and in its place, but not yet re-read.

    `digest` is the product digest, `manifest` the text inside and beside it; `first` and `others` are its files
    (absolute paths), `bytes` their sizes added up; `original_*` count what was packed, and `hashed` says what each file
    was. `notes` say what of the files could not be read, and is not in the package.
    """

    digest: str
    manifest: str
    first: FirstFile
    others: tuple[StoredFile, ...]
    bytes: int
    original_bytes: int
    original_files: int
    hashed: tuple[ManifestFile, ...]
    notes: tuple[str, ...] = ()
