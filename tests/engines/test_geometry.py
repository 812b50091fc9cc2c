"""Angle weights, half acquisition, filters, pairs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tomovault.core.errors import UserError
from tomovault.engines.fourier.centre import opposite_pairs
from tomovault.engines.fourier.filters import FILTERS, filter_response, good_length
from tomovault.engines.fourier.geometry import angle_weights, feather, outside_circle, read_angles, slice_size


@given(st.lists(st.floats(-720, 720), min_size=20, max_size=60), st.sampled_from([180.0, 360.0]))
def test_weights_share_out_at_most_the_whole_turn(angles, period):
    weights, largest = angle_weights(angles, period)
    assert (weights >= 0).all()
    assert weights.sum() <= np.deg2rad(period) * (1 + 1e-9)
    if largest <= 30:
        assert weights.sum() == pytest.approx(np.deg2rad(period))


def test_weights_of_even_angles_are_equal_and_repeated_ones_share():
    weights, largest = angle_weights([0, 45, 90, 135], 180)
    assert weights == pytest.approx([np.pi / 4] * 4)
    assert largest == 45
    weights, _ = angle_weights([0, 45, 90, 135, 180], 180)
    assert weights[0] + weights[4] == pytest.approx(np.pi / 4)


def test_a_missing_wedge_is_not_made_up_for():
    weights, largest = angle_weights(np.arange(0, 121, 1.0), 180)
    assert largest == 60
    assert weights == pytest.approx(np.deg2rad([1.0] * 121))


@given(st.integers(8, 200), st.floats(0.02, 0.98))
def test_feathered_columns_add_up_to_one_with_their_mirror(columns, part):
    centre = part * (columns - 1)
    weights = feather(columns, centre)
    line = np.arange(columns)
    mirror = 2 * centre - line
    inside = (mirror >= 0) & (mirror <= columns - 1)
    mirrored = np.interp(mirror[inside], line, weights)
    if min(centre, columns - 1 - centre) > 3:
        assert np.median(weights[inside] + mirrored) == pytest.approx(1.0, abs=1e-3)
    assert weights[0 if centre > (columns - 1) / 2 else -1] == 1.0
    assert slice_size(columns, centre, True) >= columns - 1
    assert slice_size(columns, centre, False) == columns


@pytest.mark.parametrize("name", FILTERS)
def test_filters_are_ramps_at_low_frequencies(name):
    response = filter_response(name, 512)
    assert response[4] == pytest.approx(4 / 512, rel=0.02)
    assert 0 < response[0] < 1e-3
    assert response[256] == 0.0
    assert response[1:256] == pytest.approx(response[:256:-1], rel=1e-9)


def test_an_unknown_filter_names_the_known_ones():
    with pytest.raises(UserError) as caught:
        filter_response("butter", 16)
    assert "shepp-logan" in caught.value.hint


@given(st.integers(1, 20000))
def test_good_lengths(least):
    length = good_length(least)
    assert length >= least
    assert length % 2 == 0
    assert length <= 1.2 * least + 2


def test_pairs_are_half_a_turn_apart():
    exact = opposite_pairs([i * 0.5 for i in range(720)])
    assert len(exact) == 12
    assert {pair.second - pair.first for pair in exact} == {360}
    assert exact[-1].first - exact[0].first > 300
    near = opposite_pairs([float(i) for i in range(180)])
    assert (near[0].first, near[0].second, near[0].miss_deg) == (0, 179, -1.0)
    assert opposite_pairs([i * 1.0 for i in range(100)]) == ()
    assert opposite_pairs([0.0, 180.0])[0].miss_deg == 0.0


def test_an_angle_that_is_no_number_is_an_error(kit):
    from tomovault.core.layout import FrameKind

    source = kit.Source([(FrameKind.PROJECTION, np.ones((2, 2)), a, 1) for a in (0.0, float("nan"))])
    with pytest.raises(UserError, match="frame 1"):
        read_angles(source, [0, 1], None)


def test_the_circle_touches_the_sides():
    outside = outside_circle(7, 3.5)
    assert not outside[3, 0]
    assert outside[0, 0]
    assert not outside_circle(8, 4.0)[3, 0]
