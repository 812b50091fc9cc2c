from datetime import timedelta

import pytest

from tomovault.catalog import tables
from tomovault.catalog.work import shared_paths
from tomovault.core.known import JobStatus
from tomovault.core.record import Outcome, PutBack, Removed, Result, Stored
from tomovault.core.replica import Form, ProductKind, StoredFile
from tomovault.daemon.planner import Planner
from tomovault.daemon.room_maker import RoomMaker
from tomovault.vault.scan_pages import explain_page, scan_line


class Plans:
    """A planner and a maker of room, each asked until nothing is left to do."""

    def __init__(self, town):
        self.town = town
        self.planner, self.room = Planner(town.vault), RoomMaker(town.vault)
        self.plan_scans = self.planner.plan_scans

    def brake(self, reason, resting):
        self.planner.brake(reason, resting)
        self.room.brake(reason, resting)

    @property
    def alarms(self):
        return {**self.planner.alarms, **self.room.alarms}

    def plan_room(self, now):
        """How many removals were queued."""
        before = self._prunes()
        self.room.ask()
        while self.room.turn(now):
            pass
        return self._prunes() - before

    def _prunes(self):
        with self.town.vault.catalogue.reading() as tx:
            return sum(job.action == "prune" for job in self.town.vault.catalogue.list_jobs(tx))


def _plan(town, planner, now=None):
    return planner.plan_scans(now or town.now), planner.plan_room(now or town.now)


@pytest.fixture
def full(town):
    """A site over its mark, a scan that nothing else is due for, and a planner."""
    town.policy(("when: complete\n    do: preview", "when: age > 9999d\n    do: preview"))
    town.policy(("when: packed and size < 2GB and not aborted", "when: age > 9999d"))
    scan = town.scan("one")
    town.room()
    town.change(quarantine={"hold": "1d", "limit": "1GB"})
    return scan, Plans(town)


def test_a_preview_that_failed_is_not_tried_again_for_a_copy_on_tape(town):
    """It is made from the package on disk; what a person reads of it is why it failed."""
    scan = town.scan("one", copies=1)
    planner = Planner(town.vault)
    planner.plan_scans(town.now)
    town.finish("preview", Result(Outcome.FAILED, error="there is one projection"))
    (*_, copy) = town.copies("one", town.known(scan).root, 400, ("a.edf",), 2)
    assert copy.domain == "pool-1"
    with town.vault.catalogue.writing() as tx:
        town.vault.catalogue.apply_records(tx, [copy], town.now, scan_id=scan)
        town.vault.catalogue.set_next_due(tx, scan, town.now)
    planner.plan_scans(town.now)
    assert [j.status for j in town.jobs(scan, "preview")] == [JobStatus.FAILED]
    with town.vault.catalogue.reading() as tx:
        view = town.vault.view(town.known(scan), town.vault.area_facts(tx, "inhouse", town.now), town.now)
    (told,) = [line for line in explain_page(view)["stages"] if line["stage"] == "previewed"]
    assert told["status"] == scan_line(view)["stages"]["previewed"] == "held"
    assert "there is one projection" in told["reason"]
    assert "tomovault retry" in told["reason"]


def test_a_step_whose_job_found_nothing_to_do_is_held_with_the_reason_and_not_due(town):
    scan = town.scan("one", copies=1)
    planner = Planner(town.vault)
    planner.plan_scans(town.now)
    town.finish("preview", Result(Outcome.SUCCEEDED, error="no projection in its files can be read as a frame"))
    planner.plan_scans(town.now)
    assert [j.status for j in town.jobs(scan, "preview")] == [JobStatus.SUCCEEDED]
    with town.vault.catalogue.reading() as tx:
        view = town.vault.view(town.known(scan), town.vault.area_facts(tx, "inhouse", town.now), town.now)
    (told,) = [line for line in explain_page(view)["stages"] if line["stage"] == "previewed"]
    assert told["status"] == scan_line(view)["stages"]["previewed"] == "held"
    assert told["reason"] == "no projection in its files can be read as a frame"


def test_room_is_made_and_then_no_more(town, full):
    scan, planner = full
    _plan(town, planner)
    assert [j.action for j in town.known(scan).jobs] == ["prune"]
    for _ in range(20):
        assert _plan(town, planner)[1] == 0
    assert len(town.known(scan).permits) == 1


def test_the_second_phase_follows_the_hold(town, full):
    scan, planner = full
    _plan(town, planner)
    permit = town.quarantine(scan)
    _plan(town, planner)
    assert town.jobs(scan, "empty_quarantine") == []
    _plan(town, planner, town.now + timedelta(days=2))
    (job,) = town.jobs(scan, "empty_quarantine")
    assert job.order["permit"] == permit
    assert town.finish("empty_quarantine", Result(Outcome.SUCCEEDED, (Removed(permit, 1, 400),))) is JobStatus.SUCCEEDED
    _plan(town, planner, town.now + timedelta(days=2))
    assert len(town.jobs(scan, "empty_quarantine")) == 1


def test_a_pin_at_the_door_of_phase_two_only_delays_it(town, full):
    scan, planner = full
    _plan(town, planner)
    town.quarantine(scan)
    later = town.now + timedelta(days=2)
    _plan(town, planner, later)
    with town.vault.catalogue.writing() as tx:
        town.vault.catalogue.add_pin(tx, scan, "anna", "mine", later + timedelta(days=3), later)
    town.finish("empty_quarantine", Result(Outcome.SUCCEEDED, error="pinned"))
    for _ in range(5):
        _plan(town, planner, later)
    assert len(town.jobs(scan, "empty_quarantine")) == 1
    assert any("pinned by anna" in a.text for a in planner.alarms.values())
    _plan(town, planner, later + timedelta(days=4))
    assert len(town.jobs(scan, "empty_quarantine")) == 2


def test_an_undo_ends_its_alarm(town, full):
    scan, planner = full
    _plan(town, planner)
    permit = town.quarantine(scan)
    later = town.now + timedelta(days=2)
    planner.brake("the clock jumped by +9000 h", frozenset())
    _plan(town, planner, later)
    assert f"permit {permit}" in planner.alarms
    with town.vault.catalogue.writing() as tx:
        town.vault.catalogue.queue_job(
            tx, "undo_prune", scan, {"permit": permit}, dedup_key="u", rule="r", now=later, place="inhouse"
        )
    back = PutBack(permit, 1, 400)
    assert town.finish("undo_prune", Result(Outcome.SUCCEEDED, (back,))) is JobStatus.SUCCEEDED
    planner.plan_scans(later)
    assert f"permit {permit}" not in planner.alarms


def test_a_second_phase_that_failed_waits_for_a_person(town, full):
    scan, planner = full
    _plan(town, planner)
    town.quarantine(scan)
    later = town.now + timedelta(days=2)
    _plan(town, planner, later)
    town.finish("empty_quarantine", Result(Outcome.DAMAGED, error="not the file"))
    for days in range(2, 40):
        _plan(town, planner, town.now + timedelta(days=days))
    assert len(town.jobs(scan, "empty_quarantine")) == 1


def test_a_clock_jump_removes_nothing(town, full):
    scan, planner = full
    planner.brake("the clock jumped by +9000 h", frozenset())
    _plan(town, planner)
    assert town.known(scan).permits == ()
    assert "the clock jumped" in planner.alarms["inhouse"].text
    planner.brake("", frozenset())
    _plan(town, planner)
    town.quarantine(scan)
    planner.brake("the clock jumped by +9000 h", frozenset())
    _plan(town, planner, town.now + timedelta(days=375))
    assert town.jobs(scan, "empty_quarantine") == []


def test_an_area_at_rest_loses_nothing(town, full):
    scan, planner = full
    planner.brake("", frozenset({"inhouse"}))
    _plan(town, planner)
    assert town.known(scan).permits == ()
    planner.brake("", frozenset())
    _plan(town, planner)
    town.quarantine(scan)
    planner.brake("", frozenset({"inhouse"}))
    _plan(town, planner, town.now + timedelta(days=2))
    assert town.jobs(scan, "empty_quarantine") == []


def test_prune_off_over_the_mark_is_an_alarm(town, full):
    scan, _ = full
    town.room(prune="off")
    planner = Plans(town)
    _plan(town, planner)
    assert "`prune` is off" in planner.alarms["inhouse"].text
    assert town.known(scan).permits == ()


def test_what_a_person_took_back_is_not_taken_again(town, full):
    scan, planner = full
    _plan(town, planner)
    permit = town.quarantine(scan)
    town.pin(scan)
    with town.vault.catalogue.writing() as tx:
        town.vault.catalogue.apply_records(tx, [PutBack(permit, 1, 400)], town.now)
    for _ in range(10):
        _plan(town, planner)
    assert [p.phase.value for p in town.known(scan).permits] == ["undone"]
    assert town.replica(scan, Form.FILES).state.value == "verified"


def test_a_removal_goes_on_as_soon_as_its_area_is_seen(town, full):
    scan, planner = full
    _plan(town, planner)
    town.quarantine(scan)
    later = town.now + timedelta(days=2)
    planner.brake("", frozenset({"inhouse"}))
    assert planner.plan_scans(later) == 0
    planner.brake("", frozenset())
    assert planner.plan_scans(later) == 1
    assert len(town.jobs(scan, "empty_quarantine")) == 1


_MIRROR = """
  - {name: mirror, when: packed, do: replicate, with: {tiers: [mirror]}}
  - {name: prune-mirror, when: archived and usage > high, do: prune, with: {tiers: [mirror]}}
"""


@pytest.fixture
def mirrored(town):
    """A scan with a copy on a tier that is over its mark, and a planner."""
    (town.folder / "mirror").mkdir()
    policy = town.folder / "policies" / "standard.yaml"
    policy.write_text(policy.read_text("utf-8") + _MIRROR, "utf-8")
    mirror = {"kind": "posix", "path": "mirror", "quota": "300B", "high": "50%", "low": "20%", "prune": "on"}
    town.change(tiers={"mirror": mirror}, quarantine={"hold": "1d", "limit": "1GB"})
    scan = town.scan("one")
    digest, at = town.known(scan).products[0].digest, str(town.folder / "mirror" / "one")
    files = (StoredFile(f"{at}/p.tomo.h5", 200, digest),)
    stored = Stored(
        ProductKind.ORIGINAL, digest, Form.PACKAGE, "mirror", "disk:2", at, files, 200, digest, town.now, town.now
    )
    with town.vault.catalogue.writing() as tx:
        town.vault.record_tiers(tx)
        town.vault.catalogue.apply_records(tx, [stored], town.now, scan_id=scan)
    return scan, Plans(town)


def test_a_removal_from_another_place_waits_while_that_one_rests(town, mirrored):
    scan, planner = mirrored
    assert planner.plan_room(town.now) == 1
    permit = town.quarantine(scan)
    later = town.now + timedelta(days=2)
    planner.brake("", frozenset({"mirror"}))
    planner.plan_scans(later)
    assert town.jobs(scan, "empty_quarantine") == []
    assert planner.alarms[f"permit {permit}"].text.endswith("nothing is removed on tier mirror now")
    planner.brake("", frozenset())
    _plan(town, planner, later + timedelta(hours=7))
    (job,) = town.jobs(scan, "empty_quarantine")
    assert job.order["permit"] == permit


def _spoil(town, scan):
    """The manifest of a scan's original holds nothing that can be read."""
    digest = town.replica(scan, Form.FILES).digest
    path = town.vault.catalogue.manifest_path(digest)
    with open(path, "w") as file:
        file.write("{garbage")


def test_a_scan_that_cannot_be_planned_stops_no_other(town, monkeypatch):
    """Its manifest is damaged just when it follows its files: it is told, tried again later, and the rest goes on."""
    bad, good = town.scan("bad"), town.scan("good", copies=0)
    _spoil(town, bad)

    def follow(vault, tx, view, area, now):
        if view.scan.id == bad:
            catalogue = vault.catalogue
            catalogue.add_pin(tx, bad, "anna", "half done", now + timedelta(days=1), now)
            shared_paths(tx, bad)
        return False

    monkeypatch.setattr("tomovault.daemon.planner.follow_files", follow)
    planner = Planner(town.vault)
    planner.plan_scans(town.now)
    assert town.jobs(good, "archive")
    assert town.known(bad).pins == (), "nothing of it was recorded by half"
    (alarm,) = planner.alarms.values()
    assert (alarm.area, "is damaged" in alarm.text) == ("inhouse", True)
    with town.vault.catalogue.reading() as tx:
        due = town.vault.catalogue.list_due
        assert bad not in due(tx, town.now + timedelta(hours=5), 9)
        assert bad in due(tx, town.now + timedelta(hours=7), 9)
    monkeypatch.undo()
    planner.plan_scans(town.now + timedelta(hours=7))
    assert planner.alarms == {}


def test_what_a_limit_holds_is_asked_about_again_by_itself(town):
    """Room in a proposal is a fact of other scans: nothing new is known of the one that waits for it."""
    scan = town.scan("one")
    with town.vault.catalogue.writing() as tx:
        tx.run(tables.scan.update().values(proposal="ma1"))
        town.vault.catalogue.rebuild_usage(tx)
    town.change(quotas={"proposal": {"ma1": {"hard": "1B"}}})
    planner = Planner(town.vault)
    planner.plan_scans(town.now)
    assert town.jobs(scan, "reconstruct") == []
    town.change(quotas={"proposal": {"ma1": {"hard": "1TB"}}})
    planner = Planner(town.vault)
    assert planner.plan_scans(town.now + timedelta(hours=5)) == 0
    assert planner.plan_scans(town.now + timedelta(hours=7)) == 1
    assert len(town.jobs(scan, "reconstruct")) == 1
