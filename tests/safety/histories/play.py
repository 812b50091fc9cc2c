"""Playing histories: one that is written, or as many by chance as are wanted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from .events import History
from .laws import Laws

#: So many times a daemon may have more to do than it does in some hundred turns, before it comes to rest.
_MOST_BUSY = 4

Happening = tuple[str, int, int]
Begin = Callable[..., AbstractContextManager[History]]


def play(history: History, happenings: Iterable[Happening]) -> Laws:
    """The laws, after they looked on at all that happens."""
    laws = history.laws = Laws(history)
    for name, a, b in happenings:
        getattr(history, name)(a, b)
        laws.after_event()
    come_to_rest(history, laws)
    return laws


def come_to_rest(history: History, laws: Laws, looks: int = 3) -> None:
    """When nothing more happens the daemon does what is due, and then nothing, however often it looks at every scan."""
    history.ground.fault = ""
    known, busy = None, 0
    for _ in range(20):
        history.pass_time(600.0)
        busy += not look_at_all(history)
        laws.demand("rest", busy < _MOST_BUSY, "it is never idle")
        laws.after_turn(whole=False)
        if known == laws.jobs.keys():
            break
        known = set(laws.jobs)
    for _ in range(looks):
        look_at_all(history)
    laws.after_event()
    new = [(j.action, j.status, j.error) for j in laws.rows["job"] if j.id not in (known or ())]
    laws.demand("rest", not new, new)


def look_at_all(history: History) -> bool:
    """The daemon looked at every scan once more, whatever it thinks to be worth it; whether it was idle then."""
    with history.catalogue.writing() as tx:
        for scan in history.catalogue.list_scans(tx):
            history.catalogue.set_next_due(tx, scan.id, history.clock.wall)
    return history.live(3)


def live_through(
    begin: Begin, count: int, often: Mapping[str, int], *, shrink: bool = True, **how: Any
) -> Counter[str]:
    """So many histories by chance, in which each event happens so `often`; returns how often each law was asked.

    `how` they begin is asked anew for each.
    """
    asked: Counter[str] = Counter()
    names = [name for name, number in often.items() for _ in range(number)]
    events = st.tuples(st.sampled_from(names), st.integers(0, 7), st.integers(0, 7))

    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        derandomize=True,
        phases=(Phase.generate, *([Phase.shrink] if shrink else [])),
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(events, min_size=15, max_size=60))
    def live(happenings: list[Happening]) -> None:
        with begin(**{name: value() for name, value in how.items()}) as history:
            asked.update(play(history, happenings).count)

    live()
    return asked
