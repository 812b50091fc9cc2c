"""What a beamline writes: beam times and their scans, the same for the same seed, with a policy and without."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random

from tomovault.core.known import KnownScan
from tomovault.core.scan import Certificate, Condition, Verdict
from tomovault.simulation.scenario import AreaPlan, Arrivals, ScanKind, Scenario


@dataclass(frozen=True)
class BeamTime:
    """A proposal writes to an area from `begin_s` to `end_s`, in seconds from the start."""

    area: str
    proposal: str
    begin_s: float
    end_s: float


@dataclass(frozen=True)
class Written:
    """A scan whose last byte was written `at_s` seconds after the start (before it, where negative)."""

    at_s: float
    area: str
    proposal: str
    kind: ScanKind
    number: int


def beam_times(scenario: Scenario) -> Iterator[BeamTime]:
    """Beam times without a gap until the end; the area whose share lags behind most gets the next one."""
    random = Random(f"{scenario.seed} beam times")
    weights = _weights(scenario)
    given = dict.fromkeys(weights, 0.0)
    begin, number = 0.0, 0
    while weights and begin < scenario.end_s:
        number += 1
        length = random.uniform(scenario.arrivals.shortest_s, scenario.arrivals.longest_s)
        lag = {
            name: weight * (begin + length) - given[name] + random.uniform(0.0, length)
            for name, weight in weights.items()
        }
        area = max(lag, key=lambda name: (lag[name], name))
        given[area] += length
        yield BeamTime(area, f"ma{number:04d}", begin, begin + length)
        begin += length


def scans_written(scenario: Scenario) -> Iterator[Written]:
    """Every scan that is written from the start to the end, in the order of time.

    The pace is `bytes_per_day`, so a scan takes as long as its bytes; it belongs to the beam time in which it begins.
    """
    arrivals, number = scenario.arrivals, 0
    random = Random(f"{scenario.seed} scans")
    at_s = 0.0
    for beam_time in beam_times(scenario):
        while arrivals.bytes_per_day > 0 and at_s < beam_time.end_s:
            kind = _kind(random, arrivals)
            at_s += kind.size / arrivals.bytes_per_day * 86400.0
            if at_s >= scenario.end_s:
                return
            number += 1
            yield Written(at_s, beam_time.area, beam_time.proposal, kind, number)


def scans_before(scenario: Scenario, area: AreaPlan, bytes_there: int) -> list[Written]:
    """Scans that fill so many bytes of an area at the start, oldest first; what is left is less than the least scan."""
    random = Random(f"{scenario.seed} before {area.name}")
    kinds: list[ScanKind] = []
    left = bytes_there
    while fitting := [kind for kind in scenario.arrivals.kinds if kind.size <= left]:
        kind = random.choices(fitting, [k.weight for k in fitting])[0]
        kinds.append(kind)
        left -= kind.size
    step = scenario.arrivals.start_age_s / max(1, len(kinds))
    return [
        Written(-(len(kinds) - place) * step, area.name, f"{area.name}-before", kind, place + 1)
        for place, kind in enumerate(kinds)
    ]


def known_scan(written: Written, start: datetime, beamline: str | None) -> KnownScan:
    """The scan as it is known when it was seen: its files are there, and still settling."""
    name = f"{written.proposal}_{written.number:05d}"
    at = start + timedelta(seconds=written.at_s)
    kind = written.kind
    return KnownScan(
        id=name,
        name=name,
        root=f"/{written.area}/{name}",
        area=written.area,
        format="edf",
        entry="",
        identity=name,
        certificate=Certificate(Verdict.COMPLETE),
        settled=False,
        first_seen_at=at,
        changed_at=at,
        acquired_at=at,
        bytes=kind.size,
        files=kind.files,
        beamline=beamline,
        proposal=written.proposal,
        conditions={
            "frame_width": Condition(kind.width, "px", "model"),
            "frame_height": Condition(kind.height, "px", "model"),
            "n_projections": Condition(kind.files, None, "model"),
        },
    )


def _kind(random: Random, arrivals: Arrivals) -> ScanKind:
    return random.choices(arrivals.kinds, [kind.weight for kind in arrivals.kinds])[0]


def _weights(scenario: Scenario) -> dict[str, float]:
    total = sum(area.share for area in scenario.areas.values())
    return {name: area.share / total for name, area in scenario.areas.items() if total > 0 and area.share > 0}
