"""Every scan as it is known, and the bytes that it takes up, through the changes that jobs and people bring."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import fields
from datetime import datetime
from typing import Any

from tomovault.core.known import Job, JobStatus, KnownScan, Permit, Pin, Product, RemovalPhase
from tomovault.core.record import Processing
from tomovault.core.replica import Form, ProductKind, Replica, ReplicaState
from tomovault.simulation.scenario import AreaPlan

_FIELDS = tuple(one.name for one in fields(KnownScan))


class World:
    """Scans by id. `used` counts the bytes on each area's disk, of which `quarantined` are on their way out and
    `reserved` are being written.

    Whoever changes a scan finds it in `changed`, and its area in `touched`, until somebody empties them; `unweighed`
    has the scans of each area of which anything at all became different, be it only that a job waits.
    """

    def __init__(self, areas: Mapping[str, AreaPlan]) -> None:
        self.areas = areas
        self.scans: dict[str, KnownScan] = {}
        self.used: Counter[str] = Counter()
        self.reserved: Counter[str] = Counter()
        self.quarantined: Counter[str] = Counter()
        self.unweighed: defaultdict[str, dict[str, None]] = defaultdict(dict)
        self.changed: dict[str, None] = {}
        self.touched: dict[str, None] = dict.fromkeys(areas)
        self._foreign: Counter[str] = Counter()
        self._unpacked: Counter[str] = Counter()

    def add(self, scan: KnownScan) -> None:
        """A scan that was written, or is known already: its bytes and those of its copies count."""
        for area, size in _bytes_in(scan, self.areas).items():
            self.used[area] += size
        for replica in scan.replicas:
            if replica.state is ReplicaState.LEAVING and replica.tier in self.areas:
                self.quarantined[replica.tier] += replica.bytes
        if scan.area in self.areas and not any(r.form is Form.FILES for r in scan.replicas):
            self._unpacked[scan.area] += scan.bytes
        self._set(scan)

    def others(self, area: str, size: int) -> None:
        """Bytes on an area's disk that belong to no scan, and stay."""
        self.used[area] += size
        self._foreign[area] += size

    def unpacked_bytes(self, area: str) -> int:
        """Bytes of an area's scans whose files are no replica yet."""
        return self._unpacked[area]

    def settle(self, scan_id: str) -> None:
        """Nothing of the scan has changed for long enough."""
        self._set(changed(self.scans[scan_id], settled=True))

    def reserve(self, area: str, size: int) -> None:
        """Room for what is being written now; a negative size gives room back that was not needed."""
        self.used[area] += size
        self.reserved[area] += size
        self.touched[area] = None

    def add_copy(self, scan_id: str, replica: Replica, product: Product | None = None) -> None:
        """One more copy is there, of a product that is new to the scan or not; on disk its room was reserved."""
        if replica.tier in self.areas:
            self.reserved[replica.tier] -= replica.bytes
        self._put(scan_id, replica, product)

    def _put(self, scan_id: str, replica: Replica, product: Product | None) -> None:
        scan = self.scans[scan_id]
        known = {p.digest for p in scan.products}
        new = (product,) if product is not None and product.digest not in known else ()
        others = tuple(r for r in scan.replicas if r.id != replica.id)
        self._set(changed(scan, products=scan.products + new, replicas=(*others, replica)))

    def note_run(self, scan_id: str, run: Processing, cpu_s: float) -> None:
        """An engine made a volume of the scan in so many CPU seconds, with parameters that are kept."""
        scan = self.scans[scan_id]
        runs = (*scan.processings, (f"{scan_id} {len(scan.processings)}", run))
        self._set(changed(scan, processings=runs, volume_cpu_s=cpu_s))

    def note_files(self, scan_id: str, product: Product, files: Replica) -> None:
        """The files, whose bytes count since they were written, are a replica now: their digests are known."""
        self._unpacked[files.tier] -= files.bytes
        self._put(scan_id, files, product)

    def change_copy(self, scan_id: str, replica: Replica) -> None:
        """A copy is in another state, or was re-read."""
        scan = self.scans[scan_id]
        before = next(r for r in scan.replicas if r.id == replica.id)
        if replica.tier in self.areas:
            leaving = ReplicaState.LEAVING
            self.quarantined[replica.tier] += replica.bytes * ((replica.state is leaving) - (before.state is leaving))
            self.used[replica.tier] -= replica.bytes * (before.live - replica.live)
        self._set(changed(scan, replicas=tuple(replica if r.id == replica.id else r for r in scan.replicas)))

    def set_permit(self, scan_id: str, permit: Permit) -> None:
        """A permit was granted, or is in another phase."""
        scan = self.scans[scan_id]
        self._set(changed(scan, permits=(*(p for p in scan.permits if p.id != permit.id), permit)))

    def add_pin(self, scan_id: str, pin: Pin) -> None:
        """A hold with an end."""
        scan = self.scans[scan_id]
        self._set(changed(scan, pins=(*scan.pins, pin)))

    def accept(self, scan_id: str, by: str) -> None:
        """A person says that the volume is right."""
        self._set(changed(self.scans[scan_id], accepted_by=by))

    def begin_job(self, scan_id: str, action: str, now: datetime) -> None:
        """A job is queued, and stays so until it is over."""
        scan = self.scans[scan_id]
        job = Job(f"{scan_id} {action}", action, scan_id, JobStatus.TODO, 0, "", "", "", now, None, None)
        self.scans[scan_id] = changed(scan, jobs=(*scan.jobs, job))
        self.unweighed[scan.area][scan_id] = None

    def end_job(self, scan_id: str, action: str) -> None:
        """The job is over; how it ended is told by the facts that it brought."""
        scan = self.scans[scan_id]
        self._set(changed(scan, jobs=tuple(j for j in scan.jobs if j.action != action)))

    def follow(self, scan_id: str, files: Replica) -> None:
        """The scan belongs to the area that its files were moved to."""
        self.unweighed[self.scans[scan_id].area][scan_id] = None
        self._set(changed(self.scans[scan_id], area=files.tier, root=files.location))

    def recount(self) -> Counter[str]:
        """The bytes on each area's disk, counted scan by scan, with those that are being written and of no scan."""
        count = self._foreign + self.reserved
        for scan in self.scans.values():
            count.update(_bytes_in(scan, self.areas))
        return count

    def _set(self, scan: KnownScan) -> None:
        self.scans[scan.id] = scan
        self.unweighed[scan.area][scan.id] = None
        self.changed[scan.id] = None
        self.touched[scan.area] = None


def changed(scan: KnownScan, **values: Any) -> KnownScan:
    """As `dataclasses.replace`, which is a fifth of the time of a simulation: what checks and counts nothing when it is
    made can be copied without being made anew.
    """
    copy = object.__new__(KnownScan)
    copy.__dict__.update({name: scan.__dict__[name] for name in _FIELDS}, **values)
    return copy


def open_permit(scan: KnownScan, replica: str) -> Permit | None:
    """The permit by which a replica is in quarantine."""
    found = (p for p in scan.permits if p.replica == replica and p.phase is RemovalPhase.QUARANTINED)
    return next(found, None)


def _bytes_in(scan: KnownScan, areas: Mapping[str, AreaPlan]) -> Counter[str]:
    """Bytes of a scan on the disk of each area: of its live copies, and of files that are no replica yet."""
    count: Counter[str] = Counter()
    for replica in scan.replicas:
        if replica.live and replica.tier in areas:
            count[replica.tier] += replica.bytes
    files = [r for r in scan.replicas if r.form is Form.FILES and r.product is ProductKind.ORIGINAL]
    if not files and scan.superseded_by is None:
        count[scan.area] += scan.bytes
    return count
