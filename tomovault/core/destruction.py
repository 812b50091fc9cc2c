"""What a person's order to destroy asks of what is known: why it cannot be now, what stays, what is not made again.

Law 4 keeps rules from removing the last copies. A person may, by name and with a reason; so nothing here counts copies
to refuse, and everything here is told before it happens.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from tomovault.core.known import JobStatus, KnownScan, Permit, RemovalPhase, is_being_sent
from tomovault.core.life import Stage
from tomovault.core.replica import Form, ProductKind, Replica, ReplicaState, TierClass

#: What reads or makes copies: nothing of a scan goes while one of these is being done.
NEED_COPIES = frozenset({"pack", "archive", "replicate", "preview", "reconstruct", "verify", "restore"})

_CAN_GO = (ReplicaState.PRESENT, ReplicaState.VERIFIED, ReplicaState.SUSPECT)


def victims_of(scan: KnownScan, product: ProductKind, tier: str) -> tuple[Replica, ...]:
    """The copies of a product on a tier that can be destroyed: not those at a place where a person put them."""
    here = (r for r in scan.replicas_of(product) if r.tier == tier and r.state in _CAN_GO)
    return tuple(r for r in here if not scan.is_elsewhere(r))


def work_on_copies(scan: KnownScan, victim: Replica) -> str:
    """An action that reads or makes copies of the scan right now, or sends that one; '' for none."""
    doing = {j.action for j in scan.jobs if j.status is JobStatus.DOING}
    sends = {"export"} if is_being_sent(scan, victim, JobStatus.DOING) else set()
    return min(doing & NEED_COPIES | sends, default="")


def copies_left(scan: KnownScan, product: ProductKind, without: tuple[Replica, ...]) -> tuple[Replica, ...]:
    """The good lossless copies of a product that stay when some are destroyed, wherever they are."""
    gone = {replica.id for replica in without}
    return tuple(r for r in scan.replicas_of(product) if r.good and r.lossless and r.id not in gone)


def withdrawn(scan: KnownScan, tiers: Collection[str]) -> Mapping[Stage, str]:
    """The stages that are not wanted any more, since a person destroyed what they made, each with who and why; `tiers`
    are those that rules want a copy on.

    Otherwise a rule would at once make again what was destroyed. Where all that was destroyed on a tier was known to be
    bad, a good copy is wanted there again when that is gone: to clear away a bad one says nothing against it. Not
    before, since on a disk it would take the place of the bad one, and go with it.
    """
    ordered = _ordered(scan)
    sound = {(replica.product, replica.tier) for permit, replica in ordered if not permit.of_suspect}
    found: dict[Stage, str] = {}
    for permit, replica in ordered:
        if permit.phase is RemovalPhase.GONE and (replica.product, replica.tier) not in sound:
            continue
        for stage in _made_at(scan, replica, tiers):
            found.setdefault(stage, f"destroyed on {replica.tier}: {order_of(permit)}")
    return found


def _ordered(scan: KnownScan) -> list[tuple[Permit, Replica]]:
    """The orders that stand, each with its copy."""
    replicas = {r.id: r for r in scan.replicas}
    standing = (p for p in scan.permits if p.ordered_by and p.phase is not RemovalPhase.UNDONE)
    return [(permit, replicas[permit.replica]) for permit in standing if permit.replica in replicas]


def order_of(permit: Permit) -> str:
    """Who ordered a removal, and why, in a line."""
    return f"ordered by {permit.ordered_by}: {permit.reason}"


def _made_at(scan: KnownScan, replica: Replica, tiers: Collection[str]) -> tuple[Stage, ...]:
    """The stages whose result a copy is, or is a part of; none for the files that the instrument wrote, and for a
    package that no rule wants where it is, such as one that stayed in an area which its scan has left.
    """
    if replica.product is not ProductKind.ORIGINAL:
        return _MADE_AT[replica.product]
    if replica.tier_class is TierClass.ARCHIVE:
        return (Stage.ARCHIVED,)
    if replica.form is Form.FILES:
        return ()
    if replica.tier == scan.area:
        return (Stage.PACKED,)
    return (Stage.REPLICATED,) if replica.tier in tiers else ()


_MADE_AT: Mapping[ProductKind, tuple[Stage, ...]] = {
    ProductKind.PREVIEW: (Stage.PREVIEWED,),
    ProductKind.VOLUME: (Stage.RECONSTRUCTED, Stage.ACCEPTED),
    ProductKind.REDUCED: (Stage.REDUCED,),
}
