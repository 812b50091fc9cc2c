from pathlib import Path

import pytest

from tomovault.actions.archive import Archive
from tomovault.core.errors import IntegrityError, NotYet, Recalling, Transient
from tomovault.core.record import Unfinished
from tomovault.core.wire import to_plain
from tomovault.package.recheck import recheck_package
from tomovault.testing.faulty import Faults, FaultyTier
from tomovault.testing.memory_tier import MemoryTier


@pytest.fixture
def archive(packed, bench):
    """Called to archive the package in two domains of a second, empty library."""
    bench.tiers["shelf"] = MemoryTier("shelf")

    def perform(*, domains=("pool-a", "pool-b"), recall=None):
        parcel = {
            "scan": "s1",
            "scan_name": "scan",
            "product": "original",
            "digest": packed.digest,
            "files": to_plain(packed.files),
            "manifest": Path(packed.manifest).read_text("utf-8"),
        }
        order = {
            "tier": "shelf",
            "domains": list(domains),
            "parcels": [parcel],
            "source_place": "inhouse",
            "source": "disk",
        }
        return Archive().perform({**order, "recall": recall}, bench)

    return perform


@pytest.fixture
def recalled(packed):
    """From a copy on the tape, through the vault."""
    placed = to_plain(packed.copies[0])
    return {"tier": "tape", "placed": placed, "folder": str(packed.vault / "in"), "floor_bytes": 0, "replica": "tape0"}


def test_each_domain_holds_a_copy_that_was_re_read(archive, packed):
    records = archive().records
    assert [r.domain for r in records] == ["pool-a", "pool-b"]
    assert all(r.verified_at is not None and r.digest == packed.digest for r in records)


@pytest.mark.parametrize(
    ("faults", "error"),
    [
        (Faults(transient_put=frozenset({2})), Transient),
        (Faults(lost_verify=frozenset({2})), Transient),
        (Faults(bad_verify=frozenset({2})), IntegrityError),
    ],
)
def test_a_copy_that_was_made_is_told_where_the_next_one_fails(archive, bench, faults, error):
    bench.tiers["shelf"] = FaultyTier(bench.tiers["shelf"], faults)
    with pytest.raises(Unfinished) as caught:
        archive()
    assert isinstance(caught.value.__cause__, error)
    (stored,) = caught.value.records
    assert stored.domain == "pool-a"
    assert stored.verified_at is not None


def test_without_any_copy_the_failure_is_told_as_it_is(archive, bench):
    bench.tiers["shelf"] = FaultyTier(bench.tiers["shelf"], Faults(transient_put=frozenset({1})))
    with pytest.raises(Transient):
        archive()


def test_a_temporary_name_is_the_same_whichever_copies_are_missing(archive, bench, monkeypatch):
    seen = {}
    put = bench.tiers["shelf"].put

    def note(parcels, domain, *, job, **more):
        seen.setdefault(domain, set()).add(job)
        return put(parcels, domain, job=job, **more)

    monkeypatch.setattr(bench.tiers["shelf"], "put", note)
    archive()
    archive(domains=("pool-b",))
    assert all(len(jobs) == 1 for jobs in seen.values())
    assert seen["pool-a"] != seen["pool-b"]


def test_a_copy_is_made_from_another_cartridge_where_no_package_is_on_disk(archive, packed, bench, recalled):
    for file in packed.files:
        Path(file.location).unlink()
    (stored,) = archive(domains=("pool-b",), recall=recalled).records
    assert stored.sha256 == packed.files[0].sha256
    assert list((packed.vault / "in").iterdir()) == []
    assert "archive.recalled" in bench.names


def test_it_waits_while_the_source_is_on_its_way(archive, packed, bench, recalled, monkeypatch):
    monkeypatch.setattr(bench.tiers["tape"], "poll", lambda _t: {packed.copies[0].location: "pending"})
    with pytest.raises(NotYet):
        archive(recall=recalled)
    assert bench.tiers["shelf"].content == {}


def test_nothing_is_brought_for_a_copy_that_cannot_be_read_yet(archive, packed, bench, recalled):
    """It would be brought again at each try, for as long as a bucket restores what was put there."""
    for file in packed.files:
        Path(file.location).unlink()
    shelf, asked = bench.tiers["shelf"], []
    shelf.warm = lambda _placed: []
    shelf.cold_of = lambda parcels: asked.extend(parcels) or ["s3://far/one.tar"]
    with pytest.raises(Recalling, match=r"one\.tar cannot be read yet"):
        archive(domains=("pool-b",), recall=recalled)
    assert [parcel.digest for parcel in asked] == [packed.digest]
    assert "archive.recalled" not in bench.names
    shelf.cold_of = lambda _parcels: []
    assert len(archive(domains=("pool-b",), recall=recalled).records) == 1


def test_a_source_that_is_bad_when_recalled_is_told(archive, packed, bench, recalled):
    """Else it is counted still, and the next attempt reads it again."""
    bench.tiers["tape"].content[packed.copies[0].files[0].location][2000] ^= 255
    with pytest.raises(Unfinished) as caught:
        archive(recall=recalled)
    assert isinstance(caught.value.__cause__, IntegrityError)
    (bad,) = caught.value.records
    assert (bad.replica, bad.ok) == ("tape0", False)
    assert "not what was stored" in bad.reason
    assert list((packed.vault / "in").iterdir()) == []


def _damage(path):
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[2000] ^= 255
    path.write_bytes(content)


def test_a_package_on_disk_that_is_bad_is_told(archive, packed, bench, monkeypatch):
    _damage(Path(packed.files[0].location))

    def put(parcels, *_a, **_k):
        raise IntegrityError("the copy has another digest")

    monkeypatch.setattr(bench.tiers["shelf"], "put", put)
    with pytest.raises(Unfinished) as caught:
        archive()
    (bad,) = caught.value.records
    assert (bad.replica, bad.ok) == ("disk", False)


def test_a_package_that_is_not_there_or_is_right_is_not_called_bad(archive, packed, bench):
    bench.tiers["shelf"] = FaultyTier(bench.tiers["shelf"], Faults(bad_verify=frozenset({1, 2})))
    with pytest.raises(IntegrityError):
        archive()
    aside = Path(packed.files[0].location)
    aside.rename(aside.with_suffix(".aside"))
    assert recheck_package("disk", packed.files, bench, "inhouse") == ()
