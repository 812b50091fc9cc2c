"""An operator's order to destroy: what it takes, what it refuses, and what it withdraws."""

import os
import re
from datetime import timedelta

import pytest

from tomovault.core.errors import Refused, Transient, UserError
from tomovault.core.known import RemovalPhase
from tomovault.core.life import Stage, Status
from tomovault.core.record import Checked, Outcome, Removed, Result, Stored
from tomovault.core.replica import Form, ProductKind, ReplicaState, StoredFile
from tomovault.daemon.planner import Planner
from tomovault.vault.destroying import order_destruction, plan_destruction, require_operator
from tomovault.vault.orders import build_order
from tomovault.vault.removals import take_back_order
from tomovault.vault.requests import Request
from tomovault.vault.setting_up import set_up_area

ORIGINAL = ProductKind.ORIGINAL


@pytest.fixture
def scan(town):
    return town.scan("one", paths=("a.edf", "b.edf"))


def order(town, scan, tier, *, reason="test data", now=None):
    planned = plan_destruction(town.vault, town.known(scan), ORIGINAL, tier, now or town.now)
    return order_destruction(town.vault, planned, by="olga", reason=reason, now=now or town.now)


def plan(town, now):
    planner = Planner(town.vault)
    while planner.plan_scans(now):
        pass
    return planner


def states(town, scan):
    return {(r.form.value, r.tier): r.state for r in town.known(scan).replicas}


def test_every_copy_on_the_tier_goes_and_no_other(town, scan):
    permits = order(town, scan, "tape")
    assert [p.phase for p in permits] == [RemovalPhase.QUARANTINED] * 2
    assert {p.reason for p in permits} == {"test data"}
    assert {p.ordered_by for p in permits} == {"olga"}
    assert states(town, scan) == {
        ("files", "inhouse"): ReplicaState.VERIFIED,
        ("package", "inhouse"): ReplicaState.VERIFIED,
        ("package", "tape"): ReplicaState.LEAVING,
    }
    named = {copy["replica"] for permit in permits for copy in permit.relied_on}
    assert named == {r.id for r in town.known(scan).replicas if r.tier == "inhouse"}, "not the fellow that goes too"


def test_nothing_happens_before_the_hold_and_then_the_tier_is_asked(town, scan):
    order(town, scan, "tape")
    plan(town, town.now + timedelta(days=13))
    assert town.jobs(scan, "destroy") == []
    plan(town, town.now + timedelta(days=15))
    jobs = town.jobs(scan, "destroy")
    assert len(jobs) == 2
    with town.vault.catalogue.writing() as tx:
        known = town.vault.catalogue.known(tx, scan)
        request = Request(town.vault, tx, known, jobs[0].order, town.now + timedelta(days=15), "rule")
        wanted = build_order("destroy", request)
    assert wanted["tier"] == "tape"
    assert wanted["placed"]["location"] in {r.location for r in known.replicas if r.tier == "tape"}


def test_what_was_destroyed_is_not_made_again(town, scan):
    for permit in order(town, scan, "tape"):
        plan(town, town.now + timedelta(days=15))
        town.finish("destroy", Result(Outcome.SUCCEEDED, (Removed(permit.id, 1, 200),)))
    plan(town, town.now + timedelta(days=16))
    known = town.known(scan)
    assert {p.phase for p in known.permits} == {RemovalPhase.GONE}
    assert town.jobs(scan, "archive") == []
    with town.vault.catalogue.reading() as tx:
        view = town.vault.view(known, town.vault.area_facts(tx, "inhouse", town.now), town.now)
    assert view.standings[Stage.ARCHIVED].status is Status.OFF
    assert "ordered by olga: test data" in view.standings[Stage.ARCHIVED].reason


def _archived(town, scan):
    known = town.known(scan)
    with town.vault.catalogue.reading() as tx:
        view = town.vault.view(known, town.vault.area_facts(tx, "inhouse", town.now), town.now)
    return view.standings[Stage.ARCHIVED].status


def test_in_place_of_a_bad_copy_that_was_destroyed_a_good_one_is_wanted_when_that_is_gone(town, scan):
    """On a disk it would have the place of the bad one before, and go with it."""
    _spoil(town, scan, "tape")
    permits = order(town, scan, "tape")
    plan(town, town.now)
    assert (_archived(town, scan), town.jobs(scan, "archive")) == (Status.OFF, [])
    for permit in permits:
        plan(town, town.now + timedelta(days=15))
        town.finish("destroy", Result(Outcome.SUCCEEDED, (Removed(permit.id, 1, 200),)))
    plan(town, town.now + timedelta(days=16))
    assert _archived(town, scan) is not Status.OFF
    assert len(town.jobs(scan, "archive")) == 1


def test_where_a_good_copy_was_destroyed_with_a_bad_one_none_is_wanted(town, scan):
    _spoil(town, scan, "tape", copies=1)
    order(town, scan, "tape")
    plan(town, town.now)
    assert _archived(town, scan) is Status.OFF
    assert town.jobs(scan, "archive") == []


def test_an_order_that_was_taken_back_withdraws_nothing(town, scan):
    for permit in order(town, scan, "tape"):
        with town.vault.catalogue.writing() as tx:
            take_back_order(town.vault, tx, town.known(scan), permit, town.now)
    known = town.known(scan)
    assert states(town, scan)["package", "tape"] is ReplicaState.VERIFIED
    with town.vault.catalogue.reading() as tx:
        view = town.vault.view(known, town.vault.area_facts(tx, "inhouse", town.now), town.now)
    assert view.standings[Stage.ARCHIVED].status is Status.DONE


def test_one_that_is_at_its_end_is_not_taken_back(town, scan):
    (permit, *_) = order(town, scan, "tape")
    plan(town, town.now + timedelta(days=15))
    with town.vault.catalogue.writing() as tx, pytest.raises(Refused, match="right now"):
        take_back_order(town.vault, tx, town.known(scan), permit, town.now)  # as the command has read it before
    assert states(town, scan)["package", "tape"] is ReplicaState.LEAVING


def test_in_the_area_files_and_package_move_into_quarantine(town, scan):
    permits = order(town, scan, "inhouse")
    assert {p.phase for p in permits} == {RemovalPhase.GRANTED}
    jobs = town.jobs(scan, "prune")
    assert {j.order["permit"] for j in jobs} == {p.id for p in permits}
    with town.vault.catalogue.writing() as tx:
        known = town.vault.catalogue.known(tx, scan)
        files = next(p for p in permits if p.replica == town.replica(scan, Form.FILES).id)
        wanted = build_order("prune", Request(town.vault, tx, known, {"permit": files.id}, town.now, "rule"))
    assert "By olga: test data" in wanted["readme"]
    assert "prune undo" in wanted["readme"]
    assert "on tape" in wanted["readme"]


def test_with_prune_off_and_no_copies_in_the_archive_too(town):
    """The switch and law 4 are for rules: a person may."""
    scan = town.scan("lonely", copies=0)
    assert not town.vault.site.areas["inhouse"].prune
    assert len(order(town, scan, "inhouse")) == 2


def test_a_pin_refuses_it_and_one_set_meanwhile_stops_it(town, scan):
    town.pin(scan)
    with pytest.raises(Refused) as refused:
        order(town, scan, "tape")
    assert refused.value.by == "pin"
    later = town.now + timedelta(days=2)
    (permit, *_) = order(town, scan, "tape", now=later)
    with town.vault.catalogue.writing() as tx:
        town.vault.catalogue.add_pin(tx, scan, "anna", "mine", later + timedelta(days=60), later)
    planner = plan(town, later + timedelta(days=20))
    assert town.jobs(scan, "destroy") == []
    assert "pinned by anna" in planner.alarms[f"permit {permit.id}"].text


def test_work_on_the_copies_comes_first(town, scan):
    catalogue = town.vault.catalogue
    with catalogue.writing() as tx:
        catalogue.queue_job(tx, "verify", scan, {}, dedup_key="v", rule="r", now=town.now, place="inhouse")
        catalogue.claim_job(tx, "somebody", now=town.now, actions=["verify"])
    with pytest.raises(Transient, match="verify is under way"):
        order(town, scan, "tape")


@pytest.mark.parametrize(("tier", "waits"), [("inhouse", True), ("tape", False)])
def test_a_transfer_that_is_under_way_comes_first(town, scan, tier, waits):
    """What is only queued finds nothing to send later, and says so."""
    catalogue, wish = town.vault.catalogue, {"product": "original", "path": "/in"}
    with catalogue.writing() as tx:
        catalogue.queue_job(tx, "export", scan, wish, dedup_key="e", rule="anna", now=town.now, place="inhouse")
    plan_destruction(town.vault, town.known(scan), ORIGINAL, tier, town.now)
    with catalogue.writing() as tx:
        catalogue.claim_job(tx, "somebody", now=town.now, actions=["export"])
    if waits:
        with pytest.raises(Transient, match="export is under way"):
            order(town, scan, tier)
        assert town.known(scan).permits == ()
    else:
        assert order(town, scan, tier)


def _spoil(town, scan, tier, copies=9):
    bad = [r.id for r in town.known(scan).replicas if r.tier == tier][:copies]
    with town.vault.catalogue.writing() as tx:
        records = [Checked(replica, ok=False, at=town.now, reason="another digest") for replica in bad]
        town.vault.catalogue.apply_records(tx, records, town.now)


def test_a_copy_that_is_known_to_be_bad_goes_as_it_is_and_files_of_a_user_never(town, scan):
    _spoil(town, scan, "inhouse")
    permits = order(town, scan, "inhouse")
    found = {}
    with town.vault.catalogue.writing() as tx:
        known = town.vault.catalogue.known(tx, scan)
        for permit in permits:
            wanted = build_order("prune", Request(town.vault, tx, known, {"permit": permit.id}, town.now, "rule"))
            found[wanted["form"]] = wanted["as_it_is"]
    assert found == {"files": False, "package": True}


@pytest.mark.parametrize("spoilt", [True, False])
def test_on_a_tier_only_a_copy_that_is_known_to_be_bad_goes_as_it_is(town, scan, spoilt):
    if spoilt:
        _spoil(town, scan, "tape")
    order(town, scan, "tape")
    later = town.now + timedelta(days=15)
    plan(town, later)
    with town.vault.catalogue.writing() as tx:
        known = town.vault.catalogue.known(tx, scan)
        job = town.jobs(scan, "destroy")[0]
        assert build_order("destroy", Request(town.vault, tx, known, job.order, later, "rule"))["as_it_is"] is spoilt


def test_what_was_to_stay_must_be_good_when_the_rest_goes_for_good(town, scan):
    order(town, scan, "inhouse")
    for _ in range(2):
        town.quarantine(scan)
    _spoil(town, scan, "tape")
    planner = plan(town, town.now + timedelta(days=15))
    assert town.jobs(scan, "empty_quarantine") == []
    assert {p.phase for p in town.known(scan).permits} == {RemovalPhase.QUARANTINED}
    assert any("none of the copies that were to stay" in a.text for a in planner.alarms.values())


def test_what_was_to_stay_must_be_good_when_it_is_ordered(town, scan):
    planned = plan_destruction(town.vault, town.known(scan), ORIGINAL, "inhouse", town.now)
    assert not planned.last
    _spoil(town, scan, "tape")
    with pytest.raises(Refused, match="none of the copies that were to stay"):
        order_destruction(town.vault, planned, by="olga", reason="test data", now=town.now)
    assert town.known(scan).permits == ()


@pytest.fixture
def server(town):
    """A second area; called for a copy of a scan's original in it, in that form."""
    (town.base / "server").mkdir()
    set_up_area(town.folder, "server", str(town.base / "server"))
    town.change(areas={"server": {"quota": "1GB", "floor": "0B"}})

    def copy(scan, form):
        digest = town.replica(scan, Form.FILES).digest
        at = str(town.base / ("server.vault/one.tomo.h5" if form is Form.PACKAGE else "server/one"))
        files = (StoredFile(at, 200, digest),) if form is Form.PACKAGE else ()
        record = Stored(ORIGINAL, digest, form, "server", "area:server", at, files, 200, digest, town.now, town.now)
        with town.vault.catalogue.writing() as tx:
            town.vault.catalogue.apply_records(tx, [record], town.now, scan_id=scan)

    return copy


def test_a_package_in_another_area_goes_there(town, scan, server):
    """It stays in the vault of the area where it was made when somebody moves the files of its scan."""
    server(scan, Form.PACKAGE)
    (permit,) = order(town, scan, "server")
    (job,) = town.jobs(scan, "prune")
    with town.vault.catalogue.writing() as tx:
        known = town.vault.catalogue.known(tx, scan)
        wanted = build_order("prune", Request(town.vault, tx, known, job.order, town.now, "rule"))
        claimed = town.vault.catalogue.claim_job(tx, "somebody", now=town.now, actions=["prune"])
    assert claimed.place == wanted["area"] == "server"
    assert wanted["area_path"] == str(town.base / "server")
    assert wanted["place"]["quarantine"] == str(town.base / "server.vault" / ".tomovault" / "quarantine" / permit.id)
    assert states(town, scan)["package", "inhouse"] is ReplicaState.VERIFIED


@pytest.mark.parametrize(("wanted", "status"), [("mirror", Status.DUE), ("server", Status.OFF)])
def test_what_goes_from_where_no_rule_wants_a_copy_withdraws_no_copy(town, scan, server, wanted, status):
    """A package that was left in another area goes; a copy that a rule wants elsewhere is wanted as before."""
    server(scan, Form.PACKAGE)
    town.change(tiers={"mirror": {"kind": "posix", "path": "mirror"}})
    rule = f"  - name: second\n    when: packed\n    do: replicate\n    with: {{tiers: [{wanted}]}}\n"
    town.policy(("rules:\n", f"rules:\n{rule}"))
    order(town, scan, "server")
    with town.vault.catalogue.reading() as tx:
        view = town.vault.view(town.known(scan), town.vault.area_facts(tx, "inhouse", town.now), town.now)
    assert view.standings[Stage.REPLICATED].status is status


def test_files_that_a_person_put_into_another_area_are_no_ones_to_destroy(town, scan, server):
    server(scan, Form.FILES)
    with pytest.raises(UserError, match="a copy that a rule or a person put there") as refused:
        order(town, scan, "server")
    assert "rm" in refused.value.hint


def test_the_last_goes_where_the_person_knew(town):
    scan = town.scan("lonely", copies=0)
    order(town, scan, "inhouse")
    for _ in range(2):
        town.quarantine(scan)
    plan(town, town.now + timedelta(days=15))
    assert len(town.jobs(scan, "empty_quarantine")) == 2


def test_it_needs_something_to_destroy_there(town, scan):
    with pytest.raises(UserError, match="did you mean 'tape'"):
        order(town, scan, "tap")
    with pytest.raises(UserError) as wrong:
        plan_destruction(town.vault, town.known(scan), ProductKind.VOLUME, "inhouse", town.now)
    assert "original on inhouse, original on tape" in wrong.value.hint
    order(town, scan, "tape")
    with pytest.raises(UserError, match="no original on tape"):
        order(town, scan, "tape")


@pytest.mark.skipif(os.getuid() != 0, reason="giving a folder away needs root")
def test_only_the_owner_of_the_site_destroys(town, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    with pytest.raises(Refused, match="only an operator"):
        require_operator(town.folder)
    os.chown(town.folder, 4711, -1)
    require_operator(town.folder)


# --- the command -------------------------------------------------------------------------------------


def command(*more):
    return ("destroy", "one", "--product", "original", "--tier", "tape", "--reason", "test data", *more)


def test_the_name_is_asked_for(say, town, scan):
    for arguments, told in (
        (command(), "no terminal to ask on"),
        (command("--confirm", "two"), "'two' is not the name of this scan; nothing was done"),
    ):
        said = say(*arguments)
        assert said.code == 2
        assert told in said.err
        assert town.known(scan).permits == ()
    said = say(*command("--confirm", "one"))
    assert said.code == 0
    assert "tomovault prune undo" in said.out


def test_its_page_and_the_list(ask, say, scan):
    page = ask(*command("--confirm", "one"))
    assert page["last"] is False
    assert {s["tier"] for s in page["stays"]} == {"inhouse"}
    assert len(page["permits"]) == 2
    rows = ask("prune", "list")["quarantine"]
    assert {(r["tier"], r["rule"].split(" by ")[0], r["reason"]) for r in rows} == {("tape", "destroy", "test data")}
    lines = say("prune", "list").out.splitlines()[1:3]
    assert all(scan in line for line in lines), "a name may be that of several scans"
    assert sorted(re.findall(r" (tape \(pool-\d\)) ", line)[0] for line in lines) == ["tape (pool-0)", "tape (pool-1)"]
    assert all(re.search(r" \d{4}-\d\d-\d\d \d\d:\d\d UTC ", line) for line in lines)
    undone = ask("prune", "undo", "one")
    assert {p["phase"] for p in undone["permits"]} == {"undone"}


def test_a_reason_is_needed(say, scan):
    said = say("destroy", "one", "--product", "original", "--tier", "tape", "--reason", " ", "--confirm", "one")
    assert said.code == 2
    assert "needs a reason" in said.err


def test_the_audit_names_the_person(town, scan):
    order(town, scan, "tape", reason="owner left, agreed with her group")
    with town.vault.catalogue.reading() as tx:
        rows = [r for r in town.vault.catalogue.list_audit(tx) if r.op == "permit granted"]
    assert {r.actor for r in rows} == {"olga"}
    assert all("owner left" in str(r.body) for r in rows)
