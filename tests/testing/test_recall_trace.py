"""The mixed week: what the rule for recalls must reach, on a clock of its own and so the same on every machine."""

import pytest

from tomovault.recall.request import Kind, Limits
from tomovault.recall.serving import serve
from tomovault.recall.visit import choose
from tomovault.testing.recall_trace import (
    arrival_order,
    by_cartridge,
    longest_wait_s,
    mean_wait_s,
    mixed_week,
    mounts,
    needed_mounts,
)

LIMITS = Limits()


def _served(trace, rule):
    served = serve(trace.requests, trace.drives, trace.cartridges, LIMITS, 0.0, rule=rule)
    assert len(served) == len(trace.requests)
    return served


@pytest.mark.parametrize(("load", "times"), [(0.5, 1), (0.8, 3), (1.1, 3)])
def test_a_mixed_week(load, times):
    trace = mixed_week(load)
    chosen = _served(trace, choose)
    wait = mean_wait_s(trace, chosen)
    assert mounts(chosen) <= 1.1 * needed_mounts(trace, LIMITS.fair_s)
    assert times * wait < mean_wait_s(trace, _served(trace, arrival_order))
    assert wait < mean_wait_s(trace, _served(trace, by_cartridge))
    for kind in (Kind.RESTORE, Kind.ARCHIVE):
        assert longest_wait_s(trace, chosen, kind) <= LIMITS.patience_s + 2 * LIMITS.fair_s


def test_the_week_is_always_the_same():
    assert mixed_week(0.5) == mixed_week(0.5)
    assert len(mixed_week(0.8).cartridges) == 40
    assert mixed_week(0.5) != mixed_week(0.5, seed=2)
