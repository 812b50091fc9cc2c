"""From a full area to the warning of an owner, and from there, days later, to the removal."""

import json
import threading
from datetime import timedelta

import pytest
from sqlalchemy import update

from tomovault.catalog import tables
from tomovault.catalog.outbox import list_deliveries, record_sent
from tomovault.catalog.owner_warnings import Running, see_time_pass
from tomovault.core.replica import Form
from tomovault.daemon.loop import Daemon
from tomovault.daemon.planner import Planner
from tomovault.daemon.room_maker import RoomMaker

DAY = timedelta(days=1)
WEEK_S = 7 * 86_400.0
NOTIFY = {
    "channels": {"mail": {"kind": "smtp", "host": "localhost", "from": "v@example.org"}},
    "warnings": {"channels": ["mail"], "to": ["{owner}@example.org"]},
}
WARN = ("    with: {forms: [files]}\n", "    with: {forms: [files], warn: 7d}\n")


@pytest.fixture
def full(town):
    def make(*names, owner="anna", notify=NOTIFY):
        scans = [town.scan(name) for name in names]
        town.room(quota=f"{len(names)}kB")  # the files of all have to go, and no package
        town.change(quarantine={"hold": "1d", "limit": "1GB"}, notify=notify)
        town.policy(WARN)
        with town.vault.catalogue.writing() as tx:
            tx.run(update(tables.scan).values(owner=owner))
        town.rested()
        return scans

    return make


def make_room(town, maker):
    maker.ask()
    while maker.turn(town.now):
        pass
    return maker.alarms["inhouse"].text if "inhouse" in maker.alarms else ""


def due(town):
    with town.vault.catalogue.reading() as tx:
        return list_deliveries(tx, "mail", town.now + DAY, 9)


def send(town, running=0.0):
    with town.vault.catalogue.writing() as tx:
        for delivery in list_deliveries(tx, "mail", town.now + DAY, 9):
            record_sent(tx, delivery.id, Running("b", running), town.now)


def pass_time(town, days, running):
    town.now += days
    with town.vault.catalogue.writing() as tx:
        see_time_pass(tx, Running("b", running))


def test_owners_are_told_once_and_scans_go_when_the_days_are_over(town, full):
    scans = full("one", "two")
    maker = RoomMaker(town.vault)
    assert "2 scans wait for a warning of the owner, which is on its way" in make_room(town, maker)
    assert not any(town.jobs(scan, "prune") for scan in scans)
    (delivery,) = due(town)
    assert [s["name"] for s in delivery.facts["scans"]] == ["one", "two"]
    make_room(town, maker)
    assert [d.facts for d in due(town)] == [delivery.facts], "once"
    send(town)
    pass_time(town, 6 * DAY, WEEK_S - 86_400)
    text = make_room(town, maker)
    assert f"2 scans wait for a warning of the owner, the first goes not before {town.now + DAY:%Y-%m-%d}" in text
    pass_time(town, DAY, WEEK_S + 2)
    assert make_room(town, maker) == ""
    assert all(town.jobs(scan, "prune") for scan in scans)


def test_an_area_whose_owners_nobody_can_warn_says_so(town, full):
    full("one", owner=None)
    assert "its owner is not known, and `notify: warnings: to:` names nobody else" in make_room(
        town, RoomMaker(town.vault)
    )


def test_what_is_in_quarantine_is_warned_of_where_the_rule_asks_for_it_only_now(town, full):
    (scan,) = full("one")
    town.policy((WARN[1], WARN[0]))
    make_room(town, RoomMaker(town.vault))
    permit = town.quarantine(scan)
    town.policy(WARN)
    planner = Planner(town.vault)
    town.now += 2 * DAY
    planner.plan_scans(town.now)
    assert "its owner is to be warned first" in planner.alarms[f"permit {permit}"].text
    assert town.jobs(scan, "empty_quarantine") == []
    assert [s["name"] for d in due(town) for s in d.facts["scans"]] == ["one"]
    send(town)
    pass_time(town, 8 * DAY, WEEK_S + 2)
    planner.plan_scans(town.now)
    assert town.jobs(scan, "empty_quarantine") != []
    assert town.replica(scan, Form.FILES).state.value == "leaving"


@pytest.mark.sqlite_only("one daemon is enough")
def test_a_daemon_that_ends_when_idle_has_told_of_what_it_found(town, tmp_path):
    """An area whose server is gone: the message is out before the daemon is."""
    path, out = tmp_path / "page", tmp_path / "taken"
    path.write_text(f"#!/bin/sh\ncat > {out}\n")
    path.chmod(0o755)
    pager = {"kind": "command", "argv": [str(path)]}
    town.change(notify={"site": "ID19", "channels": {"pager": pager}, "alarms": {"channels": ["pager"]}})
    town.area.rename(tmp_path / "away")
    living = threading.Thread(target=Daemon(town.vault).run, kwargs={"until_idle": True}, daemon=True)
    living.start()
    living.join(120)
    assert not living.is_alive()
    told = json.loads(out.read_text())
    assert (told["topic"], told["facts"]["area"]) == ("alarms", "inhouse")
    assert told["subject"].startswith("[ID19] inhouse: ")
