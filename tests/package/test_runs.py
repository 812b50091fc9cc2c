"""A run on a scan of which frames hold nothing: they are left out and said, or there are too many of them."""

import pytest

from tomovault.core.errors import LostFrames
from tomovault.core.layout import FrameKind
from tomovault.package.runs import run_without_lost


class Source:
    def __init__(self, projections):
        self._projections = projections

    def indices(self, kind):
        return list(range(self._projections)) if kind is FrameKind.PROJECTION else []


class Engine:
    """Resolves to what it was asked for."""

    def resolve(self, _source, parameters):
        return {"warnings": ["there are no darks"], **parameters}


def making(dead, seen_at_once=100):
    """What an engine does that notices dead frames, not all of them in one pass."""

    def make(resolved):
        found = [frame for frame in dead if frame not in resolved.get("exclude", ())][:seen_at_once]
        if found:
            raise LostFrames("dark", found)
        return resolved

    return make


def test_a_scan_without_such_frames_is_run_once_as_it_was_asked():
    made = run_without_lost(Engine(), Source(100), {"filter": "hann"}, making([]))
    assert made == {"filter": "hann", "warnings": ["there are no darks"]}


@pytest.mark.parametrize("seen_at_once", [1, 2, 100])
def test_they_are_left_out_beside_what_a_person_excluded(seen_at_once):
    made = run_without_lost(Engine(), Source(100), {"exclude": (7,)}, making([3, 50, 9], seen_at_once))
    assert set(made["exclude"]) == {3, 7, 9, 50}
    assert made["lost"] == [3, 9, 50]
    assert made["warnings"] == ["there are no darks", "frames 3, 9, 50 hold no light or no numbers, and are left out"]


def test_one_may_be_lost_of_a_small_scan_and_no_more():
    assert run_without_lost(Engine(), Source(8), {}, making([2]))["lost"] == [2]
    with pytest.raises(LostFrames):
        run_without_lost(Engine(), Source(8), {}, making([2, 3]))


def test_where_more_than_a_twentieth_is_lost_a_person_looks():
    with pytest.raises(LostFrames):
        run_without_lost(Engine(), Source(100), {}, making(range(6)))


def test_an_engine_that_names_a_frame_again_is_believed_once():
    def stubborn(_resolved):
        raise LostFrames("dark", [4])

    with pytest.raises(LostFrames):
        run_without_lost(Engine(), Source(100), {}, stubborn)
