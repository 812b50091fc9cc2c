"""What is damaged or forged on a cartridge is named, and hides nothing else."""

import dataclasses
import json
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


def test_a_damaged_list_of_a_package_names_its_scan(library, put, parcel, shelf):
    tier = library()
    sent = [
        dataclasses.replace(parcel(s, s.encode()), manifest=json.dumps({"files": s * 300_000})) for s in ("one", "two")
    ]
    _, good = put(tier, *sent)
    path = shelf.cartridge("A00001L9")
    content = bytearray(path.read_bytes())
    content[content.index(b"oneone") + 450_000] ^= 1
    path.write_bytes(content)
    bad, fine = survey(tier)
    assert bad.location == "A00001L9#1/manifests/0001.json"
    assert "one" in bad.problem.split(": ")[0]
    assert (fine.placed, fine.problem) == (good, "")
