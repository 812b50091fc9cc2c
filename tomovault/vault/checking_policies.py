"""Checking what a person wrote: policies by themselves and against the site, templates, and the site's own file."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from tomovault.catalog.policies import RecordedPolicy
from tomovault.core.errors import TomovaultError, UserError
from tomovault.core.replica import Form, TierClass
from tomovault.notify.texts import check_template, template_files
from tomovault.policy.document import Policy
from tomovault.policy.expression import CHEAPER, Flag
from tomovault.policy.reading import leaves
from tomovault.policy.review import Finding, Places, review
from tomovault.policy.yaml_text import Fault, nearest, point_out
from tomovault.vault.deeds import listeners
from tomovault.vault.policy_files import read_path, read_policy_file, reused, reused_text
from tomovault.vault.preset_files import PRESETS, read_preset
from tomovault.vault.site import POLICIES, SITE_FILE, Site, find_policy, load_site, shipped_policies
from tomovault.vault.site_settings import TierSettings
from tomovault.vault.tier_marks import ON_DISK
from tomovault.vault.vault import open_catalogue

#: The errors and the warnings about one file, and what its rules will do that a person may not expect.
_Told = tuple[list[str], list[str], list[str]]


def check_policies(folder: Path | None, files: Sequence[Path], now: datetime) -> dict[str, Any]:
    """Each file with its errors and warnings. Of a site its own file, too, and what in a policy does not fit it; the
    policies that came with tomovault are checked where an area uses them.
    """
    if folder is None:
        return _page([_row(path, _check_of(path, now)) for path in files])
    site, rows = _site(folder), [_row(folder / SITE_FILE, partial(_check_site, folder))]
    rows += [_row(path, partial(_check_template, path)) for path in template_files(folder)]
    recorded = _recorded(site) if site is not None else ()
    rows += [_row(path, partial(_check_preset, path)) for path in sorted((folder / PRESETS).glob("*.yaml"))]
    for path in [*sorted((folder / POLICIES).glob("*.yaml")), *_shipped(site)]:
        rows.append(_row(path, partial(_check_policy, path, site, recorded, now)))
    return _page(rows)


def _check_of(path: Path, now: datetime) -> Callable[[], _Told]:
    """How a file by itself is checked: as a preset where it is in a folder of presets."""
    if path.absolute().parent.name == PRESETS:
        return partial(_check_preset, path)
    return partial(_check_policy, path, None, (), now)


def _shipped(site: Site | None) -> list[Path]:
    """The files of policies that areas use and of which the site has none of its own."""
    if site is None:
        return []
    found = (find_policy(site.folder, name) for name in sorted({area.policy for area in site.areas.values()}))
    return [path for path in found if path is not None and _is_shipped(path)]


def _is_shipped(path: Path) -> bool:
    return path.parent == shipped_policies()


def places_of(site: Site, policy: str) -> Places:
    """What the rules of a policy may name on a site."""
    beamlines = [area.beamline for area in site.areas.values() if area.beamline is not None]
    return Places(
        areas=tuple(site.areas),
        used_by=tuple(name for name, area in site.areas.items() if area.policy == policy),
        tiers=tuple(site.tiers),
        # A scan of an area without one has the beamline that its metadata say.
        beamlines=beamlines if len(beamlines) == len(site.areas) else (),
        collections=tuple(site.globus.names) if site.globus is not None else None,
        listeners=listeners(site.notify) if site.notify is not None else None,
        costs=site.costs is not None,
        unpriced=tuple(name for name in site.areas if site.costs is not None and site.costs.of(name) is None),
        archives=any(tier.tier_class is TierClass.ARCHIVE for tier in site.tiers.values()),
        unpruned={name: why for name, tier in site.tiers.items() if (why := _why_unpruned(tier))},
    )


def _why_unpruned(tier: TierSettings) -> str:
    """Why no rule ever removes anything from a tier, and what to write; '' where one may."""
    if tier.tier_class not in ON_DISK:
        return f"no mark removes anything from a tier of class {tier.tier_class}; an operator may: tomovault destroy"
    if tier.marks is None:
        return (
            f"it has no mark; write `high`, `low` and `prune: on` for the tier {tier.name} in tomovault.yaml, and"
            " `usage > high` in the rule's `when`"
        )
    return ""


def _check_site(folder: Path) -> _Told:
    path, site = folder / SITE_FILE, load_site(folder, policies=False)
    return [], point_out(path.read_text("utf-8-sig"), str(path), list(_unused_prices(site))), []


def _unused_prices(site: Site) -> Iterator[Fault]:
    """Prices that no rule asks for: of a tier, where nothing is weighed, and of an area whose policy never does."""
    for name in site.costs.tb_month if site.costs is not None else ():
        area = site.areas.get(name)
        if area is None:
            told = f"nothing is weighed by this: {name!r} is a tier, and only volumes in an area are"
            yield Fault(told + nearest(name, site.areas), ("costs", "tb_month", name), at_key=True)
        elif not _asks_for_costs(site, area.policy):
            told = f"no rule of the policy {area.policy!r} asks for this: none has `{CHEAPER}` in its `when`"
            yield Fault(told, ("costs", "tb_month", name), at_key=True)


def _asks_for_costs(site: Site, policy: str) -> bool:
    """Whether a rule of a policy weighs costs; one that cannot be read may."""
    try:
        rules = read_policy_file(site.folder, policy).policy.rules
    except UserError:
        return True
    return any(isinstance(leaf, Flag) and leaf.term == CHEAPER for rule in rules for leaf in leaves(rule.condition))


def _check_template(path: Path) -> _Told:
    check_template(path)
    return [], [], []


def _check_preset(path: Path) -> _Told:
    read_preset(path)
    return [], [], []


def _check_policy(path: Path, site: Site | None, recorded: Collection[RecordedPolicy], now: datetime) -> _Told:
    file = read_path(path)
    found = review(file.policy, now, places_of(site, path.stem) if site is not None else None)
    if site is not None and file.policy.name != path.stem:
        told = (
            f"areas know this policy as {path.stem!r}, by its file, and permits would cite it as {file.policy.name!r}"
        )
        found.insert(0, Finding(Fault(told, ("name",))))
    if reused(file, path.stem, recorded):
        found.insert(0, Finding(Fault(reused_text(path.stem, file.policy.version), ("version",))))

    if site is not None and _is_shipped(path):
        found = [replace(one, fault=_of_user(one.fault, site, path)) for one in found]

    def shown(*, errors: bool) -> list[str]:
        return point_out(file.text, str(path), [one.fault for one in found if one.is_error is errors])

    return shown(errors=True), shown(errors=False), list(_notes(file.policy))


def _of_user(fault: Fault, site: Site, path: Path) -> Fault:
    """Of a file that is not for the site alone: whose it is there, and where another may stand."""
    areas = [name for name, area in site.areas.items() if area.policy == path.stem]
    who = f"area {areas[0]} uses" if len(areas) == 1 else f"areas {', '.join(areas)} use"
    own = Path(site.folder, POLICIES, path.name)
    return replace(fault, text=f"{fault.text} ({who} this policy as it was shipped; write one of your own in {own})")


def _notes(policy: Policy) -> Iterator[str]:
    for rule in policy.rules:
        if rule.by_evidence and not rule.settings.tiers:
            what = ", ".join(dict.fromkeys(str(kind if form is Form.PACKAGE else form) for kind, form in rule.removes))
            yield (
                f"{rule.name!r} removes ({what}) whenever its sentence holds, however empty the area is;"
                " with `and usage > high` only while the area is too full"
            )


def _site(folder: Path) -> Site | None:
    try:
        return load_site(folder, policies=False)
    except UserError:
        return None


def _recorded(site: Site) -> Collection[RecordedPolicy]:
    """The policies that were in force; none where that cannot be known now, which is no fault of theirs."""
    try:
        catalogue = open_catalogue(site)
        try:
            if catalogue.revision_problem():
                return ()
            with catalogue.reading() as tx:
                return catalogue.recorded_policies(tx)
        finally:
            catalogue.close()
    except TomovaultError:
        return ()


def _row(path: Path, check: Callable[[], _Told]) -> dict[str, Any]:
    try:
        errors, warnings, notes = check()
    except UserError as problem:
        # Each error has the line that it shows and the caret below it: those are indented.
        errors, warnings, notes = re.split(r"\n(?! )", problem.message), [], []
    return {"file": str(path), "ok": not errors, "errors": errors, "warnings": warnings, "notes": notes}


def _page(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {"ok": all(row["ok"] for row in rows), "files": rows}
