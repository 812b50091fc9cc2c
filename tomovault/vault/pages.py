"""What the commands tell of a site, as the plain values that `--json` prints."""

from __future__ import annotations

import base64
import itertools
import os
from collections import Counter
from collections.abc import Generator, Iterator, Mapping
from datetime import datetime
from typing import Any

from tomovault.catalog.suspects import Suspect, list_suspects
from tomovault.catalog.work import places_of
from tomovault.core.errors import UserError
from tomovault.core.known import Job, JobStatus, KnownScan, Product, RemovalPhase, export_standing, let_go, replaced
from tomovault.core.life import Stage, Standing, Status, step_of
from tomovault.core.replica import ProductKind, ReplicaState, TierClass, good_domains
from tomovault.core.transfer import Transfer
from tomovault.core.wire import to_plain
from tomovault.policy.area_facts import AreaFacts
from tomovault.policy.document import STAGE_OF
from tomovault.policy.expression import parse_expression
from tomovault.vault.deeds import was_told
from tomovault.vault.fellows import read_fellows
from tomovault.vault.notices import outbox_page
from tomovault.vault.places import absent_places
from tomovault.vault.policy_files import tells_wrong
from tomovault.vault.reconciled import line_of, read_state
from tomovault.vault.restored import restored_places
from tomovault.vault.tier_facts import marked_tiers, may_be_pruned, tier_facts
from tomovault.vault.vault import Vault, View

#: What a rule makes due for one scan; what goes is chosen for a whole area.
_DUE_BY_A_RULE = STAGE_OF.keys() - {"prune"}

#: What can go and still count as done, since it can be made again.
_MADE_AT = {Stage.PREVIEWED: ProductKind.PREVIEW, Stage.RECONSTRUCTED: ProductKind.VOLUME}

#: So many suspect copies are told at a time.
_SUSPECTS = 50


def name_of(text: str) -> str:
    """A name or path as JSON text: bytes that are not UTF-8 become escapes."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


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
        "acquired_at": _time(scan.acquired_at),
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
        "first_seen_at": _time(scan.first_seen_at),
        "changed_at": _time(scan.changed_at),
        "declared": {**to_plain(scan.declared), "at": _time(scan.declared.at)} if scan.declared else None,
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
                "written_at": _time(r.written_at),
                "verified_at": _time(r.verified_at),
            }
            for r in scan.replicas
        ],
        "processings": [
            {"id": key, **to_plain(p), "started_at": _time(p.started_at), "finished_at": _time(p.finished_at)}
            for key, p in scan.processings
        ],
        "reductions": [],
        "pins": [{**to_plain(p), "until": _time(p.until)} for p in scan.pins if p.until > now],
        "permits": [
            {
                "id": p.id,
                "replica": p.replica,
                "rule": p.rule,
                "phase": p.phase.value,
                "granted_at": _time(p.granted_at),
                "hold_until": _time(p.hold_until),
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
        "asked_at": _time(transfer.asked_at),
        "submission_id": transfer.submission_id,
        "task_id": transfer.task_id,
        "deadline": _time(transfer.deadline),
        "submitted_at": _time(transfer.submitted_at),
        "finished_at": _time(transfer.finished_at),
        "error": name_of(transfer.error),
        "receipt": {
            **to_plain(receipt),
            "files": len(receipt.names),
            "requested_at": _time(receipt.requested_at),
            "completed_at": _time(receipt.completed_at),
            "judged_at": _time(receipt.judged_at),
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
        "queued_at": _time(job.queued_at),
        "not_before": _time(job.not_before),
        "finished_at": _time(job.finished_at),
    }


def explain_page(view: View) -> dict[str, Any]:
    """Each stage of one scan: where it stands, why, and which rule decides."""
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
    }


def _with_its_job(view: View, stage: Stage) -> Standing:
    """Where a stage stands; one that is due and whose job was put off waits, for what the job said, and one whose job
    has failed is held until a fact that it rests on is new, or a person says so. One whose job found nothing to do is
    held for the reason that it gave, until a new fact.
    """
    standing, action = view.standings[stage], step_of(stage).action
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
    return _views(vault, scans, areas, now)


def _views(
    vault: Vault, scans: Iterator[KnownScan], areas: Mapping[str, AreaFacts], now: datetime
) -> Generator[View, None, None]:
    for scan in scans:
        yield vault.view(scan, areas[scan.area], now)


def status_page(vault: Vault, tx: Any, told: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """The daemon, its lease, queues, what runs, what failed and why, and how full each area is."""
    catalogue = vault.catalogue
    fellows = read_fellows(vault, tx)
    leader = fellows.leader
    living = leader is not None or bool(fellows.daemons)
    problems = catalogue.list_problems(tx)
    unclaimed = Counter(row.area for row in catalogue.list_unclaimed(tx))
    failed = catalogue.list_jobs(tx, JobStatus.FAILED, 50)
    names = {s: catalogue.known(tx, s).name for s in {j.scan for j in failed if j.scan is not None}}
    places = places_of(tx, [j.id for j in failed])
    areas = []
    wrong = vault.policy_troubles(tx)
    for name, area in vault.site.areas.items():
        facts = vault.area_facts(tx, name, now)
        areas.append(
            {
                "area": name,
                "path": str(area.path),
                "used_bytes": facts.used_bytes,
                "quota_bytes": facts.quota_bytes,
                "used_fraction": facts.used_fraction,
                "quarantine_bytes": facts.quarantine_bytes,
                "high": facts.high,
                "low": facts.low,
                "prune": "on" if facts.prune_on else "off",
                "unwatched": vault.unwatched(name, fellows.daemons),
                "absent": told.get("absent", {}).get(name, ""),
                "trouble": name_of(told.get("trouble", {}).get(name, "")),
                "settling": told.get("unsettled", {}).get(name, 0) if living else 0,
                "alarms": [
                    *([wrong[name].text] if name in wrong else []),  # as the file is now, whatever was told of it
                    *(text for text in _alarms_of(told, name) if not tells_wrong(text, area.policy)),
                ],
                "problems": [
                    {"path": name_of(path), "problem": name_of(problem)}
                    # Several formats may say the same of one file.
                    for path, problem in dict.fromkeys(
                        (e.candidate.folder, e.problem) for e in problems if e.area == name
                    )
                ],
                "unclaimed": unclaimed[name],
            }
        )
    return {
        "at": _time(now),
        "daemon": {
            "running": living,
            "leader": leader,
            "followers": list(fellows.followers),
            "told_at": told.get("at"),
        },
        "jobs": {status.value: count for status, count in catalogue.count_jobs(tx).items()},
        "running": told.get("running", []) if living else [],
        "failed": [
            {**job_line(j), "name": name_of(names.get(j.scan or "", "")), "place": places.get(j.id, "")} for j in failed
        ],
        "areas": areas,
        "tiers": [_tier_line(vault, tx, name, told) for name in marked_tiers(vault.site)],
        "reconciled": line_of(read_state(vault)),
        "limits": [standing.text for standing in vault.exceeded(tx, now).by_subject.values()],
        "absent_places": [{"problem": name_of(p.message), "hint": name_of(p.hint)} for p in absent_places(vault, tx)],
        "suspect": [
            {**to_plain(one), "name": name_of(one.name), "location": name_of(one.location)}
            for one in itertools.islice(_suspects(vault, tx, now), _SUSPECTS)
        ],
        "waiting": [
            {**job_line(j), "name": name_of(catalogue.known(tx, j.scan).name) if j.scan is not None else ""}
            for j in catalogue.list_jobs(tx, JobStatus.TODO, 200)
            if _is_put_off(j)
        ],
        "outbox": outbox_page(vault, tx),
    }


def _tier_line(vault: Vault, tx: Any, name: str, told: Mapping[str, Any]) -> dict[str, Any]:
    facts = tier_facts(vault, tx, name)
    return {
        "tier": name,
        "class": facts.tier_class.value,
        "used_bytes": facts.used_bytes,
        "quota_bytes": facts.quota_bytes,
        "used_fraction": facts.used_fraction,
        "quarantine_bytes": facts.quarantine_bytes,
        "high": facts.high,
        "low": facts.low if may_be_pruned(facts) else None,
        "prune": "on" if facts.prune_on else "off",
        "alarms": [*filter(None, [told.get("absent", {}).get(name, "")]), *_alarms_of(told, name)],
    }


def _alarms_of(told: Mapping[str, Any], area: str) -> list[str]:
    """What the daemons told of an area that a person should know."""
    return [alarm["text"] for alarm in told.get("alarms", []) if alarm["area"] == area]


def _suspects(vault: Vault, tx: Any, now: datetime) -> Iterator[Suspect]:
    """Those that somebody should look at, and not those that nothing needs any more."""
    areas = {name: vault.area_facts(tx, name, now) for name in vault.site.areas}
    start = 0
    while batch := list_suspects(tx, _SUSPECTS, start):
        start += len(batch)
        scans = vault.catalogue.known_many(tx, [one.scan for one in batch if one.area in areas])
        views = (vault.view(scan, areas[scan.area], now) for scan in scans)
        spare = frozenset[str]().union(*(replaced(view.scan, view.facts) for view in views))
        yield from (one for one in batch if one.replica not in spare)


def unclaimed_page(vault: Vault, tx: Any, area: str | None = None) -> dict[str, Any]:
    """What formats were asked about in an area, or in all, and none took, with the reason of each."""
    if area is not None and area not in vault.site.areas:
        raise UserError(f"there is no area {area!r}", hint="the areas are: " + ", ".join(vault.site.areas))
    rows = [row for row in vault.catalogue.list_unclaimed(tx, area) if row.area in vault.site.areas]
    return {
        "unclaimed": [
            {
                "area": row.area,
                "path": name_of(row.path),
                "reasons": {name: name_of(text) for name, text in sorted(row.reasons.items())},
            }
            for row in rows
        ]
    }


def _time(value: datetime | None) -> str | None:
    return None if value is None else value.isoformat().replace("+00:00", "Z")


def quarantine_page(vault: Vault, tx: Any, now: datetime) -> dict[str, Any]:
    """Removals that are under way, newest first."""
    rows = []
    for scan in vault.catalogue.walk_scans(tx):
        replicas = {r.id: r for r in scan.replicas}
        for permit in scan.permits:
            if permit.phase not in (RemovalPhase.GRANTED, RemovalPhase.QUARANTINED, RemovalPhase.LEAVING):
                continue
            rows.append(
                {
                    "permit": permit.id,
                    "scan": scan.id,
                    "name": name_of(scan.name),
                    "area": scan.area,
                    "tier": replicas[permit.replica].tier,
                    "domain": replicas[permit.replica].domain,
                    "product": replicas[permit.replica].product.value,
                    "form": replicas[permit.replica].form.value,
                    "bytes": permit.bytes,
                    "files": permit.files,
                    "phase": permit.phase.value,
                    "rule": permit.rule,
                    "reason": permit.reason,
                    "granted_at": _time(permit.granted_at),
                    "hold_until": _time(permit.hold_until),
                    "left": [name_of(text) for text in permit.left],
                }
            )
    return {"at": _time(now), "quarantine": sorted(rows, key=lambda r: str(r["granted_at"]), reverse=True)}


def preview_page(vault: Vault, tx: Any, now: datetime, *, rule: str | None = None) -> dict[str, Any]:
    """What each rule would have done now, and the bytes that would go from each area; nothing is touched."""
    rules: dict[str, dict[str, Any]] = {}
    names = {one.name for area in vault.site.areas for one in vault.policy_of(area).rules}
    if rule is not None and rule not in names:
        raise UserError(f"there is no rule {rule!r}", hint="the rules are: " + ", ".join(sorted(names)))
    for area, conf in vault.site.areas.items():
        facts = vault.area_facts(tx, area, now)
        policy = vault.policy_of(area)
        for one in policy.ordered():
            if rule in (None, one.name):
                rules.setdefault(
                    policy.cite(one), {"rule": policy.cite(one), "action": one.do, "scans": [], "bytes_freed": {}}
                )
        # A stage is due only by a rule that holds; what else decides is asked of the scans that are left.
        asked = [one.name for one in policy.rules if policy.cite(one) in rules and one.do in _DUE_BY_A_RULE]
        scans = vault.catalogue.walk_wanted(tx, policy, asked, facts, now)
        for view in _views(vault, scans, {area: facts}, now):
            for stage, standing in view.standings.items():
                cited = view.wants.by.get(stage, "")
                if standing.status is Status.DUE and cited in rules and stage not in (Stage.PRUNED, Stage.EXPORTED):
                    rules[cited]["scans"].append(view.scan.id)
            for export in view.due_exports:
                if export.rule in rules and view.scan.id not in rules[export.rule]["scans"]:
                    rules[export.rule]["scans"].append(view.scan.id)
        for one in policy.rules:
            if one.do == "notify" and policy.cite(one) in rules:
                found = vault.catalogue.walk_wanted(tx, policy, [one.name], facts, now)
                rules[policy.cite(one)]["scans"] += [scan.id for scan in found if not was_told(scan, one)]
        _preview_removals(vault, tx, facts, conf.prune, rules, now)
    return {"at": _time(now), "rules": list(rules.values())}


def _preview_removals(
    vault: Vault, tx: Any, facts: AreaFacts, enabled: bool, rules: dict[str, dict[str, Any]], now: datetime
) -> None:
    from tomovault.vault.evidence import foresee_evidence
    from tomovault.vault.room import choose_room

    if not enabled:
        return
    evident = foresee_evidence(vault, tx, facts, now)
    room = choose_room(vault, tx, facts, now, besides=evident.going)
    told_of = {waiting.going.choice.replica for waiting in evident.waiting}
    for waiting in [*evident.waiting, *(w for w in room.waiting if w.going.choice.replica not in told_of)]:
        row = rules.get(vault.policy_of(facts.name).cite(waiting.going.rule))
        if row is not None:
            told = {"scan": waiting.going.choice.scan, "told": waiting.hold.reason}
            row.setdefault("waiting_for_warnings", []).append({**told, "not_before": _time(waiting.hold.until)})
    for going in [*evident.going, *room.going]:
        choice = going.choice
        row = rules.get(vault.policy_of(facts.name).cite(going.rule))
        if row is not None:
            row["scans"].append(choice.scan)
            row["bytes_freed"][facts.name] = row["bytes_freed"].get(facts.name, 0) + choice.bytes
