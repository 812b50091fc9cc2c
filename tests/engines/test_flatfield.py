"""Flats and darks in groups, interpolated, divided by what was summed, and repaired."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tomovault.core.flatfield import (
    FlatField,
    FlatPlan,
    average_frames,
    group_frames,
    line_integrals,
    plan_flatfield,
)
from tomovault.core.layout import FrameKind

ALL = slice(0, 2)


def frame(kind, level, summed=1, dtype="<u2"):
    return (kind, np.full((2, 4), level, dtype), 0.0 if kind is FrameKind.PROJECTION else None, summed)


def test_groups_are_split_by_projections_only():
    assert group_frames([0, 1, 4, 9, 10], [5, 6, 7, 8]) == ((0, 1, 4), (9, 10))
    assert group_frames([3, 2], []) == ((2, 3),)
    assert group_frames([], [1]) == ()


@given(st.lists(st.sampled_from("pfd"), max_size=30))
def test_groups_hold_every_frame_once_and_in_order(order):
    projections = [i for i, kind in enumerate(order) if kind == "p"]
    flats = [i for i, kind in enumerate(order) if kind == "f"]
    groups = group_frames(flats, projections)
    assert [i for group in groups for i in group] == flats
    for before, after in pairwise(groups):
        assert any(before[-1] < p < after[0] for p in projections)
    for group in groups:
        assert not any(group[0] < p < group[-1] for p in projections)


def test_a_dark_sum_is_divided_and_the_average_counts_exposures(kit):
    source = kit.Source([frame(FrameKind.DARK, 1000, summed=10), frame(FrameKind.DARK, 220, summed=2)])
    assert average_frames(source, [0, 1], ALL).tolist() == np.full((2, 4), np.float32(1220 / 12)).tolist()


def test_big_endian_and_large_counts(kit):
    source = kit.Source([frame(FrameKind.FLAT, 60000, dtype=">u2"), frame(FrameKind.FLAT, 60001, dtype=">u2")])
    assert average_frames(source, [0, 1], ALL)[0, 0] == np.float32(60000.5)


def test_values_that_are_not_finite_do_not_count(kit):
    source = kit.Source([frame(FrameKind.FLAT, 10.0, dtype="<f4"), frame(FrameKind.FLAT, 20.0, dtype="<f4")])
    source.frames[0][1][0, 0] = np.nan
    source.frames[0][1][1, 1] = source.frames[1][1][1, 1] = np.inf
    mean = average_frames(source, [0, 1], ALL)
    assert mean[0, 0] == 20.0
    assert mean[0, 1] == 15.0
    assert np.isnan(mean[1, 1])


def test_flats_are_interpolated_by_acquisition_order(kit):
    frames = [frame(FrameKind.DARK, 100), frame(FrameKind.FLAT, 1100)]
    frames += [frame(FrameKind.PROJECTION, 600) for _ in range(3)]
    frames += [frame(FrameKind.FLAT, 2100), frame(FrameKind.PROJECTION, 600)]
    source = kit.Source(frames)
    plan = plan_flatfield(source)
    assert plan == FlatPlan(((1,), (5,)), ((0,),), None)
    field = FlatField(source, plan, ALL)
    for index, flat in ((2, 1250.0), (3, 1500.0), (4, 1750.0), (6, 2000.0)):
        assert field.transmission(index) == pytest.approx(np.full((2, 4), 500.0 / flat))


def test_only_the_rows_asked_for(kit):
    rng = np.random.default_rng(1)
    frames = [(FrameKind.FLAT, rng.uniform(900, 1100, (6, 5)), None, 1)]
    frames += [(FrameKind.PROJECTION, rng.uniform(200, 800, (6, 5)), 0.0, 1)]
    source = kit.Source(frames)
    plan = plan_flatfield(source)
    whole = FlatField(source, plan, slice(0, 6)).transmission(1)
    assert np.array_equal(whole[2:5], FlatField(source, plan, slice(2, 5)).transmission(1))


def test_dead_pixels_are_filled_along_their_row(kit):
    flat = np.full((2, 5), 1000.0)
    flat[0, 2] = 0.0
    flat[0, 3] = np.nan
    flat[1, :] = 0.0
    image = np.array([[100.0, 400.0, 1.0, 1.0, 700.0], [5.0] * 5])
    source = kit.Source([(FrameKind.FLAT, flat, None, 1), (FrameKind.PROJECTION, image, 0.0, 1)])
    result = FlatField(source, plan_flatfield(source), ALL).transmission(1)
    assert result[0] == pytest.approx([0.1, 0.4, 0.5, 0.6, 0.7], rel=1e-6)
    assert result[1].tolist() == [1.0] * 5


def test_a_broken_pixel_at_the_edge_takes_its_neighbour(kit):
    image = np.array([[np.nan, 4.0, 2.0], [1.0, 2.0, np.inf]])
    source = kit.Source([(FrameKind.PROJECTION, image, 0.0, 1)])
    result = FlatField(source, FlatPlan((), (), 4.0), ALL).transmission(0)
    assert result.tolist() == [[1.0, 1.0, 0.5], [0.25, 0.5, 0.5]]


def test_summed_projections_are_divided(kit):
    source = kit.Source([frame(FrameKind.FLAT, 1000), frame(FrameKind.PROJECTION, 1000, summed=4)])
    assert FlatField(source, plan_flatfield(source), ALL).transmission(1)[0, 0] == 0.25


def test_line_integrals_are_clipped_and_finite():
    image = np.array([[0.0, -3.0, 1.0, 1e9]], dtype=np.float32)
    assert line_integrals(image, 1e-4, 10.0)[0] == pytest.approx([9.21034, 9.21034, 0.0, -2.302585], rel=1e-5)
