"""Doing again what has failed, and at once what waits, on a person's word."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from tomovault.core.errors import UserError
from tomovault.core.known import Job, JobStatus, KnownScan, RemovalPhase
from tomovault.vault.removals import regrant
from tomovault.vault.vault import Vault


def do_again(vault: Vault, tx: Any, job_id: str, by: str, now: datetime) -> None:
    """A failed or cancelled job is to do again, its attempts counted from 0; one that waits does so no longer.

    For a removal that stopped half-way everything is evaluated again first: raises Refused, and changes nothing,
    where it would not be permitted today. Raises UserError for a job that cannot be done again, and for a removal
    that was taken back meanwhile.
    """
    catalogue = vault.catalogue
    job = catalogue.read_job(tx, job_id)
    catalogue.retry_job(tx, job_id, by, now)
    if job.status is JobStatus.TODO:
        return  # its permit stands, and the laws are asked again when it is claimed
    if job.scan is None or job.action not in ("prune", "empty_quarantine", "destroy"):
        return
    scan = catalogue.known(tx, job.scan)
    permit = next((p for p in scan.permits if p.id == job.order.get("permit")), None)
    wanted = RemovalPhase.GRANTED if job.action == "prune" else RemovalPhase.LEAVING
    if permit is None or permit.phase is not wanted or _being_undone(scan, job):
        how = f"its permit is {permit.phase}" if permit is not None else "its permit is not known any more"
        raise UserError(
            f"job {job_id}: the removal of {scan.name} was taken back or went on without it ({how})",
            hint=f"tomovault explain {scan.id} says what is next",
        )
    regrant(vault, tx, scan, permit, now)


def _being_undone(scan: KnownScan, job: Job) -> bool:
    return any(
        j.action == "undo_prune"
        and j.order.get("permit") == job.order.get("permit")
        and j.status in (JobStatus.TODO, JobStatus.DOING)
        for j in scan.jobs
    )
