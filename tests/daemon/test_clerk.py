import os
import threading
import time
from collections import deque
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import update

from tomovault.catalog import tables
from tomovault.daemon import clerk as clerk_module
from tomovault.daemon import gauges
from tomovault.daemon.clerk import Clerk
from tomovault.daemon.clock import WallClock
from tomovault.vault.fellows import watch_lease
from tomovault.vault.setting_up import set_up_area
from tomovault.vault.telling import last_told
from tomovault.vault.vault import Vault


@pytest.fixture
def employ():
    """Makes a clerk for a vault, with its bell to stop."""

    def make(vault, *, busy=lambda: False):
        stop = threading.Event()
        return Clerk(vault, stop=stop, tell=lambda _what, _facts: None, busy=busy), stop

    return make


def test_an_area_that_left_the_sites_file_rests(town, employ):
    """Its jobs wait and its scans stay due until it stands there again."""
    scan = town.scan("one", copies=0)
    catalogue = town.vault.catalogue
    with catalogue.writing() as tx:
        catalogue.queue_job(tx, "verify", scan, {}, dedup_key="v", rule="r", now=town.now, place="inhouse")
    clerk, _ = employ(Vault(replace(town.vault.site, areas={}), catalogue))
    clerk._lead.join()
    clerk.presence.start(lambda _area: True)
    clerk.brake()
    now = datetime.now(UTC)
    assert clerk.plan_scans(now) == 0
    assert clerk.launch(now) == 0
    clerk.make_room(now)
    assert clerk.is_idle()
    clerk._lead.drop()
    assert [j.status.value for j in town.jobs(scan, "verify")] == ["todo"]


def test_nothing_is_idle_while_somebody_else_writes(town, employ):
    clerk, _ = employ(Vault(replace(town.vault.site, areas={}), town.vault.catalogue), busy=lambda: True)
    clerk.make_room(datetime.now(UTC))
    assert not clerk.is_idle()


def test_all_of_a_turn_is_decided_by_one_version_of_a_policy(town, employ):
    path = town.folder / "policies" / "standard.yaml"
    clerk, _ = employ(town.vault)
    clerk._lead.join()
    versions = []

    def step(_now):
        versions.append(town.vault.policy_of("inhouse").version)
        path.write_text(path.read_text("utf-8").replace("version: 1", "version: 2"), "utf-8")
        os.utime(path, ns=(0, len(versions)))
        versions.append(town.vault.policy_of("inhouse").version)
        return 1

    clerk._steps = deque([step])
    clerk._room_due = False
    assert clerk._turn()
    assert clerk._turn()
    clerk._lead.drop()
    assert versions == [1, 1, 2, 2]
    assert clerk._room_due


def test_a_clerk_that_stops_exports_the_head_and_frees_the_lead(town, employ):
    clerk, stop = employ(town.vault)
    stop.set()
    assert clerk.run(until_idle=False) == 0
    assert town.vault.exported_head() is not None
    again, stop = employ(town.vault)
    stop.set()
    assert again.run(until_idle=False) == 0


def test_after_the_clock_was_set_back_what_waits_for_a_date_is_looked_at(town, employ):
    scan = town.scan("one")
    with town.vault.catalogue.writing() as tx:
        town.vault.catalogue.set_next_due(tx, scan, town.now + timedelta(days=300))
    clerk, _ = employ(town.vault)
    clerk._lead.join()
    clerk._clock = WallClock(town.now, newest=town.now + timedelta(days=300))
    clerk._steps = deque([lambda _now: 0])
    clerk._turn()
    assert clerk.plan_scans(town.now) == 1, "brought forward"
    assert clerk.planner.due.bring_forward(town.now) == 0
    with town.vault.catalogue.reading() as tx:
        assert town.vault.catalogue.list_due(tx, town.now, 9) == [scan]
    clerk._lead.drop()


def test_after_the_clock_was_set_back_the_timers_go_by_the_new_time(town, employ):
    """They were set by the clock that was ahead, and would be silent for as long as it had been."""
    clerk, _ = employ(town.vault)
    clerk._lead.join()
    clerk._take_place()
    clerk.presence.stop()
    clerk._steps = deque([lambda _now: 0])
    before = clerk._timers
    clerk._turn()
    assert clerk._timers is before
    clerk._clock = WallClock(town.now, newest=town.now + timedelta(days=300))
    clerk._turn()
    assert clerk._timers is not before
    assert not before.running
    clerk._stop_timers()
    clerk._courier.stop()
    clerk._lead.drop()


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
@pytest.mark.component("postgresql")
class TestFollower:
    """A daemon beside the one that leads; the one area is of machine `two`."""

    @pytest.fixture
    def machine(self, town, employ):
        """Called with its name for a machine's clerk, which has its place."""
        made = []

        def make(host):
            vault = Vault(town.vault.site, town.vault.catalogue)
            vault.__dict__["host"] = host
            clerk, _ = employ(vault)
            clerk._lead.join()
            clerk.foreman.leads = clerk._lead.leads
            made.append(clerk)
            return clerk

        town.change(areas={"inhouse": {"host": "two"}})
        yield make
        for clerk in made:
            clerk.presence.stop()
            clerk._lead.drop()

    def queue(self, town, scan, host):
        catalogue = town.vault.catalogue
        with catalogue.writing() as tx:
            key = f"v{host}"
            return catalogue.queue_job(
                tx, "verify", scan, {}, dedup_key=key, rule="r", now=town.now, place="inhouse", host=host
            )

    def test_each_claims_for_its_machine_and_the_leader_what_is_of_none(self, town, machine):
        scan = town.scan("one")
        leader, follower = machine("one"), machine("two")
        jobs = {host: self.queue(town, scan, host) for host in ("two", "three", None)}
        now = datetime.now(UTC)
        claims = [[c.foreman.claim(now, actions=None) for _ in range(2)] for c in (follower, leader)]
        assert [[job and job.id for job in those] for those in claims] == [[jobs["two"], None], [jobs[None], None]]

    def test_an_area_that_its_daemon_does_not_find_well_rests(self, town, machine):
        scan = town.scan("one", copies=0)
        leader, follower = machine("one"), machine("two")
        leader.presence.start(lambda _area: True)
        leader._look_round()
        leader.brake()
        assert leader.watches == {}
        assert leader.plan_scans(datetime.now(UTC)) == 0
        follower._lead._looked_at = leader._lead._looked_at = 0.0
        follower._lead.look_round(frozenset({watch_lease("inhouse")}))
        leader._look_round()
        leader.brake()
        assert leader.plan_scans(datetime.now(UTC)) == 1
        assert town.known(scan).jobs, "its daemon told that it is there"

    def test_jobs_of_the_living_are_never_taken_up(self, town, machine):
        scan = town.scan("one")
        leader, follower = machine("one"), machine("two")
        self.queue(town, scan, "two")
        claimed = follower.foreman.claim(datetime.now(UTC), actions=None)
        assert leader.foreman.list_orphans() == []
        assert leader.foreman.take_up_orphans() == 0
        with town.vault.catalogue.writing() as tx:
            assert town.vault.catalogue.token_is_current(tx, claimed.id, claimed.token)
            town.vault.catalogue.drop_leases(tx, follower.holder)
        leader._lead._looked_at = 0.0
        leader._look_round()
        assert [j.status.value for j in town.jobs(scan, "verify")] == ["todo"]

    def test_a_follower_queues_nothing_when_the_rules_are_others(self, machine, monkeypatch):
        _, follower = machine("one"), machine("two")
        monkeypatch.setattr(follower._policies, "take_up", lambda _now, leads: not leads)
        asked = []
        monkeypatch.setattr(follower.upkeep, "ask", asked.append)
        follower._take_policies(datetime.now(UTC))
        assert asked == []

    def test_a_follower_takes_the_leaders_work_over_with_its_place(self, town, machine):
        leader, follower = machine("one"), machine("two")
        follower._look_round()
        assert not follower.foreman.leads
        leader._lead.drop()
        follower._lead._looked_at = 0.0
        follower._look_round()
        assert follower._lead.leads
        assert follower.foreman.leads
        assert follower._timers is not None
        follower._stop_timers()
        assert not follower.is_idle(), "its area was not swept yet"


def test_room_is_looked_at_again_after_a_job_that_ended_before_it_began(town, employ):
    """A removal that is refused when its order is made leaves room to be made by another."""
    scan = town.scan("one", copies=0)
    clerk, _ = employ(town.vault)
    now = datetime.now(UTC)
    clerk.make_room(now)
    assert not clerk._room_due
    with town.vault.catalogue.writing() as tx:
        town.vault.catalogue.queue_job(
            tx, "prune", scan, {"permit": "none"}, dedup_key="p", rule="r", now=now, place="inhouse"
        )
    assert clerk.launch(datetime.now(UTC)) == 1
    assert clerk.workers.running == []
    assert clerk._room_due


def test_a_file_server_that_hangs_stops_no_other_area(town, employ, monkeypatch):
    """How full its area is cannot be asked: it is called silent and rests, and the rest of the site goes on."""
    other = town.base / "other"
    other.mkdir()
    set_up_area(town.folder, "other", str(other))
    town.change(areas={"inhouse": {"policy": "standard"}})
    real, path, let_go = os.statvfs, str(town.area), threading.Event()

    def statvfs(asked):
        if str(asked) == path:
            let_go.wait(60)
        return real(asked)

    monkeypatch.setattr(os, "statvfs", statvfs)
    monkeypatch.setattr(gauges, "_FIRST_S", 0.1)
    monkeypatch.setattr(clerk_module, "SLOW_S", 0.05)
    monkeypatch.setattr(clerk_module, "SILENT_S", 0.2)
    there, elsewhere = town.scan("one", copies=0), town.scan("two", copies=0)
    with town.vault.catalogue.writing() as tx:
        tx.run(update(tables.scan).where(tables.scan.c.id == elsewhere).values(area="other"))
        for scan, place in ((there, "inhouse"), (elsewhere, "other")):
            town.vault.catalogue.queue_job(
                tx, "prune", scan, {"permit": "none"}, dedup_key=scan, rule="r", now=town.now, place=place
            )
    (town.area / "more").mkdir()  # an empty area would rest for another reason
    clerk, stop = employ(town.vault)
    worker = threading.Thread(target=clerk.run, kwargs={"until_idle": False})
    worker.start()
    try:
        until = time.monotonic() + 30
        while [j.status.value for j in town.jobs(elsewhere, "prune")] != ["succeeded"]:
            assert time.monotonic() < until, "the daemon hangs"
            time.sleep(0.05)
        while "inhouse" not in last_told(town.vault).get("absent", {}):
            assert time.monotonic() < until, "nobody is told"
            time.sleep(0.05)
        assert "does not answer" in last_told(town.vault)["absent"]["inhouse"]
        assert [j.status.value for j in town.jobs(there, "prune")] == ["todo"]
        let_go.set()
        while [j.status.value for j in town.jobs(there, "prune")] != ["succeeded"]:
            assert time.monotonic() < until, "it does not come back"
            time.sleep(0.05)
    finally:
        let_go.set()
        stop.set()
        worker.join(30)
    assert not worker.is_alive()
