"""What a package tells of its scan is believed only as far as it can be."""

import pytest

from tomovault.core.errors import IntegrityError
from tomovault.core.told import read_told

PLAIN = {
    "id": "s0123456789ab",
    "name": "bone",
    "root": "/data/bone",
    "area": "inhouse",
    "format": "edf",
    "entry": "",
    "identity": "x",
    "acquired_at": None,
    "beamline": None,
    "proposal": None,
    "sample": None,
    "owner": None,
    "set": None,
    "certificate": {"verdict": "complete"},
    "declared": None,
    "conditions": {},
}


def test_a_scan_of_ours_is_told():
    assert read_told(PLAIN).id == "s0123456789ab"


@pytest.mark.parametrize(
    "strange", ["", "../../escaped", "/etc/x", "s0123456789ab/..", "s0123456789a", "S0123456789AB", "s0123456789ab\n"]
)
def test_an_id_that_is_none_of_ours_is_not_taken(strange):
    with pytest.raises(IntegrityError, match="no scan's id"):
        read_told(PLAIN | {"id": strange})
