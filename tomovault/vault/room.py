"""Which replicas must go so that an area comes down to its low mark, and why others may not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from tomovault.catalog.work import list_granted, list_removable
from tomovault.core.known import JobStatus, KnownScan
from tomovault.core.life import Stage, Status, may_go
from tomovault.core.replica import Form, ProductKind, Replica, ReplicaState
from tomovault.policy.decide import (
    AreaFacts,
    PruneChoice,
    bytes_to_free,
    choose_for_watermark,
    forbidden,
    prune_rule_of,
    removal_of,
)
from tomovault.policy.document import Rule
from tomovault.vault.removals import failed_before
from tomovault.vault.sizes import show_bytes
from tomovault.vault.vault import Vault, View

#: Scans that are looked at together: what is known of them is in memory.
_AT_ONCE = 50

#: What reads or makes a scan's copies: nothing of a scan goes while one of these is to do or being done.
_NEED_COPIES = frozenset({"pack", "archive", "replicate", "preview", "reconstruct", "verify", "restore"})


@dataclass(frozen=True)
class Going:
    """A replica that would go now, and the rule that lets it."""

    choice: PruneChoice
    rule: Rule
    files: int


@dataclass
class Room:
    """What would go now, oldest scans first; for each other replica why it stays; what stops removals altogether."""

    going: list[Going] = field(default_factory=list)
    reasons: dict[str, str] = field(default_factory=dict)
    full: str = ""


def choose_room(vault: Vault, tx: Any, facts: AreaFacts, now: datetime) -> Room:
    """The replicas that would go now: down to the low mark, within the brakes of law 5.

    The quarantine takes no more once it is full. Of one rule, no more bytes and files are on their way into it than
    its `limits` say; the next follow when those are there.
    """
    room = Room()
    wanted = bytes_to_free(facts)
    if wanted <= 0:
        return room
    rules: dict[str, tuple[Rule, int]] = {}
    choices = _enough(vault, tx, replace(facts, draining=True), now, wanted, room.reasons, rules)
    under_way = _under_way(tx, facts.name)
    most = vault.site.quarantine.limit_of(facts.quota_bytes)
    waiting = facts.quarantine_bytes
    for choice in choose_for_watermark(choices, bytes_to_free=wanted):
        rule, files = rules[choice.replica]
        cited = vault.policy_of(facts.name).cite(rule)
        if waiting >= most:
            room.full = f"the quarantine is full ({show_bytes(waiting)} of {show_bytes(most)})"
            room.reasons[choice.replica] = room.full
            break
        size, count = under_way[cited, "bytes"] + choice.bytes, under_way[cited, "files"] + files
        if choice.bytes > (rule.limits.bytes or choice.bytes) or files > (rule.limits.files or files):
            room.reasons[choice.replica] = f"it alone is more than the limits of {cited}"
            continue
        if size > (rule.limits.bytes or size) or count > (rule.limits.files or count):
            room.reasons[choice.replica] = f"the limits of {cited} are reached"
            break  # what is later in the order must not go in its place
        under_way[cited, "bytes"], under_way[cited, "files"] = size, count
        waiting += choice.bytes
        room.going.append(Going(choice, rule, files))
    return room


def _under_way(tx: Any, area: str) -> Counter[tuple[str, str]]:
    """Bytes and files that are on their way into quarantine, by the rule of their permit."""
    count: Counter[tuple[str, str]] = Counter()
    for rule, size, files in list_granted(tx, area):
        count[rule, "bytes"] += size
        count[rule, "files"] += files
    return count


def _enough(
    vault: Vault,
    tx: Any,
    facts: AreaFacts,
    now: datetime,
    wanted: int,
    reasons: dict[str, str],
    rules: dict[str, tuple[Rule, int]],
) -> list[PruneChoice]:
    """The replicas that may go, looked for only until they are enough: an area may have very many scans.

    The order is that of `choose_for_watermark`, so what is not looked at would not be chosen.
    """
    choices: list[PruneChoice] = []
    looked_at: set[str] = set()
    for form in (Form.FILES, Form.PACKAGE):
        ids = list_removable(tx, facts.name, form)
        passed: set[str] = set()
        for start in range(0, len(ids), _AT_ONCE):
            if sum(c.bytes for c in choices if c.form is Form.FILES or c.scan in passed) >= wanted:
                return choices
            batch = ids[start : start + _AT_ONCE]
            new = vault.catalogue.known_many(tx, [i for i in batch if i not in looked_at])
            choices += _eligible(vault, new, facts, now, reasons, rules)
            looked_at.update(batch)
            passed.update(batch if form is Form.PACKAGE else ())
    return choices


def _eligible(
    vault: Vault,
    scans: Sequence[KnownScan],
    facts: AreaFacts,
    now: datetime,
    reasons: dict[str, str],
    rules: dict[str, tuple[Rule, int]],
) -> list[PruneChoice]:
    choices = []
    for scan in scans:
        view = vault.view(scan, facts, now)
        for replica in scan.replicas_of(ProductKind.ORIGINAL):
            if replica.tier != facts.name or replica.state not in (ReplicaState.VERIFIED, ReplicaState.PRESENT):
                continue
            rule = prune_rule_of(scan, replica.form, vault.policy_of(facts.name), facts, now)
            reason = _why_it_stays(vault, view, replica, rule, facts, now)
            if reason or rule is None:
                reasons[replica.id] = f"{scan.name}: {reason}"
                continue
            product = scan.product(ProductKind.ORIGINAL)
            files = product.files if product is not None and replica.form is Form.FILES else 1
            rules[replica.id] = (rule, files)
            choices.append(
                PruneChoice(scan.id, replica.id, replica.form, replica.bytes, scan.acquired_at or scan.first_seen_at)
            )
    return choices


def _why_it_stays(
    vault: Vault, view: View, replica: Replica, rule: Rule | None, facts: AreaFacts, now: datetime
) -> str:
    """'' if LIFE, the policy and law 4 all let the replica go, as far as can be said without the rows locked."""
    scan, policy = view.scan, vault.policy_of(facts.name)
    standing = view.standings[Stage.PRUNED]
    if scan.is_elsewhere(replica):
        return f"no rule removes the copy in {replica.location}: it was restored or found there"
    if replica.form is Form.FILES and standing.status is not Status.DUE:
        return standing.reason or str(standing.status)
    if rule is None:
        return f"no rule lets its {replica.form} go"
    if reason := forbidden(scan, policy, facts, now).get(Stage.PRUNED):
        return reason
    if reason := view.wants.held.get(Stage.PRUNED, ""):
        return reason
    if reasons := may_go(removal_of(scan, replica, policy, facts, now)):
        return "; ".join(reasons)
    at_work = [j.action for j in scan.jobs if j.status in (JobStatus.TODO, JobStatus.DOING)]
    if needed := sorted(_NEED_COPIES.intersection(at_work)):
        return f"{needed[0]} is not over"
    return failed_before(scan, replica.id)
