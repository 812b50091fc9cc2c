import random
from bisect import bisect_left
from datetime import date
from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tomovault.policy import forecast as forecasts
from tomovault.policy.forecast import BeamTime, Growth, forecast_full, plan, weigh_addition

GB = 10**9


def _beam_times(rng, days, every, length, spread):
    """Bytes a day of a beamline: beam times begin at random, each with its own amount, and nothing in between."""
    by_day = [0] * days
    day = 0
    while True:
        day += max(1, round(rng.expovariate(1 / every)))
        if day >= days:
            return by_day
        amount = rng.lognormvariate(0, spread) * 100 * GB
        for n in range(rng.randint(*length)):
            if day + n < days:
                by_day[day + n] = int(amount * rng.lognormvariate(0, 0.5))
        day += length[1]


@pytest.mark.parametrize(
    ("days", "every", "length", "spread"), [(60, 7, (2, 5), 0.5), (120, 20, (3, 6), 0.7), (365, 7, (2, 5), 0.5)]
)
def test_the_interval_holds_the_truth_as_often_as_it_says(days, every, length, spread, monkeypatch):
    """The day on which so much has come lies in the 80 % interval in 70-95 % of the histories, and on neither side of
    it much more often than on the other.
    """
    monkeypatch.setattr(forecasts, "_DRAWS", 100)
    trials, inside, before, after = 150, 0, 0, 0
    for seed in range(trials):
        rng = random.Random(seed)
        amounts = _beam_times(rng, days + 1000, every, length, spread)
        growth = Growth(tuple(amounts[:days]))
        usual = 100 * GB * 1.13 * 1.2 * sum(length) / 2 / (every + length[1])
        room = int(usual * rng.uniform(20, 80))
        truth = bisect_left(list(accumulate(amounts[days:])), room) + 1
        told = forecast_full(growth, room, 300)
        early, late = (10**6 if day is None else day for day in (told.early, told.late))
        inside += early <= truth <= late
        before += truth < early
        after += truth > late
    assert 0.70 <= inside / trials <= 0.95, (inside, before, after)
    assert max(before, after) <= 0.22 * trials, (inside, before, after)


def test_steady_growth_is_told_to_the_day():
    told = forecast_full(Growth((5,) * 40), 101)
    assert (told.early, told.median, told.late, told.known, told.why) == (21, 21, 21, True, "")


def test_too_little_history_is_said_and_nothing_else():
    told = forecast_full(Growth((5,) * 27), 100)
    assert (told.median, told.known) == (None, False)
    assert told.why == "not known: 27 whole days of history, and 28 are needed"
    assert forecast_full(Growth((5,) * 28), 100).known


def test_what_does_not_grow_is_never_full():
    told = forecast_full(Growth((0,) * 60), 100)
    assert (told.early, told.median, told.late, told.known) == (None, None, None, True)
    assert told.why == "not within 730 days: nothing comes"
    told = forecast_full(Growth((1,) * 60), 10**6)
    assert (told.median, told.why) == (None, "not within 730 days")


def test_what_is_full_is_full_now():
    for room in (0, -5):
        told = forecast_full(Growth(()), room)
        assert (told.early, told.median, told.late, told.why) == (0, 0, 0, "it is full now")


def test_the_same_history_tells_the_same():
    growth = Growth(tuple(_beam_times(random.Random(1), 90, 9, (2, 4), 0.5)))
    assert forecast_full(growth, 2000 * GB) == forecast_full(growth, 2000 * GB)
    assert weigh_addition(growth, 2000 * GB, GB, 50) == weigh_addition(growth, 2000 * GB, GB, 50)


_history = st.lists(st.sampled_from([0, 0, 0, 3, 50]), min_size=28, max_size=60).map(tuple)


@settings(max_examples=30, deadline=None)
@given(by_day=_history, room=st.integers(1, 3000), more=st.integers(0, 500), planned=st.integers(0, 300))
def test_less_room_and_more_to_come_are_never_later(by_day, room, more, planned):
    def days(growth, room):
        told = forecast_full(growth, room, 200)
        return [10**6 if day is None else day for day in (told.early, told.median, told.late)]

    usual = days(Growth(by_day), room)
    assert usual == sorted(usual)
    for other in (days(Growth(by_day), max(0, room - more)), days(Growth(by_day, {9: planned}), room)):
        assert all(sooner <= later for sooner, later in zip(other, usual, strict=True))


def test_what_is_planned_counts_on_its_day_even_without_a_history():
    told = forecast_full(Growth((), {3: 60, 7: 60}), 100)
    assert (told.early, told.median, told.late) == (7, 7, 7)
    told = forecast_full(Growth((), {3: 60}), 100)
    assert (told.median, told.known) == (None, False)
    assert told.why.startswith("not known beyond what is planned")


def test_with_a_whole_schedule_nothing_comes_besides_until_it_ends():
    growth = Growth((10,) * 30, {5: 25}, usual_from=20)
    assert forecast_full(growth, 25).median == 5
    assert forecast_full(growth, 26).median == 21
    assert forecast_full(growth, 36).median == 22


def test_whether_an_addition_fits():
    growth = Growth((10,) * 30)
    fit = weigh_addition(growth, 150, 100, 5)
    assert (fit.come, fit.chance) == ((50, 50, 50), 1.0)
    assert weigh_addition(growth, 149, 100, 5).chance == 0.0
    assert weigh_addition(growth, 100, 100, 0).chance == 1.0, "today nothing more comes before it"
    assert weigh_addition(Growth(()), 100, 100, 5).chance is None


def test_the_chance_of_an_addition_is_between():
    growth = Growth(tuple(_beam_times(random.Random(3), 120, 14, (3, 6), 0.7)))
    come = weigh_addition(growth, 0, 0, 60).come
    assert come[0] < come[1] < come[2]
    assert 0.4 < weigh_addition(growth, come[1] + GB, GB, 60).chance < 0.6


def test_a_beam_time_is_spread_over_its_days():
    time = BeamTime(date(2028, 2, 28), date(2028, 3, 1), "ma1", "inhouse", 100)
    today = date(2028, 2, 27)
    assert plan([time], today, area="inhouse") == {1: 33, 2: 33, 3: 34}, "the leap day is one of them"
    assert plan([time], today, proposal="ma1") == {1: 33, 2: 33, 3: 34}
    assert plan([time], today, area="other") == {}
    assert plan([time, time], date(2028, 2, 29), area="inhouse") == {1: 134}, "of today and tomorrow, none of yesterday"
    assert plan([time], date(2028, 3, 2), area="inhouse") == {}
