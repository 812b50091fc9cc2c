"""What the parts of tomovault ask of each other. Types only; the parts meet in `tomovault.vault`.

A plug-in is a module named by its kind (`kind: posix` is `tiers/posix.py`) that ends in
`PLUGIN: type[Tier] = ...`, so that a missing method is an error of types in the plug-in's own file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from tomovault.core.layout import FrameKind, Layout
from tomovault.core.record import Result
from tomovault.core.replica import StoredFile
from tomovault.core.scan import Candidate, FileState, ScanFile, ScanReport
from tomovault.core.transfer import TransferService

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

#: Called with a name around every side effect; does nothing, except under a kill-point test.
Checkpoint = Callable[[str], None]

#: Called with (done, total) in bytes or steps, often; must be cheap.
Progress = Callable[[int, int], None]


class Throttle(Protocol):
    """The share of a server's bandwidth that we may use now."""

    def spend(self, count: int) -> None:
        """Return once `count` more bytes may be moved; blocks no longer than the guard's `max_pause`."""


# --- formats -------------------------------------------------------------------------------------


class Listing(Protocol):
    """A folder as the walker saw it: names and states only, nothing opened."""

    @property
    def folder(self) -> str:
        """Absolute path."""

    @property
    def files(self) -> Mapping[str, FileState]:
        """Regular files and links by name; each state's `path` is the name."""

    @property
    def folders(self) -> Sequence[str]:
        """Names of subfolders (links to folders are not among them)."""


class Format(Protocol):
    """A kind of scan. `recognise` and `members` work on names alone; `inspect` and `layout` open files and are
    called only inside a child process with limits of time and memory.
    """

    name: ClassVar[str]

    def recognise(self, listing: Listing) -> Sequence[Candidate]:
        """Places in this folder where scans of this format may be, by names only."""

    def members(self, candidate: Candidate, listing: Listing) -> tuple[Sequence[str], Sequence[str]]:
        """Names of files in the folder, and of subfolders, whose change means that the candidate changed."""

    def inspect(self, candidate: Candidate, *, settled: bool) -> Sequence[ScanReport]:
        """Every scan found there, each with its certificate. An unsettled scan is never COMPLETE.

        Raises NoScan, with the reason, where it is no scan of this format; UserError where it cannot be read at all.
        """

    def layout(self, report: ScanReport) -> Layout:
        """Where the raw frames of a scan lie in its files. What cannot be spliced is left literal."""


# --- frames --------------------------------------------------------------------------------------


class FrameSource(Protocol):
    """Frames of a scan in acquisition order, from original files or from a package; used by engines."""

    @property
    def frame_shape(self) -> tuple[int, int]:
        """(rows, columns) of a projection."""

    def indices(self, kind: FrameKind) -> Sequence[int]:
        """Acquisition order of the frames of one kind."""

    def angle_deg(self, index: int) -> float | None:
        """Rotation angle of a frame."""

    def summed(self, index: int) -> int:
        """Number of exposures added up in a frame; a reader divides by it."""

    def read(self, index: int, rows: slice | None = None) -> npt.NDArray[np.generic]:
        """One frame, or some of its rows, in its stored dtype; the caller owns the array."""

    def facts(self) -> Mapping[str, Any]:
        """`Layout.nx` of the scan, and 'digest', the product digest of what is read."""


# --- tiers ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Parcel:
    """One package on its way to a tier: its files in order, and the manifest text that names its content."""

    scan: str
    scan_name: str
    product: str
    digest: str
    files: tuple[StoredFile, ...]
    manifest: str
    group: str = ""

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(f.size for f in self.files)


@dataclass(frozen=True)
class Placed:
    """Where a parcel went: `location` names the whole, `files` each of its files with digests as stored."""

    location: str
    domain: str
    files: tuple[StoredFile, ...]


@dataclass(frozen=True)
class Health:
    """Whether a tier can be used now, in one line, with what to do if not."""

    ok: bool
    detail: str
    hint: str = ""


class Tier(Protocol):
    """A named place for packages. Staging is always separate from fetching and takes a batch.

    A plug-in's class also has `OPTIONS`, the keys that it understands in the site's file, and `TIER_CLASS`, its
    class unless the file says another. Where it has `MARKED = True` it keeps its copies in the folder `path`; it is
    given `record`, and does nothing in a folder without the marker that is recorded there; with
    `COPIES_IN_FOLDER = False` that folder has only what it knows of them. One with `MARKS_ITSELF = True` keeps them
    elsewhere: `own_record` is where it may keep what that place is recognised by.
    """

    name: str

    def domains(self) -> Sequence[str]:
        """The failure domains that a copy can be put into, in order of preference."""

    def put(
        self, parcels: Sequence[Parcel], domain: str, *, job: str, throttle: Throttle, checkpoint: Checkpoint
    ) -> Sequence[Placed]:
        """Write the parcels and sync them; nothing is verified yet.

        A repeated call for the same parcels and `job` after a crash first looks at what is there and ends in the
        same state. Raises NoSpace, Transient or IntegrityError (a parcel's file is not what it says).
        """

    def verify(self, placed: Sequence[Placed], *, throttle: Throttle) -> Sequence[str]:
        """Re-read from the medium (cache dropped; on tape after a remount) and compare digests.

        One text per item: '' when every byte is right, else what is wrong.
        """

    def stage(self, locations: Sequence[str]) -> str:
        """Ask for these to be made readable, in the tier's best order; returns a ticket."""

    def poll(self, ticket: str) -> Mapping[str, str]:
        """'pending', 'ready' or 'failed: why' for each location of the ticket."""

    def fetch(
        self, placed: Placed, destination: str, *, throttle: Throttle, progress: Progress
    ) -> Sequence[StoredFile]:
        """Copy a staged item's files into the folder `destination`, synced and hash-verified on the way."""

    def release(self, ticket: str) -> None:
        """The staged copies are not needed any more."""

    def remove(self, placed: Placed, *, as_it_is: bool = False) -> None:
        """Make one replica unreadable here. Called only under a permit. With `as_it_is` also where its bytes are not
        those that were put here: a person ordered that of a copy that is known to be bad.
        """

    def inventory(self) -> Iterable[tuple[Parcel, Placed]]:
        """Everything found on the medium itself, without the catalogue."""

    def free_bytes(self) -> int | None:
        """Room left, None where it is not known."""

    def health(self) -> Health:
        """Whether it can be used now."""


@runtime_checkable
class FolderTier(Tier, Protocol):
    """A tier that keeps every package in a folder, with a manifest beside: its files can go by way of a quarantine."""

    def clear_away(self, placed: Placed, *, checkpoint: Checkpoint) -> Sequence[str]:
        """After an item's files went: its manifest is gone, and its folder if nothing else is in it.

        What is gone already is no error. No other file is touched; returns the names of those that stay.
        """


class Harm(StrEnum):
    """What a problem at a location of a medium says of the copies there."""

    COPY = "the copies at the location, or the one that is named, are not right"
    ALL = "nothing that lies within the location is right"
    NONE = "something is damaged, and no copy with it"
    UNREACHED = "it cannot be read now, which says nothing bad of it"
    NOTICE = "nothing is damaged, and a person should know"


@runtime_checkable
class ColdTier(Tier, Protocol):
    """A tier of which nothing can be read, to verify it neither, before it was asked for and hours have passed."""

    def warm(self, placed: Sequence[Placed]) -> Sequence[str]:
        """Every item was asked for, so that `verify` can read it; returns the locations that cannot be read yet."""

    def cold_of(self, parcels: Sequence[Parcel]) -> Sequence[str]:
        """Where the packages of these parcels are that were put before and cannot be read yet, each asked for: `put`
        would wait for them.
        """


@dataclass(frozen=True)
class Surveyed:
    """What a medium holds at a location: a package every byte of which was read, or what is wrong there.

    With both, the package's own bytes are not as its manifest says, but the manifest can be read; `placed` without a
    parcel names the package whose manifest cannot. `written_at` is the time that the medium gives.
    """

    location: str
    parcel: Parcel | None = None
    placed: Placed | None = None
    written_at: datetime | None = None
    problem: str = ""
    harm: Harm = Harm.COPY


@runtime_checkable
class SurveyedTier(Tier, Protocol):
    """A tier whose media tell all that is on them, and what of it is damaged."""

    def survey(self, progress: Progress) -> Iterator[Surveyed]:
        """Everything on the media, read whole, without the catalogue. What is damaged hides nothing else.

        `progress` counts bytes of the media. Raises Transient where the tier itself cannot be reached.
        """


@runtime_checkable
class ClaimedTier(Tier, Protocol):
    """A tier that may wait long for what others use, while a job's claim may be lost."""

    def hold_to(self, may_continue: Callable[[], bool]) -> None:
        """From now on it is asked behind every such wait, immediately before a cartridge moves, a program is run for it
        or a copy is removed (law 7); where it says no, Transient is raised and that is not done.
        """


@dataclass(frozen=True)
class Stretch:
    """Where on a cartridge something lies: shares (0 to 1) of its capacity at which it begins and ends."""

    cartridge: str
    start: float
    end: float


@dataclass(frozen=True)
class DriveState:
    """A drive, the cartridge in it, and where the head stands on that, as a share of its capacity."""

    number: int
    cartridge: str | None
    position: float


@dataclass(frozen=True)
class TapedPackage:
    """A package that the manifest of a bundle names. `removed`: the library gives it out no more."""

    scan: str
    scan_name: str
    product: str
    digest: str
    removed: bool = False


@dataclass(frozen=True)
class TapeFile:
    """A bundle as it was read. `problem` is what is wrong anywhere in it, '' where nothing is; one that is not
    `finished` has no trailer and does not exist. `packages` are told of a sound one only.
    """

    number: int
    packages: tuple[TapedPackage, ...] = ()
    problem: str = ""
    finished: bool = True


@dataclass(frozen=True)
class CartridgeRead:
    """What was found on a cartridge that was read whole: its bundles in order, what is wrong with its label or with
    the whole of it ('' where nothing is), for each item asked about a text as `Tier.verify` gives it, and how many
    bytes were read.
    """

    files: tuple[TapeFile, ...]
    answers: tuple[str, ...]
    problem: str = ""
    bytes: int = 0


@runtime_checkable
class DriveTier(Tier, Protocol):
    """A tier with cartridges and few drives: in which order it is asked for what decides how soon that is there."""

    def drives(self) -> Sequence[DriveState]:
        """Every drive as it was last left."""

    def prefer(self, drive: int) -> None:
        """The next cartridge that has to be brought goes into this drive, unless others have that by then."""

    def lay(self, locations: Sequence[str]) -> Mapping[str, Stretch]:
        """Where each of these locations lies; those are left out that cannot be read now."""

    def writes_to(self, domain: str) -> Stretch | None:
        """Where a domain's next bundle begins; None where a new cartridge will be taken for it."""

    def read_cartridge(
        self, barcode: str, placed: Sequence[Placed], *, throttle: Throttle, progress: Progress
    ) -> CartridgeRead:
        """The cartridge was read from its label to its end of data, in that order, after a remount and without
        decoding anything; the items, which should be on it, were judged as `verify` judges them.

        The drive is free for others when it returns. Raises Transient where drive, cartridge or library cannot be had
        now, and changes nothing.
        """


# --- engines -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Estimate:
    """What a run will need."""

    memory_bytes: int
    cpu_s: float


@dataclass(frozen=True)
class Repeated:
    """Resolved parameters after those of an earlier run. `anew`: what was not taken over, each with the reason; empty
    where the run is repeated to the last bit.
    """

    resolved: Mapping[str, Any]
    anew: Mapping[str, str]


class Engine(Protocol):
    """A reconstruction program. Never imported in the daemon."""

    name: ClassVar[str]

    def version(self) -> str:
        """Version of the engine and of what its numbers depend on."""

    def resolve(self, source: FrameSource, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        """Every 'auto' becomes a number. The result alone is enough to run again."""

    def repeat(self, source: FrameSource, resolved: Mapping[str, Any]) -> Repeated:
        """The parameters of an earlier run for a source: as they were, if it is what that run read and would give the
        same numbers; else resolved anew from what does not depend on the scan, with the reasons.
        """

    def estimate(self, source: FrameSource, resolved: Mapping[str, Any]) -> Estimate:
        """Memory and time of a run."""

    def slices(
        self, source: FrameSource, resolved: Mapping[str, Any], rows: Sequence[int], progress: Progress
    ) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
        """(row, slice) for detector rows in ascending order; each slice is (columns, columns) float32 in 1/pixel."""


# --- actions -------------------------------------------------------------------------------------


class FormatFamily(Protocol):
    """Inspection of foreign files in limited child processes."""

    def inspect(self, candidate: Candidate, *, settled: bool) -> Sequence[ScanReport]:
        """As `Format.inspect`, NoScan included; raises UserError if the child died, ran out of memory or time."""

    def layout(self, report: ScanReport) -> Layout:
        """As `Format.layout`; an empty layout where the child failed, so that files are kept whole."""


class Bench(Protocol):
    """What a job process has at hand."""

    @property
    def formats(self) -> FormatFamily:
        """Inspection of foreign files."""

    @property
    def job(self) -> str:
        """The job's id; in every temporary name, so that the next attempt finds and removes what one left."""

    @property
    def folder(self) -> str:
        """The job's folder."""

    def tier(self, name: str) -> Tier:
        """A tier of the site by name."""

    def engine(self) -> Engine:
        """The site's reconstruction engine."""

    def transfers(self) -> TransferService:
        """The site's transfer service. Raises UserError where it has none."""

    def throttle(self, place: str) -> Throttle:
        """The bandwidth share of the server that `place` (an area or a tier) is on."""

    def checkpoint(self, name: str) -> None:
        """See `Checkpoint`."""

    def progress(self, done: int, total: int) -> None:
        """See `Progress`."""

    def now(self) -> datetime:
        """Aware UTC."""

    def token_is_current(self) -> bool:
        """Re-reads the fencing token; asked immediately before anything is removed or a cartridge is moved."""


class Action(Protocol):
    """One verb. `perform` does all side effects, can be run again from any kill point, and returns facts."""

    name: ClassVar[str]

    def perform(self, order: Mapping[str, Any], bench: Bench) -> Result:
        """Carry out an order (the plain form of the action's own Order dataclass)."""


__all__ = [
    "Action",
    "Bench",
    "CartridgeRead",
    "Checkpoint",
    "ClaimedTier",
    "ColdTier",
    "DriveState",
    "DriveTier",
    "Engine",
    "Estimate",
    "Format",
    "FormatFamily",
    "FrameSource",
    "Harm",
    "Health",
    "Listing",
    "Parcel",
    "Placed",
    "Progress",
    "ScanFile",
    "Stretch",
    "Surveyed",
    "SurveyedTier",
    "TapeFile",
    "TapedPackage",
    "Throttle",
    "Tier",
]
