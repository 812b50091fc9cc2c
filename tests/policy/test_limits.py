from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tomovault.policy.limits import Exceeded, Level, Limit, Quotas, stand

NOW = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)
WHO = ("proposal", "ma1")


@pytest.mark.parametrize(
    ("limit", "size", "files", "since", "level", "left"),
    [
        (Limit(soft=10, hard=20), 10, 0, None, Level.WITHIN, None),
        (Limit(soft=10, hard=20), 11, 0, None, Level.SOFT, 7 * DAY),
        (Limit(soft=10, hard=20, grace=2 * DAY), 11, 0, NOW - DAY, Level.SOFT, DAY),
        (Limit(soft=10, grace=DAY), 11, 0, NOW - DAY, Level.GRACE_OVER, 0 * DAY),
        (Limit(soft=10, grace=0 * DAY), 11, 0, None, Level.GRACE_OVER, 0 * DAY),
        (Limit(soft=10, hard=20), 20, 0, NOW, Level.SOFT, 7 * DAY),
        (Limit(soft=10, hard=20), 21, 0, NOW, Level.HARD, 7 * DAY),
        (Limit(files=5), 10**18, 5, None, Level.WITHIN, None),
        (Limit(files=5), 0, 6, None, Level.HARD, None),
    ],
)
def test_where_usage_stands(limit, size, files, since, level, left):
    found = stand(WHO, limit, size, files, since, NOW)
    assert (found.level, found.grace_left) == (level, left)
    assert bool(found.text) is (level is not Level.WITHIN)
    assert found.holds is (level in (Level.HARD, Level.GRACE_OVER))


@given(
    soft=st.integers(0, 100), more=st.integers(0, 100), size=st.integers(0, 300), other=st.integers(0, 300),
    grace=st.integers(0, 9), past=st.integers(0, 20), later=st.integers(0, 20),
)  # fmt: skip
def test_more_bytes_and_more_time_are_never_better(soft, more, size, other, grace, past, later):
    order = list(Level)
    limit = Limit(soft, soft + more, None, grace * DAY)
    now = stand(WHO, limit, size, 0, NOW - past * DAY, NOW)
    then = stand(WHO, limit, size + other, 0, NOW - past * DAY, NOW + later * DAY)
    assert order.index(then.level) >= order.index(now.level)


def test_a_default_is_for_every_known_proposal_without_a_limit_of_its_own():
    own, default = Limit(hard=5), Limit(hard=9)
    quotas = Quotas({("proposal", "ma1"): own, ("owner", "ann"): own}, default)
    assert quotas.of("proposal", "ma1") is own
    assert quotas.of("proposal", "ma2") is default
    assert quotas.of("proposal", None) is None
    assert quotas.of("owner", "bob") is None
    assert quotas.groupings == ("owner", "proposal")
    assert Quotas().groupings == ()


def test_only_what_a_scan_counts_in_holds_it():
    class Scan:
        proposal, owner, beamline, area = "ma1", "ann", None, "inhouse"

    def over(by, name, size):
        return (by, name), stand((by, name), Limit(soft=5, hard=10), size, 0, NOW, NOW)

    exceeded = Exceeded(dict([over("proposal", "ma1", 6), over("owner", "bob", 99), over("tier", "inhouse", 11)]))
    assert len(exceeded.texts(Scan)) == 2
    assert exceeded.holding(Scan).startswith("tier inhouse holds 11 B of 10 B")
    assert "ma1" not in exceeded.holding(Scan), "a soft limit within its grace holds nothing"
