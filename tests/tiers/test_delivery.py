import hashlib
from datetime import UTC, datetime, timedelta

import pytest

from tomovault.core.errors import IntegrityError, Transient
from tomovault.core.ports import Parcel
from tomovault.core.replica import Form, StoredFile
from tomovault.testing.faulty import Faults, FaultyTier
from tomovault.testing.memory_tier import MemoryTier
from tomovault.tiers.delivery import deliver


class Throttle:
    def spend(self, count):
        """Nothing is too fast."""


@pytest.fixture
def parcels(tmp_path):
    made = []
    for name in ("one", "two"):
        path = tmp_path / f"{name}.h5"
        path.write_bytes(name.encode() * 50)
        file = StoredFile(str(path), path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())
        made.append(Parcel(name, name, "original", file.sha256, (file,), "{}"))
    return made


@pytest.fixture
def send(parcels):
    """Called to deliver both parcels to a tier; the clock advances a second each time it is read."""

    def run(tier, names, may_continue=lambda: True):
        moments = iter(datetime(2030, 1, 1, tzinfo=UTC) + timedelta(seconds=n) for n in range(9))
        return deliver(
            tier,
            parcels,
            "pool-b",
            job="j",
            now=lambda: next(moments),
            may_continue=may_continue,
            throttle=Throttle(),
            checkpoint=names.append,
        )

    return run


def test_every_parcel_is_told_with_where_it_is_and_when_it_was_re_read(send, parcels):
    names = []
    stored = send(MemoryTier("tape"), names)
    assert [s.digest for s in stored] == [p.digest for p in parcels]
    for one, parcel in zip(stored, parcels, strict=True):
        assert (one.tier, one.domain, one.form, one.bytes) == ("tape", "pool-b", Form.PACKAGE, parcel.size)
        assert one.written_at < one.verified_at
    assert [n for n in names if n.startswith("deliver")] == ["deliver.placed", "deliver.verified"]


def test_one_bad_copy_and_none_counts(send):
    class Second(MemoryTier):
        def verify(self, placed, *, throttle):
            return ["", "a bit is wrong"]

    names = []
    with pytest.raises(IntegrityError, match=r"two on tape at .*: a bit is wrong"):
        send(Second("tape"), names)
    assert "deliver.verified" not in names


@pytest.mark.parametrize(("answers", "written"), [([False], 0), ([True, False], 2)])
def test_no_cartridge_moves_for_a_job_that_was_taken_over(send, answers, written):
    tier, names, left = MemoryTier("tape"), [], iter(answers)
    with pytest.raises(Transient, match="claim"):
        send(tier, names, lambda: next(left))
    assert len(tier.content) == written
    assert "deliver.verified" not in names


def test_what_is_there_already_is_taken_and_re_read(send):
    tier = MemoryTier("tape")
    send(tier, [])
    content = dict(tier.content)
    assert len(send(FaultyTier(tier, Faults()), [])) == 2
    assert tier.content == content
