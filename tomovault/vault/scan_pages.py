"""What the commands tell of a scan, as the plain values that `--json` prints."""

from __future__ import annotations

import base64
import os
from collections.abc import Generator, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from tomovault.catalog.links import Link
from tomovault.core.known import Job, JobStatus, KnownScan, Product, RemovalPhase, export_standing, let_go
from tomovault.core.life import Stage, Standing, Status, step_of
from tomovault.core.replica import Form, ProductKind, ReplicaState, TierClass, good_domains
from tomovault.core.transfer import Transfer
from tomovault.core.wire import to_plain
from tomovault.policy.area_facts import AreaFacts
from tomovault.policy.expression import parse_expression
from tomovault.vault.page_text import name_of, time_text
from tomovault.vault.restored import restored_places
from tomovault.vault.vault import Vault, View

#: What can go and still count as done, since it can be made again.
_MADE_AT = {Stage.PREVIEWED: ProductKind.PREVIEW, Stage.RECONSTRUCTED: ProductKind.VOLUME}


def scan_line(view: View) -> dict[str, Any]:
    """One scan as `scan list` tells it."""
    scan = view.scan
    page = {
        "id": scan.id,
        "name": name_of(scan.name),
        "path": name_of(scan.root),
        "area": scan.area,
        "format": scan.format,
        "beamline": scan.beamline,
        "proposal": scan.proposal,
        "sample": scan.sample,
        "owner": scan.owner,
        "set": scan.set_name,
        "acquired_at": time_text(scan.acquired_at),
        "bytes": scan.bytes,
        "files": scan.files,
        "entry": scan.entry,
        "verdict": scan.verdict.value,
        "superseded_by": scan.superseded_by,
        "stages": {stage.value: _with_its_job(view, stage).status.value for stage in view.standings},
    }
    if name_of(scan.root) != scan.root:
        page["path_b64"] = base64.b64encode(os.fsencode(scan.root)).decode("ascii")
    return page


def scan_page(view: View, now: datetime) -> dict[str, Any]:
    """Everything known of one scan, as `scan show` tells it."""
    scan = view.scan
    certificate = to_plain(scan.certificate)
    certificate["verdict"] = scan.verdict.value
    return {
        **scan_line(view),
        "sources": dict(scan.sources),
        "settled": scan.settled,
        "first_seen_at": time_text(scan.first_seen_at),
        "changed_at": time_text(scan.changed_at),
        "declared": {**to_plain(scan.declared), "at": time_text(scan.declared.at)} if scan.declared else None,
        "accepted_by": scan.accepted_by,
        "products": [_product(scan, view, p) for p in scan.products],
        "certificate": certificate,
        "conditions": {name: to_plain(c) for name, c in sorted(scan.conditions.items())},
        "metadata": to_plain(scan.metadata),
        "replicas": [
            {
                "id": r.id,
                "product": r.product.value,
                "form": r.form.value,
                "tier": r.tier,
                "domain": r.domain,
                "location": name_of(r.location),
                "bytes": r.bytes,
                "state": r.state.value,
                "sha256": r.sha256,
                "written_at": time_text(r.written_at),
                "verified_at": time_text(r.verified_at),
            }
            for r in scan.replicas
        ],
        "processings": [
            {"id": key, **to_plain(p), "started_at": time_text(p.started_at), "finished_at": time_text(p.finished_at)}
            for key, p in scan.processings
        ],
        "reductions": [],
        "pins": [{**to_plain(p), "until": time_text(p.until)} for p in scan.pins if p.until > now],
        "permits": [
            {
                "id": p.id,
                "replica": p.replica,
                "rule": p.rule,
                "phase": p.phase.value,
                "granted_at": time_text(p.granted_at),
                "hold_until": time_text(p.hold_until),
                "relied_on": to_plain(p.relied_on),
                "bytes": p.bytes,
                "files": p.files,
                "left": [name_of(text) for text in p.left],
            }
            for p in scan.permits
        ],
        "restored": restored_places(scan),
        "jobs": [job_line(j) for j in scan.jobs],
        "transfers": [transfer_line(t) for t in scan.transfers],
    }


def _product(scan: KnownScan, view: View, product: Product) -> dict[str, Any]:
    copies = [r for r in scan.replicas if r.digest == product.digest]
    made = any(r.state is ReplicaState.VERIFIED for r in copies)
    archived = len(good_domains(copies, TierClass.ARCHIVE)) >= view.facts.archive_wanted
    stages = {
        ProductKind.ORIGINAL: (
            Stage.PACKED,
            Stage.REPLICATED,
            Stage.ARCHIVED,
            Stage.REDUCED,
            Stage.EXPORTED,
            Stage.PRUNED,
        ),
        ProductKind.VOLUME: (Stage.RECONSTRUCTED, Stage.ACCEPTED, Stage.ARCHIVED),
        ProductKind.PREVIEW: (Stage.PREVIEWED, Stage.ARCHIVED),
        ProductKind.REDUCED: (Stage.REDUCED, Stage.ARCHIVED),
    }[product.kind]
    told = {stage.value: view.standings[stage].status.value for stage in stages}
    if product.kind is not ProductKind.ORIGINAL:
        told[Stage.ARCHIVED.value] = Status.DONE.value if archived else Status.OFF.value
        first = stages[0].value
        told[first] = Status.DONE.value if made else told[first]
        export = export_standing(scan, product.kind)
        told[Stage.EXPORTED.value] = (export.status if export is not None else Status.OFF).value
    return {
        "id": product.id,
        "product": product.kind.value,
        "digest": product.digest,
        "bytes": product.bytes,
        "files": product.files,
        "lossless": product.lossless,
        "stages": told,
    }


def transfer_line(transfer: Transfer) -> dict[str, Any]:
    """One transfer to another place, with its receipt once that is in."""
    receipt = transfer.receipt
    return {
        "id": transfer.id,
        "product": transfer.product.value,
        "digest": transfer.digest,
        "to": f"{transfer.collection}:{transfer.path}",
        "state": transfer.state.value,
        "asked_by": transfer.asked_by,
        "asked_at": time_text(transfer.asked_at),
        "submission_id": transfer.submission_id,
        "task_id": transfer.task_id,
        "deadline": time_text(transfer.deadline),
        "submitted_at": time_text(transfer.submitted_at),
        "finished_at": time_text(transfer.finished_at),
        "error": name_of(transfer.error),
        "receipt": {
            **to_plain(receipt),
            "files": len(receipt.names),
            "requested_at": time_text(receipt.requested_at),
            "completed_at": time_text(receipt.completed_at),
            "judged_at": time_text(receipt.judged_at),
        }
        if receipt is not None
        else None,
    }


def job_line(job: Job) -> dict[str, Any]:
    """One job."""
    return {
        "id": job.id,
        "action": job.action,
        "scan": job.scan,
        "status": job.status.value,
        "attempts": job.attempts,
        "error": name_of(job.error),
        "hint": name_of(job.hint),
        "rule": job.rule,
        "queued_at": time_text(job.queued_at),
        "not_before": time_text(job.not_before),
        "finished_at": time_text(job.finished_at),
    }


def explain_page(view: View, links: Sequence[Link] = ()) -> dict[str, Any]:
    """Each stage of one scan: where it stands, why, and which rule decides; and the links that lead to its files."""
    return {
        "id": view.scan.id,
        "name": name_of(view.scan.name),
        "stages": [
            {
                "stage": stage.value,
                "status": standing.status.value,
                "reason": standing.reason,
                "rule": view.wants.by.get(stage, ""),
            }
            for stage, standing in ((s, _with_its_job(view, s)) for s in view.standings)
        ],
        "limits": list(view.limits),
        "made": list(view.fates),
        "links": [link_line(link) for link in links],
    }


def link_line(link: Link) -> dict[str, str]:
    """A symbolic link from elsewhere, and the path it leads to."""
    return {"path": name_of(link.path), "leads_to": name_of(link.leads_to)}


def _with_its_job(view: View, stage: Stage) -> Standing:
    """Where a stage stands; one that is due and whose job was put off waits, for what the job said, and one whose job
    has failed is held until a fact that it rests on is new, or a person says so. One whose job found nothing to do is
    held for the reason that it gave, until a new fact.
    """
    standing, action = view.standings[stage], step_of(stage).action
    if stage is Stage.PRUNED and standing.status is Status.DONE:
        return Standing(Status.DONE, _how_its_files_went(view.scan))
    if standing.status is Status.DONE and (made := _MADE_AT.get(stage)) and (gone := let_go(view.scan, made)):
        when = f"{gone.granted_at:%Y-%m-%d}"
        return Standing(Status.DONE, f"its {made} went on {when} by {gone.rule}; it can be made again")
    jobs = [j for j in view.scan.jobs if j.action == action]
    if standing.status is not Status.DUE or not jobs:
        return standing
    waiting = [j for j in jobs if _is_put_off(j)]
    if waiting:
        return Standing(Status.WAITING, name_of(waiting[-1].error))
    last = max(jobs, key=lambda j: j.queued_at)
    if last.status is JobStatus.SUCCEEDED and last.error:
        return Standing(Status.HELD, name_of(last.error))
    if last.status is JobStatus.FAILED:
        return Standing(Status.HELD, f"failed: {name_of(last.error)}; again with: tomovault retry {last.id}")
    return standing


def _how_its_files_went(scan: KnownScan) -> str:
    """By which rule, or whom, and what brings them back."""
    files = {r.id for r in scan.replicas if r.product is ProductKind.ORIGINAL and r.form is Form.FILES}
    permits = [p for p in scan.permits if p.replica in files and p.phase is not RemovalPhase.UNDONE]
    if not permits:
        return ""
    last = max(permits, key=lambda permit: permit.granted_at)
    by = f"{last.granted_at:%Y-%m-%d}, by {last.rule}"
    if last.phase is RemovalPhase.GONE or last.hold_until is None:
        return f"its files went {by}; back with: tomovault restore {scan.id} --to DIR"
    until = f"{last.hold_until:%Y-%m-%d %H:%M} UTC"
    return f"its files are in quarantine since {by}, until {until}; back with: tomovault prune undo {scan.id}"


def _is_put_off(job: Job) -> bool:
    """Whether a job waits for something else, as it was told; a first attempt has not failed then."""
    return job.status is JobStatus.TODO and job.attempts == 0 and bool(job.error)


def views_of(vault: Vault, tx: Any, now: datetime, *, area: str | None = None, sentence: str = "") -> Iterator[View]:
    """Every scan that the site knows, or that a rule's sentence holds for, newest first; some are in memory at a time.

    Raises UserError, with a caret, for a sentence that is none.
    """
    areas = {name: vault.area_facts(tx, name, now) for name in vault.site.areas if area in (None, name)}
    if sentence:
        scans = vault.catalogue.walk_holding(tx, parse_expression(sentence), areas, now, newest_first=True)
    else:
        scans = vault.catalogue.walk_scans(tx, areas, newest_first=True)
    return views_over(vault, scans, areas, now)


def views_over(
    vault: Vault, scans: Iterator[KnownScan], areas: Mapping[str, AreaFacts], now: datetime
) -> Generator[View, None, None]:
    """Facts, wants and standings of these scans, by the facts of their areas."""
    for scan in scans:
        yield vault.view(scan, areas[scan.area], now)
