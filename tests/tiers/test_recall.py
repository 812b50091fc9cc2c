import hashlib
from pathlib import Path

import pytest

from tomovault.core.errors import IntegrityError, NoSpace, NotYet, Transient
from tomovault.core.ports import Parcel
from tomovault.core.replica import StoredFile
from tomovault.testing.memory_tier import MemoryTier
from tomovault.tiers.recall import recall


class Throttle:
    def spend(self, count):
        """Nothing is too fast."""


@pytest.fixture
def tape(tmp_path):
    """A tier with one package, a list of its tickets that were not released, and how to recall it."""
    path = tmp_path / "one.h5"
    path.write_bytes(b"frames" * 100)
    file = StoredFile(str(path), 600, hashlib.sha256(b"frames" * 100).hexdigest())
    tier = MemoryTier("tape", must_stage=True)
    parcel = Parcel("s1", "one", "original", "d" * 64, (file,), "{}")
    (tier.placed,) = tier.put([parcel], "pool-a", job="j", throttle=Throttle(), checkpoint=lambda _n: None)
    tier.names = []

    def bring(floor_bytes=0, may_continue=lambda: True):
        return recall(
            tier,
            tier.placed,
            tmp_path / "vault" / ".recall.j",
            name="one",
            floor_bytes=floor_bytes,
            may_continue=may_continue,
            throttle=Throttle(),
            progress=lambda _d, _t: None,
            checkpoint=tier.names.append,
        )

    tier.bring = bring
    return tier


def test_what_comes_back_is_in_the_folder_and_nothing_stays_staged(tape, tmp_path):
    old = tmp_path / "vault" / ".recall.j" / "half"
    old.parent.mkdir(parents=True)
    old.write_text("of an attempt before")
    (file,) = tape.bring()
    assert Path(file.location).read_bytes() == b"frames" * 100
    assert not old.exists()
    assert tape.names == ["recall.staged"]
    assert tape._tickets == {}


@pytest.mark.parametrize(("answers", "passed"), [([False], []), ([True, False], ["recall.staged"])])
def test_no_cartridge_moves_for_a_job_that_was_taken_over(tape, tmp_path, answers, passed):
    left = iter(answers)
    with pytest.raises(Transient, match="claim"):
        tape.bring(may_continue=lambda: next(left))
    assert (tape.names, tape._tickets) == (passed, {})
    assert list(tmp_path.glob("vault/.recall.j/*")) == []


def test_while_it_is_on_its_way_its_ticket_is_kept(tape, tmp_path, monkeypatch):
    monkeypatch.setattr(tape, "poll", lambda _ticket: {tape.placed.location: "pending"})
    with pytest.raises(NotYet, match="still bringing"):
        tape.bring()
    assert len(tape._tickets) == 1
    assert not (tmp_path / "vault").exists()


def test_a_ticket_that_another_job_has_given_back_is_asked_for_again(tape, monkeypatch):
    stage = tape.stage

    def lost(locations):
        ticket = stage(locations)
        tape.release(ticket)
        return ticket

    monkeypatch.setattr(tape, "stage", lost)
    with pytest.raises(NotYet):
        tape.bring()
    monkeypatch.setattr(tape, "stage", stage)
    assert tape.bring()


def test_what_cannot_be_brought_is_an_integrity_error(tape):
    tape.remove(tape.placed)
    with pytest.raises(IntegrityError, match="nothing is stored there"):
        tape.bring()
    assert tape._tickets == {}


def test_the_floor_is_kept_free(tape):
    with pytest.raises(NoSpace, match="kept free"):
        tape.bring(floor_bytes=1 << 60)
    assert tape._tickets == {}
