"""The permit before a removal: law 4 over fresh, locked rows, written in the transaction that decides."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, insert, select, update

from tomovault.catalog import tables
from tomovault.catalog.audit import add_audit
from tomovault.catalog.removals import require_permit
from tomovault.catalog.scans import known, permit_of, require_scan, touch
from tomovault.catalog.transaction import Tx, new_id
from tomovault.core.errors import Refused, UserError
from tomovault.core.known import KnownScan, Permit, RemovalPhase
from tomovault.core.life import may_go
from tomovault.core.replica import Replica, ReplicaState, TierClass
from tomovault.core.weighing import Weighed, weigh_removal

#: Verified means re-read no longer ago than this, unless the policy says otherwise (law 4).
WITHIN: Mapping[TierClass, timedelta] = {
    TierClass.FAST: timedelta(days=90),
    TierClass.SERVER: timedelta(days=90),
    TierClass.ARCHIVE: timedelta(days=400),
    TierClass.REMOTE: timedelta(days=400),
}

_MAY_LEAVE = (ReplicaState.PRESENT, ReplicaState.VERIFIED, ReplicaState.SUSPECT)


def _as_recorded(replica: Replica) -> str:
    return replica.domain


@dataclass(frozen=True)
class _Asked:
    removal_enabled: bool
    copies_asked: int
    within: Mapping[TierClass, timedelta]
    archiving_hopeful: bool
    domain_now: Callable[[Replica], str]
    now: datetime

    def period(self, tier_class: TierClass) -> timedelta:
        return self.within.get(tier_class, WITHIN[tier_class])


def grant_permit(
    tx: Tx,
    scan_id: str,
    replica_id: str,
    *,
    removal_enabled: bool,
    copies_asked: int,
    within: Mapping[TierClass, timedelta],
    rule: str,
    hold_until: datetime | None,
    archiving_hopeful: bool,
    domain_now: Callable[[Replica], str] = _as_recorded,
    now: datetime,
) -> Permit:
    """Permit the removal of one replica: it is leaving, and the permit names the copies relied on.

    `within` is how recently a copy of a tier class must have been re-read (else WITHIN); `archiving_hopeful`
    says that the archiving of a fast tier's scan is wanted and has not failed; `domain_now` gives the failure
    domain that a copy is in today, '' where that is not known. Raises Refused with every reason of law 4, or
    where the replica is gone, or leaving or in quarantine in part already.
    """
    asked = _Asked(removal_enabled, copies_asked, within, archiving_hopeful, domain_now, now)
    scan, victim = lock_victim(tx, scan_id, replica_id)
    weighed = _weigh(scan, victim, asked)
    _refuse(weighed, scan)
    return write_permit(
        tx, scan, victim, rule=rule, relied_on=weighed.relied_on, hold_until=hold_until, actor="tomovault", now=now
    )


def lock_victim(tx: Tx, scan_id: str, replica_id: str) -> tuple[KnownScan, Replica]:
    """A scan and its replica that is to go, their rows locked. Raises Refused where it is gone, leaving, in quarantine
    in part, or not ours to remove.
    """
    scan = _lock(tx, scan_id)
    victim = _victim(scan, replica_id)
    if victim.state not in _MAY_LEAVE:
        raise Refused(f"replica {replica_id} is {victim.state}", by="law 5")
    if scan.is_elsewhere(victim):
        raise Refused(
            f"{victim.location} is a copy that was restored or found there, not where {scan.name} was written",
            by="no rule removes what a person put there",
            hint="a person who needs it no longer removes it",
        )
    if any(p.replica == replica_id and p.phase is RemovalPhase.QUARANTINED for p in scan.permits):
        raise Refused(f"part of replica {replica_id} is in quarantine", by="law 5", hint="tomovault prune undo")
    return scan, victim


def write_permit(
    tx: Tx,
    scan: KnownScan,
    victim: Replica,
    *,
    rule: str,
    relied_on: Sequence[Replica],
    hold_until: datetime | None,
    actor: str,
    now: datetime,
    reason: str = "",
) -> Permit:
    """The replica is leaving, under a permit that names the copies relied on. With a `reason` it is the order of the
    person `actor`.
    """
    copies = [_relied(replica) for replica in relied_on]
    row = tx.first(select(tables.replica.c.bytes, tables.replica.c.files).where(tables.replica.c.id == victim.id))
    permit_id = new_id("m")
    tx.run(
        insert(tables.permit).values(
            id=permit_id,
            scan_id=scan.id,
            replica_id=victim.id,
            rule=rule,
            phase=RemovalPhase.GRANTED.value,
            granted_at=now,
            hold_until=hold_until,
            relied_on=copies,
            state_before=victim.state.value,
            bytes=row.bytes if row else 0,
            files=row.files if row else 0,
            moved=[],
            left=[],
            ordered_by=actor if reason else "",
            reason=reason,
        )
    )
    tx.run(
        update(tables.replica)
        .where(tables.replica.c.id == victim.id, tables.replica.c.state == victim.state.value)
        .values(state=ReplicaState.LEAVING.value)
    )
    body = {"permit": permit_id, "replica": victim.id, "rule": rule, "relied_on": copies}
    add_audit(tx, actor, "permit granted", body | ({"reason": reason} if reason else {}), now, scan=scan.id)
    touch(tx, scan.id, now, new_fact=True)
    return permit_of(require_permit(tx, permit_id))


def regrant(
    tx: Tx,
    permit_id: str,
    *,
    rule: str = "",
    removal_enabled: bool,
    copies_asked: int,
    within: Mapping[TierClass, timedelta],
    archiving_hopeful: bool,
    domain_now: Callable[[Replica], str] = _as_recorded,
    now: datetime,
) -> Permit:
    """Evaluate an open permit again over fresh rows; it then names the copies relied on now. The rule and version that
    let it go on are in the audit log beside those of the permit.

    One whose files are in quarantine goes to its second phase (LEAVING). Raises Refused where law 4 is not
    met any more, the hold is not over, or the permit is gone or undone, if only in part; nothing is changed then.
    """
    row, scan, victim = lock_open(tx, permit_id, now)
    asked = _Asked(removal_enabled, copies_asked, within, archiving_hopeful, domain_now, now)
    weighed = _weigh(scan, victim, asked)
    _refuse(weighed, scan)
    return go_on(tx, row, weighed.relied_on, now, rule=rule)


def lock_open(tx: Tx, permit_id: str, now: datetime) -> tuple[Row[Any], KnownScan, Replica]:
    """An open permit, its scan and its replica, their rows locked. Raises Refused where it is gone or undone, if only
    in part, or its hold is not over.
    """
    row = require_permit(tx, permit_id)
    scan = _lock(tx, row.scan_id)
    phase = RemovalPhase(row.phase)
    if phase in (RemovalPhase.GONE, RemovalPhase.UNDONE):
        raise Refused(f"permit {permit_id} is {phase}", by="law 5")
    if phase is RemovalPhase.QUARANTINED and row.hold_until is not None and now < row.hold_until:
        raise Refused(f"permit {permit_id} holds until {row.hold_until.isoformat()}", by="hold")
    victim = _victim(scan, row.replica_id)
    if phase is RemovalPhase.QUARANTINED and victim.state is not ReplicaState.LEAVING:
        raise Refused(
            f"permit {permit_id} was taken back in part, first {next(iter(row.left), '')}",
            by="law 5",
            hint="move away what is in the way, then tomovault prune undo again",
        )
    return row, scan, victim


def go_on(tx: Tx, row: Row[Any], relied_on: Sequence[Replica], now: datetime, *, rule: str = "") -> Permit:
    """The permit names the copies relied on now; after its hold its second phase begins. A `rule` of another version
    than the permit's is in the audit log.
    """
    copies = [_relied(replica) for replica in relied_on]
    after = RemovalPhase.LEAVING if row.phase == RemovalPhase.QUARANTINED else RemovalPhase(row.phase)
    tx.run(
        update(tables.permit)
        .where(tables.permit.c.id == row.id, tables.permit.c.phase == row.phase)
        .values(phase=after.value, relied_on=copies)
    )
    body = {"permit": row.id, "phase": after, "rule": rule or row.rule, "relied_on": copies}
    add_audit(tx, "tomovault", "permit granted again", body, now, scan=row.scan_id)
    return permit_of(require_permit(tx, row.id))


def _lock(tx: Tx, scan_id: str) -> KnownScan:
    """The scan as it is, with its row and those of all its replicas locked until the transaction ends."""
    require_scan(tx, scan_id)
    tx.rows(select(tables.replica.c.id).where(tables.replica.c.scan_id == scan_id).with_for_update())
    return known(tx, scan_id)


def _victim(scan: KnownScan, replica_id: str) -> Replica:
    for replica in scan.replicas:
        if replica.id == replica_id:
            return replica
    raise UserError(f"scan {scan.name} has no replica {replica_id}")


def _refuse(weighed: Weighed, scan: KnownScan) -> None:
    reasons = may_go(weighed.removal)
    if reasons:
        raise Refused(
            f"{scan.name}: " + "; ".join(reasons),
            by=which_says(reasons[0]),
            hint="tomovault explain says what is missing",
        )


def which_says(reason: str) -> str:
    """The name of what refuses a removal, from the reason that `may_go` gave."""
    for start, name in (("pinned", "pin"), ("prune is off", "prune: off")):
        if reason.startswith(start):
            return name
    return "law 4"


def _weigh(scan: KnownScan, victim: Replica, asked: _Asked) -> Weighed:
    """Raises UserError where the scan has no such product."""
    scan = replace(scan, replicas=tuple(replace(r, domain=asked.domain_now(r)) for r in scan.replicas))
    victim = _victim(scan, victim.id)
    if not any(p.digest == victim.digest and p.kind is victim.product for p in scan.products):
        raise UserError(f"replica {victim.id} is of no product of scan {scan.name}")
    return weigh_removal(
        scan,
        victim,
        enabled=asked.removal_enabled,
        copies_asked=asked.copies_asked,
        period=asked.period,
        archiving_hopeful=asked.archiving_hopeful,
        now=asked.now,
    )


def _relied(replica: Replica) -> Mapping[str, Any]:
    return {
        "replica": replica.id,
        "tier": replica.tier,
        "domain": replica.domain,
        "sha256": replica.sha256,
        "verified_at": replica.verified_at.isoformat() if replica.verified_at else None,
    }
