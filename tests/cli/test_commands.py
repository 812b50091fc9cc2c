"""Every command in this process, against a site whose catalogue holds scans: pages, exit codes, errors."""

import contextlib
import io
import json
import os
import pwd
import re
from datetime import timedelta

import pytest

from tomovault import cli
from tomovault.core.errors import Transient
from tomovault.core.known import JobStatus
from tomovault.core.record import Checked, Outcome, PutBack, Result
from tomovault.core.replica import Form
from tomovault.vault import asking
from tomovault.vault.asking import Answer
from tomovault.vault.removals import grant

STAGES = ("complete previewed packed replicated archived reconstructed accepted reduced exported pruned").split()


# --- what the contract promises ----------------------------------------------------------------------


def test_a_scan_shows_every_key(town, ask):
    scan = town.scan("one")
    (line,) = ask("scan", "list")["scans"]
    page = ask("scan", "show", scan)
    for key in (
        "id name path area format beamline proposal sample owner set acquired_at bytes files stages products "
        "certificate conditions replicas processings reductions jobs"
    ).split():
        assert key in page
    assert list(page["stages"]) == STAGES
    assert set(page["stages"].values()) <= {"done", "due", "waiting", "held", "off"}
    assert {"verdict", "expected", "found", "problems", "evidence"} <= page["certificate"].keys()
    assert page["certificate"]["expected"].keys() == {"projections", "flats", "darks"}
    for replica in page["replicas"]:
        assert replica.keys() >= {
            "id",
            "product",
            "form",
            "tier",
            "location",
            "bytes",
            "state",
            "sha256",
            "written_at",
            "verified_at",
        }
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT.*Z", replica["verified_at"])
    assert page["products"][0].keys() >= {"product", "digest", "stages"}
    assert line.items() <= page.items()


def test_a_scan_of_an_area_that_left_the_sites_file_is_told_so(town, say, ask):
    from tomovault.vault.site import SITE_FILE

    scan = town.scan("one")
    path = town.folder / SITE_FILE
    text = re.sub(r"(?m)^areas:\n(?:[ #].*\n|\n)*", "areas: {}\n", path.read_text())
    path.write_text(text)
    for command in (("scan", "show", scan), ("explain", scan), ("verify", scan), ("restore", scan, "--to", "/x")):
        said = say(*command)
        assert (said.code, "there is no area 'inhouse' in tomovault.yaml" in said.out + said.err) == (2, True), said
    assert ask("verify", "--all")["checked"] == 0
    assert ask("status")["areas"] == []


def test_quota_status_and_preview_have_their_keys(town, ask):
    town.scan("one")
    town.room()
    for by in ("area", "tier", "proposal", "owner", "beamline"):
        page = ask("quota", "--by", by)
        assert page.keys() >= {"at", "by", "rows"}
        for row in page["rows"]:
            assert row.keys() >= {by, "bytes", "files", "scans", "limit_bytes", "used_fraction", "high", "low"}
            assert "days_to_full" in row
    status = ask("status")
    assert status["daemon"]["running"] is False
    assert set(status["jobs"]) == {s.value for s in JobStatus}
    assert status["areas"][0]["prune"] == "on"
    rules = {r["rule"]: r for r in ask("policy", "preview")["rules"]}
    assert rules["prune-files@standard:1"]["bytes_freed"] == {"inhouse": 400}
    assert list(ask("policy", "preview", "--rule", "pack")["rules"][0]["bytes_freed"]) == []


def test_quota_and_status_tell_the_same_of_an_area(town, ask):
    """Without a quota of its own an area is as full as its file system, whoever filled that."""
    town.scan("one")
    (row,) = ask("quota")["rows"]
    (area,) = ask("status")["areas"]
    assert row["limit_bytes"] == area["quota_bytes"]
    assert row["full_fraction"] == pytest.approx(area["used_fraction"], rel=0.01)
    assert row["used_fraction"] == row["bytes"] / row["limit_bytes"]


def test_a_copy_that_was_found_bad_is_told(town, ask, say):
    scan = town.scan("one")
    bad = town.replica(scan, Form.PACKAGE)
    with town.vault.catalogue.writing() as tx:
        checked = Checked(bad.id, ok=False, at=town.now, reason="other bytes at 512")
        town.vault.catalogue.apply_records(tx, [checked], town.now, scan_id=scan)
    (told,) = ask("status")["suspect"]
    assert (told["replica"], told["scan"], told["tier"], told["reason"]) == (
        bad.id,
        scan,
        "inhouse",
        "other bytes at 512",
    )
    assert "one: original as package on inhouse: other bytes at 512" in say("status").out


def test_explain_says_which_rule_and_why(town, ask, say):
    scan = town.scan("one")
    town.room(prune="off")
    stages = {s["stage"]: s for s in ask("explain", scan)["stages"]}
    assert stages["archived"]["status"] == "done"
    assert (stages["pruned"]["status"], stages["pruned"]["rule"]) == ("held", "prune-files@standard:1")
    assert "prune: off" in stages["pruned"]["reason"]
    assert "prune: off" in say("explain", scan).out


def test_explain_says_how_the_files_went_and_what_brings_them_back(town, ask, say):
    scan, lacking = town.scan("one"), town.scan("two", copies=1)
    town.room(high="1%", low="0%")
    rule = next(r for r in town.vault.policy_of("inhouse").rules if r.name == "prune-files")
    with town.vault.catalogue.writing() as tx:
        grant(town.vault, tx, town.known(scan), town.replica(scan, Form.FILES).id, rule=rule, now=town.now)
    town.quarantine(scan)
    (stage,) = [s for s in ask("explain", scan)["stages"] if s["stage"] == "pruned"]
    assert stage["status"] == "done"
    assert "its files are in quarantine since" in stage["reason"]
    assert "by prune-files@standard:1, until" in stage["reason"]
    assert f"tomovault prune undo {scan}" in stage["reason"]
    (line,) = [line for line in say("explain", lacking).out.splitlines() if line.startswith("archived")]
    assert line.split(maxsplit=3)[1:] == ["due", "archive@standard:1", "will be done next"]


def test_a_preview_says_why_an_area_stays_above_its_mark(town, ask, say):
    town.scan("one", size=400, copies=1)
    town.room(quota="1kB")
    page = ask("policy", "preview")
    assert "without enough verified copies" in page["above_high"]["inhouse"]
    assert "inhouse would stay above its high mark: " in say("policy", "preview").out
    town.room(quota="1kB", prune="off")
    assert "inhouse would stay above its high mark: `prune` is off for this area" in say("policy", "preview").out
    town.room(quota="1MB")
    assert ask("policy", "preview")["above_high"] == {}


def test_every_command_has_help_and_json():
    def commands(group, path):
        context = cli.click.Context(group)
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            if isinstance(command, cli.click.Group):
                yield from commands(command, [*path, name])
            if not isinstance(command, cli.click.Group) or command.invoke_without_command:
                yield [*path, name], command

    found = {" ".join(path): command for path, command in commands(cli.root, [])}
    for name in (
        "init, area add, run, status, scan list, scan show, scan declare, explain, restore, pin, unpin, accept, "
        "prune list, prune undo, quota, quota forecast, verify, policy check, policy preview, "
        "catalogue upgrade, catalogue check, catalogue backup, "
        "audit show, audit verify, doctor, transfer, dev beamline, dev globus-sim"
    ).split(", "):
        assert name in found
        assert found[name].help
        assert "--json" in [o for p in found[name].params for o in p.opts] or name.startswith("dev")


# --- people's words ----------------------------------------------------------------------------------


def test_pin_and_unpin(town, ask):
    scan = town.scan("one")
    assert ask("pin", "one", "--until", "2099-01-31", "--reason", "a paper")["until"].startswith("2099-01-31T23:59:59")
    (pin,) = ask("scan", "show", scan)["pins"]
    assert pin["reason"] == "a paper"
    assert ask("unpin", scan)["removed"] == 1
    assert ask("pin", "one", "--until", "2001-01-01", "--reason", "x", code=2)["error"]
    assert ask("pin", "one", "--until", "soon", "--reason", "x", code=2)["hint"] == "write it as 2027-03-31"
    assert ask("pin", "one", "--until", "2099-01-31", "--reason", " ", code=2)["error"]


def test_declare_and_accept(town, ask):
    scan = town.scan("one")
    assert ask("scan", "declare", scan, "--aborted", "--reason", "the beam was gone")["declared"] == "aborted"
    assert ask("scan", "show", scan)["certificate"]["verdict"] == "aborted"
    refused = ask("accept", scan, code=3)
    assert refused["by"].startswith("life")
    assert ask("scan", "declare", scan, "--reason", "x", code=2)["exit_code"] == 2
    assert ask("scan", "declare", scan, "--complete", "--aborted", "--reason", "x", code=2)["exit_code"] == 2


def test_a_restore_is_queued(town, ask, tmp_path):
    scan = town.scan("one")
    page = ask("restore", "one", "--to", str(tmp_path / "x" / ".." / "out"))
    assert (page["scan"], page["status"], page["to"]) == (scan, "todo", str(tmp_path / "out"))
    assert town.known(scan).jobs[0].order["to"] == str(tmp_path / "out")


@pytest.mark.parametrize(
    "wish",
    [
        ["--frames", "3:1"],
        ["--frames", "x"],
        ["--flats", "--files", "*"],
        ["--from", "nowhere"],
        ["--product", "volume"],
        ["--product", "nonsense"],
    ],
)
def test_a_wrong_restore_exits_2_and_queues_nothing(town, say, tmp_path, wish):
    scan = town.scan("one")
    said = say("restore", "one", "--to", str(tmp_path / "out"), *wish)
    assert said.code == 2
    assert "Traceback" not in said.err
    assert town.known(scan).jobs == ()


def test_an_ambiguous_name_exits_2_and_lists_candidates(town, say):
    first, second = town.scan("same"), town.scan("same", root=str(town.area / "other"))
    said = say("explain", "same")
    assert said.code == 2
    assert said.out == ""
    assert first in said.err
    assert second in said.err


def test_prune_list_and_nothing_to_undo(town, ask, say):
    town.scan("one")
    assert ask("prune", "list")["quarantine"] == []
    assert "Nothing is in quarantine" in say("prune", "list").out
    assert "restore" in ask("prune", "undo", "one", code=2)["hint"]


@pytest.mark.parametrize("kept", [("a.edf",), ()])
def test_an_undo_that_meets_something_says_what_stays_open_and_what_to_do(town, ask, say, monkeypatch, kept):
    scan = town.scan("one")
    town.room()
    rule = next(r for r in town.vault.policy_of("inhouse").rules if r.do == "prune")
    with town.vault.catalogue.writing() as tx:
        known = town.vault.catalogue.known(tx, scan)
        grant(town.vault, tx, known, town.replica(scan, Form.FILES).id, rule=rule, now=town.now)
    permit = town.quarantine(scan)

    def put_back(vault, _action, about, wish, **_more):
        met = PutBack(wish["permit"], 1, 10, ("a.edf: another file stands there",), kept, 400 * len(kept))
        with vault.catalogue.writing() as tx:
            vault.catalogue.apply_records(tx, [met], town.now, scan_id=about)
        return Answer("j", JobStatus.SUCCEEDED)

    monkeypatch.setattr(asking, "ask", put_back)
    said = say("prune", "undo", "one")
    assert said.code == 4
    assert "a.edf: another file stands there" in said.out
    if not kept:
        assert "stays open" not in said.out
        assert f"tomovault restore {scan}" in said.out
        return
    assert f"1 file (400 B) is in quarantine still, and the permit {permit} stays open" in said.out
    assert f"move away what stands in their place, then tomovault prune undo {scan}" in said.out
    (told,) = ask("prune", "undo", "one", code=4)["permits"]
    assert (told["open"], told["quarantined_files"], told["quarantined_bytes"]) == (True, 1, 400)
    assert told["left"] == ["a.edf: another file stands there"]
    assert "prune undo" in told["hint"]


def test_unknown_things_are_named(town, ask):
    town.scan("one")
    assert ask("scan", "list", "--area", "nowhere", code=2)["hint"] == "the site has: inhouse"
    assert "pack" in ask("policy", "preview", "--rule", "nothing", code=2)["hint"]
    assert ask("scan", "show", "nothing", code=2)["error"] == "no scan is known as 'nothing'"
    assert ask("scan", "list", "--where", "size >", code=2)["error"]
    assert [s["name"] for s in ask("scan", "list", "--where", "size > 1B")["scans"]] == ["one"]
    assert "Did you mean 'status'" in ask("statsu", code=2)["error"]


def test_a_long_list_is_cut_for_a_person_and_whole_for_a_program(town, ask, say, monkeypatch):
    from tomovault.cli.scan import list as listing

    assert ask("scan", "list") == {"scans": []}
    for name in ("one", "two", "three"):
        town.scan(name)
    newest_first = [s["name"] for s in ask("scan", "list")["scans"]]
    assert newest_first == ["three", "two", "one"]
    assert [s["name"] for s in ask("scan", "list", "--limit", "2")["scans"]] == ["three", "two"]
    assert [s["name"] for s in ask("scan", "list", "--where", "size > 1B", "--limit", "1")["scans"]] == ["three"]
    assert "There are more" not in say("scan", "list").out
    monkeypatch.setattr(listing, "_SHOWN", 2)
    told = say("scan", "list").out
    assert " one " not in told
    assert "There are more than these 2: --limit" in told
    assert "There are more" not in say("scan", "list", "--limit", "3").out
    assert say("scan", "list", "--limit", "0").code == 2


# --- errors ------------------------------------------------------------------------------------------


def test_an_error_is_one_line_and_a_hint_and_no_output(town, say):
    said = say("scan", "show", "nothing")
    assert (said.code, said.out) == (2, "")
    lines = said.err.splitlines()
    assert lines[0] == "tomovault: no scan is known as 'nothing'"
    assert lines[1].startswith("  ")
    assert len(lines) == 2


def test_a_defect_is_ours_and_debug_shows_it(town, say, monkeypatch):
    from tomovault.vault import scan_pages

    def fail(*_args):
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(scan_pages, "scan_page", fail)
    scan = town.scan("one")
    said = say("scan", "show", scan, "--json")
    assert said.code == 1
    assert json.loads(said.out)["error"] == "ZeroDivisionError: ours"
    assert "Traceback" not in said.err
    assert "Traceback" in say("scan", "show", scan, "--debug").err


def test_a_verify_that_reaches_nothing_exits_75(town, ask):
    """The area's files were never there: the marker is, so they are bad; without it nothing is."""
    scan = town.scan("one", copies=0)
    (town.area / ".tomovault" / "area.json").rename(town.base / "away")
    town.change(retries={"attempts": 1, "after": "0.1s"})
    page = ask("verify", scan, code=75)
    assert page["checked"] == 0
    assert page["bad"] == []
    assert "cannot be re-read now" in page["unreached"][0]["reason"]
    assert {r.state.value for r in town.known(scan).replicas} == {"verified"}


def test_verify_needs_something_to_verify(ask):
    assert ask("verify", code=2)["error"].startswith("name scans")
    page = ask("verify", "--all")
    assert page == {
        "checked": 0,
        "ok": 0,
        "bad": [],
        "replaced": [],
        "unreached": [],
        "chosen": 0,
        "left": 0,
        "stopped": "",
    }


@pytest.mark.parametrize(("bad", "code"), [(False, 130), (True, 4)])
def test_interrupted_a_verify_says_what_it_has_read(town, say, ask, monkeypatch, bad, code):
    from tomovault.vault import verifying

    one, two = town.scan("one"), town.scan("two")

    def ask_for(vault, action, scan, wish, **_more):
        if scan == two:
            raise KeyboardInterrupt
        with vault.catalogue.writing() as tx:
            read = [Checked(r, not bad, town.now, "rotten" if bad else "") for r in wish["replicas"]]
            vault.catalogue.apply_records(tx, read, town.now)
        return Answer("j1", JobStatus.SUCCEEDED)

    monkeypatch.setattr(verifying, "ask", ask_for)
    page = ask("verify", one, two, code=code)
    assert (page["checked"], len(page["bad"]), page["chosen"]) == (4, 4 * bad, 2)
    assert page["stopped"] == "two"
    said = say("verify", one, two)
    assert said.code == code
    assert "stopped: 1 of 2 scans re-read; two was not" in said.out


def test_a_list_that_ends_in_an_error_is_one_json_object(town, ask, monkeypatch):
    from tomovault.vault import scan_pages

    town.scan("one"), town.scan("two")
    real, lines = scan_pages.scan_line, []

    def broken(view):
        lines.append(view)
        if len(lines) == 2:
            raise Transient("the catalogue went away")
        return real(view)

    monkeypatch.setattr(scan_pages, "scan_line", broken)
    assert ask("scan", "list", code=75)["error"].startswith("the catalogue went away")


def test_odd_names_stay_on_their_line(town, say, ask):
    name = os.fsdecode(b"b\xffd\n\x1b[31mred\tname")
    scan = town.scan(name)
    for command in (["scan", "list"], ["scan", "show", scan], ["explain", scan], ["pin", scan]):
        more = ["--until", "2099-01-01", "--reason", "x"] if command[0] == "pin" else []
        said = say(*command, *more)
        assert said.code == 0
        assert "\x1b" not in said.out
        named = [line for line in said.out.splitlines() if "[31mred" in line]
        assert named
        assert all("d\\n\\x1b[31mred\\tname" in line for line in named)
        json.loads(say(*command, *more, "--json").out).items()
    assert "path_b64" in ask("scan", "show", scan)


def test_json_has_no_nan():
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        cli.say_json({"a": float("nan"), "b": [float("inf"), 1.5], "c": "\udcff"})
    assert json.loads(out.getvalue()) == {"a": None, "b": [None, 1.5], "c": "\\xff"}


def test_who_asks_is_whom_the_kernel_knows(monkeypatch):
    """The audit log names a person by it."""
    name = pwd.getpwuid(os.getuid()).pw_name
    monkeypatch.delenv("SUDO_USER", raising=False)
    for variable in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(variable, "boss")
    assert cli.who() == name
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000_000)
    monkeypatch.setenv("SUDO_USER", "boss")
    assert cli.who() == "uid 4000000000", "only root may have become it"
    monkeypatch.setattr(os, "getuid", lambda: 0)
    assert cli.who() == "boss"


def test_all_that_nobody_asked_for_is_done_again(town, ask):
    """Looks, re-reads that are due, and those that a night asked for; but not what a person did."""
    scan = town.scan("one")
    catalogue = town.vault.catalogue
    wanted = set()
    for number, rule in enumerate(("watch", "scrub", "reconcile", "archive@standard:1", "anna")):
        with catalogue.writing() as tx:
            order = {"replicas": []}
            catalogue.queue_job(tx, "verify", scan, order, dedup_key=rule, rule=rule, now=town.now, place="inhouse")
            job = catalogue.claim_job(tx, "here", now=town.now + timedelta(days=1), actions=["verify"])
            failed = Result(Outcome.FAILED, error="no")
            catalogue.finish_job(tx, job.id, job.token, failed, now=town.now, retry_after_s=1.0, max_attempts=1)
        if number < 4:
            wanted.add(job.id)
    assert set(ask("retry", "--all")["again"]) == wanted
