import pytest

from tomovault.core.errors import UserError
from tomovault.recall.timing import Timing
from tomovault.tiers.options import timing_option


def test_coefficients_are_options():
    assert timing_option("tape", {"load_s": 1, "stream_rate": 4e8}) == Timing(load_s=1.0, stream_rate=4e8)
    with pytest.raises(UserError):
        timing_option("tape", {"wraps": "many"})
