"""Permits: where LIFE, the policy and the law are asked once more, in the transaction that records the intent."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from tomovault.catalog.permits import which_says
from tomovault.core.errors import Refused, UserError
from tomovault.core.known import JobStatus, KnownScan, Permit, RemovalPhase, is_being_sent
from tomovault.core.life import Stage, may_go
from tomovault.core.record import PutBack
from tomovault.core.replica import TierClass
from tomovault.policy.area_facts import AreaFacts
from tomovault.policy.decide import why_forbidden_still
from tomovault.policy.document import Policy, Rule
from tomovault.policy.removing import BY_EVIDENCE, archiving_failed, removal_of, still_lets_go, went_for_room
from tomovault.policy.room import EXPORT_NOT_OVER
from tomovault.vault.domains import domain_now
from tomovault.vault.owner_warnings import refuse_unwarned
from tomovault.vault.tier_facts import place_facts
from tomovault.vault.vault import Vault


def grant(
    vault: Vault, tx: Any, scan: KnownScan, replica: str, *, rule: Rule, now: datetime, by_evidence: bool = False
) -> Permit:
    """A permit is written and its phase-one job queued: to make room, or `by_evidence`, however full the place is.
    Raises Refused, naming the law, pin or rule.

    A removal that failed is not tried again before something new is known of the replica or its scan.
    """
    cited = vault.policy_of(scan.area).cite(rule)
    if reason := failed_before(scan, replica):
        raise Refused(
            f"{scan.name}: {reason}",
            by="a removal that failed is looked at by a person",
            hint=f"tomovault verify {scan.id} re-reads its copies; if they are right it is tried again",
        )
    _refuse_sent(scan, replica)
    facts = _facts_there(vault, tx, scan, replica, now)
    refuse_unwarned(vault, scan, replica, rule, facts, now)
    permit = vault.catalogue.grant_permit(
        tx,
        scan.id,
        replica,
        removal_enabled=facts.prune_on,
        copies_asked=vault.asks(scan, facts, now).copies,
        within=_within(vault, scan, rule),
        rule=cited,
        hold_until=now + timedelta(seconds=vault.site.quarantine.hold_s),
        archiving_hopeful=archiving_hopeful(vault, scan, facts, now),
        domain_now=partial(domain_now, vault, tx),
        now=now,
    )
    queue_removal(vault, tx, scan, permit, now, {BY_EVIDENCE: by_evidence})
    return permit


def _refuse_sent(scan: KnownScan, replica: str) -> None:
    """Raises Refused where an export that is queued or under way reads the replica."""
    if any(r.id == replica and is_being_sent(scan, r) for r in scan.replicas):
        raise Refused(f"{scan.name}: {EXPORT_NOT_OVER}", by="export", hint="it may go when its transfer is over")


def _facts_there(vault: Vault, tx: Any, scan: KnownScan, replica: str, now: datetime) -> AreaFacts:
    """How full the place is that a replica goes from. Raises Refused for a tier that has no marks any more."""
    tier = next((r.tier for r in scan.replicas if r.id == replica), scan.area)
    try:
        return place_facts(vault, tx, tier, now, limits=False)
    except UserError as problem:
        raise Refused(f"{scan.name}: {problem.message}", by="prune: off", hint=problem.hint) from problem


def queue_removal(
    vault: Vault, tx: Any, scan: KnownScan, permit: Permit, now: datetime, how: Mapping[str, Any] | None = None
) -> None:
    """The first phase of a removal is queued, once for each permit; `how` that was given is told with it."""
    order = {"permit": permit.id, **(how or {})}
    key, area = f"prune:{permit.id}", area_of_removal(vault, scan, permit)
    vault.queue_in(tx, area, "prune", scan.id, order, dedup_key=key, rule=permit.rule, now=now)


def area_of_removal(vault: Vault, scan: KnownScan, permit: Permit) -> str:
    """The area that a copy goes from, which for a package may be another than that of its scan; of one on a tier that
    of the scan.
    """
    tier = next(r.tier for r in scan.replicas if r.id == permit.replica)
    return tier if tier in vault.site.areas else scan.area


def _within(vault: Vault, scan: KnownScan, rule: Rule) -> dict[TierClass, timedelta]:
    """How recently copies must have been re-read: as the policy says, or more recently where the rule asks for it."""
    usual = vault.verified_within(scan.area)
    asked = rule.settings.verified_within
    return usual if asked is None else {kind: min(period, asked) for kind, period in usual.items()}


def failed_before(scan: KnownScan, replica: str) -> str:
    """Why the last removal of a replica failed; '' if it did not, or something new is known since."""
    permits = {p.id for p in scan.permits if p.replica == replica}
    tried = [j for j in scan.jobs if j.action == "prune" and j.order.get("permit") in permits]
    last = max(tried, key=lambda j: j.queued_at, default=None)
    if last is None or last.status is not JobStatus.FAILED or last.finished_at is None:
        return ""
    read_at = next((r.verified_at for r in scan.replicas if r.id == replica), None)
    if scan.changed_at <= last.finished_at and (read_at is None or read_at <= last.finished_at):
        return f"its last removal failed: {last.error}"
    return ""


def regrant(vault: Vault, tx: Any, scan: KnownScan, permit: Permit, now: datetime) -> None:
    """Everything is evaluated again after the hold, all of it by the policy in force now, and by the rule in it that
    has the name of the one before. Raises Refused if the permit would not be given today.

    Only the watermark is not asked again: what is in quarantine counts as freed. A person's order to destroy asks no
    rule and no law but that of pins.
    """
    if permit.ordered_by:
        vault.catalogue.regrant_destruction(tx, permit.id, now=now)
        return
    if permit.phase is RemovalPhase.GRANTED:  # what is in quarantine nobody can send
        _refuse_sent(scan, permit.replica)
    policy = vault.policy_of(scan.area)
    facts = _facts_there(vault, tx, scan, permit.replica, now)
    rule, for_room = rule_of(vault, scan, permit), went_for_room(scan, permit)
    if reason := why_forbidden_still(scan, policy, facts, now, for_room=for_room):
        raise Refused(f"{scan.name}: {reason}", by="policy")
    if not still_lets_go(scan, permit.replica, rule, policy, facts, now, for_room=for_room):
        raise _refusal(scan, permit.replica, rule, policy, facts, now)
    refuse_unwarned(vault, scan, permit.replica, rule, facts, now, leaving=permit.phase is not RemovalPhase.GRANTED)
    vault.catalogue.regrant(
        tx,
        permit.id,
        rule=policy.cite(rule),
        removal_enabled=facts.prune_on,
        copies_asked=vault.asks(scan, facts, now).copies,
        within=_within(vault, scan, rule),
        archiving_hopeful=archiving_hopeful(vault, scan, facts, now),
        domain_now=partial(domain_now, vault, tx),
        now=now,
    )


def _refusal(scan: KnownScan, replica: str, rule: Rule, policy: Policy, facts: AreaFacts, now: datetime) -> Refused:
    """What to say of a rule that does not hold any more: that of the laws, where they say no as well."""
    leaving = next((r for r in scan.replicas if r.id == replica), None)
    reasons = may_go(removal_of(scan, leaving, policy, facts, now, rule=rule)) if leaving is not None else ()
    if reasons:
        return Refused(f"{scan.name}: " + "; ".join(reasons), by=which_says(reasons[0]))
    return Refused(f"{scan.name}: {policy.cite(rule)} does not let it go now", by="policy")


def rule_of(vault: Vault, scan: KnownScan, permit: Permit) -> Rule:
    """The rule of a permit, as it is now. Raises Refused where the policy has it no more."""
    name = permit.rule.partition("@")[0]
    rule = next((r for r in vault.policy_of(scan.area).rules if r.name == name and r.do == "prune"), None)
    if rule is None:
        raise Refused(f"{scan.name}: the policy has no rule {name!r} to prune by any more", by="policy")
    return rule


def archiving_hopeful(vault: Vault, scan: KnownScan, facts: AreaFacts, now: datetime) -> bool:
    """Whether the scan's archiving is wanted and has not failed (law 4, fast tiers)."""
    view = vault.view(scan, facts, now)
    wanted = Stage.ARCHIVED in view.wants.by and Stage.ARCHIVED not in view.wants.held
    return wanted and not archiving_failed(scan, now)


def pin_after_undo(vault: Vault, tx: Any, scan: KnownScan, by: str, now: datetime) -> None:
    """What a person took back stays for the days that a recalled package would: else it would go again at once."""
    until = now + timedelta(seconds=max(vault.site.restore.pin_s, 3600.0))
    vault.catalogue.add_pin(tx, scan.id, by, "taken back from quarantine", until, now)


def take_back_order(vault: Vault, tx: Any, scan: KnownScan, permit: Permit, now: datetime) -> None:
    """An order to destroy a copy on a tier without a quarantine is taken back: nothing was moved there.

    Raises Refused where the copy is being destroyed already.
    """
    # As it is in this transaction: since the command read it the second look may have been taken.
    fresh = next(p for p in vault.catalogue.known(tx, scan.id).permits if p.id == permit.id)
    if fresh.phase is not RemovalPhase.QUARANTINED:
        raise Refused(f"{scan.name} is being destroyed right now", by="law 5")
    vault.catalogue.record_put_back(tx, PutBack(permit.id, permit.files, permit.bytes), now)
