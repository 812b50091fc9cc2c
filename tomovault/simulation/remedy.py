"""What would bring every area below its high mark: changes are tried one upon another, in a simulation each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta

from tomovault.policy.quantity import show_duration, show_percent, show_size
from tomovault.simulation.model import Run, simulate
from tomovault.simulation.outcome import is_met
from tomovault.simulation.scenario import Scenario

#: No more simulations than this are made in the search.
_TRIALS = 6

#: What is tried at the least: people must have time to take a removal back, and the acquisition room to go on.
_SHORTEST_HOLD, _LEAST_FLOOR = timedelta(hours=12), 10**10


@dataclass(frozen=True)
class Remedy:
    """Changes that were tried together, and how it ended with them."""

    changes: tuple[str, ...]
    run: Run
    met: bool


def find_remedy(run: Run, progress: Callable[[str, int, int], None] = lambda _w, _d, _n: None) -> Remedy | None:
    """The first changes, one upon another, with which the demand is met, or all that were tried; None where nothing
    can be changed.
    """
    changes: list[str] = []
    scenario = run.scenario
    for _ in range(_TRIALS):
        found = next((pair for pair in _candidates(run) if pair[1] != scenario), None)
        if found is None:
            break
        text, scenario = found
        changes.append(text)
        run = simulate(scenario, lambda day, days, text=text: progress(f"trying: {text}", day, days))  # type: ignore[misc]
        if is_met(run):
            return Remedy(tuple(changes), run, met=True)
    return Remedy(tuple(changes), run, met=False) if changes else None


def _candidates(run: Run) -> Iterator[tuple[str, Scenario]]:
    """A change for what held the areas back, the worst first; then what gives more room in any case."""
    scenario = run.scenario
    if any(not area.prune for area in scenario.areas.values()):
        yield "`prune: on`", _with_areas(scenario, prune=True)
    causes: Counter[str] = Counter()
    for book in run.ledger.areas.values():
        causes.update(book.above_causes)
    for cause, _ in causes.most_common():
        yield from _against(cause, run)
    yield from _against("quarantine", run)
    if any(area.high > 0.5 for area in scenario.areas.values()):
        yield "marks 15 points lower", _with_marks(scenario, -0.15)
    yield "a quarter more disk in every area", _with_disk(scenario, 1.25)


def _against(cause: str, run: Run) -> Iterator[tuple[str, Scenario]]:
    scenario, machines = run.scenario, run.scenario.machines
    if cause == "quarantine" and scenario.hold > _SHORTEST_HOLD:
        hold = max(_SHORTEST_HOLD, scenario.hold / 4)
        yield f"`quarantine: hold` of {show_duration(hold)}", replace(scenario, hold=hold)
    if cause == "quarantine" and scenario.quarantine_bytes is None and (scenario.quarantine_share or 0.0) < 0.5:
        yield f"`quarantine: limit` of {show_percent(0.5)}", replace(scenario, quarantine_share=0.5)
    if cause == "room" and any(area.floor_bytes > _LEAST_FLOOR for area in scenario.areas.values()):
        yield f"`floor` of {show_size(_LEAST_FLOOR)}", _with_floor(scenario)
    if cause == "packing" and run.works.packing.busy_s > 0.5 * scenario.end_s:
        faster = replace(
            machines, pack_bps=2 * machines.pack_bps, pack_bps_while_written=2 * machines.pack_bps_while_written
        )
        yield "packing twice as fast", replace(scenario, machines=faster)
    if cause == "drives" and run.works.drives.busy_s > 0.5 * scenario.end_s * machines.drives:
        yield f"{2 * machines.drives} drives", replace(scenario, machines=replace(machines, drives=2 * machines.drives))


def _with_floor(scenario: Scenario) -> Scenario:
    areas = {
        name: replace(area, floor_bytes=min(area.floor_bytes, _LEAST_FLOOR)) for name, area in scenario.areas.items()
    }
    return replace(scenario, areas=areas)


def _with_areas(scenario: Scenario, **changes: bool) -> Scenario:
    return replace(scenario, areas={name: replace(area, **changes) for name, area in scenario.areas.items()})  # type: ignore[arg-type]


def _with_marks(scenario: Scenario, points: float) -> Scenario:
    areas = {
        name: replace(area, high=max(0.2, area.high + points), low=max(0.1, area.low + points))
        for name, area in scenario.areas.items()
    }
    return replace(scenario, areas=areas)


def _with_disk(scenario: Scenario, times: float) -> Scenario:
    areas = {name: replace(area, quota=int(area.quota * times)) for name, area in scenario.areas.items()}
    return replace(scenario, areas=areas)
