"""From a policy's name, a site where there is one, and a model, to what is simulated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tomovault.catalog.scans import walk_scans
from tomovault.core.errors import UserError
from tomovault.core.replica import TierClass
from tomovault.policy.document import Policy, parse_policy
from tomovault.simulation.model_file import Model, parse_model
from tomovault.simulation.scenario import AreaPlan, Machines, Scenario, TapePlan
from tomovault.vault.site_settings import POLICIES, Site, find_policy, shipped_policies
from tomovault.vault.vault import Vault

#: The folder of models beside the policies, and the one that is taken where a policy has none of its own.
MODELS, USUAL_MODEL = "models", "esrf-id19"

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class Wish:
    """What a person asks to be simulated. `fill` has shares of the quota by area; under '' for every area."""

    policy: str
    days: int
    seed: int = 0
    model: Path | None = None
    areas: tuple[str, ...] = ()
    fill: Mapping[str, float] | None = None
    prune: bool | None = None


@dataclass(frozen=True)
class Prepared:
    """A scenario, and in a line each where it comes from."""

    scenario: Scenario
    told: tuple[str, ...]


def prepare(wish: Wish, vault: Vault | None) -> Prepared:
    """The scenario of a site, with its scans as they are known now, or of a model that has areas. Raises UserError."""
    folder = Path(vault.site.folder) if vault is not None else Path()
    policy, policy_path = _read_policy(folder, wish.policy)
    model, model_path = _read_model(folder, wish, policy.name, on_site=vault is not None)
    if vault is None:
        if not model.has_areas:
            raise UserError(
                f"{model_path} has no areas, and there is no site here",
                hint="name a site with --site DIR, or a model that has areas with --arrivals FILE",
            )
        scenario = _of_model(model, policy, wish)
        told: tuple[str, ...] = (f"areas, arrivals and machines of the model {model_path}",)
    else:
        scenario = replace(_of_site(vault, model, policy), days=wish.days, seed=wish.seed)
        told = (f"areas and tiers of the site {folder}", f"arrivals and machines of {model_path or 'the usual model'}")
    scenario = replace(scenario, areas=_chosen(scenario.areas, wish))
    if wish.fill is not None:
        scenario = replace(scenario, scans=(), make_up_scans=True)
    return Prepared(scenario, (f"policy {policy_path}", *told))


def _read_policy(folder: Path, name: str) -> tuple[Policy, str]:
    path = Path(name)
    if not (path.suffix in (".yaml", ".yml") or "/" in name):
        found = find_policy(folder, name)
        if found is None:
            known = sorted({p.stem for p in [*(folder / POLICIES).glob("*.yaml"), *shipped_policies().glob("*.yaml")]})
            raise UserError(f"there is no policy {name!r}", hint=f"a file, or one of: {', '.join(known)}")
        path = found
    return parse_policy(_read_text(path), str(path), None), str(path)


def _read_model(folder: Path, wish: Wish, policy: str, *, on_site: bool) -> tuple[Model, str]:
    """The model that was named, else that of the policy; else, where there is no site, the one that has areas."""
    if wish.model is not None:
        return parse_model(_read_text(wish.model), str(wish.model)), str(wish.model)
    for name in (policy, *([] if on_site else [USUAL_MODEL])):
        for place in (folder / POLICIES, shipped_policies()):
            path = place / MODELS / f"{name}.yaml"
            if path.is_file():
                return parse_model(_read_text(path), str(path)), str(path)
    return parse_model("{}", "no file"), ""


def _read_text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except OSError as problem:
        raise UserError(f"{path}: {problem.strerror}") from problem
    except UnicodeDecodeError as problem:
        raise UserError(f"{path}: is not UTF-8 text (byte {problem.start})") from problem


def _of_model(model: Model, policy: Policy, wish: Wish) -> Scenario:
    scenario = _with_model(Scenario({}, days=wish.days, seed=wish.seed), model)
    if model.quarantine is not None:
        scenario = _with_quarantine(scenario, *model.quarantine)
    return replace(scenario, areas=model.areas(policy), tapes=model.tapes)


def _of_site(vault: Vault, model: Model, policy: Policy) -> Scenario:
    site, now = vault.site, datetime.now(UTC)
    scenario = replace(
        _with_model(Scenario({}), model),
        start=now,
        tapes=tuple(_tapes(site, model)),
        machines=_machines(site, model.machines),
        hold=timedelta(seconds=site.quarantine.hold_s),
        quarantine_share=site.quarantine.limit_share,
        quarantine_bytes=site.quarantine.limit_bytes,
        pin=timedelta(seconds=site.restore.pin_s),
        quiet=timedelta(seconds=site.watch.quiet_s),
        keep_after=timedelta(seconds=site.watch.keep_after_s),
    )
    with vault.catalogue.reading() as tx:
        areas = {name: _area(vault, tx, name, model, policy, now) for name in site.areas}
        scans = tuple(walk_scans(tx, list(areas)))
    return replace(scenario, areas=areas, scans=scans, make_up_scans=False)


def _area(vault: Vault, tx: object, name: str, model: Model, policy: Policy, now: datetime) -> AreaPlan:
    facts, conf = vault.area_facts(tx, name, now), vault.site.areas[name]
    return AreaPlan(
        name=name,
        quota=facts.quota_bytes,
        policy=policy,
        start_bytes=facts.used_bytes,
        share=model.shares.get(name, 0.0 if model.shares else facts.quota_bytes / 1e12),
        tier_class=facts.tier_class,
        high=conf.high,
        low=conf.low,
        prune=conf.prune,
        floor_bytes=conf.floor,
        beamline=conf.beamline,
        warn=facts.warn,
        prices=facts.prices,
    )


def _tapes(site: Site, model: Model) -> list[TapePlan]:
    """The archive tiers of a site; the emulated library counts on a simulated site only (law 4)."""
    tapes = []
    for name, tier in site.tiers.items():
        if tier.tier_class is not TierClass.ARCHIVE:
            continue
        emulated = tier.kind == "emulated_library"
        pools = tier.options.get("pools") if tier.kind == "tape_library" else None
        letters = _LETTERS[: int(tier.options.get("copies", 2))] if emulated else tuple(sorted(pools or ()))
        domains = tuple(f"{name}:{letter}" for letter in letters) or (name,)
        tapes.append(TapePlan(name, domains, counts=site.simulated or not emulated, forgets_s=model.keeps_s))
    return tapes


def _machines(site: Site, machines: Machines) -> Machines:
    drives = [int(t.options["drives"]) for t in site.tiers.values() if "drives" in t.options]
    drives += [len(t.options["devices"]) for t in site.tiers.values() if t.kind == "tape_library"]
    return replace(machines, drives=sum(drives)) if drives else machines


def _with_model(scenario: Scenario, model: Model) -> Scenario:
    return replace(scenario, arrivals=model.arrivals, machines=model.machines, people=model.people, losses=model.losses)


def _with_quarantine(scenario: Scenario, hold: timedelta, limit: float | int) -> Scenario:
    share, size = (limit, None) if isinstance(limit, float) else (None, limit)
    return replace(scenario, hold=hold, quarantine_share=share, quarantine_bytes=size)


def _chosen(areas: Mapping[str, AreaPlan], wish: Wish) -> dict[str, AreaPlan]:
    """The areas that were asked for, filled and switched as they were asked to be. Raises UserError."""
    fill = wish.fill or {}
    _require_known([*wish.areas, *(name for name in fill if name)], areas)
    chosen = {name: area for name, area in areas.items() if not wish.areas or name in wish.areas}
    if not chosen:
        raise UserError("there is no area to simulate", hint="tomovault area add NAME=PATH adds one")
    for name, area in chosen.items():
        share = fill.get(name, fill.get(""))
        if share is not None:
            area = replace(area, start_bytes=int(share * area.quota))
        if wish.prune is not None:
            area = replace(area, prune=wish.prune)
        chosen[name] = area
    return chosen


def _require_known(names: Sequence[str], areas: Mapping[str, AreaPlan]) -> None:
    for name in names:
        if name not in areas:
            raise UserError(f"there is no area {name!r}", hint=f"one of: {', '.join(areas)}")
