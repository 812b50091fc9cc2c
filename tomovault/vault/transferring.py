"""Asking for a transfer: recorded as a wish of a person or a rule and queued in one step; asked twice it is one."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from typing import Any

from tomovault.core.errors import Refused, Transient, UserError
from tomovault.core.known import Job, JobStatus, KnownScan, jobs_of_transfer
from tomovault.core.replica import ProductKind
from tomovault.core.transfer import Transfer, TransferState
from tomovault.vault.destinations import parse_destination
from tomovault.vault.exports import WantedExport
from tomovault.vault.orders import build_order
from tomovault.vault.requests import Moot, Request
from tomovault.vault.transfer_orders import BY_RULE, globus_of, package_to_send
from tomovault.vault.vault import Vault

_AT_WORK = (JobStatus.TODO, JobStatus.DOING)


@dataclass(frozen=True)
class Asked:
    """A transfer with the job that carries it out; `joined` where it had been asked for before."""

    transfer: str
    job: str
    joined: bool = False


def ask_transfer(vault: Vault, scan_id: str, *, to: str, product: str, overwrite: bool, by: str) -> Asked:
    """The transfer is queued. Raises at once what can be known to be wrong with the request.

    The same product on its way to the same folder is joined. One whose job gave up while a task may be under way goes
    on under the submission that it had.
    """
    globus = globus_of(vault)
    if find_spec("globus_sdk") is None:
        raise UserError("the package globus-sdk is not installed", hint="pip install 'tomovault[globus]'")
    collection, path = parse_destination(to, globus)
    now = datetime.now(UTC)
    kind = ProductKind(product)
    wish: dict[str, Any] = {"product": kind.value, "collection": collection, "path": path, "overwrite": overwrite}
    with vault.catalogue.writing() as tx:
        scan = vault.catalogue.known(tx, scan_id)
        vault.area(scan.area)
        digest = package_to_send(vault, scan, kind).digest
        for transfer in scan.transfers:
            same = (transfer.digest, transfer.collection, transfer.path) == (digest, collection, path)
            if same and (asked := _join(vault, tx, scan, transfer, by, now)) is not None:
                return asked
        try:
            build_order("export", Request(vault, tx, scan, wish, now, by))
        except Moot as moot:
            raise Refused(f"{scan.name}: {moot.message}", by="nothing to do") from moot
        transfer_id = vault.catalogue.add_transfer(
            tx, scan_id, kind, digest, collection=collection, path=path, by=by, now=now
        )
        key = f"export:{transfer_id}:{uuid.uuid4().hex}"
        order = {**wish, "transfer": transfer_id}
        job = vault.queue_in(tx, scan.area, "export", scan_id, order, dedup_key=key, rule=by, now=now)
        if job is None:
            raise Transient("the same request is queued already")
    return Asked(transfer_id, job)


def words_of(vault: Vault, asked: Asked) -> str:
    """In a few words, how far a transfer is and what it waits for."""
    with vault.catalogue.reading() as tx:
        state = vault.catalogue.read_transfer(tx, asked.transfer).state
        error = vault.catalogue.read_job(tx, asked.job).error
    return f"{state}: {error}" if error else str(state)


def job_of(scan: KnownScan, transfer: Transfer) -> Job | None:
    """The newest job that carries a transfer out."""
    return next(reversed(jobs_of_transfer(scan, transfer)), None)


def ask_for_rule(vault: Vault, tx: Any, scan: KnownScan, wanted: WantedExport, now: datetime) -> str | None:
    """What a rule wants to be sent is queued; returns the job's id, None where that would be a repetition."""
    digest = package_to_send(vault, scan, wanted.product).digest
    to = {"collection": wanted.collection, "path": wanted.path}
    last = wanted.transfer
    tried = len(jobs_of_transfer(scan, last)) if last is not None else 0
    transfer_id = (
        last.id
        if last is not None and last.digest == digest
        else vault.catalogue.add_transfer(tx, scan.id, wanted.product, digest, **to, by=wanted.rule, now=now)
    )
    order = {"product": wanted.product.value, **to, "transfer": transfer_id, BY_RULE: True}
    key = f"export:{transfer_id}:{tried}"
    return vault.queue_in(tx, scan.area, "export", scan.id, order, dedup_key=key, rule=wanted.rule, now=now)


def _join(vault: Vault, tx: Any, scan: KnownScan, transfer: Transfer, by: str, now: datetime) -> Asked | None:
    """The job of a transfer that is not over; a task may be under way, so a job that gave up is done again."""
    job = job_of(scan, transfer)
    if job is None:
        return None
    if job.status in _AT_WORK:
        return Asked(transfer.id, job.id, joined=True)
    if transfer.state in (TransferState.PLANNED, TransferState.SUBMITTED):
        vault.catalogue.retry_job(tx, job.id, by, now)
        return Asked(transfer.id, job.id, joined=True)
    return None
