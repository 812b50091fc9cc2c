"""Commands that look at a site as a whole, or make one: policies, catalogue, log, doctor, areas, failed jobs."""

import json
import os
import subprocess
import sys

import pytest

from tomovault import cli
from tomovault.core.record import Outcome, Result

STAGES = ("complete previewed packed replicated archived reconstructed accepted reduced exported pruned").split()


def test_policy_check_lists_every_error(town, ask, say, tmp_path):
    assert ask("policy", "check")["ok"] is True
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("name: x\nversion: 1\nrules:\n  - {name: a, do: packk}\n  - {name: b, do: pack, when: 'size >'}\n")
    page = ask("policy", "check", str(wrong), code=2)
    errors = "\n".join(page["files"][0]["errors"])
    assert f"{wrong}:4:" in errors
    assert f"{wrong}:5:" in errors
    assert f"{wrong}:5:" in say("policy", "check", str(wrong)).out
    assert ask("policy", "check", str(tmp_path / "none.yaml"), code=2)["ok"] is False


def test_catalogue_and_audit(town, ask, tmp_path, monkeypatch):
    town.scan("one")
    assert ask("catalogue", "check") == {"ok": True, "problems": []}
    if town.vault.shared:
        monkeypatch.setenv("PATH", str(tmp_path))
        assert "pg_dump" in ask("catalogue", "backup", str(tmp_path / "copy.db"), code=2)["hint"]
    else:
        assert os.path.exists(ask("catalogue", "backup", str(tmp_path / "copy.db"))["file"])
    assert ask("catalogue", "upgrade") == {"backup": None}
    assert ask("audit", "verify")["ok"] is True
    assert ask("audit", "show", "--limit", "1")["entries"][0]["op"]


def test_an_audit_log_without_its_exported_head_exits_4(town, ask):
    town.vault.export_head()
    assert ask("audit", "verify")["ok"]
    with town.vault.heads_file.open("a") as file:
        file.write(json.dumps({"seq": 999, "hash": "f" * 64}) + "\n")
    assert "exported head" in ask("audit", "verify", code=4)["problem"]
    assert "exported head" in ask("catalogue", "check", code=4)["problems"][0]


def test_doctor_tells_what_works(town, ask):
    checks = {c["name"]: c for c in ask("doctor")["checks"]}
    assert checks["area inhouse"]["ok"]
    assert checks["tier tape"].keys() == {"name", "ok", "detail", "hint"}
    (town.area / ".tomovault" / "area.json").unlink()
    checks = {c["name"]: c for c in ask("doctor", code=75)["checks"]}
    assert not checks["area inhouse"]["ok"]


def test_init_and_area_add(tmp_path, say, ask):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    site = tmp_path / "new"
    page = ask("init", str(site), "--area", f"one={tmp_path / 'a'}")
    assert page["areas"] == [{"name": "one", "path": str(tmp_path / "a"), "marked": True}]
    text = (site / "tomovault.yaml").read_text()
    assert "prune: off" in text
    assert "reduce: off" in text
    assert ask("area", "add", f"two={tmp_path / 'b'}", "--site", str(site))["name"] == "two"
    assert ask("init", str(site), code=2)["hint"]
    assert ask("init", str(tmp_path / "x"), "--area", "nonsense", code=2)["error"]


def test_an_init_that_a_marker_forbids_leaves_nothing(tmp_path, say, ask):
    first = tmp_path / "first"
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    ask("init", str(first), "--area", f"one={tmp_path / 'a'}")
    second = tmp_path / "second"
    pair = ("--area", f"new={tmp_path / 'b'}", "--area")
    assert "already marked" in ask("init", str(second), *pair, f"other={tmp_path / 'a'}", code=3)["error"]
    assert not (second / "tomovault.yaml").exists()
    assert not (tmp_path / "b" / ".tomovault").exists()
    assert ask("init", str(second), *pair, f"one={tmp_path / 'a'}")["areas"][1]["marked"]
    third = ask("area", "add", f"two={tmp_path / 'a'}", "--site", str(second), code=3)
    assert "already marked" in third["error"]
    assert "two:" not in (second / "tomovault.yaml").read_text()


def test_a_second_daemon_exits_75_and_names_the_leader(town, ask):
    if town.vault.shared:
        # There it is no error to run two: tests/stories/test_two_machines.py has them.
        pytest.skip("on PostgreSQL a second daemon follows the leader")
    with town.vault.catalogue.writing() as tx:
        town.vault.catalogue.take_lease(tx, "leader", "host-1-abc", 600.0)
    assert "host-1-abc" in ask("run", "--until-idle", code=75)["error"]
    assert ask("status")["daemon"] == {
        "running": True,
        "leader": "host-1-abc",
        "followers": [],
        "told_at": None,
    }


def test_failed_jobs_are_told_with_their_reason(town, ask, say):
    scan = town.scan("one")
    with town.vault.catalogue.writing() as tx:
        town.vault.catalogue.queue_job(tx, "pack", scan, {}, dedup_key="p", rule="r", now=town.now, place="inhouse")
    town.finish("pack", Result(Outcome.FAILED, error="it is broken", hint="mend it"))
    (failed,) = ask("status")["failed"]
    assert (failed["error"], failed["hint"]) == ("it is broken", "mend it")
    assert failed["name"] == "one"
    said = say("status").out
    assert f"{failed['id']}: pack of one after 1 attempt: it is broken - mend it" in said
    with town.vault.catalogue.writing() as tx:
        town.vault.catalogue.queue_job(tx, "inspect", None, {}, dedup_key="i", rule="watch", now=town.now, place="far")
    town.finish("inspect", Result(Outcome.FAILED, error="no"))
    assert ": inspect in far after 1 attempt: no" in say("status").out


def test_an_area_of_another_machine_is_told_to_be_unwatched(town, ask, say):
    town.change(areas={"inhouse": {"host": "elsewhere"}})
    assert "it is for the machine elsewhere" in ask("status")["areas"][0]["unwatched"]
    assert "inhouse: not watched from here: it is for the machine elsewhere" in say("status").out
    checks = {c["name"]: c for c in ask("doctor")["checks"]}
    assert (checks["area inhouse host"]["ok"], "elsewhere" in checks["area inhouse host"]["detail"]) == (False, True)
    town.change(areas={"inhouse": {"host": town.vault.host}})
    assert ask("status")["areas"][0]["unwatched"] == ""


@pytest.mark.parametrize("closed", [".", "run", "catalogue.db"])
def test_an_account_that_may_not_write_the_site_is_told_so(town, ask, monkeypatch, closed):
    if closed == "catalogue.db" and town.vault.shared:
        # The other two places are files of the site there as well, and are asked about.
        pytest.skip("the catalogue is no file of the site: PostgreSQL's own rights say who may write it")
    place = town.folder / closed
    (town.folder / "run").mkdir(exist_ok=True)
    real = os.access

    def access(path, mode):
        return not (mode == os.W_OK and os.fspath(path) == str(place)) and real(path, mode)

    monkeypatch.setattr(os, "access", access)
    told = ask("status", code=2)
    assert (str(place) in told["error"], "write access" in told["hint"]) == (True, True)


def test_a_queue_that_is_empty_is_told_as_none(town, say):
    assert "\njobs:   none\n" in say("status").out


def test_completion_in_the_shell():
    environment = os.environ | {
        "_TOMOVAULT_COMPLETE": "bash_complete",
        "COMP_WORDS": "tomovault pru",
        "COMP_CWORD": "1",
    }
    done = subprocess.run(
        [sys.executable, "-m", "tomovault"], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.strip() == "plain,prune"
    assert "_TOMOVAULT_COMPLETE" in cli.root.help
