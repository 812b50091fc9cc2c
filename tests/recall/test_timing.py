import pytest
from hypothesis import given
from hypothesis import strategies as st

from tomovault.recall.timing import Timing

SHARE = st.floats(0, 1)


def test_the_published_formula_within_a_wrap():
    timing = Timing()
    wrap = 1 / timing.wraps
    length = timing.last_position - timing.first_position
    forward = timing.locate_s(0.1 * wrap, 0.3 * wrap)
    assert forward == pytest.approx(4.29 + 0.2 * length * 0.0006192, rel=1e-6)
    assert timing.locate_s(0.3 * wrap, 0.1 * wrap) == pytest.approx(forward + 11.32, rel=1e-6)


def test_the_published_formula_across_wraps_and_bands():
    timing = Timing()
    wrap, length = 1 / timing.wraps, timing.last_position - timing.first_position
    same_place = timing.locate_s(0.2 * wrap, 1.8 * wrap)
    assert same_place == pytest.approx(4.29 + 6.69 + 5.22, rel=1e-5)
    next_band = timing.locate_s(0.2 * wrap, 28.7 * wrap)
    assert next_band == pytest.approx(4.29 + 6.69 + 3.2 - 6.04 + 0.5 * length * 0.0006192, rel=1e-5)


@given(SHARE, SHARE)
def test_a_move_costs_at_least_a_second_and_no_more_than_minutes(here, there):
    cost = Timing().locate_s(here, there)
    assert cost == 0 if here == there else 1 <= cost < 150


def test_rewinding_costs_its_mean():
    timing = Timing()
    costs = [timing.rewind_from_s((n + 0.5) / 10_000) for n in range(10_000)]
    assert sum(costs) / len(costs) == pytest.approx(timing.rewind_s, rel=0.01)
    assert timing.rewind_from_s(0) == 0
