"""What a site says of room that can never come true: packages that nothing may be written beside, marks that are never
reached, rules that free nothing. Figures and what to do are told together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tomovault.vault.site_settings import Area
from tomovault.vault.sizes import show_bytes
from tomovault.vault.vault import Vault
from tomovault.watch.area import Space, disk_space

#: Gives the room on the file system of a folder.
Measure = Callable[[str], Space | None]


@dataclass(frozen=True)
class Impossible:
    """Something that can never be as things are. What is not `needed` may well be meant."""

    about: str
    text: str
    hint: str
    needed: bool = True


def impossible_room(area: Area, measure: Measure = disk_space) -> Iterator[Impossible]:
    """What of an area's room can never be: a package written, or its high mark reached."""
    here, there = measure(area.path), measure(area.vault)
    floor = area.floor
    if there is not None and there.free <= floor:
        yield Impossible(
            f"packing in {area.name}",
            f"{show_bytes(there.free)} are free of {show_bytes(there.total)} ({there.free / there.total:.1%}), and the"
            f" floor kept for the acquisition is {show_bytes(floor)}: no package can be written, so nothing is ever"
            " archived or pruned",
            f"make {show_bytes(floor - there.free + 1)} and the size of a few scans free by hand, name a `vault` on"
            f" another disk, or write a smaller `floor` for the area",
        )
    limit = area.quota if area.quota is not None else here.total if here is not None else 0
    if here is None or not limit:
        return
    left = here.total - floor
    if area.high * limit > left:
        most = max(0, int(100 * left / limit) - 1)
        yield Impossible(
            f"high mark of {area.name}",
            f"it is {show_bytes(int(area.high * limit))} ({area.high:.0%} of {show_bytes(limit)}), and the floor of"
            f" {show_bytes(floor)} leaves {show_bytes(max(0, left))} of {show_bytes(here.total)}: our writing stops"
            " before room is ever made",
            f"write `high: {most}%` or less, a smaller `floor`, or a `quota` that the disk has",
        )


def rules_that_free_nothing(vault: Vault) -> Iterator[Impossible]:
    """Policies in use whose prune rules can free nothing anywhere, since `prune` is off where they speak of."""
    site = vault.site
    for policy in sorted({area.policy for area in site.areas.values()}):
        areas = [area for area in site.areas.values() if area.policy == policy]
        rules = [rule for rule in vault.policy_of(areas[0].name).rules if rule.do == "prune"]
        of_areas = [rule.name for rule in rules if not rule.settings.tiers]
        if of_areas and not any(area.prune for area in areas):
            names = ", ".join(area.name for area in areas)
            yield Impossible(
                f"pruning by {policy}",
                f"{', '.join(of_areas)} can free nothing: `prune` is off in every area with this policy ({names})",
                "`prune: on` for an area that may be pruned, once its archive is proven",
                needed=False,
            )
        for rule in rules:
            for tier in rule.settings.tiers:
                marks = site.tiers[tier].marks if tier in site.tiers else None
                if marks is None or not marks.prune:
                    why = "`prune` is off there" if marks is not None else "that tier has no marks"
                    yield Impossible(
                        f"pruning by {policy}",
                        f"{rule.name} can free nothing on {tier}: {why}",
                        f"`high`, `low` and `prune: on` for the tier {tier} in tomovault.yaml",
                        needed=False,
                    )
