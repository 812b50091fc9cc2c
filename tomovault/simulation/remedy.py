"""What would bring every area below its high mark: settings that held it back, tried one upon another, then more disk:
so much as the rules would fill that let everything go as soon as they may, and about that. No more simulations than
`MOST_TRIALS` are made for it, and in each small scans come several at a time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from tomovault.policy.quantity import show_duration, show_percent, show_size
from tomovault.simulation.ledger import Ledger
from tomovault.simulation.model import Run, simulate
from tomovault.simulation.outcome import below_from, is_met
from tomovault.simulation.scenario import DAY_S, ScanKind, Scenario

#: So many simulations with other settings, and so many with more disk, are made at the most.
_TRIALS_OF_SETTINGS, _TRIALS_OF_DISK = 3, 4
MOST_TRIALS = _TRIALS_OF_SETTINGS + _TRIALS_OF_DISK

#: No more than so many times the disk is tried. What is enough is known to within a tenth.
_MOST_DISK, _LESS, _MORE, _CLOSE_ENOUGH = 16.0, 0.91, 1.25, 1.1

#: In a trial scans come together until they are so large a share of the smallest area.
_BATCH = 0.02

#: A trial is given up where an area is above its mark, or a scan has no room, after so many days.
_SETTLED_BY = 30

#: What is tried at the least: people must have time to take a removal back, and the acquisition room to go on.
_SHORTEST_HOLD, _LEAST_FLOOR = timedelta(hours=12), 10**10

#: Where these hold most of it back, the rules keep what is there, and no mark makes them let it go.
_KEPT_BY_RULES = ("policy", "copies", "pins")

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Remedy:
    """How the search ended. Where it was `met`, `run` is a whole simulation with the `changes`, else None.

    `disk` and `too_little_disk` are bytes of all areas together: the least that was enough, and the most that was not;
    None where that was not tried.
    """

    changes: tuple[str, ...]
    run: Run | None
    trials: int
    disk: int | None = None
    too_little_disk: int | None = None

    @property
    def met(self) -> bool:
        """Whether something was enough."""
        return self.run is not None


def find_remedy(run: Run, progress: Progress = lambda _w, _d, _n: None) -> Remedy:
    """Changes with which the demand is met from a day of the first month on, or the disk that is too little still."""
    search = _Search(run.scenario, progress)
    return search.with_settings(run) or search.with_disk()


def remedy_page(remedy: Remedy, run: Run) -> dict[str, Any]:
    """How the search ended, as plain values."""
    day, unmet = None, sum(book.unmet for book in run.ledger.areas.values())
    if remedy.run is not None:
        books = remedy.run.ledger.areas.values()
        day = max((below_from(book, run.scenario.days) or 0 for book in books), default=0)
        unmet = sum(book.unmet for book in books)
    return {
        "met": remedy.met,
        "changes": list(remedy.changes),
        "below_high_from_day": day,
        "unmet_bytes": unmet,
        "disk_bytes": remedy.disk,
        "too_little_disk_bytes": remedy.too_little_disk,
        "trials": remedy.trials,
        "most_trials": MOST_TRIALS,
    }


class _Search:
    def __init__(self, scenario: Scenario, progress: Progress) -> None:
        self._scenario, self._progress = scenario, progress
        self._changes: tuple[str, ...] = ()
        self._trials = 0

    def with_settings(self, run: Run) -> Remedy | None:
        """What held the areas back is changed, one cause upon another; None where that is not enough."""
        for _ in range(_TRIALS_OF_SETTINGS):
            found = next((pair for pair in _candidates(run) if pair[1] != self._scenario), None)
            if found is None:
                return None
            text, self._scenario = found
            self._changes += (text,)
            run = self._try(text, self._scenario)
            if is_met(run):
                return Remedy(self._changes, run, self._trials)
        return None

    def with_disk(self) -> Remedy:
        """More disk in every area, besides what was changed: as much as is reckoned, then less or more."""
        there = sum(area.quota for area in self._scenario.areas.values())
        times = min(_MOST_DISK, max(_MORE, reckon_disk(self._scenario) / there))
        too_little, enough, best = 1.0, None, None
        for _ in range(_TRIALS_OF_DISK):
            run = self._try(f"{times:.3g} times the disk", _with_disk(self._scenario, times))
            if is_met(run):
                enough, best = times, run
            else:
                too_little = times
            if too_little >= (_MOST_DISK if enough is None else enough / _CLOSE_ENOUGH):
                break
            if enough is None:
                times = min(_MOST_DISK, too_little * _MORE)
            else:
                times = enough * _LESS if too_little == 1.0 else (too_little + enough) / 2
        changes = self._changes if enough is None else (*self._changes, f"{enough:.3g} times the disk")
        disk = None if enough is None else int(enough * there)
        return Remedy(changes, best, self._trials, disk, int(too_little * there))

    def _try(self, text: str, scenario: Scenario) -> Run:
        self._trials += 1
        settled_s = max(1, min(_SETTLED_BY, scenario.days // 2)) * DAY_S
        return simulate(
            in_batches(scenario),
            lambda day, days: self._progress(f"trial {self._trials} of at most {MOST_TRIALS}: {text}", day, days),
            give_up=lambda ledger: _is_late(ledger, settled_s),
        )


def reckon_disk(scenario: Scenario) -> int:
    """The disk of which the tightest area would stand at its high mark with all that the rules keep: from a simulation
    of one scan a day in an area without end, from which everything goes as soon as a rule and the laws let it.
    """
    arrivals, first = scenario.arrivals, next(iter(scenario.areas.values()))
    size = max(arrivals.kinds, key=lambda kind: kind.size * kind.weight).size
    area = replace(first, quota=10**18, start_bytes=0, share=1.0, prune=True, floor_bytes=0, high=0.0, low=0.0)
    alone = replace(
        scenario,
        areas={area.name: area},
        arrivals=replace(arrivals, bytes_per_day=float(size)),
        people=replace(scenario.people, recalls_per_day=0.0),
        quarantine_share=1.0,
        quarantine_bytes=None,
        scans=(),
        make_up_scans=False,
    )
    book = simulate(alone).ledger.areas[area.name]
    kept = max(book.highest_kept, default=0.0) * area.quota
    shares = sum(area.share for area in scenario.areas.values())
    written = [area for area in scenario.areas.values() if area.share > 0]
    below = min((area.high * area.quota * shares / area.share for area in written), default=0.0)
    there = sum(area.quota for area in scenario.areas.values())
    return int(kept * arrivals.bytes_per_day / size * there / max(1.0, below))


def in_batches(scenario: Scenario) -> Scenario:
    """The same bytes in fewer scans: small ones come several at a time, as one that is so much larger."""
    most = _BATCH * min(area.quota for area in scenario.areas.values())

    def batch(kind: ScanKind) -> ScanKind:
        count = max(1, int(most // kind.size))
        return replace(kind, size=count * kind.size, weight=kind.weight / count, files=count * kind.files)

    arrivals = scenario.arrivals
    return replace(scenario, arrivals=replace(arrivals, kinds=tuple(batch(kind) for kind in arrivals.kinds)))


def _is_late(ledger: Ledger, settled_s: float) -> bool:
    """Whether an area was above its mark, or a scan had no room, after that moment."""
    return any(max(book.above_s or 0.0, book.last_unmet_s or 0.0) > settled_s for book in ledger.areas.values())


def _candidates(run: Run) -> Iterator[tuple[str, Scenario]]:
    """A change for what held the areas back, the worst first; then lower marks, where the rules would follow them."""
    scenario = run.scenario
    if any(not area.prune for area in scenario.areas.values()):
        yield "`prune: on`", _with_areas(scenario, prune=True)
    causes: Counter[str] = Counter()
    for book in run.ledger.areas.values():
        causes.update(book.above_causes)
    for cause, _ in causes.most_common():
        yield from _against(cause, run)
    if causes and causes.most_common(1)[0][0] in _KEPT_BY_RULES:
        return
    yield from _against("quarantine", run)
    if any(area.high > 0.5 for area in scenario.areas.values()):
        yield "marks 15 points lower", _with_marks(scenario, -0.15)


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
