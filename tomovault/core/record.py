"""Facts that a job brings back. The daemon writes all records of a job in one transaction.

A job process never writes to the catalogue: it returns these, as JSON, in its result file.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tomovault.core.errors import TomovaultError
from tomovault.core.replica import Form, ProductKind, StoredFile
from tomovault.core.scan import Candidate, ScanReport
from tomovault.core.transfer import TransferFailed, TransferPlanned, TransferReceived, TransferSubmitted


class Outcome(enum.StrEnum):
    """How an attempt ended. TRANSIENT is tried again later, and so is WAITING, which uses up no attempt; the others
    wait for a new fact or a person. DEFECT is a mistake of ours.
    """

    SUCCEEDED = "succeeded"
    WAITING = "waiting"
    TRANSIENT = "transient"
    REFUSED = "refused"
    FAILED = "failed"
    DAMAGED = "damaged"
    DEFECT = "defect"


@dataclass(frozen=True)
class RestoredHere:
    """Every file of a report (known by root and entry) is as the mark of a restore in the folder `base` says.

    `digests` are of the products that the mark names, `jobs` the restores; `hashed` are the digests of files that were
    read because their time is another, by the path below `base`; `unread` are the paths of those that were not, since
    the report is of what has not settled.
    """

    root: str
    entry: str
    base: str
    digests: tuple[str, ...]
    hashed: Mapping[str, str] = field(default_factory=dict)
    jobs: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()


@dataclass(frozen=True)
class Inspected:
    """What a candidate held. `problem` is set instead of reports where it could not be read at all, `no_scan` where
    it is no scan of its format, and why.
    """

    candidate: Candidate
    snapshot: str
    settled: bool
    reports: tuple[ScanReport, ...] = ()
    problem: str = ""
    no_scan: str = ""
    restored: tuple[RestoredHere, ...] = ()


@dataclass(frozen=True)
class Processing:
    """An engine's run with every parameter resolved to what was used."""

    engine: str
    engine_version: str
    parameters: Mapping[str, Any]
    started_at: datetime
    finished_at: datetime
    outputs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Made:
    """A product exists: its digest, and for an original the manifest text that the digest is of."""

    kind: ProductKind
    digest: str
    bytes: int
    files: int
    lossless: bool = True
    manifest: str = ""
    processing: Processing | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Recognised:
    """Every file of the scan was read: it is the known scan `same_as`, which has this product, at a new place."""

    same_as: str
    digest: str
    area: str
    domain: str
    root: str
    bytes: int
    at: datetime


@dataclass(frozen=True)
class Stored:
    """A replica was written, and re-read from its destination when `verified_at` is set."""

    kind: ProductKind
    digest: str
    form: Form
    tier: str
    domain: str
    location: str
    files: tuple[StoredFile, ...]
    bytes: int
    sha256: str
    written_at: datetime
    verified_at: datetime | None
    pinned_until: datetime | None = None


@dataclass(frozen=True)
class Checked:
    """A replica was re-read: right, or bad with a reason."""

    replica: str
    ok: bool
    at: datetime
    reason: str = ""


@dataclass(frozen=True)
class Quarantined:
    """Phase one of a prune is over: these paths (relative to the scan's root) are in quarantine."""

    permit: str
    moved: tuple[str, ...]
    bytes: int
    left: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Removed:
    """Phase two is over: the bytes are gone. What was `left` stood beside them, and is not ours."""

    permit: str
    files: int
    bytes: int
    left: tuple[str, ...] = ()


@dataclass(frozen=True)
class PutBack:
    """What was in quarantine stands where it was, but for the conflicts: paths `kept` are in quarantine still, and
    so many files were removed for good before.
    """

    permit: str
    files: int
    bytes: int
    conflicts: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    kept_bytes: int = 0
    removed_files: int = 0
    removed_bytes: int = 0


@dataclass(frozen=True)
class GivenFile:
    """A file that a restore made, as it stood there then, by its path below the target."""

    location: str
    size: int
    sha256: str
    mtime_ns: int


@dataclass(frozen=True)
class GivenBack:
    """A restore reached the person: where from, what, and what a reader should know. `made` are the files that are no
    original ones, where they were put into a watched area.
    """

    tier: str
    cartridge: str | None
    target: str
    files: int
    bytes: int
    derived: bool = False
    read_bytes: int = 0
    original_place: bool = False
    made: tuple[GivenFile, ...] = ()


TransferRecord = TransferPlanned | TransferSubmitted | TransferReceived | TransferFailed

Record = Inspected | Made | Recognised | Stored | Checked | Quarantined | Removed | PutBack | GivenBack | TransferRecord

RECORD_TYPES: Mapping[str, type] = {
    kind.__name__: kind
    for kind in (Inspected, Made, Recognised, Stored, Checked, Quarantined, Removed, PutBack, GivenBack)
} | {kind.__name__: kind for kind in (TransferPlanned, TransferSubmitted, TransferReceived, TransferFailed)}


@dataclass(frozen=True)
class Result:
    """The content of a job's result file. What waits and is to go on `at_once` waited only for its records to be in
    the catalogue. Nothing is tried again before `pause_s` have passed.
    """

    outcome: Outcome
    records: tuple[Record, ...] = ()
    error: str = ""
    hint: str = ""
    peak_bytes: int = 0
    cpu_s: float = 0.0
    at_once: bool = False
    pause_s: float = 0.0


class Moot(TomovaultError):
    """What a job was queued for is done, not wanted any more, or not to be had from what there is; says which."""


class Unfinished(Exception):
    """A job brought a part of what it was asked for, and then failed with the exception that this one was raised
    from. `records` are facts all the same, and the next attempt makes only what is missing.
    """

    def __init__(self, records: Sequence[Record]) -> None:
        super().__init__()
        self.records = tuple(records)
