import hashlib
import os

import pytest

from tomovault.core.errors import IntegrityError, NoSpace, Transient, UserError
from tomovault.core.ports import Parcel
from tomovault.core.replica import StoredFile
from tomovault.testing.faulty import Faults, FaultyTier, flip_bit
from tomovault.testing.memory_tier import MemoryTier


class Free:
    def spend(self, count):
        pass


@pytest.fixture
def parcel(tmp_path):
    path = tmp_path / "scan.tomo.h5"
    path.write_bytes(bytes(range(256)) * 40)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Parcel("id1", "scan", "original", "d" * 64, (StoredFile(str(path), 10240, digest),), "{}")


def put(tier, parcel, seen=None):
    seen = [] if seen is None else seen
    return tier.put([parcel], tier.domains()[0], job="j1", throttle=Free(), checkpoint=seen.append)


def fetch(tier, placed, folder):
    folder.mkdir(exist_ok=True)
    return tier.fetch(placed, str(folder), throttle=Free(), progress=lambda done, total: None)


def test_round_trip(tmp_path, parcel):
    tier, seen = MemoryTier(), []
    (placed,) = put(tier, parcel, seen)
    assert seen == ["tier.put.before", "tier.put.after"]
    assert put(tier, parcel) == [placed]
    assert tier.verify([placed], throttle=Free()) == [""]
    (found,) = fetch(tier, placed, tmp_path / "out")
    with open(found.location, "rb") as file:
        assert hashlib.sha256(file.read()).hexdigest() == found.sha256
    assert list(tier.inventory()) == [(parcel, placed)]
    ticket = tier.stage([placed.location, "elsewhere"])
    assert tier.poll(ticket) == {placed.location: "ready", "elsewhere": "failed: nothing is stored there"}
    tier.release(ticket)
    with pytest.raises(UserError, match="no ticket"):
        tier.poll(ticket)
    tier.remove(placed)
    tier.remove(placed)
    assert (list(tier.inventory()), tier.content) == ([], {})


def test_damage_is_found(tmp_path, parcel):
    tier = MemoryTier()
    (placed,) = put(tier, parcel)
    content = tier.content[placed.files[0].location]
    content[99] ^= 1
    assert "does not re-read" in tier.verify([placed], throttle=Free())[0]
    with pytest.raises(IntegrityError):
        fetch(tier, placed, tmp_path / "out")
    del content[-1]
    assert "10239 bytes of 10240" in tier.verify([placed], throttle=Free())[0]
    tier.content.clear()
    assert "not there" in tier.verify([placed], throttle=Free())[0]


def test_a_parcel_that_is_not_what_it_says_is_refused(parcel):
    tier = MemoryTier()
    flip_bit(parcel.files[0].location)
    with pytest.raises(IntegrityError, match="not what its parcel says"):
        put(tier, parcel)
    assert tier.content == {}


def test_capacity_and_staging_and_domains(tmp_path, parcel):
    full = MemoryTier(capacity=10000)
    with pytest.raises(NoSpace):
        put(full, parcel)
    assert full.free_bytes() == 10000
    tier = MemoryTier(must_stage=True)
    (placed,) = put(tier, parcel)
    with pytest.raises(UserError, match="not staged"):
        fetch(tier, placed, tmp_path / "out")
    tier.stage([placed.location])
    assert fetch(tier, placed, tmp_path / "out")
    with pytest.raises(UserError, match="no failure domain"):
        tier.put([parcel], "moon", job="j", throttle=Free(), checkpoint=print)


def test_no_space_at_a_byte_and_at_a_put(parcel):
    tier = FaultyTier(MemoryTier(), Faults(no_space_at_byte=5000))
    with pytest.raises(NoSpace, match="injected"):
        put(tier, parcel)
    assert tier.inner.content == {}
    tier = FaultyTier(MemoryTier(), Faults(no_space_put=frozenset({1})))
    with pytest.raises(NoSpace):
        put(tier, parcel)
    assert put(tier, parcel)
    assert tier.calls == {"put": 2}


def test_a_lost_answer_leaves_the_work_done(parcel):
    tier = FaultyTier(MemoryTier(), Faults(lost_put=frozenset({1}), lost_verify=frozenset({1})))
    with pytest.raises(Transient, match="answer to put"):
        put(tier, parcel)
    assert tier.inner.content
    (placed,) = put(tier, parcel)
    with pytest.raises(Transient, match="answer to verify"):
        tier.verify([placed], throttle=Free())
    assert tier.verify([placed], throttle=Free()) == [""]


def test_other_faults(tmp_path, parcel):
    once = frozenset({1})
    faults = Faults(
        transient_put=once,
        transient_verify=once,
        bad_verify=frozenset({2}),
        transient_fetch=once,
        flip_in_fetch=frozenset({2}),
        failed_poll=once,
        transient_remove=once,
        ill=True,
    )
    tier = FaultyTier(MemoryTier(), faults)
    with pytest.raises(Transient):
        put(tier, parcel)
    (placed,) = put(tier, parcel)
    with pytest.raises(Transient):
        tier.verify([placed], throttle=Free())
    assert "injected" in tier.verify([placed], throttle=Free())[0]
    assert tier.verify([placed], throttle=Free()) == [""]
    with pytest.raises(Transient):
        fetch(tier, placed, tmp_path / "out")
    (found,) = fetch(tier, placed, tmp_path / "out")
    with open(found.location, "rb") as file:
        assert hashlib.sha256(file.read()).hexdigest() != found.sha256
    ticket = tier.stage([placed.location])
    assert tier.poll(ticket)[placed.location].startswith("failed")
    assert tier.poll(ticket) == {placed.location: "ready"}
    with pytest.raises(Transient):
        tier.remove(placed)
    assert not tier.health().ok
    tier.remove(placed)
    assert list(tier.inventory()) == []


def test_flip_bit_keeps_times(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(b"abc")
    os.utime(path, ns=(1, 2))
    flip_bit(str(path), offset=0)
    assert path.read_bytes() == b"qbc"
    assert path.stat().st_mtime_ns == 2
    with pytest.raises(ValueError, match="no byte 9"):
        flip_bit(str(path), offset=9)
