from pathlib import Path

import pytest

from tomovault.actions.archive import Archive
from tomovault.core.errors import IntegrityError, NotYet, Transient
from tomovault.core.wire import to_plain
from tomovault.testing.faulty import Faults, FaultyTier
from tomovault.testing.memory_tier import MemoryTier
from tomovault.tiers.delivery import Unfinished


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
        order = {"tier": "shelf", "domains": list(domains), "parcels": [parcel], "source_place": "inhouse"}
        return Archive().perform({**order, "recall": recall}, bench)

    return perform


@pytest.fixture
def recalled(packed):
    """From a copy on the tape, through the vault."""
    placed = to_plain(packed.copies[0])
    return {"tier": "tape", "placed": placed, "folder": str(packed.vault / "in"), "floor_bytes": 0}


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
