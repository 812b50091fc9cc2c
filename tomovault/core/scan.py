"""A scan as the acquisition left it: its files, its certificate, its conditions.

File names are bytes. They are carried as text with surrogate escapes (PEP 383), which loses nothing.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


class Verdict(enum.StrEnum):
    """What a certificate says of one scan; only COMPLETE and ABORTED end its acquisition."""

    COMPLETE = "complete"
    ACQUIRING = "acquiring"
    INCOMPLETE = "incomplete"
    UNDECIDED = "undecided"
    ABORTED = "aborted"
    UNREADABLE = "unreadable"


#: Under this key of a scan's metadata a format says `SLICES` where its frames are the slices of a volume.
FRAMES_ARE = "frames_are"
SLICES = "slices"


class FileRole(enum.StrEnum):
    """What a file is to its scan. All but SIDE define the scan: a change in one of those is a rescan."""

    PROJECTION = "projection"
    FLAT = "flat"
    DARK = "dark"
    MASTER = "master"
    CAMERA = "camera"
    METADATA = "metadata"
    SIDE = "side"


@dataclass(frozen=True)
class FrameCounts:
    """Numbers of frames by kind; None where the evidence does not say."""

    projections: int | None = None
    flats: int | None = None
    darks: int | None = None


@dataclass(frozen=True)
class Certificate:
    """A verdict with what it rests on. `problems` are why it is not complete (or warnings when it is)."""

    verdict: Verdict
    expected: FrameCounts = FrameCounts()
    found: FrameCounts = FrameCounts()
    problems: tuple[str, ...] = ()
    evidence: tuple[str, ...] = ()


@dataclass(frozen=True)
class Condition:
    """One experimental condition with its unit as stored and the file and key it was read from."""

    value: float | int | str | None
    unit: str | None
    source: str


#: Conditions that every format reports under the same name and in the same unit, where it knows them.
CONDITION_UNITS: Mapping[str, str | None] = {
    "energy": "keV",
    "distance": "mm",
    "source_distance": "mm",
    "pixel_size": "um",
    "detector_pixel_size": "um",
    "exposure": "s",
    "scan_range": "deg",
    "n_projections": None,
    "n_flats": None,
    "n_darks": None,
    "flat_interval": None,
    "current": "mA",
    "frame_width": "px",
    "frame_height": "px",
}


@dataclass(frozen=True)
class FileState:
    """One directory entry as `lstat` saw it, `path` relative to the scan's root, '/' between parts."""

    path: str
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    device: int
    mode: int
    uid: int = 0
    gid: int = 0
    link_target: str | None = None


@dataclass(frozen=True)
class ScanFile:
    """A file of a scan's closure and its role."""

    state: FileState
    role: FileRole


@dataclass(frozen=True)
class Candidate:
    """A place where a format may find scans: named cheaply, from a listing, before any file is opened.

    `folder` is absolute. `key` tells candidates in one folder apart (the master's name, or '').
    `metadata_folder` is the second root of a split scan (data on a fast disk, `.info` and `.xml` on a server).
    """

    format: str
    folder: str
    key: str = ""
    metadata_folder: str | None = None


@dataclass(frozen=True)
class ScanReport:
    """What inspection found of one scan.

    `root` is the absolute common root of the closure; every file's path is relative to it, without '..'.
    `entry` tells scans of one candidate apart ('' or '1.1'). `identity` is equal for two inspections of the
    same acquisition and differs after a rescan in place, whatever happened to side files since.
    `owner`, `proposal`, `sample`, `beamline` are what the metadata says, if anything. Where `metadata` has
    'no_reconstruction', no engine can use the scan, and its text says why: it is packed and archived only; but where
    'frames_are' is 'slices' its frames (of kind INVALID, in the order of the slices) are a volume's, and it has a
    preview of them.
    """

    format: str
    name: str
    root: str
    entry: str
    identity: str
    certificate: Certificate
    files: tuple[ScanFile, ...] = ()
    conditions: Mapping[str, Condition] = field(default_factory=dict)
    acquired_at: datetime | None = None
    beamline: str | None = None
    proposal: str | None = None
    sample: str | None = None
    owner: str | None = None
    set_name: str | None = None
    set_size: int | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes of all files of the closure."""
        return sum(f.state.size for f in self.files)


def has_slices(metadata: Mapping[str, Any]) -> bool:
    """Whether a scan's frames are the slices of a volume."""
    return metadata.get(FRAMES_ARE) == SLICES
