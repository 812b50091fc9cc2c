"""Which replicas must go so that an area comes down to its low mark, and why others may not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from tomovault.core.life import Stage, Status
from tomovault.core.replica import Form, ProductKind, ReplicaState
from tomovault.policy.decide import (
    AreaFacts,
    PruneChoice,
    asks_of,
    bytes_to_free,
    choose_for_watermark,
)
from tomovault.vault.vault import Vault


def choose_room(vault: Vault, tx: Any, facts: AreaFacts, now: datetime) -> tuple[Sequence[PruneChoice], dict[str, str]]:
    """The replicas that would go now, oldest scans first, and for each other replica why it stays."""
    wanted = bytes_to_free(facts)
    if wanted <= 0:
        return (), {}
    choices, reasons = _eligible(vault, tx, replace(facts, draining=True), now)
    return choose_for_watermark(choices, bytes_to_free=wanted), reasons


def _eligible(vault: Vault, tx: Any, facts: AreaFacts, now: datetime) -> tuple[list[PruneChoice], dict[str, str]]:
    choices = []
    reasons: dict[str, str] = {}
    policy = vault.policy_of(facts.name)
    for scan in vault.catalogue.list_scans(tx, facts.name):
        view = vault.view(scan, facts, now)
        standing = view.standings[Stage.PRUNED]
        held = view.wants.held.get(Stage.PRUNED, "")
        forms = asks_of(scan, policy, facts, now).prune_forms
        for replica in scan.replicas_of(ProductKind.ORIGINAL):
            if replica.tier != facts.name or replica.state not in (ReplicaState.VERIFIED, ReplicaState.PRESENT):
                continue
            if replica.form is Form.FILES and standing.status is not Status.DUE:
                reasons[replica.id] = f"{scan.name}: {standing.reason or standing.status}"
            elif replica.form not in forms:
                reasons[replica.id] = f"{scan.name}: no rule lets its {replica.form} go"
            elif held:
                reasons[replica.id] = f"{scan.name}: {held}"
            else:
                acquired_at = scan.acquired_at or scan.first_seen_at
                choices.append(PruneChoice(scan.id, replica.id, replica.form, replica.bytes, acquired_at))
    return choices, reasons


def prune_rule(vault: Vault, area: str, form: Form) -> str:
    """The rule of an area's policy under which a form of an original goes, as permits cite it."""
    policy = vault.policy_of(area)
    rules = [r for r in policy.ordered() if r.do == "prune" and form in r.settings.forms]
    return policy.cite(rules[0]) if rules else policy.name
