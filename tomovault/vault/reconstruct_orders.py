"""Orders of what an engine makes: by a preset that a rule or a person names, or as an earlier run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tomovault.catalog.runs import Run, find_run
from tomovault.core.errors import Refused, UserError
from tomovault.core.known import KnownScan, frames_lacking
from tomovault.core.life import Stage, lacking
from tomovault.policy.decide import forbidden
from tomovault.policy.document import Settings
from tomovault.policy.matching import Asks
from tomovault.policy.preset import EMBEDDED, plain_parameters
from tomovault.vault.preset_files import find_preset
from tomovault.vault.requests import Request

#: Keys of a stored run that say what became of it, and are no parameters of the engine.
_TOLD = frozenset({"purpose", "cast", "slice_row", "preset", "like", "anew"})

_DTYPES = {"float32", "uint16", "uint8"}


@dataclass(frozen=True)
class Wanted:
    """What an engine is to be given: wishes to `parameters`, or the `resolved` parameters of an earlier run; as what
    the values are stored; and what is `told` of it in the processing's row.
    """

    parameters: Mapping[str, Any] = field(default_factory=dict)
    resolved: Mapping[str, Any] | None = None
    dtype: str = Settings().dtype
    told: Mapping[str, Any] = field(default_factory=dict)


def wanted_of(request: Request) -> Wanted:
    """What a person or a rule wants of the volume of a scan.

    Raises UserError for a preset or a run that there is not, or that is for another engine; Refused where LIFE or a
    rule does not allow what a person asked for.
    """
    wish = request.wish
    if "stage" not in wish:
        _require_allowed(request)
    asks = _asks(request)
    rule = asks.rules.get("reconstruct")
    dtype = rule.settings.dtype if rule is not None else Settings().dtype
    if wish.get("like"):
        return _like(request, str(wish["like"]))
    name = wish.get("preset") or asks.presets.get("reconstruct")
    parameters, told = preset_of(request, name)
    return Wanted({**parameters, **wish.get("parameters", {})}, None, dtype, told)


def preset_by_rule(request: Request, do: str) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """As `preset_of`, of the preset that the rules name for a scan."""
    return preset_of(request, _asks(request).presets.get(do))


def preset_of(request: Request, name: str | None) -> tuple[dict[str, Any], Mapping[str, Any]]:
    """The parameters of a preset for a scan, and by which name and version it is told; nothing where none is named.

    One that stands in the policy comes before a file of the same name. Raises UserError for one that there is not.
    """
    if name is None:
        return {}, {}
    vault, scan = request.vault, request.scan
    policy = vault.policy_of(scan.area)
    if name in policy.presets:
        told = {"name": name, "version": policy.version, "of": f"policy {policy.name}"}
        return plain_parameters(policy.presets[name], vault.site.engine.kind), {"preset": told}
    preset = find_preset(vault.site.folder, name, policy.presets)
    if preset.engine != vault.site.engine.kind:
        raise UserError(
            f"the preset {name!r} is for the engine {preset.engine}, and this site has {vault.site.engine.kind}"
        )
    told = {"name": name, "version": preset.version, "of": "presets"}
    return preset.parameters_for(scan.beamline, scan.format, _is_half(scan)), {"preset": told}


def _is_half(scan: KnownScan) -> bool | None:
    """Whether a scan saw one side of the axis at a time, by what its metadata say; None where they say nothing."""
    found = scan.metadata.get("field_of_view")
    return str(found).lower() == "half" if found else None


def _like(request: Request, run_id: str) -> Wanted:
    run = find_run(request.tx, run_id)
    if run is None:
        raise UserError(f"no processing is known as {run_id!r}{_runs_of(request.scan)}")
    kind = request.vault.site.engine.kind
    if run.processing.engine != kind:
        raise UserError(f"the run {run_id} was made by the engine {run.processing.engine}, and this site has {kind}")
    stored = dict(run.processing.parameters)
    cast = stored.get("cast")
    dtype = str(cast["dtype"]) if isinstance(cast, Mapping) and cast.get("dtype") in _DTYPES else Settings().dtype
    told: dict[str, Any] = {"like": run_id}
    if "preset" in stored:
        told["preset"] = stored["preset"]
    resolved = {key: value for key, value in stored.items() if key not in _TOLD}
    if "slice_row" in stored:
        # That of a preview: the same parameters for every row.
        resolved.pop("rows", None)
    return Wanted({}, resolved, dtype, told)


def _runs_of(scan: KnownScan) -> str:
    found = [key for key, _run in scan.processings]
    return f"; of {scan.name} there are: {', '.join(found)}" if found else f"; {scan.name} has none"


def anew_for(scan: KnownScan, run: Run) -> Mapping[str, str]:
    """What a run of another scan does not give to this one, and why; nothing for a run of the scan itself."""
    if run.scan == scan.id:
        return {}
    why = "it belongs to the other scan, and is found anew in this one"
    return dict.fromkeys(("centre", "angles", "projections", "flats", "darks", "rows", "size", "taper"), why)


def _require_allowed(request: Request) -> None:
    """Raises Refused where LIFE, a rule or what is known of the scan does not allow what a person asked for."""
    vault, scan = request.vault, request.scan
    area = vault.area_facts(request.tx, scan.area, request.now)
    view = vault.view(scan, area, request.now)
    missing = lacking(Stage.RECONSTRUCTED, view.facts)
    if missing:
        raise Refused(
            f"{scan.name} cannot be reconstructed yet: it is not {' and not '.join(missing)}",
            by="life: reconstructed needs packed, and packed needs complete",
            hint=f"tomovault explain {scan.id}",
        )
    rule = forbidden(scan, vault.policy_of(scan.area), area, request.now).get(Stage.RECONSTRUCTED)
    if rule:
        raise Refused(f"{scan.name} must not be reconstructed now", by=rule.removeprefix("forbidden by "))
    if isinstance(reason := scan.metadata.get("no_reconstruction"), str):
        raise Refused(f"{scan.name} is never reconstructed: {reason}", by="its format")
    if why := frames_lacking(scan):
        raise Refused(f"{scan.name} cannot be reconstructed now: {why}", by="no frames")


def _asks(request: Request) -> Asks:
    area = request.vault.area_facts(request.tx, request.scan.area, request.now)
    return request.vault.asks(request.scan, area, request.now)


__all__ = ["EMBEDDED", "Wanted", "anew_for", "preset_by_rule", "preset_of", "wanted_of"]
