import threading
import time
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import update

from tomovault.catalog import tables
from tomovault.core.errors import IntegrityError, Refused, TomovaultError, Transient, UserError
from tomovault.core.known import JobStatus
from tomovault.core.record import GivenBack, Made, Outcome, Result, Stored
from tomovault.core.replica import Form, ProductKind, StoredFile
from tomovault.vault import asking
from tomovault.vault.asking import Answer, ask, find_scan, raise_if_failed, wait_for

FAMILIES = [
    (Outcome.REFUSED, Refused, 3),
    (Outcome.DAMAGED, IntegrityError, 4),
    (Outcome.TRANSIENT, Transient, 75),
    (Outcome.FAILED, UserError, 2),
    (Outcome.DEFECT, TomovaultError, 1),
]


@pytest.fixture
def wish(town, tmp_path):
    return {"to": str(tmp_path / "out"), "product": "original"}


@pytest.fixture
def leading(town):
    """Somebody leads the site."""
    with town.vault.catalogue.writing() as tx:
        assert town.vault.catalogue.take_lease(tx, asking.LEADER, "daemon", 600.0)


@pytest.mark.parametrize(("outcome", "kind", "code"), FAMILIES)
def test_the_family_of_a_failure_survives_the_queue(town, wish, outcome, kind, code):
    scan = town.scan("one")
    answer = ask(town.vault, "restore", scan, wish, by="anna", wait=False)
    town.finish("restore", Result(outcome, error="it did not work", hint="try this"))
    with pytest.raises(kind) as failed:
        raise_if_failed(asking._ended(town.vault, answer.job))
    assert type(failed.value) is kind
    assert (failed.value.exit_code, failed.value.message, failed.value.hint[:8]) == (
        code,
        "it did not work",
        "try this",
    )


def test_a_cancelled_job_says_so():
    with pytest.raises(Refused, match="cancelled"):
        raise_if_failed(Answer("j1", JobStatus.CANCELLED))


def test_a_request_is_queued_for_the_leader(town, wish, leading):
    scan = town.scan("one")
    answer = ask(town.vault, "restore", scan, wish, by="anna", wait=False)
    assert answer.status is JobStatus.TODO
    assert [(j.action, j.rule) for j in town.known(scan).jobs] == [("restore", "anna")]


def test_waiting_sees_what_the_leader_did(town, wish, leading):
    scan = town.scan("one")
    job = ask(town.vault, "restore", scan, wish, by="anna", wait=False).job
    told = []
    given = GivenBack("inhouse", None, wish["to"], 1, 400)
    timer = threading.Timer(0.5, lambda: town.finish("restore", Result(Outcome.SUCCEEDED, (given,))))
    timer.start()
    answer = wait_for(town.vault, job, lambda *words: told.append(words[0]))
    timer.join()
    assert (answer.status, answer.given) == (JobStatus.SUCCEEDED, (given,))
    assert "waiting for the daemon" in told


@pytest.fixture
def pausing(town, wish):
    """A job whose next try is hours away, on a site with a short lease; gives it, and who leads."""
    job = ask(town.vault, "restore", town.scan("one"), wish, by="anna", wait=False).job
    with town.vault.catalogue.writing() as tx:
        tx.run(update(tables.job).where(tables.job.c.id == job).values(not_before=town.now + timedelta(hours=1)))
    town.vault.site = replace(town.vault.site, lease_s=0.9)

    def leader():
        with town.vault.catalogue.reading() as tx:
            return town.vault.catalogue.lease_holder(tx, asking.LEADER)

    return job, leader


def test_the_lead_is_kept_while_a_job_pauses(town, pausing):
    job, leader = pausing
    leaders, until = set(), time.monotonic() + 2.5

    def look(word, *_):
        leaders.add(leader())
        if time.monotonic() > until:
            asking._cancel(town.vault, job)

    assert wait_for(town.vault, job, look).status is JobStatus.CANCELLED
    assert len(leaders) == 1
    assert None not in leaders


def test_a_command_that_lost_the_lead_waits_for_whoever_has_it(town, pausing):
    job, leader = pausing
    words = []

    def look(word, *_):
        words.append(word)
        with town.vault.catalogue.writing() as tx:
            if len(words) == 1:
                town.vault.catalogue.drop_lease(tx, asking.LEADER, leader())
                assert town.vault.catalogue.take_lease(tx, asking.LEADER, "other-1-x", 600.0)
        if word == "waiting for the daemon":
            assert leader() == "other-1-x"
            with town.vault.catalogue.reading() as tx:
                assert town.vault.catalogue.read_job(tx, job).status is JobStatus.TODO
            asking._cancel(town.vault, job)

    assert wait_for(town.vault, job, look).status is JobStatus.CANCELLED
    assert words[0] == "waiting for the next try"
    assert words[-1] == "waiting for the daemon"
    assert leader() == "other-1-x"


def test_a_wrong_request_is_refused_before_it_is_queued(town, wish):
    scan = town.scan("one")
    for wrong, match in (
        ({"product": "volume"}, "has no volume"),
        ({"from": "nowhere"}, "no tier"),
        ({"to": str(town.area / ".tomovault" / "x")}, "kept by tomovault"),
        ({"to": f"{town.area}.vault/below"}, "kept by tomovault"),
        ({"to": str(town.folder / "tape")}, "kept by tomovault"),
        ({"to": str(town.folder / "tomovault.yaml")}, "is not a folder"),
    ):
        with pytest.raises(UserError, match=match):
            ask(town.vault, "restore", scan, {**wish, **wrong}, by="anna", wait=False)
    assert town.known(scan).jobs == ()


def test_a_moot_request_is_refused(town):
    scan = town.scan("one")
    with pytest.raises(Refused, match="permit is not known"):
        ask(town.vault, "undo_prune", scan, {"permit": "m0"}, by="anna", wait=False)


def test_a_job_of_another_machine_is_not_waited_for_alone(town, wish):
    scan = town.scan("one")
    town.change(areas={"inhouse": {"host": "elsewhere"}})
    with pytest.raises(Transient, match="another machine"):
        ask(town.vault, "restore", scan, wish, by="anna", wait=True)
    assert town.known(scan).jobs[0].status is JobStatus.CANCELLED


def test_an_ambiguous_name_lists_the_candidates(town):
    first = town.scan("same")
    second = town.scan("same", root=str(town.area / "other"))
    with town.vault.catalogue.reading() as tx:
        with pytest.raises(UserError) as wrong:
            find_scan(town.vault, tx, "same")
        assert first in wrong.value.hint
        assert second in wrong.value.hint
        assert find_scan(town.vault, tx, second).id == second
        assert find_scan(town.vault, tx, str(town.area / "same")).id == first
        with pytest.raises(UserError, match="no scan is known"):
            find_scan(town.vault, tx, "nothing")


def test_what_is_inside_of_a_scans_folder_names_no_scan(town):
    """It may be one that is not known yet: a judgement given to it would go to its neighbour."""
    town.scan("one")
    inside = town.area / "one" / "new.nx"
    inside.parent.mkdir(exist_ok=True)
    inside.touch()
    with town.vault.catalogue.reading() as tx, pytest.raises(UserError, match="no scan is known"):
        find_scan(town.vault, tx, str(inside))


def test_only_a_whole_original_at_its_old_place_is_a_replica_again(town):
    from tomovault.vault.orders import build_order
    from tomovault.vault.requests import Request

    scan = town.scan("one")
    old = str(town.area / "one")
    with town.vault.catalogue.reading() as tx:
        known = town.vault.catalogue.known(tx, scan)

        def home(**wish):
            return build_order("restore", Request(town.vault, tx, known, wish, town.now, "anna"))["home"]

        assert (
            home(to=str(town.area / "x" / ".." / "one"))["pinned_until"] > (town.now + timedelta(hours=1)).isoformat()
        )
        assert home(to=str(town.folder / "elsewhere")) is None
        assert home(to=old, frames=[0, 1]) is None
        assert home(to=old, files=["*.edf"]) is None


@pytest.mark.parametrize("wish", [{}, {"files": ["*.edf"]}, {"product": "volume"}], ids=["whole", "part", "volume"])
@pytest.mark.parametrize("place", ["one", "other"])
def test_an_area_that_is_restored_into_is_named_by_its_marker(town, wish, place):
    from tomovault.vault.orders import build_order
    from tomovault.vault.requests import Request

    scan = town.scan("one")
    catalogue = town.vault.catalogue
    if "product" in wish:
        made = Made(ProductKind.VOLUME, "f" * 64, 400, 1, manifest="{}")
        there = StoredFile("v", 400, "f" * 64)
        stored = Stored(
            *(ProductKind.VOLUME, "f" * 64, Form.PACKAGE, "inhouse", "d", "v", (there,), 400, "f" * 64),
            *(town.now, town.now),
        )
        with catalogue.writing() as tx:
            catalogue.apply_records(tx, [made, stored], town.now, scan_id=scan)
    with catalogue.reading() as tx:
        asked = {"to": str(town.area / place), **wish}
        order = build_order("restore", Request(town.vault, tx, catalogue.known(tx, scan), asked, town.now, "anna"))
        outside = {**asked, "to": str(town.base / "out")}
        away = build_order("restore", Request(town.vault, tx, catalogue.known(tx, scan), outside, town.now, "anna"))
    assert order["watched"]["identity"]["uuid"]
    assert (order["watched"]["area"], order["watched"]["path"]) == ("inhouse", str(town.area))
    assert (order["elsewhere"] is None) == (place == "one")
    assert (away["watched"], away["elsewhere"], away["home"]) == (None, None, None)


def test_what_is_in_quarantine_is_put_back_not_restored_over(town, wish):
    from tomovault.core.replica import Form
    from tomovault.vault.removals import grant

    scan = town.scan("one")
    town.room()
    rule = next(r for r in town.vault.policy_of("inhouse").rules if r.do == "prune")
    with town.vault.catalogue.writing() as tx:
        known = town.vault.catalogue.known(tx, scan)
        grant(town.vault, tx, known, town.replica(scan, Form.FILES).id, rule=rule, now=town.now)
    with pytest.raises(Refused, match="in quarantine"):
        ask(town.vault, "restore", scan, {**wish, "to": str(town.area / "one")}, by="anna", wait=False)
