"""What is in quarantine, and what each rule would do now, as the plain values that `--json` prints."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from tomovault.catalog.links import Link, links_to_copy
from tomovault.catalog.removals import OPEN_PHASES, list_under_removal
from tomovault.core.errors import UserError
from tomovault.core.life import Stage, Status
from tomovault.core.replica import Form, Replica
from tomovault.policy.area_facts import AreaFacts, bytes_to_free
from tomovault.policy.document import STAGE_OF, Policy
from tomovault.policy.room import Going, Waiting
from tomovault.vault.deeds import was_told
from tomovault.vault.page_text import name_of, time_text
from tomovault.vault.scan_pages import link_line, views_over
from tomovault.vault.tier_facts import marked_tiers, may_be_pruned, tier_facts, why_no_rule_reaches
from tomovault.vault.vault import Vault

#: What a rule makes due for one scan; what goes is chosen for a whole area.
_DUE_BY_A_RULE = STAGE_OF.keys() - {"prune"}


def quarantine_page(vault: Vault, tx: Any, now: datetime) -> dict[str, Any]:
    """Removals that are under way, newest first, each with the links from elsewhere that lead to its files."""
    rows = []
    for scan in vault.catalogue.known_many(tx, list_under_removal(tx)):
        replicas = {r.id: r for r in scan.replicas}
        for permit in scan.permits:
            if permit.phase not in OPEN_PHASES:
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
                    "links": [link_line(link) for link in _links(tx, replicas[permit.replica])],
                }
            )
    return {"at": time_text(now), "quarantine": sorted(rows, key=lambda r: str(r["granted_at"]), reverse=True)}


def _links(tx: Any, copy: Replica) -> list[Link]:
    """The links that lead to files of ours in quarantine."""
    return links_to_copy(tx, copy) if copy.form is Form.FILES else []


def preview_page(vault: Vault, tx: Any, now: datetime, *, rule: str | None = None) -> dict[str, Any]:
    """What each rule would have done now, and the bytes that would go from each area, and each tier with marks; nothing
    is touched. `above_high` says of those that would stay above their high mark what keeps them there.
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
        _preview_notices(vault, tx, policy, facts, rules, now)
        above[area] = _preview_removals(vault, tx, facts, conf.prune, rules, now)
    for tier in marked_tiers(vault.site):
        above[tier] = _preview_tier(vault, tx, tier_facts(vault, tx, tier), rules, now)
    stay = {area: why for area, why in above.items() if why}
    return {"at": time_text(now), "rules": list(rules.values()), "above_high": stay}


def _preview_notices(
    vault: Vault, tx: Any, policy: Policy, facts: AreaFacts, rules: dict[str, dict[str, Any]], now: datetime
) -> None:
    for one in policy.rules:
        if one.do == "notify" and policy.cite(one) in rules:
            found = vault.catalogue.walk_wanted(tx, policy, [one.name], facts, now)
            rules[policy.cite(one)]["scans"] += [scan.id for scan in found if not was_told(scan, one)]


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
    waiting = [*evident.waiting, *(w for w in room.waiting if w.going.choice.replica not in told_of)]
    going = [*evident.going, *room.going]
    cite = vault.policy_of(facts.name).cite
    _tell_removals(facts.name, going, waiting, rules, lambda one: cite(one.rule))
    if _is_enough(facts, going):
        return ""
    return room.full or why_nothing_goes(room.stays.values())


def _preview_tier(vault: Vault, tx: Any, facts: AreaFacts, rules: dict[str, dict[str, Any]], now: datetime) -> str:
    """As `_preview_removals`, of a tier: its copies go by the rules of the areas that their scans are in."""
    from tomovault.vault.room import choose_room
    from tomovault.vault.staying import why_nothing_goes

    if not bytes_to_free(facts):
        return ""
    if not may_be_pruned(facts):
        return "nothing is removed there by a mark: give it more media or a larger quota"
    if not facts.prune_on:
        return "`prune` is off for this tier"
    room = choose_room(vault, tx, facts, now)

    def cite(going: Going) -> str:
        area = vault.catalogue.known(tx, going.choice.scan).area
        return vault.policy_of(area).cite(going.rule)

    _tell_removals(facts.name, room.going, room.waiting, rules, cite)
    if _is_enough(facts, room.going):
        return ""
    return room.full or why_no_rule_reaches(vault, facts) or why_nothing_goes(room.stays.values())


def _tell_removals(
    place: str,
    going: Sequence[Going],
    waiting: Sequence[Waiting],
    rules: dict[str, dict[str, Any]],
    cite: Callable[[Going], str],
) -> None:
    """What goes from a place, and what waits for a warning, is told of its rules, as far as those are asked about."""
    for one in waiting:
        row = rules.get(cite(one.going))
        if row is not None:
            told = {"scan": one.going.choice.scan, "told": one.hold.reason}
            row.setdefault("waiting_for_warnings", []).append({**told, "not_before": time_text(one.hold.until)})
    for each in going:
        row = rules.get(cite(each))
        if row is not None:
            row["scans"].append(each.choice.scan)
            row["bytes_freed"][place] = row["bytes_freed"].get(place, 0) + each.choice.bytes


def _is_enough(facts: AreaFacts, going: Sequence[Going]) -> bool:
    """Whether a place is below its mark when these are gone."""
    freed = sum(one.choice.bytes for one in going)
    return not bytes_to_free(replace(facts, quarantine_bytes=facts.quarantine_bytes + freed))
