"""A person says that what failed is to be done again; a removal only if it would be permitted today."""

import pytest

from tomovault.core.errors import Refused, UserError
from tomovault.core.known import JobStatus, RemovalPhase
from tomovault.core.record import Outcome, Removed, Result
from tomovault.core.replica import Form
from tomovault.vault.again import do_again
from tomovault.vault.orders import build_order
from tomovault.vault.removals import grant, regrant
from tomovault.vault.requests import Request

FAILED = Result(Outcome.DAMAGED, error="1 file was not removed")


@pytest.fixture
def permitted(town):
    scan = town.scan("one")
    town.change(quarantine={"hold": "0s"})
    town.room()
    rule = next(r for r in town.vault.policy_of("inhouse").rules if r.name == "prune-files")
    catalogue = town.vault.catalogue
    with catalogue.writing() as tx:
        known = catalogue.known(tx, scan)
        grant(town.vault, tx, known, town.replica(scan, Form.FILES).id, rule=rule, now=town.now)
    return scan


@pytest.fixture
def stuck(town, permitted):
    """A scan whose removal failed in its second phase, and that job."""
    permit = town.quarantine(permitted)
    catalogue = town.vault.catalogue
    with catalogue.writing() as tx:
        known = catalogue.known(tx, permitted)
        regrant(town.vault, tx, known, known.permits[0], town.now)
        wish = {"permit": permit}
        job = catalogue.queue_job(
            tx, "empty_quarantine", permitted, wish, dedup_key=permit, rule="r@p:1", now=town.now, place="inhouse"
        )
    assert town.finish("empty_quarantine", FAILED) is JobStatus.FAILED
    return permitted, job, permit


def _again(town, job):
    with town.vault.catalogue.writing() as tx:
        do_again(town.vault, tx, job, "anna", town.now)


def test_a_removal_that_stopped_in_its_second_phase_goes_on(town, stuck):
    scan, job, permit = stuck
    _again(town, job)
    with town.vault.catalogue.writing() as tx:
        known = town.vault.catalogue.known(tx, scan)
        order = build_order("empty_quarantine", Request(town.vault, tx, known, {"permit": permit}, town.now, "r"))
    assert order["permit"] == permit
    gone = Result(Outcome.SUCCEEDED, (Removed(permit, 1, 400),))
    assert town.finish("empty_quarantine", gone) is JobStatus.SUCCEEDED
    assert town.known(scan).permits[0].phase is RemovalPhase.GONE


@pytest.mark.parametrize(
    "against",
    [lambda town, scan: town.pin(scan), lambda town, _: town.room(prune="off")],
    ids=["pin", "off"],
)
def test_it_does_not_go_on_where_it_would_not_be_permitted_today(town, stuck, against):
    scan, job, _ = stuck
    against(town, scan)
    with pytest.raises(Refused):
        _again(town, job)
    assert town.jobs(scan, "empty_quarantine")[0].status is JobStatus.FAILED


def test_a_removal_that_was_taken_back_is_not_done_again(town, permitted):
    assert town.finish("prune", FAILED) is JobStatus.FAILED
    (job,) = town.jobs(permitted, "prune")
    _again(town, job.id)
    assert town.finish("prune", FAILED) is JobStatus.FAILED
    catalogue = town.vault.catalogue
    with catalogue.writing() as tx:
        catalogue.withdraw_permit(tx, town.known(permitted).permits[0].id, "mistake", town.now)
    with pytest.raises(UserError, match="its permit is undone"):
        _again(town, job.id)
    assert town.jobs(permitted, "prune")[0].status is JobStatus.FAILED


def test_other_jobs_are_just_queued(town):
    scan = town.scan("one")
    with town.vault.catalogue.writing() as tx:
        job = town.vault.catalogue.queue_job(
            tx, "verify", scan, {}, dedup_key="v", rule="r", now=town.now, place="inhouse"
        )
    town.finish("verify", FAILED)
    _again(town, job)
    assert town.jobs(scan, "verify")[0].status is JobStatus.TODO
    with pytest.raises(UserError, match="is todo"):
        _again(town, job)
