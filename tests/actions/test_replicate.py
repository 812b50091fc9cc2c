from pathlib import Path

import pytest

from tomovault.actions.replicate import Replicate
from tomovault.core.errors import IntegrityError
from tomovault.core.record import Unfinished
from tomovault.core.wire import to_plain
from tomovault.testing.faulty import Faults, FaultyTier
from tomovault.testing.memory_tier import MemoryTier


@pytest.fixture
def replicate(packed, bench):
    """Called to copy the package to a second disk tier."""
    bench.tiers["mirror"] = MemoryTier("mirror", domains=("raid", "other"))
    parcel = {
        "scan": "s1",
        "scan_name": "scan",
        "product": "original",
        "digest": packed.digest,
        "files": to_plain(packed.files),
        "manifest": Path(packed.manifest).read_text("utf-8"),
    }
    order = {"tier": "mirror", "parcels": [parcel], "source_place": "inhouse", "source": "disk"}
    return lambda: Replicate().perform(order, bench)


def test_the_tier_holds_a_copy_that_was_re_read(replicate, packed, bench):
    (stored,) = replicate().records
    assert (stored.tier, stored.domain, stored.digest) == ("mirror", "raid", packed.digest)
    assert stored.verified_at is not None
    assert [f.sha256 for f in stored.files] == [f.sha256 for f in packed.files]
    assert sum(map(len, bench.tiers["mirror"].content.values())) == stored.bytes


def test_a_copy_that_does_not_re_read_counts_for_nothing(replicate, bench):
    bench.tiers["mirror"] = FaultyTier(bench.tiers["mirror"], Faults(bad_verify=frozenset({1})))
    with pytest.raises(IntegrityError, match="damaged"):
        replicate()


def test_a_package_that_is_bad_itself_is_told(replicate, packed, bench):
    path = Path(packed.files[0].location)
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[2000] ^= 255
    path.write_bytes(content)
    with pytest.raises(Unfinished) as caught:
        replicate()
    (bad,) = caught.value.records
    assert (bad.replica, bad.ok) == ("disk", False)
