"""What is in quarantine, and what each rule would do now, as the plain values that `--json` prints."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

from tomovault.core.errors import UserError
from tomovault.core.known import RemovalPhase
from tomovault.core.life import Stage, Status
from tomovault.policy.area_facts import AreaFacts, bytes_to_free
from tomovault.policy.document import STAGE_OF
from tomovault.vault.deeds import was_told
from tomovault.vault.page_text import name_of, time_text
from tomovault.vault.scan_pages import views_over
from tomovault.vault.vault import Vault

#: What a rule makes due for one scan; what goes is chosen for a whole area.
_DUE_BY_A_RULE = STAGE_OF.keys() - {"prune"}


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
                    "granted_at": time_text(permit.granted_at),
                    "hold_until": time_text(permit.hold_until),
                    "left": [name_of(text) for text in permit.left],
                }
            )
    return {"at": time_text(now), "quarantine": sorted(rows, key=lambda r: str(r["granted_at"]), reverse=True)}


def preview_page(vault: Vault, tx: Any, now: datetime, *, rule: str | None = None) -> dict[str, Any]:
    """What each rule would have done now, and the bytes that would go from each area; nothing is touched. `above_high`
    says of areas that would stay above their high mark what keeps them there.
    """
    rules: dict[str, dict[str, Any]] = {}
    above: dict[str, str] = {}
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
        for view in views_over(vault, scans, {area: facts}, now):
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
        above[area] = _preview_removals(vault, tx, facts, conf.prune, rules, now)
    stay = {area: why for area, why in above.items() if why}
    return {"at": time_text(now), "rules": list(rules.values()), "above_high": stay}


def _preview_removals(
    vault: Vault, tx: Any, facts: AreaFacts, enabled: bool, rules: dict[str, dict[str, Any]], now: datetime
) -> str:
    """The removals are told of their rules; returns why the area would stay above its high mark, '' if it would not."""
    from tomovault.vault.evidence import foresee_evidence
    from tomovault.vault.room import choose_room
    from tomovault.vault.staying import why_nothing_goes

    if not enabled:
        return "`prune` is off for this area" if bytes_to_free(facts) else ""
    evident = foresee_evidence(vault, tx, facts, now)
    room = choose_room(vault, tx, facts, now, besides=evident.going)
    told_of = {waiting.going.choice.replica for waiting in evident.waiting}
    for waiting in [*evident.waiting, *(w for w in room.waiting if w.going.choice.replica not in told_of)]:
        row = rules.get(vault.policy_of(facts.name).cite(waiting.going.rule))
        if row is not None:
            told = {"scan": waiting.going.choice.scan, "told": waiting.hold.reason}
            row.setdefault("waiting_for_warnings", []).append({**told, "not_before": time_text(waiting.hold.until)})
    for going in [*evident.going, *room.going]:
        choice = going.choice
        row = rules.get(vault.policy_of(facts.name).cite(going.rule))
        if row is not None:
            row["scans"].append(choice.scan)
            row["bytes_freed"][facts.name] = row["bytes_freed"].get(facts.name, 0) + choice.bytes
    freed = sum(going.choice.bytes for going in [*evident.going, *room.going])
    if not bytes_to_free(replace(facts, quarantine_bytes=facts.quarantine_bytes + freed)):
        return ""
    return room.full or why_nothing_goes(room.stays.values())
