"""What rules want to be sent of a scan: when, whether, and to which place."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tomovault.core.errors import Refused
from tomovault.core.known import JobStatus, jobs_of_transfer
from tomovault.core.life import Stage, Status
from tomovault.core.record import Outcome, Result
from tomovault.core.replica import Form
from tomovault.core.transfer import Receipt, TransferFailed, TransferPlanned, TransferReceived
from tomovault.daemon.exporter import Exporter
from tomovault.daemon.planner import Planner
from tomovault.daemon.room_maker import RoomMaker
from tomovault.vault.orders import build_order
from tomovault.vault.removal_pages import preview_page
from tomovault.vault.removals import grant, regrant
from tomovault.vault.requests import Moot, Request
from tomovault.vault.room import foresee_room
from tomovault.vault.scan_pages import explain_page
from tomovault.vault.staying import why_nothing_goes
from tomovault.vault.transferring import ask_transfer

SITE, HOME = "6c54cade-bde5-45c1-bdea-f4bd71dba2cc", "31ce9ba0-176d-45a5-add3-f37d233ba47d"
DAY = timedelta(days=1)


@pytest.fixture
def port(town):
    """A site from which all below its folder can be transferred, two at once, with rules that a test adds."""
    globus = {"collection": SITE, "paths": {str(town.base): "/"}, "names": {"home": HOME}, "at_once": 2}
    town.change(globus=globus)
    town.policy(("when: complete\n    do: preview", "when: age > 9999d\n    do: preview"))
    town.policy(("when: packed and size < 2GB and not aborted", "when: age > 9999d"))
    return town


def rules(town, *texts):
    town.policy(("rules:\n", "rules:\n" + "".join(f"  - {{{text}}}\n" for text in texts)))


SEND = "name: send, when: complete, do: export, with: {to: 'home:/in'}"


def view(town, scan, now=None):
    now = now or town.now
    with town.vault.catalogue.reading() as tx:
        return town.vault.view(town.known(scan), town.vault.area_facts(tx, "inhouse", now), now)


def exported(town, scan, now=None):
    return view(town, scan, now).standings[Stage.EXPORTED]


def plan(town, now=None, planner=None):
    """Everything that is due was planned; returns the planner."""
    planner = planner or Planner(town.vault)
    while planner.plan_scans(now or town.now):
        pass
    return planner


def look_again(town, *scans, now=None):
    with town.vault.catalogue.writing() as tx:
        for scan in scans:
            town.vault.catalogue.set_next_due(tx, scan, now or town.now)


def order_of(town, scan, now=None):
    with town.vault.catalogue.reading() as tx:
        known = town.vault.catalogue.known(tx, scan)
        job = [j for j in known.jobs if j.action == "export"][-1]
        return build_order("export", Request(town.vault, tx, known, job.order, now or town.now, job.rule))


def end(town, job, result):
    """How an export ended was recorded; it is given up after one attempt."""
    catalogue = town.vault.catalogue
    with catalogue.writing() as tx:
        claimed = catalogue.claim_job(tx, "somebody", now=town.now + 9 * DAY, only=job)
        return catalogue.finish_job(
            tx, claimed.id, claimed.token, result, now=town.now, retry_after_s=1.0, max_attempts=1
        )


def received(town, scan):
    """The first transfer of this scan that is not over is, its receipt in."""
    known = town.known(scan)
    transfer = next(t for t in known.transfers if not t.state.over)
    job = jobs_of_transfer(known, transfer)[-1].id
    planned = TransferPlanned(transfer.id, f"u{transfer.id}", town.now + DAY)
    receipt = Receipt("t1", SITE, transfer.collection, "/x", transfer.digest, ("x",), 1, 0, None, None, town.now)
    done = TransferReceived(transfer.id, f"u{transfer.id}", receipt)
    assert end(town, job, Result(Outcome.SUCCEEDED, (planned, done))) is JobStatus.SUCCEEDED


def test_a_rule_has_a_scan_sent_once_and_its_transfer_cites_it(port):
    rules(port, SEND)
    scan = port.scan("bone")
    assert exported(port, scan).status is Status.DUE
    plan(port)
    (job,) = port.jobs(scan, "export")
    (transfer,) = port.known(scan).transfers
    cited = port.vault.policy_of("inhouse").cite(port.vault.policy_of("inhouse").rules[0])
    assert job.rule == transfer.asked_by == cited
    assert cited.startswith("send@standard:")
    assert (transfer.collection, transfer.path) == (HOME, "/in")
    assert order_of(port, scan)["folder"] == "/in/bone"
    standing = exported(port, scan)
    assert standing.status is Status.WAITING
    assert cited in standing.reason
    received(port, scan)
    assert exported(port, scan).status is Status.DONE
    look_again(port, scan)
    plan(port)
    assert len(port.jobs(scan, "export")) == len(port.known(scan).transfers) == 1


def test_the_audit_log_names_the_rule_that_asked(port):
    rules(port, SEND)
    scan = port.scan("bone")
    plan(port)
    with port.vault.catalogue.reading() as tx:
        (entry,) = [e for e in port.vault.catalogue.list_audit(tx, limit=50) if e.op == "transfer asked"]
    assert entry.actor == port.known(scan).transfers[0].asked_by


def test_before_its_date_nothing_is_asked_for_and_at_its_date_it_is(port):
    date = (port.now + 3 * DAY).replace(hour=0, minute=0, second=0, microsecond=0)
    rules(port, SEND + f", from: {date:%Y-%m-%d}")
    scan = port.scan("bone")
    planner = plan(port)
    standing = exported(port, scan)
    assert standing.status is Status.WAITING
    assert f"not before {date:%Y-%m-%d}" in standing.reason
    plan(port, date - timedelta(seconds=1), planner)
    assert port.jobs(scan, "export") == []
    plan(port, date, planner)  # the planner itself knows when to look again
    assert len(port.jobs(scan, "export")) == 1


def test_an_embargo_wins_until_it_is_over(port):
    date = (port.now + 3 * DAY).replace(hour=0, minute=0, second=0, microsecond=0)
    rules(port, SEND, f"name: embargo, do: forbid, until: {date:%Y-%m-%d}, with: {{actions: [export]}}")
    scan = port.scan("bone")
    planner = plan(port)
    standing = exported(port, scan)
    assert (standing.status, port.jobs(scan, "export")) == (Status.HELD, [])
    assert standing.reason.startswith("forbidden by embargo@standard:")
    assert explain(port, scan)["rule"].startswith("send@standard:")
    plan(port, date, planner)
    assert len(port.jobs(scan, "export")) == 1


def explain(town, scan):
    return next(line for line in explain_page(view(town, scan))["stages"] if line["stage"] == "exported")


def test_an_embargo_that_comes_after_the_asking_stops_what_is_not_under_way_until_it_is_over(port):
    rules(port, SEND)
    scan = port.scan("bone")
    plan(port)
    rules(port, "name: embargo, do: forbid, with: {actions: [export]}")
    with pytest.raises(Moot, match="embargo"):
        order_of(port, scan)
    port.finish("export", Result(Outcome.SUCCEEDED, error="forbidden by embargo"))
    assert exported(port, scan).status is Status.HELD
    look_again(port, scan)
    plan(port)
    assert len(port.jobs(scan, "export")) == 1
    port.policy(("name: embargo, do: forbid", "name: embargo, until: 2020-01-01, do: forbid"))
    assert exported(port, scan).status is Status.DUE
    look_again(port, scan)
    plan(port, port.now + timedelta(seconds=1))
    assert [j.status for j in port.jobs(scan, "export")] == [JobStatus.SUCCEEDED, JobStatus.TODO]
    assert len(port.known(scan).transfers) == 1


def test_what_is_under_way_is_seen_through(port):
    rules(port, SEND)
    scan = port.scan("bone")
    plan(port)
    (transfer,) = port.known(scan).transfers
    with port.vault.catalogue.writing() as tx:
        planned = TransferPlanned(transfer.id, "u1", port.now + DAY)
        port.vault.catalogue.apply_records(tx, [planned], port.now, scan_id=scan)
    rules(port, "name: embargo, do: forbid, with: {actions: [export]}")
    assert order_of(port, scan)["submission_id"] == "u1"
    assert exported(port, scan).status is Status.WAITING


def test_a_rule_that_is_gone_withdraws_what_was_not_begun(port):
    rules(port, SEND)
    scan = port.scan("bone")
    plan(port)
    port.policy((f"  - {{{SEND}}}\n", ""))
    with pytest.raises(Moot, match="no rule wants"):
        order_of(port, scan)


def test_what_a_person_sent_there_before_is_not_sent_again(port):
    scan = port.scan("bone")
    ask_transfer(port.vault, scan, to="home:/in/", product="original", overwrite=False, by="ann")
    received(port, scan)
    rules(port, SEND)
    assert exported(port, scan).status is Status.DONE
    look_again(port, scan)
    plan(port)
    assert len(port.known(scan).transfers) == 1
    again = ask_transfer(port.vault, scan, to="home:/in", product="original", overwrite=False, by="ann")
    assert not again.joined
    assert len(port.known(scan).transfers) == 2


def test_every_destination_of_every_rule_is_served(port):
    rules(port, SEND, "name: twin, do: export, with: {to: 'home:/in'}", "name: too, do: export, with: {to: 'home:/b'}")
    scan = port.scan("bone")
    plan(port)
    asked = {(t.path, t.asked_by.partition("@")[0]) for t in port.known(scan).transfers}
    assert asked == {("/in", "send"), ("/b", "too")}
    assert len(port.known(scan).transfers) == 2
    received(port, scan)
    assert exported(port, scan).status is Status.WAITING
    received(port, scan)
    assert exported(port, scan).status is Status.DONE


def test_a_volume_is_sent_once_there_is_one(port):
    rules(port, "name: send, do: export, with: {to: 'home:/in', product: volume}")
    scan = port.scan("bone")
    plan(port)
    standing = exported(port, scan)
    assert (standing.status, port.jobs(scan, "export")) == (Status.WAITING, [])
    assert "waits for a verified package of the volume" in standing.reason


def test_what_lies_only_in_the_archive_is_held_with_what_to_do(port):
    rules(port, SEND)
    scan = port.scan("bone")
    with port.vault.catalogue.writing() as tx:
        port.vault.catalogue.record_missing(tx, port.replica(scan, Form.PACKAGE).id, "not found", port.now)
    standing = exported(port, scan)
    assert standing.status is Status.HELD
    assert f"tomovault restore {scan}" in standing.reason


@pytest.mark.parametrize(
    ("to", "told"),
    [("away:/in", "'away' is neither the UUID"), ("home:/{sample}", "the sample of it is not known")],
)
def test_an_address_that_leads_nowhere_holds_it(port, to, told):
    rules(port, f"name: send, do: export, with: {{to: '{to}'}}")
    scan = port.scan("bone")
    plan(port)
    standing = exported(port, scan)
    assert (standing.status, port.jobs(scan, "export")) == (Status.HELD, [])
    assert told in standing.reason


def test_without_a_section_it_is_held(town):
    rules(town, SEND)
    standing = exported(town, town.scan("bone"))
    assert standing.status is Status.HELD
    assert "`globus` section" in standing.reason


def test_what_failed_for_good_is_not_tried_again_but_by_a_person(port):
    rules(port, SEND)
    scan = port.scan("bone")
    plan(port)
    (transfer,) = port.known(scan).transfers
    failure = TransferFailed(transfer.id, "u1", "t1", "quota", port.now)
    planned = TransferPlanned(transfer.id, "u1", port.now + DAY)
    assert port.finish("export", Result(Outcome.REFUSED, (planned, failure), error="quota")) is JobStatus.FAILED
    for _ in range(5):
        look_again(port, scan)
        plan(port)
    assert len(port.jobs(scan, "export")) == 1
    standing = exported(port, scan)
    assert standing.status is Status.HELD
    assert "quota" in standing.reason


# --- how many ----------------------------------------------------------------------------------------


def queued(town, scans):
    return [scan for scan in scans if town.jobs(scan, "export")]


def test_no_more_are_under_way_than_the_site_says_and_each_has_its_turn(port):
    rules(port, SEND)
    scans = [port.scan(f"bone_{n}") for n in range(5)]
    planner = plan(port)
    seen = []
    for step in range(5):
        begun = queued(port, scans)
        assert len(begun) == min(5, step + 2)
        turn = next(s for s in begun if s not in seen)
        seen.append(turn)
        received(port, turn)
        plan(port, planner=planner)
    assert [exported(port, scan).status for scan in scans] == [Status.DONE] * 5


def test_a_scan_whose_turn_has_not_come_is_looked_at_again_by_a_planner_that_knows_nothing(port):
    rules(port, SEND)
    scans = [port.scan(f"bone_{n}") for n in range(3)]
    plan(port)
    for scan in list(queued(port, scans)):
        received(port, scan)
    plan(port, port.now + timedelta(minutes=11))
    assert queued(port, scans) == scans


def test_while_one_after_another_fails_no_more_are_asked_for_and_a_person_is_told(port):
    rules(port, SEND)
    scans = [port.scan(f"bone_{n}") for n in range(4)]
    planner = plan(port)
    for _ in range(2):
        assert port.finish("export", Result(Outcome.REFUSED, error="the token is not accepted")) is JobStatus.FAILED
    look_again(port, *scans)
    plan(port, planner=planner)
    assert len(queued(port, scans)) == 2
    alarm = planner.alarms["export inhouse"]
    assert "the token is not accepted" in alarm.text
    assert "tomovault retry" in alarm.text
    first = queued(port, scans)[0]
    with port.vault.catalogue.writing() as tx:
        port.vault.catalogue.retry_job(tx, port.jobs(first, "export")[0].id, "ann", port.now)
    received(port, first)
    plan(port, planner=planner)
    assert len(queued(port, scans)) == 4
    assert "export inhouse" not in planner.alarms


def test_two_scans_of_one_name_never_share_a_folder(port):
    rules(port, SEND)
    scans = [port.scan("bone", root=str(port.area / folder / "bone")) for folder in "ab"]
    plan(port)
    folders = {scan: order_of(port, scan)["folder"] for scan in scans}
    (first,) = (scan for scan in scans if folders[scan] == "/in/bone")
    (second,) = (scan for scan in scans if scan != first)
    assert folders[second] == f"/in/bone-{second}"


def test_the_preview_lists_what_each_rule_would_send(port):
    rules(port, SEND, "name: too, when: age > 9999d, do: export, with: {to: 'home:/b'}")
    scan = port.scan("bone")
    with port.vault.catalogue.reading() as tx:
        listed = {r["rule"].partition("@")[0]: r["scans"] for r in preview_page(port.vault, tx, port.now)["rules"]}
    assert (listed["send"], listed["too"]) == ([scan], [])
    assert port.jobs(scan, "export") == []


def test_a_person_is_refused_what_a_rule_forbids(port):
    rules(port, "name: embargo, do: forbid, with: {actions: [export]}")
    with pytest.raises(Refused):
        ask_transfer(port.vault, port.scan("bone"), to="home:/in", product="original", overwrite=False, by="ann")


def test_without_a_section_nothing_is_asked_for_until_there_is_one(town):
    rules(town, SEND)
    scan = town.scan("bone")
    with town.vault.catalogue.writing() as tx:
        asked = Exporter(town.vault).ask(tx, view(town, scan), town.now)
    assert (asked.again, asked.queued, town.jobs(scan, "export")) == (town.now + timedelta(hours=6), False, [])
    plan(town)
    town.change(globus={"collection": SITE, "paths": {str(town.base): "/"}, "names": {"home": HOME}})
    plan(town, town.now + timedelta(hours=6))
    assert len(town.jobs(scan, "export")) == 1


PRUNE = "name: out, when: {}, do: prune, with: {{forms: [files, package]}}"
BY_EVIDENCE, BY_MARK = PRUNE.format("archived"), PRUNE.format("archived and usage > high")


def going(town, scan):
    """The forms of the scan that may go by a permit."""
    forms = {r.id: r.form for r in town.known(scan).replicas}
    return sorted(forms[p.replica].value for p in town.known(scan).permits if p.phase.value == "granted")


def grant_package(town, scan):
    with town.vault.catalogue.writing() as tx:
        known = town.vault.catalogue.known(tx, scan)
        rule = next(r for r in town.vault.policy_of("inhouse").rules if r.name == "out")
        return grant(town.vault, tx, known, town.replica(scan, Form.PACKAGE).id, rule=rule, now=town.now)


def test_a_package_that_is_sent_goes_by_evidence_only_when_it_was(port):
    rules(port, SEND, BY_EVIDENCE)
    port.room(quota="1GB")
    scan = port.scan("bone")
    planner = plan(port)
    assert order_of(port, scan)["files"], "the export has what it sends"
    assert going(port, scan) == ["files"], "nothing that is sent waits for its own removal, and the files wait for none"
    received(port, scan)
    plan(port, planner=planner)
    assert going(port, scan) == ["files", "package"]


def test_a_package_that_is_sent_does_not_make_room(port):
    rules(port, SEND, BY_MARK)
    port.room(quota="1kB", high="40%", low="10%")
    port.change(quarantine={"hold": "1d", "limit": "1GB"})
    scan = port.scan("bone")
    plan(port)
    maker = RoomMaker(port.vault)
    for expected in (["files"], ["files", "package"]):
        maker.ask()
        while maker.turn(port.now):
            pass
        assert going(port, scan) == expected
        if expected == ["files"]:
            received(port, scan)


def test_packages_whose_turn_to_be_sent_has_not_come_stay(port):
    rules(port, SEND, BY_EVIDENCE)
    port.room(quota="1GB")
    scans = [port.scan(f"bone{n}") for n in range(3)]
    planner = plan(port)
    (waiting,) = [scan for scan in scans if not port.jobs(scan, "export")]
    assert going(port, waiting) == ["files"]
    for scan in scans:
        if scan != waiting:
            received(port, scan)
    plan(port, port.now + timedelta(minutes=11), planner)
    assert order_of(port, waiting)["files"], "its package is there"
    assert going(port, waiting) == ["files"]


def test_a_package_whose_turn_to_be_sent_has_not_come_makes_no_room(port):
    rules(port, SEND, BY_MARK)
    port.room(quota="1kB", high="10%", low="5%")
    port.change(quarantine={"hold": "1d", "limit": "1GB"})
    scan = port.scan("bone")
    maker = RoomMaker(port.vault)
    for _ in range(2):
        maker.ask()
        while maker.turn(port.now):
            pass
    assert going(port, scan) == ["files"]
    with port.vault.catalogue.reading() as tx:
        facts = port.vault.area_facts(tx, "inhouse", port.now)
        stays = foresee_room(port.vault, tx, facts, port.now, wanted=10**9).stays.values()
    (told,) = [one.reason for one in stays if "export" in one.reason]
    assert told.startswith("its export to /in by send@standard")
    assert "to be sent first" in why_nothing_goes(stays)


def test_no_permit_is_given_for_what_is_sent_whoever_asks(port):
    rules(port, SEND, BY_EVIDENCE)
    scan = port.scan("bone")
    port.room(quota="1GB", prune="off")
    plan(port)
    port.room(quota="1GB")
    with pytest.raises(Refused, match="export is not over"):
        grant_package(port, scan)
    received(port, scan)
    assert grant_package(port, scan).phase.value == "granted"


def test_a_removal_that_was_permitted_before_its_package_is_sent_gives_way(port):
    """A transfer that gave up is done again by a person, between the permit and the hour of its job."""
    rules(port, SEND, BY_EVIDENCE)
    port.room(quota="1GB", prune="off")
    scan = port.scan("bone")
    plan(port)
    (job,) = port.jobs(scan, "export")
    end(port, job.id, Result(Outcome.FAILED, (), "no network"))
    port.room(quota="1GB")
    grant_package(port, scan)
    (prune,) = port.jobs(scan, "prune")
    with port.vault.catalogue.writing() as tx:
        port.vault.catalogue.retry_job(tx, job.id, "ann", port.now)
        known = port.vault.catalogue.known(tx, scan)
        with pytest.raises(Moot, match="export is not over"):
            build_order("prune", Request(port.vault, tx, known, prune.order, port.now, prune.rule))
    port.quarantine(scan)
    with port.vault.catalogue.writing() as tx:
        permit = port.vault.catalogue.known(tx, scan).permits[0]
        regrant(port.vault, tx, port.vault.catalogue.known(tx, scan), permit, port.now + 60 * DAY)
    assert port.known(scan).permits[0].phase.value == "leaving", "what is in quarantine nobody sends"
