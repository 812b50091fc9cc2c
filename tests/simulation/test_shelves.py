"""What may go is known from one look to the next; a look that begins anew must find the same."""

from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tomovault.policy.document import parse_policy
from tomovault.simulation import removing
from tomovault.simulation.model import simulate
from tomovault.simulation.scenario import DAY_S, Arrivals, Loss, People, ScanKind, TapePlan
from tomovault.simulation.shelves import Shelves

GB = 10**9


class Compared(Shelves):
    """Each look is compared with that of another that knew nothing before."""

    looks = 0

    def __init__(self, areas, world, judge):
        super().__init__(areas, world, judge)
        self._of = (list(areas), world, judge)

    def look(self, area, facts, now):
        super().look(area, facts, now)
        anew = Shelves(*self._of)
        world = self._of[1]
        held, world.unweighed[area] = world.unweighed[area], dict.fromkeys(world.scans)
        Shelves.look(anew, area, facts, now)
        world.unweighed[area] = held
        mine, theirs = ([(c.replica, rule.name) for c, rule in s.choices(area)] for s in (self, anew))
        assert mine == theirs
        assert Counter(self.kept(area)) == Counter(anew.kept(area))
        Compared.looks += 1


CONDITIONS = ("archived", "packed", "age > 2d", "usage > high", "usage > 55%", "replicas(tape) >= 2", "size > 3GB")


@given(
    rules=st.lists(
        st.tuples(
            st.lists(st.sampled_from(CONDITIONS), min_size=1, max_size=3, unique=True),
            st.sampled_from(["[files]", "[package]", "[files, package]"]),
            st.sampled_from(["oldest", "largest"]),
        ),
        min_size=1,
        max_size=3,
    ),
    losses=st.lists(st.tuples(st.floats(0, 15), st.sampled_from(["tape:A", "tape:B"])), max_size=2),
    hold=st.integers(0, 3),
    seed=st.integers(0, 3),
)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_look_that_goes_on_finds_what_one_that_begins_anew_finds(scenario, rules, losses, hold, seed):
    text = "name: r\nversion: 1\nrules:\n  - {name: pack, do: pack}\n  - {name: archive, when: packed, do: archive}\n"
    for at, (conditions, forms, first) in enumerate(rules):
        settings_ = f"{{forms: {forms}, first: {first}}}"
        text += f"  - {{name: p{at}, when: {' and '.join(conditions)}, do: prune, with: {settings_}}}\n"
    wish = scenario(
        parse_policy(text, "r.yaml"),
        areas={"a": {"high": 0.6, "low": 0.3, "start_bytes": 40 * GB}, "b": {"high": 0.3, "low": 0.1}},
        arrivals=Arrivals(25.0 * GB, DAY_S, 2 * DAY_S, (ScanKind(2 * GB, 0.5), ScanKind(8 * GB, 0.5)), 30 * DAY_S),
        people=People(recalls_per_day=1.0, recall_age_s=5 * DAY_S),
        tapes=(TapePlan("tape", ("tape:A", "tape:B", "tape:C")),),
        losses=tuple(Loss(day, domain) for day, domain in losses),
        hold=timedelta(days=hold),
        pin=timedelta(days=1),
        days=10,
        seed=seed,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(removing, "Shelves", Compared)
        simulate(wish)


def test_something_was_compared(scenario, monkeypatch):
    monkeypatch.setattr(removing, "Shelves", Compared)
    before = Compared.looks
    simulate(replace(scenario(), days=12))
    assert Compared.looks > before
