"""Which replicas go by what is known of their scans alone, however empty their area is: by rules that do not ask for
`usage`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tomovault.core.known import KnownScan
from tomovault.policy.area_facts import AreaFacts
from tomovault.policy.document import Rule
from tomovault.policy.removing import PruneChoice, choice_of, prune_rule_of, removable_kinds
from tomovault.policy.room import Braked, within_brakes
from tomovault.policy.warning import Hold, why_unwarned
from tomovault.vault.room import files_of, is_here, on_their_way, why_it_stays_here
from tomovault.vault.vault import Vault


@dataclass
class Chosen:
    """Replicas that rules and laws let go, the rule and the files of each, and what waits for a warning."""

    choices: list[PruneChoice] = field(default_factory=list)
    rules: dict[str, tuple[Rule, int]] = field(default_factory=dict)
    holds: dict[str, Hold] = field(default_factory=dict)

    def add(self, other: Chosen) -> None:
        """What was chosen of another scan is chosen, too."""
        self.choices += other.choices
        self.rules |= other.rules
        self.holds |= other.holds


def choose_by_evidence(vault: Vault, scan: KnownScan, facts: AreaFacts, now: datetime) -> Chosen:
    """What of a scan goes however empty its area is; the brakes of law 5 are not asked yet."""
    chosen, policy = Chosen(), vault.policy_of(facts.name)
    if not any(rule.by_evidence for rule in policy.rules):
        return chosen
    here = [r for kind in removable_kinds(policy) for r in scan.replicas_of(kind) if is_here(r, facts)]
    found = [(r, prune_rule_of(scan, r.form, policy, facts, now, kind=r.product, by_evidence=True)) for r in here]
    if not any(rule for _, rule in found):
        return chosen
    view = vault.view(scan, facts, now, warnings=False)  # of those each rule has its own
    for replica, rule in found:
        if rule is None or why_it_stays_here(vault, view, replica, rule, facts, now):
            continue
        chosen.choices.append(choice_of(scan, replica, rule, policy))
        chosen.rules[replica.id] = (rule, files_of(scan, replica))
        if (hold := why_unwarned(scan, replica.id, rule, facts, now)) is not None:
            chosen.holds[replica.id] = hold
    return chosen


def within_limits(vault: Vault, chosen: Chosen, facts: AreaFacts, under_way: Counter[tuple[str, str]]) -> Braked:
    """Of what was chosen that which goes now: while the quarantine is not full, and within the limits of each rule."""
    return within_brakes(
        chosen.choices,
        chosen.rules,
        chosen.holds,
        bytes_to_free=sum(choice.bytes for choice in chosen.choices),
        policy_of=lambda _choice: vault.policy_of(facts.name),
        quarantine_bytes=facts.quarantine_bytes,
        quarantine_limit=vault.site.quarantine.limit_of(facts.quota_bytes),
        under_way=under_way,
    )


def foresee_evidence(vault: Vault, tx: Any, facts: AreaFacts, now: datetime) -> Braked:
    """What would go from an area now by rules that do not ask how full it is."""
    policy, every = vault.policy_of(facts.name), Chosen()
    rules = [rule.name for rule in policy.rules if rule.by_evidence]
    if rules:
        for scan in _walk(vault, tx, rules, facts, now):
            every.add(choose_by_evidence(vault, scan, facts, now))
    return within_limits(vault, every, facts, on_their_way(tx, facts))


def _walk(vault: Vault, tx: Any, rules: Iterable[str], facts: AreaFacts, now: datetime) -> Iterator[KnownScan]:
    walked: Iterator[KnownScan] = vault.catalogue.walk_wanted(tx, vault.policy_of(facts.name), list(rules), facts, now)
    return walked
