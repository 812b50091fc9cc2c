from itertools import pairwise
from pathlib import Path

import pytest

from tomovault.core.errors import UserError
from tomovault.simulation.arrivals import beam_times, scans_before, scans_written
from tomovault.simulation.model_file import parse_model
from tomovault.simulation.scenario import DAY_S, Scenario

MODELS = Path(__file__).parents[2] / "policies" / "models"

#: Size in TB and fill in percent, as the talk gives them.
TALK = {
    "inhouse": (8, 87),
    "inhouse1": (8, 85),
    "external": (8.5, 83),
    "external1": (6, 89),
    "external2": (6, 82),
    "paleo": (8, 83),
    "lamino": (4, 99),
    "graintracking": (7, 99),
}


@pytest.fixture
def id19(shipped):
    path = MODELS / "esrf-id19.yaml"
    model = parse_model(path.read_text("utf-8"), str(path))
    return Scenario(model.areas(shipped("esrf-id19")), arrivals=model.arrivals, machines=model.machines, days=60)


@pytest.mark.parametrize("path", sorted(MODELS.glob("*.yaml")), ids=lambda p: p.name)
def test_shipped_models_belong_to_a_policy(path):
    assert parse_model(path.read_text("utf-8"), str(path)).has_areas
    assert (MODELS.parent / path.name).is_file()


def test_the_beamline_of_the_talk(id19):
    assert {n: (a.quota / 1e12, round(100 * a.start_bytes / a.quota)) for n, a in id19.areas.items()} == TALK
    assert sum(a.quota for a in id19.areas.values()) == 55_500_000_000_000
    assert (id19.machines.drives, id19.machines.drive_bps) == (2, 300e6)


def test_a_terabyte_a_day_arrives_in_every_area(id19):
    written = list(scans_written(id19))
    total = sum(w.kind.size for w in written)
    assert 57e12 < total <= 60e12
    assert {w.kind.size for w in written} == {16 * 10**9, 64 * 10**9, 10**12}
    assert {w.area for w in written} == set(TALK)


def test_beam_times_follow_each_other_and_keep_to_the_shares(id19):
    times = list(beam_times(id19))
    assert times[0].begin_s == 0.0
    assert all(a.end_s == b.begin_s for a, b in pairwise(times))
    assert all(DAY_S <= t.end_s - t.begin_s <= 3 * DAY_S for t in times)
    given = {name: sum(t.end_s - t.begin_s for t in times if t.area == name) / times[-1].end_s for name in TALK}
    assert all(abs(given[name] - quota / 55.5) < 0.08 for name, (quota, _) in TALK.items())


def test_what_is_there_at_the_start_fills_the_area_with_scans_of_before(id19):
    lamino = id19.areas["lamino"]
    before = scans_before(id19, lamino, lamino.start_bytes)
    assert 0 <= lamino.start_bytes - sum(w.kind.size for w in before) < 16 * 10**9
    assert all(-180 * DAY_S - 1 <= w.at_s < 0 for w in before)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("areas: {a: {quota: 8TB, fil: 3%}}", r"m.yaml:1:25: .*did you mean 'fill'"),
        ("areas: {a: {quota: 8TB, high: 50%}}", "low watermark must be below"),
        ("arrivals: {scans: [{size: 1GB, of: 50%}]}", "50.0% of all scans"),
        ("arrivals: {beam_times: {shortest: 3d, longest: 1d}}", "longer than the longest"),
        ("losses: [{day: 3, pool: Z}]", "pools A, B"),
        ("areas: {a: {quota: 8TB}}\narrivals: {shares: {b: 1}}", "there is no area 'b'"),
        ("people: {recalls_per_day: -1}", "not a number from 0"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text, told):
    with pytest.raises(UserError, match=told):
        parse_model(text, "m.yaml")
