"""What rules did, told to whom their `notify` names: in few texts, and each deed once, with the fact that it is."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from tomovault.catalog.jobs import record_done
from tomovault.core.known import KnownScan
from tomovault.core.notice import Topic
from tomovault.core.record import Outcome, Result
from tomovault.core.replica import ProductKind, Replica
from tomovault.notify.address import OWNER as OWNER_IN_ADDRESS
from tomovault.notify.address import recipients_for
from tomovault.policy.area_facts import AreaFacts
from tomovault.policy.document import OWNER, Rule
from tomovault.policy.matching import Match, matches_of
from tomovault.vault.notices import gather_for
from tomovault.vault.plugins import load_plugin
from tomovault.vault.site_settings import NotifySettings
from tomovault.vault.vault import Vault

if TYPE_CHECKING:
    from tomovault.catalog.jobs import ClaimedJob

#: What was done, in words, by the action that a job is called by.
_WORDS: Mapping[str, str] = {
    "pack": "these scans were packed",
    "preview": "these scans have a preview",
    "replicate": "these scans were copied to where it says",
    "archive": "these scans were archived",
    "reconstruct": "these scans were reconstructed",
    "reduce": "these scans were reduced",
    "export": "these scans were sent to where it says, and the receipts are in",
    "prune": "in quarantine now: {what} of these scans; `tomovault prune undo SCAN` takes it back until it is removed",
    "empty_quarantine": "removed for good, after its time in quarantine: {what} of these scans",
    "destroy": "removed for good: {what} of these scans",
    "notify": "this is so of these scans; nothing was done to them",
}


def listeners(conf: NotifySettings) -> dict[str, str]:
    """What the `notify` of a rule may name, each with why it would reach nobody, '' where somebody."""
    route = conf.routes.get(Topic.RULES)
    patterns = route.to if route is not None else ()
    lacking = "names no address under `notify: rules: to:` in tomovault.yaml"
    everybody = any(OWNER_IN_ADDRESS not in to for to in patterns)
    found = {
        name: "" if everybody or not _is_addressed(conf, name) else f"{name} goes to addresses, and the site {lacking}"
        for name in conf.channels
    }
    owners = any(OWNER_IN_ADDRESS in to for to in patterns)
    by_mail = route is not None and any(_is_addressed(conf, name) for name in route.channels)
    return found | {OWNER: "" if owners and by_mail else f"the site {lacking} that is made with {OWNER_IN_ADDRESS}"}


def tell_of_job(vault: Vault, tx: Any, claimed: ClaimedJob, result: Result, now: datetime) -> None:
    """What a job did by a rule will be told, where the rule says to whom; one that found nothing to do did nothing."""
    name, at, _ = claimed.rule.partition("@")
    if not at or claimed.scan is None or result.outcome is not Outcome.SUCCEEDED or not result.records:
        return
    if claimed.place not in vault.site.areas:
        return
    rule = next((one for one in vault.policy_of(claimed.place).rules if one.name == name and one.notify), None)
    if rule is not None:
        scan = vault.catalogue.known(tx, claimed.scan)
        why, replica = f"done by job {claimed.id}", _that_left(scan, claimed)
        _tell(vault, tx, scan, rule, claimed.rule, claimed.action, why, now, replica=replica)


def tell_wanted(vault: Vault, tx: Any, scan: KnownScan, area: AreaFacts, now: datetime) -> None:
    """Each rule whose whole purpose is to tell, and that holds for the scan, has told of it: once for ever. That it did
    is a job of the scan, done as it is recorded. While there is nobody to be told, nobody was.
    """
    policy = vault.policy_of(scan.area)
    if not any(rule.do == "notify" for rule in policy.rules):
        return
    for match in _to_tell(scan, matches_of(scan, policy, area, now)):
        cited = policy.cite(match.rule)
        if _tell(vault, tx, scan, match.rule, cited, "notify", match.verdict.explain(), now):
            told = {"rule": match.rule.name, "notify": list(match.rule.notify)}
            record_done(tx, "notify", scan.id, told, rule=cited, now=now, place=scan.area)


def was_told(scan: KnownScan, rule: Rule) -> bool:
    """Whether a rule, as it is or was, has told of a scan."""
    return any(job.action == "notify" and job.order.get("rule") == rule.name for job in scan.jobs)


def _to_tell(scan: KnownScan, matches: Collection[Match]) -> Iterator[Match]:
    return (m for m in matches if m.rule.do == "notify" and m.verdict.value and not was_told(scan, m.rule))


def _that_left(scan: KnownScan, claimed: ClaimedJob) -> Replica | None:
    """The copy that a removal is of; None where the job is none."""
    left = {permit.replica for permit in scan.permits if permit.id == claimed.order.get("permit")}
    return next((replica for replica in scan.replicas if replica.id in left), None)


def _named(replica: Replica, area: str) -> str:
    """A copy in words: of what, and where it is not in the area of the scan."""
    what = replica.product.value if replica.product is not ProductKind.ORIGINAL else replica.form.value
    return f"the {what}" if replica.tier == area else f"the copy on {replica.tier} ({what})"


def _tell(
    vault: Vault,
    tx: Any,
    scan: KnownScan,
    rule: Rule,
    cited: str,
    action: str,
    why: str,
    now: datetime,
    *,
    replica: Replica | None = None,
) -> bool:
    """Whether anybody will be told of one scan: everybody whom the rule names in one text, and its owner in another.
    Of a removal is told what of it went.
    """
    conf = vault.site.notify
    if conf is None:
        return False
    entry = {
        "id": scan.id,
        "name": scan.name,
        "path": scan.root,
        "area": scan.area,
        "owner": scan.owner or "-",
        "bytes": scan.bytes if replica is None else replica.bytes,
        "why": why,
    }
    what = "" if replica is None else _named(replica, scan.area)
    deed = f"{action} {what}".rstrip()
    description = _WORDS.get(action, action).format(what=what or "a copy")
    facts = {"rule": cited, "action": action, "description": description, "scans": [entry]}
    everybody = dict.fromkeys(one for name in rule.notify if name != OWNER for one in _addressees(conf, name))
    owner = _addressees_of_owner(conf, scan.owner) if OWNER in rule.notify else []
    notices = [
        gather_for(
            vault,
            tx,
            to,
            Topic.RULES,
            "rule_did",
            facts,
            "scans",
            now,
            key=f"rule {cited} {deed} {whose}",
        )
        for to, whose in ((list(everybody), ""), (owner, repr(scan.owner)))
    ]
    return any(notice is not None for notice in notices)


def _is_addressed(conf: NotifySettings, name: str) -> bool:
    return bool(load_plugin("notify", conf.channels[name].kind).ADDRESSED)


def _addressees(conf: NotifySettings, name: str) -> list[tuple[str, str]]:
    """(channel, recipient) of each delivery by a channel; none for one that the site does not have."""
    if name not in conf.channels:
        return []
    if not _is_addressed(conf, name):
        return [(name, "")]
    route = conf.routes.get(Topic.RULES)
    plain = [to for to in route.to if OWNER_IN_ADDRESS not in to] if route is not None else []
    return [(name, recipient) for recipient in recipients_for(plain, None)]


def _addressees_of_owner(conf: NotifySettings, owner: str | None) -> list[tuple[str, str]]:
    route = conf.routes.get(Topic.RULES)
    if route is None:
        return []
    patterns = [to for to in route.to if OWNER_IN_ADDRESS in to]
    mails = [name for name in route.channels if _is_addressed(conf, name)]
    return [(name, recipient) for name in mails for recipient in recipients_for(patterns, owner)]
