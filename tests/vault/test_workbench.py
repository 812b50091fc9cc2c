"""What a job process has at hand."""

import contextlib
import hashlib
from datetime import timedelta

import pytest

from tomovault.core.errors import Transient
from tomovault.core.ports import Parcel
from tomovault.core.replica import StoredFile
from tomovault.tiers.free import FREE
from tomovault.vault.workbench import Workbench


@pytest.fixture
def bench(town):
    """Called for that of a job, of the claim that stands or of one that was lost."""
    opened = contextlib.ExitStack()
    catalogue, scan = town.vault.catalogue, town.scan("one")
    with catalogue.writing() as tx:
        catalogue.queue_job(tx, "archive", scan, {}, dedup_key="k", rule="r", now=town.now, place="inhouse")
        job = catalogue.claim_job(tx, "somebody", now=town.now + timedelta(days=1), actions=["archive"])

    def make(*, stands, **more):
        order = {"site": str(town.folder), "job": job.id, "token": job.token + (not stands), **more}
        return opened.enter_context(contextlib.closing(Workbench(order, town.base / "job")))

    with opened:
        yield make


def test_a_tier_is_held_to_the_claim_of_the_job(town, bench):
    (town.folder / "tape").mkdir(exist_ok=True)

    def put(stands):
        return bench(stands=stands).tier("tape").put([], "tape:A", job="j", throttle=FREE, checkpoint=lambda _n: None)

    assert list(put(True)) == []
    with pytest.raises(Transient, match="claim"):
        put(False)


@pytest.mark.parametrize(("tier", "drive"), [("tape", 1), ("other", 0)])
def test_the_drive_that_was_chosen_is_taken(town, bench, tier, drive):
    (town.folder / "tape").mkdir(exist_ok=True)
    path = town.base / "one.h5"
    path.write_bytes(b"one")
    file = StoredFile(str(path), 3, hashlib.sha256(b"one").hexdigest())
    parcel = Parcel("one", "one", "original", file.sha256, (file,), "{}")
    tape = bench(stands=True, drive={"tier": tier, "number": 1}).tier("tape")
    tape.put([parcel], "tape:A", job="j", throttle=FREE, checkpoint=lambda _name: None)
    assert [state.cartridge is not None for state in tape.drives()].index(True) == drive
