"""What a package tells of its scan: enough to know the scan again from the medium alone."""

from __future__ import annotations

import dataclasses
import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tomovault.core.errors import IntegrityError
from tomovault.core.known import Declared, KnownScan
from tomovault.core.scan import Candidate, Certificate, Condition
from tomovault.core.wire import from_plain, to_plain

#: An id may become part of a file's name.
_ID = re.compile(r"s[0-9a-f]{12}")


@dataclass(frozen=True)
class ScanTold:
    """A scan as it was known when its package was made. What has a default is not in the oldest packages."""

    id: str
    name: str
    root: str
    area: str
    format: str
    entry: str
    identity: str
    acquired_at: datetime | None
    beamline: str | None
    proposal: str | None
    sample: str | None
    owner: str | None
    set: str | None
    certificate: Certificate
    declared: Declared | None
    conditions: Mapping[str, Condition]
    set_size: int | None = None
    candidate: Candidate | None = None
    first_seen_at: datetime | None = None
    changed_at: datetime | None = None
    sources: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    coded_frames: int = 0


def tell(scan: KnownScan) -> dict[str, Any]:
    """The plain form of what a package tells of a scan; `coded_frames` is known only when the files are read."""
    told = ScanTold(
        id=scan.id,
        name=scan.name,
        root=scan.root,
        area=scan.area,
        format=scan.format,
        entry=scan.entry,
        identity=scan.identity,
        acquired_at=scan.acquired_at,
        beamline=scan.beamline,
        proposal=scan.proposal,
        sample=scan.sample,
        owner=scan.owner,
        set=scan.set_name,
        certificate=scan.certificate,
        declared=scan.declared,
        conditions=scan.conditions,
        set_size=scan.set_size,
        candidate=scan.candidate,
        first_seen_at=scan.first_seen_at,
        changed_at=scan.changed_at,
        sources=scan.sources,
        metadata=scan.metadata,
    )
    plain: dict[str, Any] = to_plain(told)
    return plain


def read_told(plain: Mapping[str, Any]) -> ScanTold:
    """What a package tells of its scan; keys of a later version are passed over. Raises IntegrityError."""
    known = {one.name for one in dataclasses.fields(ScanTold)}
    try:
        told = from_plain(ScanTold, {key: value for key, value in plain.items() if key in known})
        _check(told)
    except (ValueError, TypeError) as problem:
        raise IntegrityError(f"what its manifest tells of the scan cannot be understood: {problem}") from problem
    return told


def _check(told: ScanTold) -> None:
    """Raises ValueError for an id that is none of ours, a date without a zone or beyond all years, and a folder that is
    none from the root of all.
    """
    if not _ID.fullmatch(told.id):
        raise ValueError(f"{told.id!r} is no scan's id")
    declared_at = None if told.declared is None else told.declared.at
    for moment in (told.acquired_at, told.first_seen_at, told.changed_at, declared_at):
        if moment is not None:
            _check_time(moment)
    for folder in (told.root, *([] if told.candidate is None else [told.candidate.folder])):
        if not posixpath.isabs(folder) or posixpath.normpath(folder) != folder:
            raise ValueError(f"{folder!r} is no whole path")


def _check_time(moment: datetime) -> None:
    if moment.utcoffset() is None:
        raise ValueError("a time without a zone")
    try:
        moment.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"the time {moment.isoformat()} is in no year that can be kept") from None
