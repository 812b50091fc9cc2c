"""Everything that the catalogue knows of one scan, read in one go; rules, stages and pages are made from it."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from tomovault.core.life import Facts, Standing, Status
from tomovault.core.notice import OwnerWarning
from tomovault.core.record import Processing
from tomovault.core.replica import (
    LEAST_COPIES,
    Form,
    ProductKind,
    Replica,
    ReplicaState,
    TierClass,
    good_domains,
)
from tomovault.core.scan import Candidate, Certificate, Condition, Verdict
from tomovault.core.transfer import Transfer, TransferState

#: Of an original, in its details: how many of its frames a package keeps within whole files.
CODED_FRAMES = "coded_frames"


class JobStatus(enum.StrEnum):
    """The life of a queued action."""

    TODO = "todo"
    DOING = "doing"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class RemovalPhase(enum.StrEnum):
    """The life of a permit: intent, in quarantine, gone, or taken back."""

    GRANTED = "granted"
    QUARANTINED = "quarantined"
    LEAVING = "leaving"
    GONE = "gone"
    UNDONE = "undone"


#: Rules of jobs that neither a policy nor a person asked for: what was seen, what is re-read, what a night found.
OWN_RULES = ("watch", "scrub", "reconcile")
WATCH, SCRUB, RECONCILE = OWN_RULES


@dataclass(frozen=True)
class Product:
    """A body of data of a scan. `manifest` is the path of its manifest text, digest-named."""

    id: str
    kind: ProductKind
    digest: str
    bytes: int
    files: int
    lossless: bool
    made_by_us: bool
    created_at: datetime
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Pin:
    """A hold with an owner, a reason and an end."""

    id: str
    owner: str
    reason: str
    until: datetime
    tier: str | None = None


@dataclass(frozen=True)
class Permit:
    """A removal that was allowed, and how far it went. One that a person ordered, and no rule, names the person and
    the reason.
    """

    id: str
    replica: str
    rule: str
    phase: RemovalPhase
    granted_at: datetime
    hold_until: datetime | None
    relied_on: tuple[Mapping[str, Any], ...]
    bytes: int = 0
    files: int = 0
    left: tuple[str, ...] = ()
    moved: tuple[str, ...] = ()
    ordered_by: str = ""
    reason: str = ""
    #: Whether the copy was known to be bad when it was permitted, or was found so since.
    of_suspect: bool = False


@dataclass(frozen=True)
class Job:
    """An action queued, doing, or over."""

    id: str
    action: str
    scan: str | None
    status: JobStatus
    attempts: int
    error: str
    hint: str
    rule: str
    queued_at: datetime
    finished_at: datetime | None
    not_before: datetime | None
    order: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Declared:
    """A person's judgement over the certificate."""

    verdict: Verdict
    by: str
    reason: str
    at: datetime


@dataclass(frozen=True)
class KnownScan:
    """One scan. Values that have several possible sources carry the one that was used in `sources`. What another
    superseded was overwritten in place by that, or is that one `found_again` at another place.
    """

    id: str
    name: str
    root: str
    area: str
    format: str
    entry: str
    identity: str
    certificate: Certificate
    settled: bool
    first_seen_at: datetime
    changed_at: datetime
    bytes: int
    files: int
    acquired_at: datetime | None = None
    beamline: str | None = None
    proposal: str | None = None
    sample: str | None = None
    owner: str | None = None
    sources: Mapping[str, str] = field(default_factory=dict)
    set_name: str | None = None
    set_size: int | None = None
    candidate: Candidate | None = None
    superseded_by: str | None = None
    found_again: bool = False
    declared: Declared | None = None
    accepted_by: str | None = None
    conditions: Mapping[str, Condition] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    products: tuple[Product, ...] = ()
    replicas: tuple[Replica, ...] = ()
    processings: tuple[tuple[str, Processing], ...] = ()
    pins: tuple[Pin, ...] = ()
    permits: tuple[Permit, ...] = ()
    jobs: tuple[Job, ...] = ()
    transfers: tuple[Transfer, ...] = ()
    warnings: tuple[OwnerWarning, ...] = ()
    #: CPU seconds of the last run that made a volume of it; None where none was measured, or no volume is known.
    volume_cpu_s: float | None = None

    @property
    def verdict(self) -> Verdict:
        """A person's judgement where there is one, else the certificate's."""
        return self.declared.verdict if self.declared else self.certificate.verdict

    @property
    def complete(self) -> bool:
        """Complete or aborted, and settled."""
        return self.settled and self.verdict in (Verdict.COMPLETE, Verdict.ABORTED)

    def product(self, kind: ProductKind) -> Product | None:
        """The newest product of a kind."""
        return self._newest.get(kind)

    @cached_property
    def _newest(self) -> Mapping[ProductKind, Product]:
        newest: dict[ProductKind, Product] = {}
        for product in self.products:
            held = newest.get(product.kind)
            if held is None or product.created_at > held.created_at:
                newest[product.kind] = product
        return newest

    def replicas_of(self, kind: ProductKind, form: Form | None = None) -> tuple[Replica, ...]:
        """Replicas, gone ones left out, of the newest product of a kind."""
        found = self._live.get(kind, ())
        return found if form is None else tuple(r for r in found if r.form is form)

    @cached_property
    def _live(self) -> Mapping[ProductKind, tuple[Replica, ...]]:
        live = [r for r in self.replicas if r.live]
        return {
            kind: tuple(r for r in live if r.product is kind and r.digest == newest.digest)
            for kind, newest in self._newest.items()
        }

    @property
    def left_nothing(self) -> bool:
        """Whether another superseded it before there was a copy of it, or since all its copies are gone."""
        return self.superseded_by is not None and not any(r.live for r in self.replicas)

    def is_elsewhere(self, replica: Replica) -> bool:
        """Whether a replica is of the original files at another place than the scan's own: restored or found there."""
        original = replica.product is ProductKind.ORIGINAL and replica.form is Form.FILES
        return original and (replica.location, replica.tier) != (self.root, self.area)

    @property
    def files_on_disk(self) -> bool:
        """Whether the original files are at the scan's own place: as they were found, or as a good replica."""
        if self.superseded_by:
            return False
        good = (ReplicaState.VERIFIED, ReplicaState.PRESENT)
        files = _files_as_written(self)
        return not files or any(r.state in good for r in files)

    def pinned_by(self, now: datetime) -> str:
        """Owner and reason of a pin that holds now, or ''."""
        for pin in self.pins:
            if pin.until > now:
                return f"{pin.owner} until {pin.until.date().isoformat()} ({pin.reason})"
        return ""


def facts_of(
    scan: KnownScan,
    *,
    now: datetime,
    keep_after: timedelta,
    wanted_tiers: frozenset[str] = frozenset(),
    wanted_files: frozenset[str] = frozenset(),
    archive_wanted: int = LEAST_COPIES,
    uncounted: frozenset[str] = frozenset(),
) -> Facts:
    """The facts that LIFE reads, derived from what is known. `wanted_files` are areas that the files as such are wanted
    in. Copies on tiers that are `uncounted` archive nothing.
    """
    originals = scan.replicas_of(ProductKind.ORIGINAL)
    packages = [r for r in originals if r.form is Form.PACKAGE and r.state is ReplicaState.VERIFIED]
    kept = (
        not scan.complete
        and scan.verdict in (Verdict.INCOMPLETE, Verdict.UNDECIDED)
        and scan.settled
        and now - scan.changed_at >= keep_after
    )
    on_tiers = {r.tier for r in originals if r.state is ReplicaState.VERIFIED}
    files_in = {r.tier for r in originals if r.form is Form.FILES and r.state is ReplicaState.VERIFIED}
    return Facts(
        complete=scan.complete,
        aborted=scan.verdict is Verdict.ABORTED,
        kept_as_found=kept,
        preview=_made(scan, ProductKind.PREVIEW) or let_go(scan, ProductKind.PREVIEW) is not None,
        package=bool(packages),
        tiers_wanted=len(wanted_tiers) + len(wanted_files),
        tiers_lacking=len(wanted_tiers - on_tiers - let_go_from(scan)) + len(wanted_files - files_in),
        archive_copies=len(good_domains((r for r in originals if r.tier not in uncounted), TierClass.ARCHIVE)),
        archive_wanted=archive_wanted,
        volume=_made(scan, ProductKind.VOLUME) or let_go(scan, ProductKind.VOLUME) is not None,
        accepted=scan.accepted_by is not None,
        in_set=scan.set_name is not None,
        reduced=_made(scan, ProductKind.REDUCED),
        exported=_exported(scan),
        files_pruned=_files_pruned(scan),
    )


def _made(scan: KnownScan, kind: ProductKind) -> bool:
    return any(r.state is ReplicaState.VERIFIED for r in scan.replicas_of(kind))


def let_go(scan: KnownScan, kind: ProductKind) -> Permit | None:
    """The last permit by which rules let every copy of the newest product of a kind go that can be made again as it
    was, since its parameters are kept: it is not wanted once more only because it went. None where a copy stands, was
    lost otherwise, or went by a person's order.
    """
    product = scan.product(kind)
    if product is None or run_of(scan, product.digest) is None:
        return None
    copies = {r.id: r.state for r in scan.replicas if (r.product, r.digest) == (kind, product.digest)}
    by_rule = {p.replica: p for p in scan.permits if p.phase is not RemovalPhase.UNDONE and not p.ordered_by}
    went = all(state in (ReplicaState.LEAVING, ReplicaState.GONE) for state in copies.values())
    if not copies or not went or copies.keys() - by_rule.keys():
        return None
    return max((by_rule[replica] for replica in copies), key=lambda permit: permit.granted_at)


def run_of(scan: KnownScan, digest: str) -> str | None:
    """The last processing that gave a product and whose parameters are kept; None where none is known."""
    return next((key for key, run in reversed(scan.processings) if run.parameters and digest in run.outputs), None)


def let_go_from(scan: KnownScan) -> frozenset[str]:
    """Tiers from which a rule took the package of the original away, or is about to: nothing brings it there again, or
    one rule would undo for ever what another does.
    """
    packages = {r.id: r for r in scan.replicas if r.product is ProductKind.ORIGINAL and r.form is Form.PACKAGE}
    taken = (p for p in scan.permits if p.phase is not RemovalPhase.UNDONE and not p.ordered_by)
    tiers = {packages[p.replica].tier for p in taken if p.replica in packages}
    return frozenset(tiers - {scan.area})


def frames_lacking(scan: KnownScan) -> str:
    """Why an engine can read no frames of the scan now; '' where it can, as far as is known."""
    original = scan.product(ProductKind.ORIGINAL)
    if original is None or scan.files_on_disk:
        return ""
    packages = scan.replicas_of(ProductKind.ORIGINAL, Form.PACKAGE)
    disks = (TierClass.FAST, TierClass.SERVER)
    if not any(r.state is ReplicaState.VERIFIED and r.tier_class in disks for r in packages):
        why = "neither its files nor a package of it are on disk"
    elif original.details.get(CODED_FRAMES):
        why = "its frames are compressed inside its files, and those are not on disk any more"
    else:
        return ""
    return f"{why}; they are read again after: tomovault restore {scan.id} --to {scan.root}"


def replaced(scan: KnownScan, facts: Facts) -> frozenset[str]:
    """Ids of suspect archive copies of the original that nothing waits for: as many good ones as are wanted stand
    without them. Their bytes stay where they are, since a medium forgets nothing.
    """
    if facts.archive_copies < facts.archive_wanted:
        return frozenset()
    archived = (r for r in scan.replicas_of(ProductKind.ORIGINAL) if r.tier_class is TierClass.ARCHIVE)
    return frozenset(r.id for r in archived if r.state is ReplicaState.SUSPECT)


def export_standing(scan: KnownScan, kind: ProductKind) -> Standing | None:
    """Where the export of a product stands, wherever it was sent; None where nobody asked for it."""
    asked = [t for t in scan.transfers if t.product is kind]
    return transfers_standing(scan, asked) if asked else None


def transfers_standing(scan: KnownScan, asked: Sequence[Transfer]) -> Standing:
    """Where some transfers of a scan stand together; there is one at least.

    Done: a receipt is in, and nothing is under way. Held: the last transfer failed, or its job gave up.
    """
    last = asked[-1]
    jobs = jobs_of_transfer(scan, last)
    at_work = bool(jobs) and jobs[-1].status in (JobStatus.TODO, JobStatus.DOING)
    where = f"to {last.collection}:{last.path}, asked by {last.asked_by}"
    if not last.state.over and at_work:
        told = f": {jobs[-1].error}" if jobs[-1].error else ""
        return Standing(Status.WAITING, f"transfer {last.id} {where}, is {last.state}{told}")
    if any(t.state is TransferState.SUCCEEDED for t in asked):
        return Standing(Status.DONE)
    if at_work:
        return Standing(Status.WAITING, f"transfer {last.id} {where}, failed and is tried again: {last.error}")
    why = last.error or (jobs[-1].error if jobs else "") or "its job is gone"
    return Standing(Status.HELD, f"transfer {last.id} {where}, failed: {why}")


def jobs_of_transfer(scan: KnownScan, transfer: Transfer) -> list[Job]:
    """The jobs that carry a transfer out, the newest last."""
    return [j for j in scan.jobs if j.action == "export" and j.order.get("transfer") == transfer.id]


def is_being_sent(scan: KnownScan, replica: Replica, *statuses: JobStatus) -> bool:
    """Whether an export that is queued or under way, or in one of these statuses, reads a copy: packages are sent, from
    the scan's area.
    """
    if replica.form is not Form.PACKAGE or replica.tier != scan.area:
        return False
    asked = statuses or (JobStatus.TODO, JobStatus.DOING)
    at_work = (j for j in scan.jobs if j.action == "export" and j.status in asked)
    return any(j.order.get("product") == replica.product.value for j in at_work)


def _exported(scan: KnownScan) -> bool:
    standing = export_standing(scan, ProductKind.ORIGINAL)
    return standing is not None and standing.status is Status.DONE


def files_lost(scan: KnownScan) -> str:
    """How the files went away that the instrument wrote, where no prune of ours took them; '' while they are there."""
    files = _files_as_written(scan)
    if not files or _files_pruned(scan) or any(r.state is not ReplicaState.GONE for r in files):
        return ""
    if scan.superseded_by:
        return f"its files were overwritten in place by scan {scan.superseded_by}"
    return "its files are gone, and not by a prune"


def _files_as_written(scan: KnownScan) -> list[Replica]:
    return [
        r
        for r in scan.replicas
        if r.product is ProductKind.ORIGINAL and r.form is Form.FILES and not scan.is_elsewhere(r)
    ]


def _files_pruned(scan: KnownScan) -> bool:
    removed = {
        p.replica
        for p in scan.permits
        if p.phase in (RemovalPhase.GONE, RemovalPhase.QUARANTINED, RemovalPhase.LEAVING)
    }
    files = _files_as_written(scan)
    went = (ReplicaState.GONE, ReplicaState.LEAVING)
    return bool(files) and all(r.id in removed and r.state in went for r in files)
