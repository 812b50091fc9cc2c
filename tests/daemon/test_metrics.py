"""What a scrape gets: real numbers, by a real GET, and nothing that anybody called a folder."""

import threading
import time
import urllib.request
from datetime import timedelta

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tomovault.catalog.drills import DrillOutcome
from tomovault.catalog.outbox import post_notice
from tomovault.core.errors import Transient, UserError
from tomovault.daemon import metrics
from tomovault.daemon.loop import Daemon
from tomovault.daemon.metrics import Meter, serve_metrics
from tomovault.daemon.pulse import Brake, Pulse, brakes_of
from tomovault.vault.backing_up import back_up

PULSE = Pulse(
    leads=True,
    brakes=brakes_of("it jumped", {"absent": ["inhouse"], "left": []}),
    alarms={"inhouse": 2},
    swept_at={"inhouse": time.monotonic()},
    unsettled={"inhouse": 3},
    running={"pack": 1},
)


def scrape(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
        text = answer.read().decode("utf-8")
    return text, {
        (s.name, *sorted(s.labels.values())): s.value
        for family in text_string_to_metric_families(text)
        for s in family.samples
    }


def test_a_scrape_tells_how_full_what_waits_and_what_brakes(town):
    evil = 'p"}\n\\evil{x="y"} 1'
    scan = town.scan("one", metadata={"proposal": evil, "owner": evil})
    town.room()
    with town.vault.catalogue.writing() as tx:
        town.vault.catalogue.queue_job(
            tx,
            "restore",
            scan,
            {},
            dedup_key="r",
            rule="anna",
            now=town.now - timedelta(hours=1),
            place="inhouse",
        )
        post_notice(tx, "alarms", "alarm_begun", {}, [("chat", "")], town.now)
    with serve_metrics(town.vault, lambda: PULSE, "127.0.0.1:0") as port:
        text, found = scrape(port)
    expected = {
        ("area_bytes", "inhouse"): 600,
        ("area_limit_bytes", "inhouse"): 1000,
        ("area_used_fraction", "inhouse"): 0.6,
        ("area_mark", "high", "inhouse"): 0.5,
        ("area_mark", "inhouse", "low"): 0.2,
        ("area_files", "inhouse"): 2,
        ("area_scans", "inhouse"): 1,
        ("area_quarantine_bytes", "inhouse"): 0,
        ("area_removal_enabled", "inhouse"): 1,
        ("area_settling_scans", "inhouse"): 3,
        ("tier_bytes", "tape"): 400,
        ("tier_scans", "tape"): 1,
        ("jobs", "restore", "todo"): 1,
        ("running_jobs", "pack"): 1,
        ("brake", "", "clock"): 1,
        ("brake", "absent", "inhouse"): 1,
        ("alarms", "inhouse"): 2,
        ("leader",): 1,
        ("due_scans",): 1,
        ("suspect_copies",): 0,
        ("outbox_messages", "chat", "waiting"): 1,
        ("owner_warnings", "sent"): 0,
    }
    assert {key: found.get((f"tomovault_{key[0]}", *key[1:])) for key in expected} == expected
    assert 3600 <= found["tomovault_job_oldest_age_seconds", "restore"] < 7200
    assert 0 <= found["tomovault_area_sweep_age_seconds", "inhouse"] < 3600
    assert "evil" not in text


def test_labels_are_escaped(town):
    odd = 'a"b\\c\nd'
    pulse = Pulse(brakes=frozenset({Brake(odd, "absent")}))
    with serve_metrics(town.vault, lambda: pulse, "127.0.0.1:0") as port:
        _, found = scrape(port)
    assert found["tomovault_brake", odd, "absent"] == 1


def test_the_catalogue_is_asked_once_in_a_while_however_often_it_is_scraped(town, monkeypatch):
    at, asked, real = [0.0], [], metrics.read_figures
    monkeypatch.setattr(metrics, "read_figures", lambda *a: asked.append(1) or real(*a))
    meter = Meter(town.vault, Pulse, steady=lambda: at[0])
    for _ in range(5):
        list(meter.collect())
    assert len(asked) == 1
    at[0] = metrics.PERIOD_S
    list(meter.collect())
    assert len(asked) == 2


def test_while_the_catalogue_is_busy_the_loop_is_told_of_all_the_same(town, monkeypatch):
    def busy(*_):
        raise Transient("the database is locked")

    at = [0.0]
    meter = Meter(town.vault, Pulse, steady=lambda: at[0])
    names = {family.name for family in meter.collect()}
    monkeypatch.setattr(metrics, "read_figures", busy)
    at[0] = 100.0
    families = {family.name: family for family in meter.collect()}
    assert set(families) == names
    assert families["tomovault_figures_age_seconds"].samples[0].value == 100.0


def test_a_slow_catalogue_keeps_no_second_scrape_waiting(town, monkeypatch):
    inside, go_on = threading.Event(), threading.Event()

    def slow(*_):
        inside.set()
        go_on.wait(60)
        raise Transient("it took too long")

    monkeypatch.setattr(metrics, "read_figures", slow)
    meter = Meter(town.vault, lambda: PULSE)
    first = threading.Thread(target=lambda: list(meter.collect()), daemon=True)
    first.start()
    assert inside.wait(60)
    assert "tomovault_leader" in {family.name for family in meter.collect()}
    go_on.set()
    first.join(60)


def test_a_port_that_is_taken_is_said_so(town):
    with serve_metrics(town.vault, Pulse, "127.0.0.1:0") as port:
        with pytest.raises(UserError, match="cannot be served"), serve_metrics(town.vault, Pulse, f"127.0.0.1:{port}"):
            pass


def test_a_daemon_that_lives_is_scraped(town):
    """While it runs, its own loop says that it leads and when it last turned."""
    daemon = Daemon(town.vault)
    living = threading.Thread(target=daemon.run, daemon=True)
    with serve_metrics(town.vault, daemon.pulse, "127.0.0.1:0") as port:
        living.start()
        until = time.monotonic() + 60
        found = {}
        while found.get(("tomovault_leader",)) != 1:
            assert time.monotonic() < until
            _, found = scrape(port)
        assert found["tomovault_loop_age_seconds",] < 60
        daemon.stop()
        living.join(60)


def test_a_scrape_tells_what_proves_the_archive(town, request):
    """How old the backups of the catalogue are, and how many fire drills passed."""
    if town.vault.shared:
        town.change(catalogue_backup={"pg_dump": request.getfixturevalue("pg_dump")})
    scan = town.scan("one")
    back_up(town.vault, "somebody", anew=True)
    copy = next(r for r in town.known(scan).replicas if r.tier == "tape")
    catalogue = town.vault.catalogue
    with catalogue.writing() as tx:
        for number, outcome in enumerate((DrillOutcome.PASSED, DrillOutcome.PASSED, DrillOutcome.BAD)):
            scratch = f"/vault/.drill.d{number}"
            catalogue.begin_drill(tx, copy.id, scan, "tape", copy.location, scratch, town.now - timedelta(hours=1))
            catalogue.end_drill(tx, f"d{number}", outcome, "", {}, town.now)
    with serve_metrics(town.vault, lambda: PULSE, "127.0.0.1:0") as port:
        _, found = scrape(port)
    assert found["tomovault_fire_drills", "passed"] == 2
    assert found["tomovault_fire_drills", "bad"] == 1
    assert 3600 <= found["tomovault_fire_drill_age_seconds",] < 3720
    assert 0 <= found["tomovault_catalogue_backup_age_seconds",] < 120
    assert 0 <= found["tomovault_catalogue_backup_archived_age_seconds", "tape"] < 120
