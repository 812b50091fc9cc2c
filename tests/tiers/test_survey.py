"""What is damaged or forged on a cartridge is named, and hides nothing else."""

import dataclasses
import os

import pytest

from tomovault.tiers import emulated_library
from tomovault.tiers.bundle import plan_bundle


def survey(tier):
    return list(tier.survey(lambda _done, _total: None))


@pytest.fixture
def forge(monkeypatch, put):
    """Called to put parcels in a bundle whose manifest says something else."""

    def run(tier, *parcels, **lies):
        with monkeypatch.context() as lying:
            plan = lambda sent, **known: dataclasses.replace(plan_bundle(sent, **known), **lies)  # noqa: E731
            lying.setattr(emulated_library, "plan_bundle", plan)
            return put(tier, *parcels)

    return run


def test_a_trailer_that_is_nowhere_ends_no_survey(library, put, parcel, forge, bucket):
    tier = library()
    (bad,) = forge(tier, parcel("s", b"s"), trailer=0)
    (good,) = put(tier, parcel("t", b"t"))
    found = {one.location: one for one in survey(tier)}
    assert "trailer" in found[bad.location].problem
    assert found[good.location].placed == good
    assert [where for _, where in tier.inventory()] == [good]
    assert [bool(problem) for problem in tier.verify([bad, good], throttle=bucket)] == [True, False]


def test_a_link_to_nothing_among_the_cartridges_hides_none(library, put, parcel, shelf):
    tier = library()
    (placed,) = put(tier, parcel("s", b"s"))
    os.symlink(shelf.path / "nowhere", shelf.cartridge("A00000L9"))
    first, second = survey(tier)
    assert (first.location, bool(first.problem)) == ("A00000L9", True)
    assert second.placed == placed
