"""The ground that a history is played on: every byte of disks, tapes and quarantine as a row of a table, under a clock
that is set by hand. What a job does to bytes is done to the table, which knows what was really read, and what went.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tomovault.core.errors import IntegrityError, Refused, Transient
from tomovault.core.record import (
    Checked,
    GivenBack,
    Inspected,
    Made,
    Outcome,
    Processing,
    PutBack,
    Quarantined,
    Record,
    Removed,
    Result,
    Stored,
)
from tomovault.core.replica import Form, ProductKind, StoredFile
from tomovault.core.scan import Candidate, Certificate, FileRole, FileState, FrameCounts, ScanFile, ScanReport, Verdict
from tomovault.core.transfer import Receipt, TransferFailed, TransferPlanned, TransferReceived, TransferSubmitted

START = datetime(2026, 3, 2, 12, tzinfo=UTC)

#: Bytes of what is made of a scan, by each byte of its files, and CPU seconds of each volume.
SIZES = {ProductKind.VOLUME: 2.0, ProductKind.PREVIEW: 0.1}
VOLUME_CPU_S = 36.0

Order = Mapping[str, Any]


class Clock:
    """What the clock on the wall says, and how long the machine has run."""

    def __init__(self) -> None:
        self.wall, self.running_s = START, 0.0
        self.jumps = 0

    def go(self, seconds: float) -> None:
        """Time passes."""
        self.wall += timedelta(seconds=seconds)
        self.running_s += seconds

    def jump(self, seconds: float) -> None:
        """Somebody sets the clock."""
        self.wall += timedelta(seconds=seconds)
        self.jumps += 1


@dataclass
class Copy:
    """Bytes at a place. `version` is of what the instrument wrote there, `bad` what nobody knows yet."""

    name: str
    version: int
    size: int
    form: Form
    tier: str
    domain: str
    digest: str = ""
    bad: bool = False
    kind: ProductKind = ProductKind.ORIGINAL


def digest_of(name: str, version: int) -> str:
    """The digest of a scan's files as they were written then."""
    return hashlib.sha256(f"{name}.{version}".encode()).hexdigest()


@dataclass
class Ground:
    """Every byte there is: disks, tapes and quarantine; what was read of it, and when, and what went by a job."""

    clock: Clock
    copies: dict[str, Copy] = field(default_factory=dict)
    quarantine: dict[str, tuple[str, Copy]] = field(default_factory=dict)
    reads: set[tuple[str, str, datetime]] = field(default_factory=set)
    went: list[tuple[str, str, Copy]] = field(default_factory=list)
    absent: set[str] = field(default_factory=set)
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    acquired: dict[str, datetime] = field(default_factory=dict)
    tasks: dict[str, str] = field(default_factory=dict)
    delivered: list[tuple[str, str]] = field(default_factory=list)
    fault: str = ""
    tapes: int = 0
    submissions: int = 0

    def used(self, area: str) -> int:
        """Bytes on the disk of an area, the quarantine included."""
        held = [c for c in self.copies.values() if c.tier == area]
        return sum(c.size for c in [*held, *(c for _, c in self.quarantine.values() if c.tier == area)])

    def originals(self, digest: str) -> list[Copy]:
        """Whatever there is of an original, be it bad."""
        return [c for c in [*self.copies.values(), *(c for _, c in self.quarantine.values())] if c.digest == digest]

    def is_right(self, location: str, digest: str) -> bool:
        """Whether the bytes at a place were read now and have that digest; then it is remembered."""
        copy = self.copies.get(location)
        if copy is None or copy.bad or copy.digest != digest:
            return False
        self.reads.add((location, digest, self.clock.wall))
        return True

    # --- what each job does ----------------------------------------------------------------------

    def inspect(self, order: Order) -> Iterator[Record]:
        """What stands at the places looked at is told as a format would."""
        for look in order["looks"]:
            candidate = Candidate(look["candidate"]["format"], look["candidate"]["folder"])
            root = candidate.folder
            copy = self.copies.get(root)
            if copy is not None:
                yield Inspected(candidate, look["snapshot"], look["settled"], (self.report(root, copy),))

    def report(self, root: str, copy: Copy) -> ScanReport:
        """What a format says of a scan's files."""
        state = FileState("a.edf", copy.size, copy.version, copy.version, copy.version + 1, 1, 0o100644)
        verdict = self.verdicts.get(copy.name, Verdict.COMPLETE)
        return ScanReport(
            name=copy.name,
            root=root,
            entry="",
            identity=f"{copy.name}.{copy.version}",
            files=(ScanFile(state, FileRole.PROJECTION),),
            format="edf",
            certificate=Certificate(verdict, FrameCounts(2, 1, 1), FrameCounts(2, 1, 1)),
            acquired_at=self.acquired[copy.name],
        )

    def pack(self, order: Order) -> Iterator[Record]:
        """A package of the files as they stand; Transient where they are not those that were seen."""
        root = order["candidate"]["folder"]
        copy = self.copies.get(root)
        if copy is None or order["identity"] != f"{copy.name}.{copy.version}":
            raise Transient(f"{root} changed")
        location = f"{order['folder']}/{order['stem']}.tomo.h5"
        packed = replace(copy, form=Form.PACKAGE, size=copy.size // 2, domain=order["domain"], bad=False)
        self.copies[location] = packed
        self.reads |= {(root, copy.digest, self.clock.wall), (location, copy.digest, self.clock.wall)}
        yield from records_of(copy, root, self.clock.wall)
        yield stored(packed, location, self.clock.wall)

    def archive(self, order: Order) -> Iterator[Record]:
        """A copy in each domain that the order names, of a package that is right."""
        (parcel,) = order["parcels"]
        recall = order["recall"]
        at = recall["placed"]["location"] if recall else parcel["files"][0]["location"]
        if not self.is_right(at, parcel["digest"]):
            yield Checked(order["source"], False, self.clock.wall, "has changed")
            raise Transient("the package is bad")
        for domain in order["domains"]:
            yield self._put(self.copies[at], order["tier"], domain)

    def replicate(self, order: Order) -> Iterator[Record]:
        """A copy on the tier, of a package that is right."""
        (parcel,) = order["parcels"]
        at = parcel["files"][0]["location"]
        if not self.is_right(at, parcel["digest"]):
            yield Checked(order["source"], False, self.clock.wall, "has changed")
            raise Transient("the package is bad")
        yield self._put(self.copies[at], order["tier"], order["tier"])

    def _put(self, source: Copy, tier: str, domain: str) -> Stored:
        self.tapes += 1
        location = f"{domain}#{self.tapes}"
        self.copies[location] = replace(source, tier=tier, domain=domain, bad=False)
        self.reads.add((location, source.digest, self.clock.wall))
        return stored(self.copies[location], location, self.clock.wall)

    def verify(self, order: Order) -> Iterator[Record]:
        """Each copy is right or bad; Transient where one could not be reached."""
        unreached = False
        for target in order["targets"]:
            if target["tier"] in self.absent:
                unreached = True
                continue
            right = self.is_right(target["location"], target["digest"])
            yield Checked(target["replica"], right, self.clock.wall, "" if right else "has changed")
        if unreached:
            raise Transient("absent")

    def prune(self, order: Order) -> Iterator[Record]:
        """What is as it was packed is in quarantine. Refused where nothing of it is: then nothing was moved."""
        permit = order["permit"]
        at = order["place"]["root"] if order["form"] == "files" else order["files"][0]["location"]
        if permit not in self.quarantine:
            copy = self.copies.get(at)
            if copy is None:
                told = f"1 of 1 files are missing or shorter than packed, first {at}"
                raise Refused(told, by="law 3: absence is never an order")
            if not order["as_it_is"] and (copy.bad or not self._is_as_packed(order, copy)):
                told = f"nothing of {at} may be moved, first a.edf: has other content"
                raise Refused(told, by="law 5: only what was packed goes")
            self.quarantine[permit] = (at, self.copies.pop(at))
        yield Quarantined(permit, ("a.edf",), self.quarantine[permit][1].size)

    @staticmethod
    def _is_as_packed(order: Order, copy: Copy) -> bool:
        return copy.digest == Path(order["manifest"]).stem.partition(".")[0]

    def preview(self, order: Order) -> Iterator[Record]:
        """See `_make`."""
        yield from self._make(ProductKind.PREVIEW, order)

    def reconstruct(self, order: Order) -> Iterator[Record]:
        """See `_make`."""
        yield from self._make(ProductKind.VOLUME, order)

    def _make(self, kind: ProductKind, order: Order) -> Iterator[Record]:
        """What is made of the frames of a scan, from its package or its files, as far as those are right: the same each
        time.
        """
        frames, now = order["frames"], self.clock.wall
        at = frames["files"][0]["location"] if frames["package"] else frames["candidate"]["folder"]
        copy = self.copies.get(at)
        if copy is None or not self.is_right(at, frames["digest"] or copy.digest):
            if frames["package"]:
                yield Checked(frames["replica"], False, now, "has changed")
            raise Transient("the frames cannot be read")
        location = f"{order['folder']}/{order['stem']}.{kind}.h5"
        size = int(SIZES[kind] * copy.size * (2 if copy.form is Form.PACKAGE else 1))
        digest = digest_of(f"{copy.name}.{kind}", copy.version)
        made = Copy(copy.name, copy.version, size, Form.PACKAGE, order["area"], order["domain"], digest, kind=kind)
        self.copies[location] = made
        self.reads.add((location, digest, now))
        run = Processing("engine", "1", {"purpose": kind.value, "centre": 11.5}, now, now, outputs=(digest,))
        yield Made(kind, digest, size, 1, processing=run)
        yield stored(made, location, now)

    def export(self, order: Order) -> Iterator[Record | Result]:
        """One step further: a submission, its task, and at the next look the receipt, where the package is right."""
        transfer, submission, now = order["transfer"], order["submission_id"], self.clock.wall
        if submission is None:
            self.submissions += 1
            deadline = now + timedelta(seconds=order["deadline_s"])
            yield TransferPlanned(transfer, f"submission-{self.submissions}", deadline)
            yield Result(Outcome.WAITING, at_once=True)
            return
        first = submission not in self.tasks
        task = self.tasks.setdefault(submission, f"task-{len(self.tasks)}")
        yield TransferSubmitted(transfer, submission, task, now)
        if first:
            yield Result(Outcome.WAITING)
            return
        (file,) = order["files"]
        if not self.is_right(file["location"], order["digest"]):
            yield TransferFailed(transfer, submission, task, "its checksum differs", now)
            yield Result(Outcome.TRANSIENT, error="its checksum differs")
            return
        self.delivered.append((submission, order["digest"]))
        names = (file["location"].rpartition("/")[2],)
        places = (order["source_collection"], order["collection"], order["folder"])
        receipt = Receipt(task, *places, order["digest"], names, file["size"], 0, now, now, now)
        yield TransferReceived(transfer, submission, receipt)

    def undo_prune(self, order: Order) -> Iterator[Record]:
        """What is in quarantine is back, unless something stands in its place."""
        permit = order["permit"]
        if permit not in self.quarantine:
            gone = tuple(f"{path}: was removed" for path in order["moved"])
            yield PutBack(permit, 0, 0, conflicts=gone, removed_files=len(gone), removed_bytes=order["moved_bytes"])
            return
        at, copy = self.quarantine[permit]
        if at in self.copies:
            yield PutBack(permit, 0, 0, conflicts=("a.edf: is there",), kept=("a.edf",), kept_bytes=copy.size)
            return
        self.copies[at] = copy
        del self.quarantine[permit]
        yield PutBack(permit, 1, copy.size)

    def empty_quarantine(self, order: Order) -> Iterator[Record]:
        """What is in quarantine is gone."""
        held = self.quarantine.pop(order["permit"], None)
        if held is not None:
            self.went.append((order["permit"], *held))
        yield Removed(order["permit"], 1 if held else 0, held[1].size if held else 0)

    def destroy(self, order: Order) -> Iterator[Record]:
        """A copy on a tier is gone."""
        at = order["placed"]["location"]
        copy = self.copies.pop(at, None)
        if copy is not None:
            self.went.append((order["permit"], at, copy))
        yield Removed(order["permit"], 1, copy.size if copy else 0)

    def restore(self, order: Order) -> Iterator[Record]:
        """A copy on disk of the first that is right, and the files where they were written, where that is asked."""
        for source in order["sources"]:
            at = source["files"][0]["location"]
            if not self.is_right(at, order["digest"]):
                yield Checked(source["replica"], False, self.clock.wall, "when restored from")
                continue
            given, recall, home = self.copies[at], order["recall"], order["home"]
            if source["tier_class"] == "archive" and recall["keep"]:
                location = f"{recall['folder']}/{order['scan_name']}.back.{self.tapes}.tomo.h5"
                self.copies[location] = replace(given, tier=recall["area"], domain=recall["domain"])
                self.reads.add((location, given.digest, self.clock.wall))
                until = datetime.fromisoformat(recall["pinned_until"])
                yield replace(stored(self.copies[location], location, self.clock.wall), pinned_until=until)
            if home and order["target"] not in self.copies:
                back = replace(given, form=Form.FILES, size=home["bytes"], tier=recall["area"], domain=recall["domain"])
                self.copies[order["target"]] = back
                self.reads.add((order["target"], back.digest, self.clock.wall))
                yield stored(back, order["target"], self.clock.wall)
            yield GivenBack(source["tier"], None, order["target"], 1, given.size, original_place=bool(home))
            return
        raise IntegrityError("no copy could be read")


def stored(copy: Copy, location: str, now: datetime) -> Stored:
    """The record of a copy that was written and read back."""
    files = (StoredFile(location, copy.size, copy.digest),) if copy.form is Form.PACKAGE else ()
    return Stored(
        copy.kind,
        copy.digest,
        copy.form,
        copy.tier,
        copy.domain,
        location,
        files,
        copy.size,
        copy.digest,
        now,
        now,
    )


def records_of(files: Copy, root: str, now: datetime) -> list[Record]:
    """What packing tells of the files of a scan: its original and where they stand."""
    listed = {"path": "a.edf", "role": "projection", "size": files.size, "mtime_ns": files.version}
    made = Made(ProductKind.ORIGINAL, files.digest, files.size, 1, manifest=json.dumps({"files": [listed]}))
    return [made, stored(files, root, now)]
