from dataclasses import replace

import pytest

from tomovault.policy.document import parse_policy
from tomovault.simulation import remedy
from tomovault.simulation.model import simulate
from tomovault.simulation.outcome import is_met
from tomovault.simulation.remedy import MOST_TRIALS, find_remedy, in_batches, reckon_disk, remedy_page
from tomovault.simulation.scenario import DAY_S, Arrivals, ScanKind

GB = 10**9

#: Nothing goes before it is ten days old: at 10 GB a day, and a package of 5 GB beside it, that is 150 GB.
PATIENT = (
    "name: p\nversion: 1\nrules:\n"
    "  - {name: pack, do: pack}\n"
    "  - {name: archive, when: packed, do: archive}\n"
    "  - {name: go, when: archived and usage > high and age > 10d, do: prune, with: {forms: [files, package]}}\n"
)


@pytest.fixture
def days(monkeypatch):
    """The days of each simulation that was made, as they went."""
    lived = []

    def counted(scenario, progress=None, *, give_up=None):
        if progress is None:
            return simulate(scenario)
        lived.append(0)

        def told(day, of):
            lived[-1] = day
            progress(day, of)

        return simulate(scenario, told, give_up=give_up)

    monkeypatch.setattr(remedy, "simulate", counted)
    return lived


def test_a_setting_that_is_enough_is_found_before_any_disk_is_asked_for(scenario, days):
    found = find_remedy(simulate(scenario(areas={"a": {"prune": False}})))
    assert (found.met, found.changes, found.trials) == (True, ("`prune: on`",), 1)
    assert (found.disk, found.too_little_disk) == (None, None)
    assert is_met(found.run)
    assert len(days) == 1


def test_the_disk_that_is_enough_is_halved_to_and_what_is_too_little_is_told(scenario, days):
    """By hand: 150 GB below a high mark of 50 % are 300 GB of disk, and something for what waits for its turn."""
    wish = scenario(parse_policy(PATIENT, "p.yaml"), days=60)
    found = find_remedy(simulate(wish))
    assert found.met
    assert 270 * GB <= found.too_little_disk < found.disk <= 360 * GB
    assert found.disk <= 1.11 * found.too_little_disk
    assert found.changes[-1].endswith("times the disk")
    assert found.trials == len(days) <= 3
    enough, short = (
        simulate(replace(wish, areas={"a": replace(wish.areas["a"], quota=size)}))
        for size in (found.disk, found.too_little_disk)
    )
    assert is_met(enough)
    assert not is_met(short)


def test_the_disk_is_reckoned_from_how_long_the_rules_keep_a_scan(scenario):
    """By hand: ten days of 15 GB, and what came on the day itself, below 50 %."""
    assert reckon_disk(scenario(parse_policy(PATIENT, "p.yaml"), days=60)) == pytest.approx(320 * GB, rel=0.05)


def test_batches_bring_the_same_bytes_in_fewer_scans(scenario):
    kinds = (ScanKind(GB // 4, 0.8), ScanKind(GB, 0.2))
    wish = scenario(arrivals=Arrivals(10.0 * GB, DAY_S, DAY_S, kinds))
    few = in_batches(wish).arrivals.kinds
    assert [(kind.size, kind.weight, kind.files) for kind in few] == [(2 * GB, 0.1, 16_000), (2 * GB, 0.1, 4000)]


def test_a_demand_that_nothing_meets_ends_with_the_most_that_was_too_little(scenario, days):
    wish = scenario(arrivals=Arrivals(10_000.0 * GB, DAY_S, DAY_S, (ScanKind(90 * GB, 1.0),)), days=60)
    run = simulate(wish)
    found = find_remedy(run)
    page = remedy_page(found, run)
    assert not found.met
    assert found.trials == len(days) <= MOST_TRIALS
    assert page["too_little_disk_bytes"] == 1600 * GB
    assert (page["disk_bytes"], page["below_high_from_day"]) == (None, None)
    assert page["unmet_bytes"] > 0


def test_a_trial_is_given_up_once_it_is_late(scenario, days):
    wish = scenario(arrivals=Arrivals(10_000.0 * GB, DAY_S, DAY_S, (ScanKind(90 * GB, 1.0),)), days=300)
    find_remedy(simulate(wish))
    assert max(days) <= 31


def test_marks_are_not_lowered_where_the_rules_keep_what_is_there(scenario, days):
    found = find_remedy(simulate(scenario(parse_policy(PATIENT, "p.yaml"), days=60, quarantine_share=0.5)))
    assert not any("marks" in change for change in found.changes)
