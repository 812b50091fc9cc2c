"""Owners are told of what is to go, and can keep it: a removal that has to be announced waits for that."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from tomovault.catalog.owner_warnings import ask_warnings
from tomovault.core.errors import Refused
from tomovault.core.known import KnownScan, Pin, RemovalPhase
from tomovault.core.notice import Topic
from tomovault.core.replica import Form, ProductKind, Replica
from tomovault.policy.area_facts import AreaFacts
from tomovault.policy.document import Rule
from tomovault.policy.warning import days_of, why_unwarned
from tomovault.vault.notices import gather
from tomovault.vault.site_settings import ExtendSettings
from tomovault.vault.vault import Vault

#: The reason of a pin that `tomovault extend` makes, by which it is counted.
EXTENSION = "extension asked after a warning"

#: What refuses a removal whose owner was not warned, or not long enough ago.
BY_WARNING = "warning"


@dataclass(frozen=True)
class Leaving:
    """A replica that would go if its owner had been warned of it."""

    scan: KnownScan
    replica: Replica
    rule: Rule


def refuse_unwarned(
    vault: Vault, scan: KnownScan, replica: str, rule: Rule, facts: AreaFacts, now: datetime, *, leaving: bool = False
) -> None:
    """Raises Refused where the replica has to wait for a warning of its owner."""
    hold = why_unwarned(scan, replica, rule, facts, now, leaving=leaving)
    if hold is not None:
        hint = f"tomovault explain {scan.id} says when it may go"
        raise Refused(f"{scan.name}: {hold.reason}", by=BY_WARNING, hint=hint)


def warn_owners(vault: Vault, tx: Any, facts: AreaFacts, leaving: Iterable[Leaving], now: datetime) -> dict[str, str]:
    """Every owner of these will be told, in few texts; returns why nobody can be, by replica.

    The warnings are asked for in the transaction that puts the texts into the outbox. They count once those are sent.
    """
    groups: dict[tuple[str | None, str, timedelta], list[Leaving]] = defaultdict(list)
    for one in leaving:
        hold = why_unwarned(one.scan, one.replica.id, one.rule, facts, now)
        if hold is not None and hold.ask:
            cited = vault.policy_of(one.scan.area).cite(one.rule)
            groups[one.scan.owner, cited, days_of(one.rule, facts)].append(one)
    unheard: dict[str, str] = {}
    for (owner, cited, days), group in groups.items():
        seconds = math.ceil(days.total_seconds())
        told = {
            "area": facts.name,
            "owner": owner,
            "rule": cited,
            "warn_s": seconds,
            "scans": [_entry(one) for one in group],
        }
        key = f"warning {facts.name} {owner!r} {cited} {seconds}"
        notice = gather(vault, tx, Topic.WARNINGS, "warning", told, "scans", now, key=key, owner=owner)
        if notice is None:
            unheard |= {one.replica.id: _nobody(vault, owner) for one in group}
        else:
            promised = timedelta(seconds=seconds)
            ask_warnings(tx, notice, [(one.scan.id, one.replica.id, cited, promised) for one in group], now)
    return unheard


def _nobody(vault: Vault, owner: str | None) -> str:
    conf = vault.site.notify
    if conf is None or Topic.WARNINGS not in conf.routes:
        return "its owner is to be warned first, and tomovault.yaml names no channel for that (`notify: warnings:`)"
    known = f"its owner {owner} has no address" if owner else "its owner is not known"
    return f"{known}, and `notify: warnings: to:` names nobody else to be warned"


def _entry(one: Leaving) -> dict[str, Any]:
    """A scan in the text, in plain values; its name and path are whatever somebody called them."""
    going = one.replica
    stay = [r for r in one.scan.replicas_of(going.product) if r.id != going.id and r.good]
    back = f"tomovault restore {one.scan.id} --to DIR"
    if going.product is not ProductKind.ORIGINAL:
        back += f" --product {going.product}"
    return {
        "id": one.scan.id,
        "name": one.scan.name,
        "path": going.location,
        "form": _what(going),
        "bytes": going.bytes,
        "copies": ", ".join(sorted({f"{r.form} on {r.tier}" for r in stay})) or "none",
        "back": back if stay else f"only if it is made again, from the original: {_originals(one.scan)}",
    }


def _originals(scan: KnownScan) -> str:
    return ", ".join(sorted({f"{r.form} on {r.tier}" for r in scan.replicas_of(ProductKind.ORIGINAL) if r.good}))


def _what(replica: Replica) -> str:
    if replica.product is not ProductKind.ORIGINAL:
        return f"its {replica.product}"
    return "its original files" if replica.form is Form.FILES else "its package"


@dataclass(frozen=True)
class Extended:
    """Until when a scan is kept, and whether that was so before; `in_quarantine` where its files are out of the way."""

    until: datetime
    already: bool
    in_quarantine: bool


def extend(vault: Vault, tx: Any, scan: KnownScan, days: int | None, by: str, now: datetime) -> Extended:
    """The scan is pinned until the end of the day that many days ahead, by default as many as the site allows.

    Asked again on the same day nothing changes. Raises Refused for more days, or more often, than the site allows.
    """
    conf = vault.site.notify
    allowed = conf.extend if conf is not None else ExtendSettings()
    wanted = allowed.days if days is None else days
    if wanted > allowed.days:
        raise Refused(
            f"{scan.name} can be kept for {allowed.days} days at a time, not {wanted}",
            by="notify: extend: days",
            hint="a data manager may pin it for longer: tomovault pin",
        )
    until = (now + timedelta(days=wanted)).replace(hour=23, minute=59, second=59, microsecond=0)
    hidden = any(p.phase in (RemovalPhase.QUARANTINED, RemovalPhase.LEAVING) for p in scan.permits)
    before = [pin for pin in scan.pins if pin.reason == EXTENSION]
    longest = max(before, key=_end, default=None)
    if longest is not None and longest.until >= until:
        return Extended(longest.until, already=True, in_quarantine=hidden)
    if len(before) >= allowed.times:
        raise Refused(
            f"{scan.name} was extended {len(before)} times already",
            by="notify: extend: times",
            hint="a data manager may pin it for longer: tomovault pin",
        )
    vault.catalogue.add_pin(tx, scan.id, by, EXTENSION, until, now)
    return Extended(until, already=False, in_quarantine=hidden)


def _end(pin: Pin) -> datetime:
    return pin.until
