"""What a backup of the catalogue says of itself on a medium: enough to tell what it is, and to use it, in years."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime

from tomovault.core.errors import IntegrityError
from tomovault.core.wire import from_plain, to_plain

#: What a package on a medium says of its product where it is a backup of the catalogue and of no scan.
CATALOGUE = "catalogue"

_KIND = "tomovault-catalogue-backup"
_FORMAT = 1

_USE = {
    "sqlite": "The file is an SQLite database: put it where `catalogue:` of tomovault.yaml says, no daemon running.",
    "postgresql": "The file is of pg_dump -Fc: createdb a database, then pg_restore --dbname it, no daemon running.",
}


@dataclass(frozen=True)
class BackupTold:
    """A backup: of the catalogue of the site `site` as it was at `made_at`, with its file's size and sha256, the kind
    of database it is of and the revision of its tables, and the head of the audit log in it.
    """

    site: str
    made_at: datetime
    database: str
    revision: str
    file: str
    bytes: int
    sha256: str
    audit_seq: int
    audit_hash: str
    program: str


def tell_backup(backup: BackupTold) -> str:
    """As it stands beside the file on a medium, with what a person does with it."""
    return json.dumps({_KIND: _FORMAT, "use": _USE[backup.database], **to_plain(backup)}, indent=1)


def read_backup(text: str) -> BackupTold:
    """The inverse of `tell_backup`. Raises IntegrityError for a text that is none."""
    try:
        plain = json.loads(text)
        if plain.pop(_KIND) != _FORMAT:
            raise ValueError("not of a format known here")
        plain.pop("use", None)
        told = from_plain(BackupTold, plain)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as problem:
        raise IntegrityError(f"what it tells of the catalogue cannot be understood: {problem}") from problem
    if told.made_at.tzinfo is None:
        raise IntegrityError("what it tells of the catalogue cannot be understood: a time without a zone")
    return told
