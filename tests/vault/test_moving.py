"""Orders that bring files into another area: where to, when not, and what a site is told."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import update

from tomovault.catalog import tables
from tomovault.core.errors import IntegrityError, NoRoomYet, UserError
from tomovault.core.life import Stage, Status
from tomovault.core.record import Outcome, Result, Stored
from tomovault.core.replica import Form, ProductKind, TierClass
from tomovault.core.scan import Candidate
from tomovault.vault.following import follow_files
from tomovault.vault.job import result_of_failure
from tomovault.vault.orders import build_order
from tomovault.vault.removals import grant
from tomovault.vault.requests import Moot, Request
from tomovault.vault.scan_pages import explain_page
from tomovault.vault.setting_up import set_up_area
from tomovault.vault.status_pages import status_page


@pytest.fixture
def moving(town):
    """The town has a second area, and a rule that wants the files there."""
    town.server = town.base / "server"
    town.server.mkdir()
    set_up_area(town.folder, "server", str(town.server))
    town.change(areas={"server": {"quota": "1GB", "floor": "0B"}})

    def rule(settings="form: files, to: server", when="packed"):
        line = f"  - {{name: move, do: replicate, when: '{when}', with: {{{settings}}}}}\n"
        town.policy(("rules:\n", "rules:\n" + line))

    town.rule = rule
    return town


def order(town, scan):
    catalogue = town.vault.catalogue
    with catalogue.reading() as tx:
        return build_order("replicate", Request(town.vault, tx, catalogue.known(tx, scan), {}, town.now, "move"))


def view(town, scan):
    with town.vault.catalogue.reading() as tx:
        area = town.vault.area_facts(tx, "inhouse", town.now)
    return town.vault.view(town.known(scan), area, town.now)


def stored(town, scan, tier, location, form=Form.FILES, at="now"):
    digest = town.replica(scan, Form.FILES).digest
    when = town.now if at == "now" else at
    record = Stored(ProductKind.ORIGINAL, digest, form, tier, f"area:{tier}", location, (), 400, digest, town.now, when)
    with town.vault.catalogue.writing() as tx:
        town.vault.catalogue.apply_records(tx, [record], town.now, scan_id=scan)


def test_files_are_wanted_until_a_verified_copy_is_there(moving):
    moving.rule()
    scan = moving.scan("one")
    assert view(moving, scan).standings[Stage.REPLICATED].status is Status.DUE
    made = order(moving, scan)
    assert made["folder"] == str(moving.server / "one")
    assert (made["source"]["name"], made["target"]["name"]) == ("inhouse", "server")
    assert (made["root"], made["domain"], made["bytes"]) == (str(moving.area / "one"), "area:server", 400)
    stored(moving, scan, "server", "/x/package", Form.PACKAGE)
    assert view(moving, scan).standings[Stage.REPLICATED].status is Status.DUE, "a package is not the files"
    stored(moving, scan, "server", str(moving.server / "one"), at=None)
    assert view(moving, scan).standings[Stage.REPLICATED].status is Status.DUE, "it was not re-read"
    stored(moving, scan, "server", str(moving.server / "one"))
    assert view(moving, scan).standings[Stage.REPLICATED].status is Status.DONE
    with pytest.raises(Moot, match="every wanted tier has it"):
        order(moving, scan)


@pytest.mark.parametrize(
    ("proposal", "path", "folder"),
    [
        ("ma1234", "{proposal}", "ma1234/one"),
        ("ma1234", "raw/{beamline}-{format}/{area}", "raw/ID19-edf/inhouse/one"),
        ("../../etc", "{proposal}/x", "_._.._etc/x/one"),
        (".hidden", "{proposal}", "_hidden/one"),
    ],
)
def test_the_path_of_the_rule(moving, proposal, path, folder):
    moving.rule(f'form: files, to: server, path: "{path}"')
    scan = moving.scan("one")
    with moving.vault.catalogue.reading() as tx:
        known = replace(moving.vault.catalogue.known(tx, scan), proposal=proposal, beamline="ID19")
        made = build_order("replicate", Request(moving.vault, tx, known, {}, moving.now, "move"))
    assert os.path.relpath(made["folder"], moving.server) == folder


def test_a_path_that_needs_what_is_not_known_is_refused_in_words(moving):
    moving.rule('form: files, to: server, path: "{proposal}/{sample}"')
    with pytest.raises(UserError, match="the proposal of one is not known"):
        order(moving, moving.scan("one"))


def test_an_area_that_the_site_does_not_have(moving):
    moving.rule("form: files, to: srever")
    with pytest.raises(UserError, match="'srever', and there is no such area"):
        order(moving, moving.scan("one"))


def test_files_that_were_pruned_are_not_moved(moving):
    moving.rule()
    scan = moving.scan("one")
    with moving.vault.catalogue.reading() as tx:
        known = moving.vault.catalogue.known(tx, scan)
        gone = replace(known, replicas=tuple(r for r in known.replicas if r.form is not Form.FILES))
        with pytest.raises(Moot, match="not where they were written"):
            build_order("replicate", Request(moving.vault, tx, gone, {}, moving.now, "move"))


def test_a_server_at_its_high_mark_makes_the_move_wait_without_an_attempt(moving):
    moving.rule()
    scan = moving.scan("one")
    moving.change(areas={"server": {"quota": "1kB", "high": "50%", "low": "20%"}})
    assert order(moving, scan), "400 of 500 bytes"
    stored(moving, scan, "server", "/x/package", Form.PACKAGE)
    with pytest.raises(NoRoomYet, match=r"server is 40% full; 400 B more .* above its high mark of 50%") as waits:
        order(moving, scan)
    result = result_of_failure(waits.value)
    assert (result.outcome, result.pause_s) == (Outcome.WAITING, NoRoomYet.PAUSE_S)
    catalogue = moving.vault.catalogue
    with catalogue.writing() as tx:
        catalogue.queue_job(
            tx, "replicate", scan, {}, dedup_key="x", rule="move", now=moving.now, place="inhouse", host=None
        )
    moving.finish("replicate", result)
    (job,) = moving.jobs(scan, "replicate")
    assert (job.status.value, job.attempts) == ("todo", 0)
    stage = next(s for s in explain_page(view(moving, scan))["stages"] if s["stage"] == "replicated")
    assert (stage["status"], "high mark of 50%" in stage["reason"]) == ("waiting", True)
    with catalogue.reading() as tx:
        (waiting,) = status_page(moving.vault, tx, {}, moving.now)["waiting"]
    assert (waiting["id"], waiting["name"]) == (job.id, "one")
    moving.change(areas={"server": {"quota": "1GB"}})
    assert order(moving, scan)["folder"]


def test_what_over_jobs_left_is_named(moving):
    moving.rule()
    scan = moving.scan("one")
    catalogue = moving.vault.catalogue
    with catalogue.writing() as tx:
        jobs = [
            catalogue.queue_job(
                tx, "replicate", scan, {}, dedup_key=key, rule="move", now=moving.now, place="inhouse", host=None
            )
            for key in ("a", "b")
        ]
    for job in (*jobs, "stranger"):
        (moving.server / ".tomovault" / "arriving" / str(job)).mkdir(parents=True)
    moving.finish("replicate", Result(Outcome.FAILED, error="it failed"))
    over = [j.id for j in moving.jobs(scan, "replicate") if j.status.value == "failed"]
    assert order(moving, scan)["stale"] == over


def test_an_area_is_of_the_class_that_the_file_says(moving):
    """Law 4 asks about it: a class that is changed in the file counts from the next start."""
    moving.change(areas={"inhouse": {"class": "fast"}})
    scan = moving.scan("one")
    assert moving.replica(scan, Form.FILES).tier_class is TierClass.SERVER
    with moving.vault.catalogue.writing() as tx:
        moving.vault.record_tiers(tx)
    assert moving.replica(scan, Form.FILES).tier_class is TierClass.FAST
    with moving.vault.catalogue.reading() as tx:
        assert [e.op for e in moving.vault.catalogue.list_audit(tx, limit=50)].count("area changed") == 1


# --- where a scan belongs after it was moved -------------------------------------------------------------


@pytest.fixture
def emptied(moving):
    """Called for a scan whose files were moved, and then removed from its own place by us."""
    moving.rule()
    moving.room()

    def make(name="one", *, seen=True, package="gone", paths=("a.edf",), phase="gone"):
        scan = moving.scan(name, paths=paths)
        there = str(moving.server / name)
        stored(moving, scan, "server", there)
        catalogue = moving.vault.catalogue
        rule = next(r for r in moving.vault.policy_of("inhouse").rules if r.name == "prune-files")
        home = moving.replica(scan, Form.FILES).id
        with catalogue.writing() as tx:
            grant(moving.vault, tx, catalogue.known(tx, scan), home, rule=rule, now=moving.now)
            tx.run(update(tables.permit).values(phase=phase))
            tx.run(update(tables.replica).where(tables.replica.c.id == home).values(state="gone"))
            at_home = (tables.replica.c.tier == "inhouse") & (tables.replica.c.form == "package")
            tx.run(update(tables.replica).where(at_home).values(state=package))
            if seen:
                catalogue.note_candidate(tx, "server", Candidate("edf", there, ""), "snap", True, moving.now)
        return scan

    return make


def follow(town, scan):
    with town.vault.catalogue.writing() as tx:
        area = town.vault.area_facts(tx, town.vault.catalogue.known(tx, scan).area, town.now)
        seen = town.vault.view(town.vault.catalogue.known(tx, scan), area, town.now)
        return follow_files(town.vault, tx, seen, area, town.now)


def test_a_scan_belongs_to_the_server_when_nothing_of_it_is_left_on_the_fast_disk(moving, emptied):
    scan = emptied()
    assert follow(moving, scan)
    known = moving.known(scan)
    assert (known.area, known.root) == ("server", str(moving.server / "one"))
    assert known.candidate == Candidate("edf", str(moving.server / "one"), "")
    with moving.vault.catalogue.reading() as tx:
        seen = moving.vault.view(known, moving.vault.area_facts(tx, "server", moving.now), moving.now)
        assert seen.standings[Stage.PRUNED].status is not Status.DONE
        assert [e.op for e in moving.vault.catalogue.list_audit(tx, limit=9)].count("scan moved") == 1
    assert not follow(moving, scan)


@pytest.mark.parametrize(
    "how",
    [
        {"seen": False},
        {"package": "verified"},
        {"package": "leaving"},
        {"phase": "undone"},
        {"paths": ("lbsram/one/a.edf", "one/a.xml")},
    ],
    ids=["not seen by the walker", "its package is left", "its package is in quarantine", "not removed by us", "split"],
)
def test_else_it_stays_where_it_was(moving, emptied, how):
    scan = emptied(**how)
    assert not follow(moving, scan)
    assert moving.known(scan).area == "inhouse"


def test_a_damaged_manifest_is_told_as_such(moving, emptied):
    scan = emptied()
    digest = moving.known(scan).product(ProductKind.ORIGINAL).digest
    Path(moving.vault.catalogue.manifest_path(digest)).write_text("{garbage")
    with pytest.raises(IntegrityError, match="damaged"):
        follow(moving, scan)


def test_a_copy_that_went_bad_or_that_no_rule_asked_for_is_no_new_place(moving, emptied):
    scan = emptied()
    with moving.vault.catalogue.writing() as tx:
        copied = tables.replica.c.tier == "server"
        tx.run(update(tables.replica).where(copied).values(state="suspect"))
    assert not follow(moving, scan)
    with moving.vault.catalogue.writing() as tx:
        tx.run(update(tables.replica).where(copied).values(state="verified"))
    moving.policy(("name: move, do: replicate", "name: move, do: preview"), ("with: {form: files, to: server}", ""))
    assert not follow(moving, scan)
