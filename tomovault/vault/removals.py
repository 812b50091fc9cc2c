"""Permits: where LIFE, the policy and the law are asked once more, in the transaction that records the intent."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from tomovault.core.errors import Refused
from tomovault.core.known import JobStatus, KnownScan, Permit
from tomovault.core.life import Stage
from tomovault.vault.vault import Vault


def grant(vault: Vault, tx: Any, scan: KnownScan, replica: str, *, rule: str, now: datetime) -> Permit:
    """A permit is written and its phase-one job queued. Raises Refused, naming the law, pin or rule.

    A removal that failed is not tried again before something new is known of the replica or its scan.
    """
    area = vault.site.areas[scan.area]
    _refuse_repetition(scan, replica)
    permit = vault.catalogue.grant_permit(
        tx,
        scan.id,
        replica,
        removal_enabled=area.prune,
        copies_asked=vault.copies_wanted(scan.area),
        within=vault.verified_within(scan.area),
        rule=rule,
        hold_until=now + timedelta(seconds=vault.site.quarantine.hold_s),
        archiving_hopeful=archiving_hopeful(vault, tx, scan, now),
        now=now,
    )
    queued = vault.catalogue.queue_job(
        tx,
        "prune",
        scan.id,
        {"permit": permit.id},
        dedup_key=f"prune:{permit.id}",
        rule=rule,
        now=now,
        place=scan.area,
        host=area.host,
    )
    if queued is None:
        raise Refused("its removal is queued already", by="one removal at a time")
    return permit


def _refuse_repetition(scan: KnownScan, replica: str) -> None:
    permits = {p.id for p in scan.permits if p.replica == replica}
    tried = [j for j in scan.jobs if j.action == "prune" and j.order.get("permit") in permits]
    last = max(tried, key=lambda j: j.queued_at, default=None)
    if last is None or last.status is not JobStatus.FAILED or last.finished_at is None:
        return
    read_at = next((r.verified_at for r in scan.replicas if r.id == replica), None)
    if scan.changed_at <= last.finished_at and (read_at is None or read_at <= last.finished_at):
        raise Refused(
            f"{scan.name}: its last removal failed: {last.error}",
            by="a removal that failed is looked at by a person",
            hint=f"tomovault verify {scan.id} re-reads its copies; if they are right it is tried again",
        )


def regrant(vault: Vault, tx: Any, scan: KnownScan, permit: Permit, now: datetime) -> None:
    """Everything is evaluated again after the hold. Raises Refused if the permit would not be given today."""
    vault.catalogue.regrant(
        tx,
        permit.id,
        removal_enabled=vault.site.areas[scan.area].prune,
        copies_asked=vault.copies_wanted(scan.area),
        within=vault.verified_within(scan.area),
        archiving_hopeful=archiving_hopeful(vault, tx, scan, now),
        now=now,
    )


def archiving_hopeful(vault: Vault, tx: Any, scan: KnownScan, now: datetime) -> bool:
    """Whether the scan's archiving is wanted and has not failed (law 4, fast tiers)."""
    view = vault.view(scan, vault.area_facts(tx, scan.area), now)
    failed = any(j.action == "archive" and j.status is JobStatus.FAILED for j in scan.jobs)
    return Stage.ARCHIVED in view.wants.by and Stage.ARCHIVED not in view.wants.held and not failed


def pin_after_undo(vault: Vault, tx: Any, scan: KnownScan, by: str, now: datetime) -> None:
    """What a person took back stays for the days that a recalled package would: else it would go again at once."""
    until = now + timedelta(seconds=max(vault.site.restore.pin_s, 3600.0))
    vault.catalogue.add_pin(tx, scan.id, by, "taken back from quarantine", until, now)
