import random
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tomovault.recall.timing import Timing
from tomovault.recall.tour import Rule, Span, _costs_from, _nearest_of_few, _nearest_of_many, _places, plan_tour, tour_s

SHARE = st.floats(0, 1)


@st.composite
def spans(draw, most=12):
    starts = draw(st.lists(SHARE, max_size=most))
    return [Span(start, min(1.0, start + draw(st.floats(0, 0.01)))) for start in starts]


def crowd(count, seed, share=200 / 9e6):
    """Requests anywhere on one cartridge: 200 MiB files of 9 TB, as CERN's RAO tests draw them."""
    draw = random.Random(seed)
    return [Span(start, start + share) for start in (draw.uniform(0, 1 - share) for _ in range(count))]


@given(SHARE, spans())
def test_a_tour_reads_everything_once_and_is_never_worse_than_the_plain_ones(head, asked):
    timing = Timing()
    tour = plan_tour(timing, head, asked)
    assert sorted(tour.order) == list(range(len(asked)))
    assert tour.locate_s == pytest.approx(tour_s(timing, head, [asked[i] for i in tour.order]))
    assert tour.locate_s <= tour_s(timing, head, asked) + 1e-9
    assert tour.locate_s <= tour_s(timing, head, sorted(asked, key=lambda s: s.start)) + 1e-9


@given(SHARE, st.lists(SHARE, min_size=1, max_size=30))
def test_many_costs_at_once_are_those_of_the_formula(head, starts):
    timing = Timing()
    there = np.array(starts)
    costs = _costs_from(timing, head, there, *_places(timing, there))
    assert costs == pytest.approx([timing.locate_s(head, start) for start in starts])


@pytest.mark.parametrize("count", [2, 20, 64])
def test_few_are_read_as_they_would_be_among_many(count):
    for seed in range(5):
        asked = crowd(count, seed)
        assert _nearest_of_few(Timing(), 0.3, asked) == _nearest_of_many(Timing(), 0.3, asked)


def test_a_daemon_plans_for_few_without_numpy():
    told = "import sys; from tomovault.recall.tour import Span, plan_tour; from tomovault.recall.timing import Timing;"
    told += "plan_tour(Timing(), 0.0, [Span(n / 100, n / 100) for n in range(64)]); sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", told], check=False).returncode == 0


@settings(max_examples=30)
@given(spans(most=5))
def test_one_request_or_none_is_read_as_it_came(asked):
    timing = Timing()
    assert plan_tour(timing, 0.0, []).order == ()
    for span in asked:
        assert plan_tour(timing, 0.0, [span]).rule is Rule.ARRIVAL


@pytest.mark.parametrize("count", [16, 32, 64, 128])
def test_recalls_scattered_over_a_cartridge_cost_at_most_three_fifths_of_either_plain_order(count):
    timing = Timing()
    chosen = arrival = blocks = 0.0
    for seed in range(8):
        asked = crowd(count, seed)
        chosen += plan_tour(timing, 0.0, asked).locate_s
        arrival += tour_s(timing, 0.0, asked)
        blocks += tour_s(timing, 0.0, sorted(asked, key=lambda s: s.start))
    assert chosen <= 0.6 * min(arrival, blocks)


def test_dense_requests_are_read_in_block_order():
    whole = [Span(n / 5000, (n + 1) / 5000) for n in range(5000)]
    random.Random(1).shuffle(whole)
    tour = plan_tour(Timing(), 0.0, whole)
    assert [whole[i].start for i in tour.order] == sorted(span.start for span in whole)
    assert tour.locate_s == 0.0
