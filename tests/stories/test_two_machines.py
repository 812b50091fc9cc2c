"""Two machines, each with its area and its daemon, on one PostgreSQL catalogue; the one that leads is lost."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections import Counter

import pytest
from sqlalchemy import select

from tomovault.catalog import tables
from tomovault.vault.vault import Vault

pytestmark = [pytest.mark.component("postgresql"), pytest.mark.timeout(300)]

_ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith("TOMOVAULT_")}


def wait_for(true, what, seconds=120.0):
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, f"{what}: not so after {seconds:.0f} s"
        time.sleep(0.2)


class Machines:
    """Daemons by the name of their machine, on one site."""

    def __init__(self, site):
        self.site = site
        self.running = {}

    def start(self, host, *more):
        self.running[host] = self.site.start("--quiet", *more, env=_ENVIRONMENT | {"TOMOVAULT_HOST": host})
        return self.running[host]

    def daemon(self):
        return self.site.ask("status")["daemon"]

    def leader(self):
        return (self.daemon()["leader"] or "").split("-")[0]

    def archived(self, *names):
        known = self.site.scans()
        return all(n in known and known[n]["stages"]["archived"] == "done" for n in names)

    def attempts(self):
        """(job, action, scan, host, holder's machine, outcome) of every attempt."""
        job, attempt, scan = tables.job, tables.attempt, tables.scan
        query = (
            select(job.c.id, job.c.action, scan.c.name, job.c.host, attempt.c.holder, attempt.c.outcome)
            .join(attempt, attempt.c.job_id == job.c.id)
            .outerjoin(scan, scan.c.id == job.c.scan_id)
        )
        with contextlib.closing(Vault.open(self.site.folder, upgrade=False)) as vault, vault.catalogue.reading() as tx:
            return [(*row[:4], row.holder.split("-")[0], row.outcome) for row in tx.rows(query)]


@pytest.fixture
def machines(new_site, postgresql):
    site = new_site("edf", "bliss")
    site.change(
        catalogue=postgresql.emptied(),
        lease="3s",
        areas={"edf": {"host": "one"}, "bliss": {"host": "two"}},
    )
    for name, path in site.areas.items():
        site.ask("area", "add", f"{name}={path}")
    made = Machines(site)
    yield made
    for process in made.running.values():
        if process.poll() is None:
            process.kill()
            process.wait()


def test_the_follower_takes_over_when_the_leader_is_lost(machines, monkeypatch):
    site = machines.site
    site.write("edf", "first")
    site.write("bliss", "second")

    one = machines.start("one")
    wait_for(lambda: machines.leader() == "one", "one leads")
    two = machines.start("two")
    wait_for(lambda: machines.archived("first", "second_0001"), "both scans are archived")
    daemon = machines.daemon()
    assert daemon["leader"].startswith("one-")
    assert [holder.split("-")[0] for holder in daemon["followers"]] == ["two"]
    assert "followed by two-" in site.say("status").out
    assert not any(area["unwatched"] for area in site.ask("status")["areas"])
    third = machines.start("two")
    assert third.wait(60) == 75
    assert "another daemon runs for the machine two: two-" in site.told()
    machines.running["two"] = two

    site.write("edf", "third")
    site.write("bliss", "fourth")
    wait_for(lambda: any(a[3] == "one" and a[5] is None for a in machines.attempts()), "one is at work")
    one.send_signal(signal.SIGKILL)
    one.wait()
    wait_for(lambda: machines.leader() == "two", "two leads", 30.0)
    wait_for(lambda: machines.archived("fourth_0001"), "the new leader's scan is archived")
    assert "no daemon runs" in site.area_status("edf")["unwatched"]

    again = machines.start("one", "--until-idle")
    assert again.wait(120) == 0
    assert machines.archived("first", "second_0001", "third", "fourth_0001")
    two.send_signal(signal.SIGTERM)
    assert two.wait(30) == 0

    attempts = machines.attempts()
    assert {(a[3], a[4]) for a in attempts} == {("one", "one"), ("two", "two")}, "each machine did its own"
    assert {a[5] for a in attempts} <= {"succeeded", "lost"}
    assert set(Counter(a[0] for a in attempts if a[5] == "succeeded").values()) == {1}
    done = Counter((a[1], a[2]) for a in attempts if a[2] and a[5] == "succeeded")
    assert set(done.values()) == {1}, "no action of a scan was carried out twice"
    for host, names in (("one", ("first", "third")), ("two", ("second_0001", "fourth_0001"))):
        monkeypatch.setenv("TOMOVAULT_HOST", host)
        assert site.ask("verify", *names)["bad"] == []
    elsewhere = ("restore", "first", "--to", str(site.base / "back"), "--wait")
    assert "no daemon runs" in site.refuse(*elsewhere, code=75), "it is for the other machine"
    assert site.ask("catalogue", "check")["ok"]


def test_both_end_when_nothing_is_left_to_do(machines):
    site = machines.site
    for name in ("alpha", "beta"):
        site.write("edf", name)
    site.write("bliss", "gamma")
    both = [machines.start(host, "--until-idle") for host in ("one", "two")]
    assert [process.wait(150) for process in both] == [0, 0]
    assert machines.archived("alpha", "beta", "gamma_0001")
    assert machines.daemon() == {
        "running": False,
        "leader": None,
        "followers": [],
        "told_at": machines.daemon()["told_at"],
    }
    assert {(a[3], a[4]) for a in machines.attempts()} == {("one", "one"), ("two", "two")}
