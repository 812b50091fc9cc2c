"""How full a place is, be it an area or a tier: what its watermark is compared with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from tomovault.catalog.tier_room import bytes_left_on_media, tier_bytes
from tomovault.core.errors import UserError
from tomovault.policy.area_facts import AreaFacts
from tomovault.vault.site_settings import Site, TierSettings
from tomovault.vault.tier_marks import ON_DISK
from tomovault.vault.vault import Vault, believed


def place_facts(
    vault: Vault, tx: Any, name: str, now: datetime, *, draining: bool = False, limits: bool = True
) -> AreaFacts:
    """How full an area or a tier with marks is; `limits` as in `Vault.area_facts`. Raises UserError for one without."""
    if name in vault.site.areas:
        return vault.area_facts(tx, name, now, draining=draining, limits=limits)
    return replace(tier_facts(vault, tx, name), draining=draining)


def tier_facts(vault: Vault, tx: Any, name: str) -> AreaFacts:
    """How full a tier is: on a disk by the catalogue or, where the file system says less is free, by that; on other
    media by what was ever brought there. Raises UserError for one without marks.
    """
    conf = vault.site.tiers.get(name)
    if conf is None or conf.marks is None:
        raise UserError(f"the tier {name!r} has no marks", hint="give it `high`, `low` or `quota` in tomovault.yaml")
    known, leaving = tier_bytes(tx, name)
    on_disk = has_file_system(conf)
    known += 0 if on_disk else bytes_left_on_media(tx, name)
    quota, used = believed(conf.marks.quota, vault.space_of(conf) if on_disk else None, known, 0)
    return AreaFacts(
        name=name,
        tier_class=conf.tier_class,
        prune_on=conf.marks.prune,
        used_fraction=used / quota if quota else 0.0,
        high=conf.marks.high,
        low=conf.marks.high if conf.marks.low is None else conf.marks.low,
        quota_bytes=quota,
        used_bytes=used,
        quarantine_bytes=leaving,
        simulated=vault.site.simulated,
        unknown_bytes=used - known,
        warn=timedelta(seconds=vault.site.notify.warn_s if vault.site.notify is not None else 0.0),
        of_tier=True,
    )


def places_to_prune(
    vault: Vault, tx: Any, now: datetime, is_draining: Callable[[str], bool] = lambda _place: False
) -> tuple[AreaFacts, ...]:
    """The areas and the tiers with marks as they stand, for `Vault.overdue`; none where no rule asks for copies that
    were re-read more lately than for others before something goes.
    """
    rules = (rule for area in vault.site.areas for rule in vault.policy_of(area).rules)
    if not any(rule.do == "prune" and rule.settings.verified_within is not None for rule in rules):
        return ()
    names = (*vault.site.areas, *marked_tiers(vault.site))
    return tuple(place_facts(vault, tx, name, now, draining=is_draining(name), limits=False) for name in names)


def has_file_system(tier: TierSettings) -> bool:
    """Whether the size of the file system of a tier's folder says how much it holds: not that of a library."""
    return tier.tier_class in ON_DISK or tier.kind == "posix"


def marked_tiers(site: Site) -> Iterator[str]:
    """The tiers that are kept between marks, or watched by one."""
    return (name for name, tier in site.tiers.items() if tier.marks is not None)


def measured_tiers(site: Site) -> Iterator[TierSettings]:
    """Of those the ones on disks."""
    return (site.tiers[name] for name in marked_tiers(site) if has_file_system(site.tiers[name]))


def may_be_pruned(facts: AreaFacts) -> bool:
    """Whether a watermark ever removes anything from a place of that class."""
    return facts.tier_class in ON_DISK


def why_no_rule_reaches(vault: Vault, facts: AreaFacts) -> str:
    """What to write where no rule of the policies lets anything go from a tier; '' where one may, and for an area."""
    policies = [vault.policy_of(name) for name in vault.site.areas] if facts.of_tier else []
    named = (r for p in policies for r in p.rules if r.do == "prune" and facts.name in r.settings.tiers)
    if not facts.of_tier or next(named, None) is not None:
        return ""
    return f"no rule names it [a rule with `do: prune` and `with: {{tiers: [{facts.name}]}}`]"
