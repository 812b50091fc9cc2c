"""The file of a model: what a beamline writes and what its machines can do, in words. Its areas are optional, since a
site has its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from tomovault.core.replica import TierClass
from tomovault.policy.document import Policy
from tomovault.policy.quantity import parse_percent, parse_size, show_found
from tomovault.policy.yaml_text import Duration, Fault, Percent, Size, Strict, Switch, Whole, Word, parse
from tomovault.simulation.scenario import AreaPlan, Arrivals, Loss, Machines, People, ScanKind, TapePlan

_POOLS = "ABCDEFGHIJ"


def _parse_rate(value: object) -> int:
    return parse_size(value.strip().removesuffix("/s") if isinstance(value, str) else value)


def _parse_many(value: object) -> float:
    """A number, not negative."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1e9:
        return float(value)
    raise ValueError(f"{show_found(value)} is not a number from 0")


def _parse_times(value: object) -> float:
    """A ratio: 61% or 1.5."""
    return parse_percent(value) if isinstance(value, str) else _parse_many(value)


def _parse_limit(value: object) -> float | int:
    if isinstance(value, float) or (isinstance(value, str) and value.strip().endswith("%")):
        return parse_percent(value)
    return parse_size(value)


Rate = Annotated[int, BeforeValidator(_parse_rate), Field(gt=0)]
Number = Annotated[float, BeforeValidator(_parse_many)]
Times = Annotated[float, BeforeValidator(_parse_times)]
Limit = Annotated[float | int, BeforeValidator(_parse_limit)]


class _Area(Strict):
    quota: Size = Field(gt=0)
    fill: Percent = 0.0
    share: Number | None = None
    tier_class: Literal["fast", "server"] = Field(default="server", alias="class")
    high: Percent = 0.85
    low: Percent = 0.75
    prune: Switch = False
    floor: Size | None = None
    beamline: Word | None = None


class _Kind(Strict):
    size: Size = Field(gt=0)
    of: Percent
    files: Whole = Field(default=2000, ge=1)
    frame: tuple[int, int] = (2048, 2048)


class _BeamTimes(Strict):
    shortest: Duration = timedelta(days=1)
    longest: Duration = timedelta(days=4)


class _Arrivals(Strict):
    per_day: Size = 10**12
    beam_times: _BeamTimes = _BeamTimes()
    scans: tuple[_Kind, ...] = ()
    shares: Mapping[Word, Number] = Field(default_factory=dict)
    before: Duration = timedelta(days=180)


class _Tape(Strict):
    copies: Whole = Field(default=2, ge=1, le=len(_POOLS))
    drives: Whole = Field(default=2, ge=1, le=64)
    rate: Rate = 300 * 10**6
    mount: Duration = timedelta(seconds=98)
    rewind: Duration = timedelta(seconds=59)
    cartridge: Size = Field(default=18 * 10**12, gt=0)
    keeps: Duration | None = None


class _Work(Strict):
    pack: Rate = 167 * 10**6
    pack_while_written: Rate = 45 * 10**6
    package: Times = 0.61
    move: Rate = 300 * 10**6
    reread: Rate = 200 * 10**6
    reconstruct: Rate = 20 * 10**6
    volume: Times = 1.0


class _People(Strict):
    recalls_per_day: Number = 2.0
    of_age: Duration = timedelta(days=30)
    accept: Percent = 0.9
    accept_after: Duration = timedelta(days=7)


class _Loss(Strict):
    day: Number
    pool: Word


class _Quarantine(Strict):
    hold: Duration = timedelta(days=14)
    limit: Limit = 0.25


class ModelFile(Strict):
    """A model as it is written."""

    description: str = ""
    areas: Mapping[Word, _Area] = Field(default_factory=dict)
    quarantine: _Quarantine | None = None
    tape: _Tape = _Tape()
    work: _Work = _Work()
    arrivals: _Arrivals = _Arrivals()
    people: _People = _People()
    losses: tuple[_Loss, ...] = ()


@dataclass(frozen=True)
class Model:
    """A model's file, read. Without `areas` it is for a site; `tapes` are for a model that has areas of its own."""

    description: str
    arrivals: Arrivals
    machines: Machines
    people: People
    losses: tuple[Loss, ...]
    tapes: tuple[TapePlan, ...]
    keeps_s: float | None
    quarantine: tuple[timedelta, float | int] | None
    shares: Mapping[str, float]
    _areas: Mapping[str, _Area]

    @property
    def has_areas(self) -> bool:
        """Whether it says which areas there are."""
        return bool(self._areas)

    def areas(self, policy: Policy) -> dict[str, AreaPlan]:
        """The areas of the model, all under one policy."""
        return {name: _area(name, area, policy, self.shares) for name, area in self._areas.items()}


def parse_model(text: str, file_name: str) -> Model:
    """The model that a text describes. Raises UserError with every problem and its place."""
    plain = parse(text, file_name, ModelFile, _check)
    arrivals, work, tape = plain.arrivals, plain.work, plain.tape
    kinds = tuple(ScanKind(k.size, k.of, k.files, *k.frame) for k in arrivals.scans) or Arrivals().kinds
    keeps_s = None if tape.keeps is None else tape.keeps.total_seconds()
    domains = tuple(f"tape:{pool}" for pool in _POOLS[: tape.copies])
    return Model(
        description=plain.description,
        arrivals=Arrivals(
            float(arrivals.per_day),
            arrivals.beam_times.shortest.total_seconds(),
            arrivals.beam_times.longest.total_seconds(),
            kinds,
            arrivals.before.total_seconds(),
        ),
        machines=Machines(
            pack_bps=work.pack,
            pack_bps_while_written=work.pack_while_written,
            package_share=work.package,
            drives=tape.drives,
            drive_bps=tape.rate,
            mount_s=tape.mount.total_seconds(),
            rewind_s=tape.rewind.total_seconds(),
            move_bps=work.move,
            reread_bps=work.reread,
            reconstruct_bps=work.reconstruct,
            volume_share=work.volume,
        ),
        people=People(
            plain.people.recalls_per_day,
            max(1.0, plain.people.of_age.total_seconds()),
            plain.people.accept,
            plain.people.accept_after.total_seconds(),
        ),
        losses=tuple(Loss(loss.day, f"tape:{loss.pool}") for loss in plain.losses),
        tapes=(TapePlan("tape", domains, cartridge_bytes=tape.cartridge, forgets_s=keeps_s),),
        keeps_s=keeps_s,
        quarantine=None if plain.quarantine is None else (plain.quarantine.hold, plain.quarantine.limit),
        shares=arrivals.shares,
        _areas=plain.areas,
    )


def _check(model: ModelFile) -> Iterator[Fault]:
    times, total = model.arrivals.beam_times, sum(kind.of for kind in model.arrivals.scans)
    if not timedelta(0) < times.shortest <= times.longest:
        yield Fault("the shortest beam time is longer than the longest, or no time at all", ("arrivals", "beam_times"))
    if model.arrivals.scans and not 0.99 <= total <= 1.01:
        yield Fault(f"the kinds of scans make {total:.1%} of all scans, not 100%", ("arrivals", "scans"))
    for name, area in model.areas.items():
        if not area.low < area.high:
            yield Fault("the low watermark must be below the high one", ("areas", name, "low"))
    for name in model.arrivals.shares:
        if model.areas and name not in model.areas:
            yield Fault(f"there is no area {name!r}", ("arrivals", "shares", name), at_key=True)
    pools = _POOLS[: model.tape.copies]
    for at, loss in enumerate(model.losses):
        if loss.pool not in pools:
            yield Fault(f"the tape has the pools {', '.join(pools)}", ("losses", at, "pool"))


def _area(name: str, area: _Area, policy: Policy, shares: Mapping[str, float]) -> AreaPlan:
    floor = area.floor if area.floor is not None else min(max(area.quota // 100, 10**9), area.quota // 10)
    share = area.share if area.share is not None else shares.get(name, area.quota / 1e12)
    return AreaPlan(
        name=name,
        quota=area.quota,
        policy=policy,
        start_bytes=int(area.fill * area.quota),
        share=share,
        tier_class=TierClass(area.tier_class),
        high=area.high,
        low=area.low,
        prune=area.prune,
        floor_bytes=floor,
        beamline=area.beamline,
    )
