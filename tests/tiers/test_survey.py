"""What is damaged or forged on a cartridge is named, and hides nothing else."""

import dataclasses
import json
import os

import pytest

from tomovault.core.errors import IntegrityError, Transient
from tomovault.core.ports import Harm
from tomovault.tiers import cartridge_library
from tomovault.tiers import survey as survey_module
from tomovault.tiers.bundle import plan_bundle
from tomovault.tiers.emulated_library import EmulatedLibrary


def survey(tier):
    return list(tier.survey(lambda _done, _total: None))


@pytest.fixture
def forge(monkeypatch, put):
    """Called to put parcels in a bundle whose manifest says something else."""

    def run(library, *parcels, **lies):
        with monkeypatch.context() as lying:
            plan = lambda sent, **known: dataclasses.replace(plan_bundle(sent, **known), **lies)  # noqa: E731
            lying.setattr(cartridge_library, "plan_bundle", plan)
            return put(library, *parcels)

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
    assert bad.placed.files[0].location.startswith("A00001L9#1/packages/0001/")
    assert (fine.placed, fine.problem) == (good, "")


def test_a_cartridge_of_another_tier_is_told_and_nothing_of_it_is_taken(library, put, parcel, shelf, now):
    put(library(), parcel("s", b"s"))
    other = EmulatedLibrary("other", {"path": str(shelf.path)}, now=lambda: now)
    (found,) = survey(other)
    assert (found.location, found.parcel, found.harm) == ("A00001L9", None, Harm.ALL)
    assert "'tape'" in found.problem
    assert list(other.inventory()) == []


def test_a_bundle_of_another_tier_is_told_and_hides_no_other(library, put, parcel, forge):
    tier = library()
    (strange,) = forge(tier, parcel("s", b"s"), tier="other")
    (good,) = put(tier, parcel("t", b"t"))
    bad, fine = survey(tier)
    assert (bad.location, bad.parcel, bad.harm) == (strange.location, None, Harm.COPY)
    assert fine.placed == good
    assert [where for _, where in tier.inventory()] == [good]


def test_a_damaged_label_is_told_and_hides_nothing(library, put, parcel, shelf):
    tier = library()
    (placed,) = put(tier, parcel("s", b"s"))
    path = shelf.cartridge("A00001L9")
    content = bytearray(path.read_bytes())
    content[1300] ^= 1
    path.write_bytes(content)
    bad, fine = survey(tier)
    assert (bad.location, bad.harm) == ("A00001L9", Harm.NONE)
    assert (fine.placed, fine.problem) == (placed, "")


def test_damage_beside_the_packages_of_a_bundle_is_nobodys_but_of_an_only_one(library, put, parcel, monkeypatch):
    tier = library()
    put(tier, parcel("s", b"s"))
    put(tier, parcel("t", b"t"), parcel("u", b"u"))

    def beside(*_):
        raise IntegrityError("beside")

    monkeypatch.setattr(survey_module, "check_bundle", beside)
    alone, first, second, bundle = survey(tier)
    assert (alone.parcel.scan, alone.problem) == ("s", "beside")
    assert (first.problem, second.problem) == ("", "")
    assert (bundle.location, bundle.harm, bundle.problem) == ("A00001L9#2", Harm.NONE, "beside")


def test_without_the_state_of_the_library_it_is_said_what_is_not_known(library, put, parcel, shelf):
    tier = library()
    (placed,) = put(tier, parcel("s", b"s"))
    shelf.state.unlink()
    assert "lost" in tier.health().detail
    notice, fine = survey(tier)
    assert (notice.location, notice.harm) == (str(shelf.state), Harm.NOTICE)
    assert fine.placed == placed


def test_a_library_that_goes_away_meanwhile_is_not_damaged(library, put, parcel, shelf):
    tier = library()
    put(tier, parcel("s", b"s"))
    put(tier, parcel("s", b"s"), pool="B")
    found = tier.survey(lambda _done, _total: None)
    assert next(found).placed
    shelf.path.rename(shelf.path.parent / "away")
    with pytest.raises(Transient):
        next(found)


def test_progress_goes_on_within_a_bundle(library, put, parcel):
    tier, told = library(), []
    put(tier, parcel("s", bytes(3_000_000)))
    list(tier.survey(lambda done, total: told.append((done, total))))
    done = [one for one, _ in told]
    assert done == sorted(done)
    assert len(set(done)) > 4
    assert told[-1][0] == told[-1][1] > 0
